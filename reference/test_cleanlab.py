"""Confident learning against cleanlab's, on the same probabilities."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.rank import get_label_quality_scores

from resnets.evaluation.confident_learning import (
    confident_class,
    self_confidence,
)


@pytest.fixture(params=range(5))
def noisy(request):
    """Probabilities of models that are right most of the time, and labels with some errors."""
    generator = np.random.default_rng(request.param)
    truth = generator.choice(6, 3000, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05])
    logits = generator.normal(size=(3000, 6))
    logits[np.arange(3000), truth] += 3
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = generator.random(3000) < 0.08
    return probabilities, np.where(wrong, (truth + generator.integers(1, 6, 3000)) % 6, truth)


def test_the_ranking_is_the_same(noisy):
    probabilities, labels = noisy
    theirs = get_label_quality_scores(labels, probabilities, method="self_confidence")
    np.testing.assert_allclose(self_confidence(probabilities, labels), theirs, atol=1e-12)


def test_the_confident_joint_is_the_same(noisy):
    """But of images for which several classes reach their thresholds, and another is more probable.

    The paper's maximum is over those that do (eq. 1), cleanlab's over all; here is no such image.
    """
    probabilities, labels = noisy
    found = confident_class(probabilities, labels)
    joint = np.zeros((6, 6), int)
    np.add.at(joint, (labels[found >= 0], found[found >= 0]), 1)
    theirs, places = compute_confident_joint(
        labels, probabilities, calibrate=False, return_indices_of_off_diagonals=True
    )
    np.testing.assert_array_equal(joint, theirs)
    assert np.flatnonzero((found >= 0) & (found != labels)).tolist() == sorted(places)
