"""Holding a part of the training data out: seeded, stratified, the same for every run."""

from dataclasses import replace

import torch
from torch import Tensor

from resnets.data import counter
from resnets.data.dataset import Dataset, Split
from resnets.errors import DataError
from resnets.wording import plural


def divide(dataset: Dataset, amount: float | int, seed: int) -> Dataset:
    """Return the data set with a validation part: its own, or one held out of training."""
    if dataset.validation is not None or not amount:
        return dataset
    kept, held = hold_out(dataset.train, amount, seed)
    return replace(dataset, train=kept, validation=held if len(held) else None)


def hold_out(split: Split, amount: float | int, seed: int) -> tuple[Split, Split]:
    """Return (kept, held out); ``amount`` is a fraction below 1 or a number of samples.

    Each class gives its share, rounded so that the total is exact. A sample's place depends on
    (seed, its id) alone. Raises DataError when nothing would be left of a class to train on.
    """
    count = round(amount * len(split)) if amount < 1 else int(amount)
    if count == 0:
        return split, split.subset(torch.arange(0))
    rank = counter.bits(seed, "holdout", 0, split.ids)
    chosen = torch.zeros(len(split), dtype=torch.bool)
    for label, share in enumerate(_shares(torch.bincount(split.labels), count)):
        members = torch.nonzero(split.labels == label).flatten()
        if len(members) and share >= len(members):
            raise DataError(
                f"holding out {count:,} of {plural(len(split), 'sample')} leaves nothing to train "
                f"on of class number {label} (counted from 0), which has {len(members)}",
                hint="lower data.holdout or add pictures",
            )
        chosen[members[torch.argsort(rank[members], stable=True)[:share]]] = True
    return split.subset(torch.nonzero(~chosen).flatten()), split.subset(
        torch.nonzero(chosen).flatten()
    )


def _shares(sizes: Tensor, count: int) -> list[int]:
    """Divide ``count`` in proportion to ``sizes``, by largest remainders."""
    exact = sizes.double() * count / sizes.sum()
    shares = exact.floor().long()
    largest = torch.argsort(exact - shares, descending=True, stable=True)
    shares[largest[: count - int(shares.sum())]] += 1
    return [int(n) for n in shares]
