"""Metrics of several classes an image, against scikit-learn's."""

import warnings

import numpy as np
import pytest

from resnets.evaluation.several import Several, average_precision, best_threshold, scored

metrics = pytest.importorskip("sklearn.metrics")
CLASSES = 6


def answers(seed: int, levels: int = 0, count: int = 40) -> Several:
    """Random truths and probabilities, of so many levels if these are to tie."""
    random = np.random.default_rng(seed)
    targets = random.random((count, CLASSES)) < random.random(CLASSES)
    p = random.random((count, CLASSES))
    p = np.round(p * levels) / levels if levels else p
    thresholds = random.random(CLASSES)
    return Several(targets, p, np.round(thresholds * levels) / levels if levels else thresholds)


def degenerate(kind: str) -> Several:
    found = answers(99)
    found.targets[:, 1] = kind == "all"
    found.targets[:, 4] = kind == "all"
    if kind == "tied":
        found.probabilities[:] = 0.25
    if kind == "silent":
        found.thresholds[:] = 2.0
        found.targets[:, 1] = False
    return found


CASES = [answers(seed) for seed in range(20)]
CASES += [answers(seed, levels) for seed in range(20) for levels in (1, 3, 10)]
CASES += [degenerate(kind) for kind in ("none", "all", "tied", "silent")]
CASES += [answers(7, count=1), answers(8, count=2)]


@pytest.mark.parametrize("several", CASES)
def test_metrics_are_scikit_learns(several: Several) -> None:
    targets, p, answered = several.targets, several.probabilities, several.answered
    there = np.flatnonzero(targets.any(0))
    found = several.to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that no image has
        f1 = metrics.f1_score(targets, answered, average=None, zero_division=0)
        micro = metrics.f1_score(targets, answered, average="micro", zero_division=0)
        macro = (
            metrics.f1_score(targets, answered, labels=there, average="macro", zero_division=0)
            if len(there)
            else 0
        )
        ap = [metrics.average_precision_score(targets[:, c], p[:, c]) for c in range(CLASSES)]
    close = pytest.approx(micro, abs=1e-12), pytest.approx(macro, abs=1e-12)
    assert (found["f1_micro"], found["f1_macro"]) == close
    assert several.exact == pytest.approx(metrics.accuracy_score(targets, answered), abs=1e-12)
    assert found["map"] == pytest.approx(np.mean([ap[c] for c in there] or [0]), abs=1e-12)
    for c, each in enumerate(found["classes"]):
        assert each["f1"] == pytest.approx(f1[c], abs=1e-12)
        assert average_precision(targets[:, c], p[:, c]) == pytest.approx(ap[c], abs=1e-12)
        if c in there:
            assert each["average_precision"] == pytest.approx(ap[c], abs=1e-12)
        else:
            assert each["average_precision"] is None
        assert each["samples"] == targets[:, c].sum()
        assert each["predicted"] == answered[:, c].sum()
        assert each["right"] == (targets & answered)[:, c].sum()
        assert each["threshold"] == several.thresholds[c]


def f1_score(true: np.ndarray, answered: np.ndarray) -> float:
    """By its definition, which scikit-learn takes a thousand times longer to come to."""
    hits, misses = (true & answered).sum(), (true ^ answered).sum()
    return 2 * hits / max(2 * hits + misses, 1)


@pytest.mark.parametrize("several", CASES)
def test_no_threshold_is_better(several: Several) -> None:
    best = several.with_best_thresholds()
    for c in range(CLASSES):
        true, p = several.targets[:, c], several.probabilities[:, c]
        if true.all() or not true.any():
            assert best_threshold(true, p) is None
            assert best.thresholds[c] == 0.5
            continue
        f1 = {t: f1_score(true, p >= t) for t in {*p.tolist(), 2.0}}
        highest = max(f1.values())
        assert best.f1[c] == pytest.approx(highest, abs=1e-12)
        # It is the highest that is as good, and half way to what is no answer any more.
        level = max(t for t, value in f1.items() if value == pytest.approx(highest, abs=1e-12))
        lower = max([t for t in p if t < level], default=0.0)
        assert best.thresholds[c] == pytest.approx((level + lower) / 2 if level else 0.0, abs=1e-15)


def test_a_threshold_between_neighbours_is_the_upper_one() -> None:
    upper = 0.3
    p = np.array([upper, np.nextafter(upper, 0)])
    assert best_threshold(np.array([True, False]), p) == upper


def test_probabilities_are_those_of_predictions() -> None:
    logits = np.array([[-800.0, 0.0, 3.0], [40.0, -2.0, 800.0]], np.float32)
    found = scored(np.zeros((2, 3), bool), logits, ())
    wanted = np.array([[0, 0.5, 1 / (1 + np.exp(-3))], [1, 1 / (1 + np.exp(2)), 1]])
    np.testing.assert_allclose(found.probabilities, wanted, rtol=1e-12, atol=1e-300)
    assert found.thresholds.tolist() == [0.5] * 3
    assert scored(np.zeros((2, 3), bool), logits, (0.1, 0.2, 0.3)).thresholds[2] == 0.3


def test_the_most_confident_mistakes_come_first() -> None:
    targets = np.array([[1, 0], [0, 1], [1, 1]], bool)
    p = np.array([[0.4, 0.8], [0.9, 0.05], [0.6, 0.7]])
    several = Several(targets, p, np.array([0.5, 0.5]))
    assert several.mistakes(9) == [(1, 1), (1, 0), (0, 1), (0, 0)]  # 0.95, 0.9, 0.8, 0.6
    assert several.mistakes(2) == [(1, 1), (1, 0)]
    # How far from their thresholds: 0.25 / 0.3, 0.5 / 0.7, 0.2 / 0.3, 0.3 / 0.7 and 0.1 / 0.7.
    other = Several(targets, p, np.array([0.7, 0.3]))
    assert other.mistakes(9) == [(1, 1), (0, 1), (1, 0), (0, 0), (2, 0)]
    assert several.confidence[[1, 0], [1, 0]].tolist() == pytest.approx([0.95, 0.6])
