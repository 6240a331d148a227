"""Holding out samples of several classes: of each set of them its share, and of each class too."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def hold_out_several(targets: Tensor, rank: Tensor, first: Tensor, count: int) -> Tensor:
    """Return which samples are held out where each may have several classes, bool (N,).

    Of each set of classes they are those of the lowest ranks. Samples with equal ``first`` are one
    unit, and units with equal classes one kind.
    """
    _, unit = torch.unique(first, return_inverse=True)
    has = np.pad(targets.numpy(), ((0, 0), (0, 1)), constant_values=True)  # the last: the total
    units = np.zeros((int(unit.max()) + 1, has.shape[1]), np.int64)
    np.add.at(units, unit.numpy(), has)
    own = np.full(len(units), np.iinfo(np.int64).max)
    np.minimum.at(own, unit.numpy(), rank.numpy())
    kinds, of, sizes = np.unique(units, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((own, of))
    place = np.empty(len(units), np.int64)
    place[order] = np.arange(len(units)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held = _rounded(kinds, sizes, count, len(targets), own[order][np.cumsum(sizes) - sizes])
    return torch.from_numpy(place < held[of])[unit]


def _rounded(
    kinds: NDArray[np.int64], sizes: NDArray[np.int64], count: int, of: int, rank: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how many of each kind's units are held out: its share, rounded down or up.

    ``kinds`` are the samples of each class in a unit, (K, classes + 1), the last all of them. Which
    are rounded up begins as chance (``rank``) has it, and two are exchanged as long as that brings
    the classes nearer to their shares: in squared distances, each over the size of its class. In
    whole numbers, so that every machine finds the same.
    """
    order = np.argsort(rank, kind="stable")
    kinds, sizes = kinds[order], sizes[order]
    total = kinds.T @ sizes
    held, rest = np.divmod(sizes * count, of)
    low, high = held.copy(), held + (rest > 0)
    lacking = count - int(kinds[:, -1] @ held)
    held += (rest > 0) & (np.cumsum(kinds[:, -1] * (rest > 0)) <= lacking)
    if not held.any():  # of large groups the smallest there is
        held[np.where(rest > 0, kinds[:, -1], np.iinfo(np.int64).max).argmin()] += 1
    weight = 2**20 // np.maximum(total, 1)
    off = of * (kinds.T @ held) - count * total  # of times what each class has too many
    square = of * (kinds**2 @ weight)

    def step(sign: int) -> int:
        """Hold one more out or one less, which is best; return the change of the distances."""
        possible = held < high if sign > 0 else held > low
        change = np.where(possible, square + sign * 2 * (kinds @ (weight * off)), 2**62)
        best = int(change.argmin())
        held[best] += sign
        off[:] += sign * of * kinds[best]
        return int(change[best])

    while (held < high).any() and (held > low).any():
        before = held.copy()
        if step(1) + step(-1) >= 0:
            held = before
            break
    found = np.empty_like(held)
    found[order] = held
    return found
