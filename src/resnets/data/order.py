"""Which sample at which step: a pure function of (seed, epoch)."""

from torch import Tensor

from resnets.data import counter


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Return the positions 0 .. count-1 in the order of this epoch, int64 (count,)."""
    return counter.permutation(count, seed, "order", epoch)


def batch_bounds(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Return (start, stop) of each batch of an epoch; every sample is in exactly one.

    A last batch of a single sample would leave batch norm nothing to normalise over where the maps
    are 1x1, so it joins the batch before it.
    """
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))
