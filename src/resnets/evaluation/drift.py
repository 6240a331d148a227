"""Whether new embeddings are of another distribution than old ones, and by how much."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 999
NEIGHBOURS = 5
FOLDS = 5
FAR = 0.95  # of the old images are nearer to the others
LEAST = 10  # images on either side
_AT_ONCE = 100  # permutations
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Drift:
    """How the embeddings of new images differ from those of old ones."""

    distance: float  # `energy_distance`, as a share of twice the mean distance of old from new
    p_value: float  # how often groups that chance alone makes are as far apart
    auroc: float  # how often a probe takes the new one of an old and a new image for new
    far: float  # the share of new images that are farther from old ones than FAR of these are
    remoteness: Floats  # (M,) of each new image, the mean distance of its nearest old ones


def drift(old: NDArray[np.floating], new: NDArray[np.floating]) -> Drift:
    """Compare embeddings (N, C) with new ones (M, C), at least LEAST of each. The same each time.

    The mean distance of pairs is taken into account for each pair, so a few thousand are enough.
    """
    rows = np.concatenate([old, new]).astype(np.float64)
    is_new = np.arange(len(rows)) >= len(old)
    apart = distances(rows)
    scale = 2 * apart[np.ix_(~is_new, is_new)].mean()
    remote = remoteness(apart, is_new)
    return Drift(
        distance=float(energy_distance(apart, is_new[:, None])[0] / (scale or 1)),
        p_value=chance(apart, is_new),
        auroc=probe(rows, is_new),
        far=float((remote[is_new] > np.quantile(remote[~is_new], FAR)).mean()),
        remoteness=remote[is_new],
    )


def distances(rows: Floats) -> Floats:
    """Return the Euclidean distances (N, N) of rows (N, C)."""
    rows = rows - rows.mean(0)  # or what they have in common costs digits
    squares = (rows**2).sum(1)
    apart: Floats = np.sqrt(np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0))
    np.fill_diagonal(apart, 0)
    return apart


def energy_distance(apart: Floats, new: Mask) -> Floats:
    """Return the energy distance (P,) of old and new rows, for P ways (N, P) to part them.

    Twice the mean distance of an old row from a new one, less that of two old ones and that of two
    new ones (Székely and Rizzo 2013), none from itself: so it is unbiased, and may be below zero.
    """
    m = new.sum(0)
    n = len(new) - m
    chosen = new.astype(np.float64)
    to_new = apart @ chosen
    within = (chosen * to_new).sum(0)
    across = to_new.sum(0) - within
    rest = apart.sum() - 2 * across - within
    found: Floats = 2 * across / (n * m) - within / (m * (m - 1)) - rest / (n * (n - 1))
    return found


def chance(apart: Floats, new: Mask, permutations: int = PERMUTATIONS) -> float:
    """Return the p-value of a permutation test of the energy distance: exact, at least 1 / 1000.

    If old and new are of one distribution, it is at most p with a probability of at most p.
    """
    random = np.random.default_rng(0)
    # Other ways to sum round otherwise, and equal partings are as large.
    observed = energy_distance(apart, new[:, None])[0] - 1e-9 * apart.mean()
    as_large = 1
    for start in range(0, permutations, _AT_ONCE):
        count = min(_AT_ONCE, permutations - start)
        groups = np.stack([random.permutation(new) for _ in range(count)], axis=1)
        as_large += int((energy_distance(apart, groups) >= observed).sum())
    return as_large / (1 + permutations)


def remoteness(apart: Floats, new: Mask) -> Floats:
    """Return of each row the mean distance of its nearest old rows, none from itself, (N,)."""
    to_old = apart[:, ~new].copy()
    to_old[np.flatnonzero(~new), np.arange(to_old.shape[1])] = np.inf
    count = min(NEIGHBOURS, to_old.shape[1] - 1)
    found: Floats = np.partition(to_old, count - 1, axis=1)[:, :count].mean(1)
    return found


def probe(rows: Floats, new: Mask) -> float:
    """Return how often a linear probe ranks a new row above an old one, that it has not learnt.

    Linear discriminant analysis in cross-validation; its covariance is shrunk to that of a sphere,
    the more the fewer rows there are for so many channels.
    """
    place = np.where(new, np.cumsum(new), np.cumsum(~new))
    areas = []
    for fold in range(FOLDS):
        aside = place % FOLDS == fold
        scores = rows[aside] @ _direction(rows[~aside], new[~aside])
        areas.append(auroc(scores[~new[aside]], scores[new[aside]]))
    return float(np.mean(areas))


def _direction(rows: Floats, new: Mask) -> Floats:
    there, here = rows[new].mean(0), rows[~new].mean(0)
    centred = rows - np.where(new[:, None], there, here)
    count, channels = rows.shape
    covariance = centred.T @ centred / count
    sphere = np.trace(covariance) / channels + np.finfo(np.float64).tiny  # of equal rows it is 0
    share = channels / (channels + count)
    found: Floats = np.linalg.solve(
        (1 - share) * covariance + share * sphere * np.eye(channels), there - here
    )
    return found


def auroc(low: NDArray[np.floating], high: NDArray[np.floating]) -> float:
    """Return how often one of ``high`` is above one of ``low``, a tie counted as half of a time."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / (2 * len(low)))
