"""Classes of unequal size: what a sample of each weighs, and samples drawn of each class alike."""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from resnets.data import counter
from resnets.data.dataset import Dataset
from resnets.errors import DataError


def class_weights(counts: Tensor, beta: float | None) -> Tensor:
    """Return what a sample of each class weighs beside others, float64 (classes,).

    It is the inverse of the class's number of samples, int64 (classes,), which differs from
    scikit-learn's "balanced" by a factor for all; or with ``beta`` of their effective number,
    (1 - beta^n) / (1 - beta) (Cui et al. 2019, eq. 3), which goes from 1 to n as beta goes from 0
    to 1. A class without samples weighs nothing.
    """
    numbers = counts.double()
    if beta:
        numbers = -torch.expm1(numbers * log(beta)) / (1 - beta)
    elif beta == 0:
        numbers = numbers.clamp(max=1)
    return torch.where(counts > 0, 1 / numbers, 0.0)


def sample_factors(dataset: Dataset, kind: str, beta: float, *, drawn_alike: bool) -> Tensor | None:
    """Return what each training sample's loss is multiplied by, float32 (N,); None: all by 1.

    ``kind`` is none, balanced or effective; the data set's own weights multiply it. Their mean is 1
    over the samples, or over those that come where classes are ``drawn_alike``: then learning rates
    mean what they do without. Raises DataError for weights that are negative, not finite or all 0.
    """
    train, counts = dataset.train, torch.tensor(dataset.counts)
    if kind == "none" and train.weights is None:
        return None
    labels = train.labels.cpu()
    factors = torch.ones(len(labels), dtype=torch.float64)
    if train.weights is not None:
        factors = train.weights.cpu().double()
        if not (factors.isfinite() & (factors >= 0)).all() or not factors.any():
            raise DataError(
                f"{dataset.name}: the samples' weights are not all finite and 0 or more, "
                "or there is none above 0"
            )
    if kind != "none":
        factors = factors * class_weights(counts, None if kind == "balanced" else beta)[labels]
    chances = class_weights(counts, None)[labels] if drawn_alike else torch.ones_like(factors)
    return (factors * (chances.sum() / (factors * chances).sum())).float()


def draw(counts: Sequence[int], seed: int, stream: str, epoch: int, ids: Tensor) -> Tensor:
    """Return the position of a sample for each id, int64: any class alike, any of its samples.

    ``counts`` are the samples of each class, which lie together, class after class; ids with the
    same number draw the same.
    """
    sizes = torch.tensor([count for count in counts if count], device=ids.device)
    firsts = sizes.cumsum(0) - sizes
    chosen = counter.integers(len(sizes), seed, f"{stream} class", epoch, ids)
    return firsts[chosen] + counter.integers(sizes[chosen], seed, f"{stream} sample", epoch, ids)
