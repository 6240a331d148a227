"""Which norm is which by what they have stored: a mean follows from the norm before it.

What a norm lets through has the mean of its bias and the deviation of its weight, whatever the
images were. So behind a ReLU and a convolution the mean of each channel is known but for the
borders: the sum of its weights times the mean that each input has. In trained networks the means
that are stored agree (correlations of 0.95 to 1), and those of any other norm do not
(docs/structure.md has the figures); in networks that have seen no images nothing is stored.
"""

import math
from collections.abc import Sequence
from itertools import permutations
from statistics import mean

import torch
from torch import Tensor

from resnets.weights.structure.tensor_modules import Module

_AGREES, _APART = 0.9, 0.3  # the least that decides, and how far behind all else has to be
_PARTS = ("weight", "bias", "running_mean")


def agreement(before: Module, layer: Module, behind: Module) -> float:
    """Return how well the mean behind a convolution follows from the norm before it, -1 to 1."""
    parts = [module.values.get(part) for module in (before, behind) for part in _PARTS]
    kernel = layer.values.get("weight")
    if kernel is None or any(part is None or part.is_meta for part in parts) or kernel.is_meta:
        return 0.0
    scale, shift, _, _, _, stored = (part.double() for part in parts if part is not None)
    sums = kernel.double().sum((2, 3))
    groups, rest = divmod(len(scale), sums.shape[1])
    if rest or len(stored) != len(sums) or len(sums) % groups:
        return 0.0
    inputs = _rectified(scale.abs(), shift).view(groups, 1, -1)
    expected = (sums.view(groups, -1, sums.shape[1]) * inputs).sum(2).flatten()
    expected, stored = expected - expected.mean(), stored - stored.mean()
    size = float(expected.norm() * stored.norm())
    return float(expected @ stored) / size if math.isfinite(size) and size > 0 else 0.0


def _rectified(deviation: Tensor, mean: Tensor) -> Tensor:
    """Return the mean of a normal variable's positive part, max(0, x)."""
    ratio = mean / deviation.clamp(min=1e-12)
    density = torch.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    return deviation * density + mean * (1 + torch.erf(ratio / math.sqrt(2))) / 2


def chained(main: Sequence[Module], norms: Sequence[Module], pre: bool) -> float:
    """Return the agreement within a block of convolutions and norms in these orders."""
    links = zip(norms, main if pre else main[1:], norms[1:], strict=False)
    return mean([agreement(*link) for link in links] or [0.0])


def decided(scores: Sequence[float]) -> bool:
    """Tell whether the highest of some agreements is the truth, and the only one."""
    *others, best = sorted(scores)
    return best >= _AGREES and all(best - other >= _APART for other in others)


def by_means(main: Sequence[Module], norms: Sequence[Module], pre: bool) -> list[Module]:
    """Return a block's norms in the one order in which their means follow; empty without one."""
    orders = list(permutations(norms))
    scores = [chained(main, order, pre) for order in orders]
    return list(orders[scores.index(max(scores))]) if decided(scores) else []
