"""Confident learning and neighbours on numbers that can be worked out by hand."""

import numpy as np
import pytest
import torch

from resnets.data.folds import folds_of
from resnets.data.neighbours import alike, nearest
from resnets.errors import DataError
from resnets.evaluation.confident_learning import (
    confident_class,
    likely_wrong,
    self_confidence,
    suggestions,
    thresholds,
)

P = np.array([[0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.2, 0.8, 0.0], [0.35, 0.5, 0.15], [0.8, 0.2, 0]])
LABELS = np.array([0, 0, 1, 1, 1])


def test_a_class_is_likely_where_it_is_as_probable_as_it_usually_is():
    np.testing.assert_allclose(thresholds(P, LABELS), [0.7, 0.5, np.inf])
    assert confident_class(P, LABELS).tolist() == [0, -1, 1, 1, 0]
    assert likely_wrong(P, LABELS).tolist() == [4]


def test_the_least_probable_labels_are_the_likeliest_to_be_wrong():
    np.testing.assert_allclose(self_confidence(P, LABELS), [0.9, 0.5, 0.8, 0.5, 0.2])
    assert suggestions(P, LABELS).tolist() == [1, 1, 0, 0, 0]
    more, labels = np.concatenate([P, [[0.95, 0.05, 0]]]), np.append(LABELS, 1)
    assert likely_wrong(more, labels).tolist() == [5, 4]


def test_where_several_classes_are_usual_the_most_probable_of_these_counts():
    probabilities = np.array([[0.6, 0.2, 0.2], [0.5, 0.25, 0.25], [0.5, 0.2, 0.3], [0.9, 0.1, 0]])
    labels = np.array([1, 1, 2, 0])
    assert thresholds(probabilities, labels).round(3).tolist() == [0.9, 0.225, 0.3]
    assert confident_class(probabilities, labels).tolist() == [-1, 1, 2, 0]


def test_neighbours_are_those_of_the_largest_cosine():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(2500, 8)).astype(np.float32)
    rows[7], apart = 0, np.arange(2500)
    apart[100:110] = 100  # copies of each other
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    cosines = unit @ unit.T
    cosines[apart[:, None] == apart] = -np.inf
    places, near = nearest(rows, apart, 5)
    np.testing.assert_allclose(near, -np.sort(-cosines, axis=1)[:, :5], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosines, places, 1), near, atol=1e-6)
    expected = {(a, b) for a, b in np.argwhere(cosines >= 0.9).tolist() if a < b}
    within = {(a, b) for a in range(100, 110) for b in range(a + 1, 110) if unit[a] @ unit[b] > 0.9}
    assert set(alike(rows, 0.9)) == expected | within


def test_where_all_are_copies_there_is_no_neighbour():
    places, near = nearest(np.ones((3, 2), np.float32), np.zeros(3, np.int64), 5)
    assert (places == -1).all()
    assert np.isneginf(near).all()


def test_folds_spread_each_class_and_tear_no_copies():
    generator = np.random.default_rng(0)
    labels = generator.choice(4, 203, p=[0.5, 0.3, 0.15, 0.05])
    together = np.arange(203)
    together[[5, 50, 51, 150]], together[[9, 99]] = 5, 9
    ids = torch.arange(203)
    found = folds_of(labels, together, ids, 5, seed=0)
    assert len(set(found[[5, 50, 51, 150]])) == len(set(found[[9, 99]])) == 1
    counts = np.array([np.bincount(labels[found == fold], minlength=4) for fold in range(5)])
    assert (counts.max(0) - counts.min(0) <= 2).all()  # 1, but for the copies
    assert np.ptp(counts.sum(1)) <= 3
    assert (folds_of(labels, together, ids, 5, seed=0) == found).all()
    assert (folds_of(labels, together, ids, 5, seed=1) != found).any()
    few = folds_of(np.array([0, 0, 0, 1] * 3), np.arange(12), torch.arange(12), 5, seed=0)
    assert sorted(np.bincount(few[3::4], minlength=5)) == [0, 0, 1, 1, 1]
    with pytest.raises(DataError, match="3 different images, and 5 folds") as caught:
        folds_of(np.array([0, 0, 1]), np.arange(3), torch.arange(3), 5, seed=0)
    assert "lower the number of folds" in caught.value.hint
