"""Which rows of a table of embeddings lie near each other, by their cosine; compared in blocks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024  # rows that are compared at a time with all others


def nearest(
    rows: NDArray[np.float32], apart: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the ``count`` nearest of each row (N, D), nearest first, and their cosines.

    Both are (N, count). Rows with an equal number in ``apart``, int64 (N,), a row itself among
    them, are no neighbours of each other; where there are fewer, -1 and a cosine of -inf.
    """
    unit = _unit(rows)
    count = min(count, len(rows))
    found = np.full((len(rows), count), -1)
    cosines = np.full((len(rows), count), -np.inf, np.float32)
    for start in range(0, len(rows), _BLOCK):
        here = slice(start, start + _BLOCK)
        alike = unit[here] @ unit.T
        alike[apart[here, None] == apart] = -np.inf
        best = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(alike, best, 1)
        order = np.argsort(-near, axis=1, kind="stable")
        cosines[here] = np.take_along_axis(near, order, 1)
        found[here] = np.take_along_axis(best, order, 1)
    found[np.isneginf(cosines)] = -1
    return found, cosines


def alike(rows: NDArray[np.float32], least: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows (N, D), the earlier first, whose cosine is at ``least`` so much."""
    unit = _unit(rows)
    for start in range(0, len(rows), _BLOCK):
        one, other = np.nonzero(unit[start : start + _BLOCK] @ unit[start:].T >= least)
        later = other > one
        yield from zip((one[later] + start).tolist(), (other[later] + start).tolist(), strict=True)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows at length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
