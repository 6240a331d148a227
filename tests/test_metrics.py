"""Metrics of probabilities and classes, against values worked out by hand and by definition."""

import math

import numpy as np
import pytest

from resnets.evaluation import metrics
from resnets.evaluation.paired import Paired, paired

RANDOM = np.random.default_rng(0)


def test_bins_hold_what_was_so_probable():
    p = np.array([0.0, 1 / 15, 0.07, 0.9, 0.95, 1.0])
    so = np.array([False, True, False, True, True, False])
    found = metrics.reliability(p, so)
    assert found.counts[[0, 1, 13, 14]].tolist() == [1, 2, 1, 2]
    assert found.accuracy[[1, 13, 14]].tolist() == [0.5, 1, 0.5]
    assert found.confidence[14] == pytest.approx(0.975)
    by_hand = 2 / 6 * abs(0.5 - (1 / 15 + 0.07) / 2) + 1 / 6 * 0.1 + 2 / 6 * abs(0.5 - 0.975)
    assert found.error == pytest.approx(by_hand)
    values = found.to_dict()
    assert values["counts"] == found.counts.tolist()
    assert (values["accuracy"][2], values["confidence"][2]) == (None, None)


def test_probabilities_of_one_class():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    labels = np.array([0, 1, 0, 1])
    found = metrics.of_one(p, labels)
    assert found["log_loss"] == pytest.approx(-math.log(0.7 * 0.1 * 0.5) / 4)
    squares = [0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.9**2 + 0.8**2, 0.5**2 + 2 * 0.25**2, 0]
    assert found["brier"] == pytest.approx(sum(squares) / 4)
    assert found["ece"] == pytest.approx((0.3 + 0.8 + 0.5 + 0) / 4)  # a bin of its own each
    assert "15 bins of equal width" in found["binning"]


def test_what_never_should_have_been_is_finite():
    found = metrics.of_one(np.array([[1.0, 0.0]]), np.array([1]))
    assert 700 < found["log_loss"] < 710
    assert (found["brier"], found["ece"]) == (2, 1)


def test_a_true_probability_is_calibrated_and_a_sharpened_one_is_not():
    logits = RANDOM.normal(0, 2, (40_000, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) < RANDOM.random((len(p), 1))).sum(1)
    assert metrics.of_one(p, labels)["ece"] < 0.01
    sharp = p**3 / (p**3).sum(1, keepdims=True)
    for key in ("ece", "brier", "log_loss"):
        assert metrics.of_one(sharp, labels)[key] > metrics.of_one(p, labels)[key]


def test_probabilities_of_several_labels():
    p = np.array([[0.9, 0.2], [0.6, 0.4], [0.1, 0.0]])
    targets = np.array([[True, False], [False, True], [False, False]])
    found = metrics.of_several(p, targets)
    squares = [(0.1**2 + 0.6**2 + 0.1**2) / 3, (0.2**2 + 0.6**2 + 0) / 3]
    assert found["labels"]["brier"] == pytest.approx(squares)
    assert found["labels"]["ece"] == pytest.approx([0.8 / 3, 0.8 / 3])
    assert found["brier"] == pytest.approx(sum(squares) / 2)
    said = (0.9, 0.8, 0.4, 0.4, 0.9, 1.0)
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, said)) / 6)
    assert sum(found["reliability"]["counts"]) == 6


def test_classes_without_images_count_in_no_mean():
    samples, predicted, right = np.array([[4, 1, 0], [3, 1, 1], [3, 0, 0]])
    found = metrics.of_classes(samples, predicted, right)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 0) / 2)
    f1 = 2 * 3 / 7
    assert found["f1_macro"] == pytest.approx(f1 / 2)
    assert found["f1_weighted"] == pytest.approx(f1 * 4 / 5)


@pytest.mark.parametrize(
    ("more", "less", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 32), (1, 9, 2 * 11 / 1024), (9, 1, 2 * 11 / 1024)],
)
def test_mcnemars_exact_test(more, less, p):
    assert Paired(1000, more, less).p_value == pytest.approx(p, rel=1e-3)


def test_of_many_images_nothing_overflows():
    assert Paired(100_000, 15_000, 15_000).p_value == 1
    assert 0 < Paired(100_000, 15_400, 14_900).p_value < 0.01


def test_a_paired_difference_and_its_interval():
    first = np.array([True] * 60 + [False] * 40)
    right = np.array([True] * 55 + [False] * 5 + [True] * 15 + [False] * 25)
    found = paired(right, first)
    assert (found.only_this, found.only_first) == (15, 5)
    assert found.difference == pytest.approx(0.1)
    low, high = found.interval  # (16 - 6) / 102, and its Wald interval
    spread = 1.96 * math.sqrt((22 / 102 - (10 / 102) ** 2) / 102)
    assert (low, high) == pytest.approx((10 / 102 - spread, 10 / 102 + spread))
    same = paired(first, first)
    assert same.interval[0] < 0 < same.interval[1]


def test_the_interval_covers_what_it_says():
    """Of 95 % of samples the interval of the difference holds the true one, about."""
    shares = (0.80, 0.07, 0.04, 0.09)  # both right, only this, only the first, neither
    held = 0
    for both in RANDOM.multinomial(150, shares, size=4000):
        low, high = Paired(150, int(both[1]), int(both[2])).interval
        held += low <= 0.03 <= high
    assert 0.94 < held / 4000 < 0.98
