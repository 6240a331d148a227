"""Confident learning against cleanlab's, on the same probabilities."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.rank import get_label_quality_scores

from resnets.evaluation.confident_learning import (
    confident_class,
    confident_joint,
    likely_wrong,
    margins,
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
    theirs = get_label_quality_scores(labels, probabilities, method="normalized_margin")
    np.testing.assert_allclose((1 + margins(probabilities, labels)) / 2, theirs, atol=1e-12)


def test_the_confident_joint_is_the_same(noisy):
    """But where several classes reach their thresholds, and one that does not is more probable.

    The paper's maximum is over those that do (eq. 1), cleanlab's over all.
    """
    probabilities, labels = noisy
    sure = confident_class(probabilities, labels)
    as_theirs = (sure < 0) | (sure == probabilities.argmax(1))
    alone = (probabilities >= _thresholds(probabilities, labels)).sum(1) == 1
    assert (as_theirs | alone).all()  # of these sets none has such an image
    theirs, places = compute_confident_joint(
        labels, probabilities, calibrate=False, return_indices_of_off_diagonals=True
    )
    ours = confident_joint(probabilities, labels)
    # Theirs has at least one image on the diagonal of each class, as ours has here.
    np.testing.assert_array_equal(ours, theirs)
    assert np.flatnonzero(likely_wrong(probabilities, labels)).tolist() == sorted(places)


def _thresholds(probabilities, labels):
    return np.array([probabilities[labels == k, k].mean() for k in range(probabilities.shape[1])])
