"""results/strangers.py: what its table says of scores, of answers whose order is known."""

import runpy
from pathlib import Path

import numpy as np
import pytest

RESULTS = Path(__file__).parents[1] / "results"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(RESULTS)
    return runpy.run_path(str(RESULTS / "strangers.py"))


def seen(script, seed: int, height: float, place: int, count: int = 600):
    """Images with one high logit, and embeddings about one axis."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 0.1, (count, 5))
    logits[np.arange(count), random.integers(5, size=count)] += height
    embeddings = random.normal(0, 0.05, (count, 8))
    embeddings[:, place] += 1
    return script["Seen"](logits, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))


def test_every_score_tells_what_is_plainly_strange(script):
    known, held, bank = (seen(script, seed, 8, 0) for seed in range(3))
    alike, strange = seen(script, 3, 8, 0), seen(script, 4, 1, 1)
    found = script["measured"](known, held, bank, {"alike": alike, "strange": strange})
    assert list(found) == list(script["SCORES"])
    for name, (same, apart, every, none, flagged, few, all_) in found.items():
        assert (apart, none, all_) == (1, 0, 1), name
        assert abs(same - 0.5) < 0.1, name
        assert every > 0.85, name
        assert max(flagged, few) < 0.15, name
    lines = list(script["block"]("a network", ["alike", "strange"], [found, found]))
    assert lines[0] == "\na network"
    row = next(line for line in lines if line.startswith("energy"))
    figures = [float(word) for word in row.split()[1:]]
    assert figures[1] == 100
    assert figures[2] == pytest.approx(np.mean(figures[:2]), abs=0.1)
    assert len(figures) == 3 + 3 + 3
