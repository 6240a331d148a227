"""Which sample at which step: a pure function of (seed, epoch)."""

from functools import lru_cache

import torch
from torch import Tensor

from resnets.data import counter
from resnets.data.class_balance import draw


@lru_cache(maxsize=2)  # a second for a million, asked for by what reads ahead and what counts
def epoch_order(
    count: int, seed: int, epoch: int, repeats: int = 1, classes: tuple[int, ...] = ()
) -> Tensor:
    """Return the positions 0 .. count-1 in the order of this epoch, int64.

    With ``repeats`` each sample comes so many times in a row, the last ones as position + count,
    position + 2 count and so on, and the epoch is no longer (Hoffer et al. 2020; Fort et al. 2021):
    it has a part of the samples, cut to a multiple of 256 as by the samplers of DeiT, timm and
    torchvision.

    With ``classes``, the samples of each, which lie together, as many samples are drawn with
    replacement, of any class alike (torch's WeightedRandomSampler); one that has come k times
    before in the epoch comes as position + k count.
    """
    if not classes:
        order = counter.permutation(count, seed, "order", epoch)
        if repeats == 1:
            return order
    else:
        order = draw(classes, seed, "order", epoch, torch.arange(count))
    draws = order.repeat_interleave(repeats)[: epoch_length(count, repeats)]
    return draws + count * _earlier(draws)


def _earlier(draws: Tensor) -> Tensor:
    """Return how often each of some positions has come before in the same order, int64."""
    places = draws.argsort(stable=True)
    grouped = draws[places]
    earlier = torch.empty_like(draws)
    earlier[places] = torch.arange(len(draws)) - torch.searchsorted(grouped, grouped)
    return earlier


def epoch_length(count: int, repeats: int = 1) -> int:
    """Return how many samples an epoch has, the same one drawn again counted again."""
    return count if repeats == 1 else count // 256 * 256 or count


def batch_bounds(count: int, batch_size: int, repeats: int = 1) -> list[tuple[int, int]]:
    """Return (start, stop) of each batch of an epoch in its order; every draw is in exactly one.

    A last batch of a single sample would leave batch norm nothing to normalise over where the maps
    are 1x1, so it joins the batch before it.
    """
    count = epoch_length(count, repeats)
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))
