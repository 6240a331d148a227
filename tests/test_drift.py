"""Drift of embeddings: analytic distances, uniform p-values, differences that are found."""

import numpy as np
import pytest

from resnets.evaluation.drift import (
    auroc,
    chance,
    distances,
    drift,
    energy_distance,
    probe,
    remoteness,
)


def normal(seed: int, count: int, channels: int, mean: float = 0, spread: float = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, (count, channels))


def parted(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.concatenate([old, new])
    return distances(rows), np.arange(len(rows)) >= len(old)


def test_energy_distance_of_numbers_by_hand():
    """Old 0 and 1, new 3 and 7: across 3, 7, 2, 6, within 1 and 4; 2 x 4.5 - 1 - 4 = 4."""
    apart, new = parted(np.array([[0.0], [1]]), np.array([[3.0], [7]]))
    assert energy_distance(apart, new[:, None])[0] == pytest.approx(4, abs=1e-9)
    other = np.array([[True, False], [False, True], [True, True], [False, False]]).reshape(4, 2)
    assert energy_distance(apart, other) == pytest.approx(
        [2 * (1 + 7 + 2 + 4) / 4 - 3 - 6, 2 * (1 + 3 + 6 + 4) / 4 - 2 - 7], abs=1e-9
    )


def test_energy_distance_is_unbiased():
    """Of normals with means 0 and d it is 2 E|N(d, 2)| - 2 E|N(0, 2)| in the mean."""
    d, found, none = 1.0, [], []
    for seed in range(400):
        apart, new = parted(normal(seed, 6, 1), normal(1000 + seed, 4, 1, d))
        found.append(energy_distance(apart, new[:, None])[0])
        apart, new = parted(normal(seed, 6, 1), normal(2000 + seed, 4, 1))
        none.append(energy_distance(apart, new[:, None])[0])
    # E|N(d, s^2)| is that of a folded normal.
    from math import erf, exp, pi, sqrt

    folded = 2 / sqrt(pi) * exp(-(d**2) / 4) + d * erf(d / 2)
    wanted = 2 * folded - 4 / sqrt(pi)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - wanted) < 4 * error
    assert wanted > 8 * error  # which would not be so if the test could not fail
    assert abs(np.mean(none)) < 4 * np.std(none) / np.sqrt(len(none))


def test_p_values_are_uniform_where_nothing_differs():
    p = [chance(*parted(normal(s, 15, 3), normal(500 + s, 10, 3)), 99) for s in range(300)]
    assert abs(np.mean(p) - 0.5) < 4 * np.sqrt(1 / 12 / 300)
    for level in (0.05, 0.2, 0.5):  # within the binomial's bounds
        bound = 4 * np.sqrt(level * (1 - level) / 300)
        assert abs(np.mean(np.array(p) <= level) - level) < bound


@pytest.mark.parametrize(("mean", "spread"), [(0.6, 1), (0, 1.5)])
def test_what_differs_is_found(mean, spread):
    """In where it is, and in how wide it is, which no mean shows."""
    old, new = normal(1, 120, 16), normal(2, 80, 16, mean, spread)
    found = drift(old, new)
    assert found.p_value == 1 / 1000
    assert found.distance > 0
    if mean:
        assert found.auroc > 0.8
    else:
        assert found.far > 0.5
    assert drift(old, new).p_value == found.p_value


def test_nothing_differs():
    old, new = normal(1, 120, 16), normal(2, 80, 16)
    found = drift(old, new)
    assert found.p_value > 0.05
    assert abs(found.distance) < 0.02
    assert 0.35 < found.auroc < 0.65  # of rows that the probe has not learnt: those it tells apart
    assert found.far < 0.15
    assert len(found.remoteness) == 80


def test_scale_and_place_do_not_matter():
    old, new = normal(1, 30, 4), normal(2, 20, 4, 0.3)
    one, other = drift(old, new), drift(old * 1e3 + 1e5, new * 1e3 + 1e5)
    assert one.distance == pytest.approx(other.distance, rel=1e-6)
    assert (one.p_value, one.far) == (other.p_value, other.far)
    assert one.auroc == pytest.approx(other.auroc)


def test_equal_embeddings_do_not_differ():
    """Of a network that has died all are alike."""
    found = drift(np.ones((12, 4), np.float32), np.ones((11, 4), np.float32))
    assert (found.distance, found.p_value, found.auroc, found.far) == (0, 1, 0.5, 0)


def test_the_most_remote_is_the_one_that_is_alone():
    rows = np.concatenate([normal(1, 50, 4), normal(2, 20, 4)])
    rows[60] += 20
    apart = distances(rows)
    found = remoteness(apart, np.arange(70) >= 50)
    assert found.argmax() == 60
    expected = np.sort(np.linalg.norm(rows[:50] - rows[60], axis=1))[:5].mean()
    assert found[60] == pytest.approx(expected)
    others = np.delete(rows[:50], 7, axis=0)  # none is near to itself
    assert found[7] == pytest.approx(np.sort(np.linalg.norm(others - rows[7], axis=1))[:5].mean())


def test_a_probe_learns_from_others():
    """More channels than rows: what it has learnt it would tell apart always."""
    rows, new = normal(3, 60, 200), np.arange(60) >= 30
    assert 0.25 < probe(rows, new) < 0.75
    rows[new, 0] += 8
    assert probe(rows, new) > 0.95


def test_auroc_counts_pairs():
    low, high = np.array([0.1, 0.4, 0.4, 0.9]), np.array([0.4, 0.5, 1.0])
    pairs = [(b > a) + 0.5 * (a == b) for a in low for b in high]
    assert auroc(low, high) == pytest.approx(np.mean(pairs))
    assert auroc(high, high) == 0.5
