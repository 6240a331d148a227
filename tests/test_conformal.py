"""Label sets: the theorem, by simulation, and what each of the three methods puts into a set."""

from itertools import pairwise
from math import ceil, sqrt

import numpy as np
import pytest

from resnets.errors import UsageError
from resnets.evaluation.temperature import fit_calibration
from resnets.weights.conformal import FREE, METHODS, PENALTY, Conformal, ranks
from resnets.weights.outputs import probabilities

SPLITS, HELD_OUT, TEST, CLASSES = 200, 120, 400, 6


def drawn(random: np.random.Generator, count: int, sharpness: float = 1.0):
    """Probabilities (N, CLASSES) of a network that is too sure of itself, and labels (N,)."""
    logits, labels = logits_drawn(random, count, sharpness)
    return probabilities(logits, "softmax"), labels


def logits_drawn(random: np.random.Generator, count: int, sharpness: float = 1.0):
    logits = random.normal(0, sharpness, (count, CLASSES)) + random.normal(0, 0.5, CLASSES)
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    return 2 * logits, labels


def covered(found: Conformal, p: np.ndarray, labels: np.ndarray, coverage: float, method: str):
    return float((ranks(p, labels) < found.sizes(p, coverage, method)).mean())


def test_the_theorem():
    """Of many splits the coverage is that of the order statistic, Beta(k, n + 1 - k).

    Though the same held-out images choose the temperature too.
    """
    random, n = np.random.default_rng(0), HELD_OUT
    asked = [(coverage, method) for coverage in (0.7, 0.9) for method in METHODS]
    found = {each: [] for each in asked}
    for _ in range(SPLITS):
        logits, labels = logits_drawn(random, n + TEST)
        calibration = fit_calibration(logits[:n], labels[:n])
        assert calibration.temperature > 1.2
        p = probabilities(calibration(logits), "softmax")
        fitted = Conformal.fitted(p[:n], labels[:n])
        for coverage, method in asked:
            inside = covered(fitted, p[n:], labels[n:], coverage, method)
            found[coverage, method].append(inside)
    for (coverage, method), shares in found.items():
        k = ceil((n + 1) * coverage - 1e-9)
        mean = k / (n + 1)
        spread = mean * (1 - mean) * (1 / (n + 2) + (n + 1) / (n + 2) / TEST)
        assert np.mean(shares) == pytest.approx(mean, abs=3 * sqrt(spread / SPLITS)), method
        assert np.var(shares) == pytest.approx(spread, rel=0.3), method


def test_a_network_that_is_correct_more_often_than_asked_answers_one_class():
    random = np.random.default_rng(1)
    p, labels = drawn(random, 5000, sharpness=20)
    correct = ranks(p, labels) == 0
    assert correct.mean() > 0.9
    fitted = Conformal.fitted(p[:2000], labels[:2000])
    for method in METHODS:
        assert (fitted.sizes(p, 0.9, method) == 1).all()
        assert fitted.sizes(p, 0.99, method).mean() > 1


def test_sets_by_hand():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    found = Conformal((0.75,), (0.75,), (0.75,))
    assert found.sizes(p, 0.5, "lac").tolist() == [2, 1]  # from 0.25 on
    assert found.sizes(p, 0.5, "aps").tolist() == [2, 2]  # until 0.75 is passed
    assert found.sizes(np.array([[0.2, 0.5, 0.3], [0.5, 0.25, 0.25]]), 0.5, "aps").tolist() == [
        2,
        3,
    ]
    many, found = np.full((1, 100), 0.01), Conformal((0.755,), (0.755,), (0.755,))
    assert found.sizes(many, 0.5, "aps").item() == 76
    # The place k has k - 1 before it, and a penalty for those behind the first FREE.
    wanted = max(k for k in range(1, 101) if (k - 1) / 100 + PENALTY * (k - FREE) <= 0.755)
    assert found.sizes(many, 0.5, "raps").item() == wanted < 76


def test_quantiles_are_order_statistics():
    """Of scores that are all different, the ceil((n + 1) c)-th smallest."""
    random = np.random.default_rng(2)
    p, labels = drawn(random, 19, sharpness=0.1)
    own = np.sort(np.where(ranks(p, labels) > 0, 1 - p[np.arange(19), labels], 0))
    found = Conformal.fitted(p, labels)
    assert found.quantile(0.9, "lac") == own[17]
    assert found.quantile(0.901, "lac") == found.quantile(0.91, "lac") == own[18]
    assert found.quantile(0.95, "lac") == own[18]
    assert len(found.aps) == len(found.raps) == 46  # 50 to 95 %


@pytest.mark.parametrize("method", METHODS)
def test_sets_grow_with_coverage_and_are_never_empty(method):
    p, labels = drawn(np.random.default_rng(3), 300)
    found = Conformal.fitted(p, labels)
    sizes = [found.sizes(p, percent / 100, method) for percent in range(50, 100)]
    assert all((one <= more).all() for one, more in pairwise(sizes))
    assert sizes[0].min() == 1
    assert sizes[-1].max() <= CLASSES


def test_equal_probabilities_are_ranked_by_place():
    p = np.array([[0.25, 0.25, 0.25, 0.25], [0.4, 0.1, 0.1, 0.4]])
    assert [ranks(p, np.array([i, i])).tolist() for i in range(4)] == [
        [0, 0], [1, 2], [2, 3], [3, 1],
    ]  # fmt: skip


def test_what_cannot_be_asked_for():
    p, labels = drawn(np.random.default_rng(4), 12)
    found = Conformal.fitted(p, labels)
    assert found.quantile(0.92)
    with pytest.raises(UsageError, match=r"0\.95 take 19 held-out images") as caught:
        found.quantile(0.95)
    assert caught.value.hint.startswith("--coverage 0.92, or train with")
    for coverage in (90, 1, 0.999, 0.49, 0, -1, float("nan")):
        with pytest.raises(UsageError, match="coverage is"):
            found.quantile(coverage)
    with pytest.raises(UsageError, match='no kind of label sets is called "asp"'):
        found.quantile(0.9, "asp")


def test_there_and_back():
    p, labels = drawn(np.random.default_rng(5), 40)
    found = Conformal.fitted(p, labels)
    assert Conformal.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    "damage",
    [
        {"lac": "abc"}, {"lac": [0.1, "x"]}, {"lac": [0.2, 0.1]}, {"lac": [0.1, float("nan")]},
        {"lac": []}, {"lac": [True, True]}, {"lac": [0.1] * 51}, {"more": [0.1]},
        {"aps": [0.1]}, {"lac": None}, {"raps": {"0": 0.1}},
    ],
)  # fmt: skip
def test_damage_is_refused(damage):
    values = Conformal((0.1, 0.2), (0.1, 0.2), (0.1, 0.2)).to_dict()
    with pytest.raises(ValueError, match=r"its (quantiles|label sets)"):
        Conformal.from_dict(values | damage)
