"""Holding a part of the training data out: seeded, stratified, the same for every run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from resnets.data import counter
from resnets.data.dataset import Dataset, Split
from resnets.data.images import printable
from resnets.errors import DataError
from resnets.formatting import plural


def divide(dataset: Dataset, amount: float | int, seed: int) -> Dataset:
    """Return the data set with a validation split: its own, or one held out of training."""
    if dataset.validation is not None or not amount:
        return dataset
    kept, held = hold_out(
        dataset.train, amount, seed, originals=dataset.originals, classes=dataset.classes
    )
    return replace(dataset, train=kept, validation=held if len(held) else None)


def hold_out(
    split: Split,
    amount: float | int,
    seed: int,
    *,
    originals: Tensor | None = None,
    classes: Sequence[str] = (),
) -> tuple[Split, Split]:
    """Return (kept, held out); ``amount`` is a fraction below 1 or a number of samples.

    Each class gives its share, rounded so that the total is exact. A sample's place depends on
    (seed, its id) alone. ``originals``, int64 by id, names for each sample the first that is a copy
    of it: copies stay together, at the place of their first, and shares are met as nearly as that
    allows. Raises DataError when nothing would be left of a class to train on.
    """
    count = round(amount * len(split)) if amount < 1 else int(amount)
    if count == 0:
        return split, split.subset(torch.arange(0))
    sizes = torch.bincount(split.labels)
    shares = _shares(sizes, count)
    for label, share in enumerate(shares):
        if sizes[label] and share >= sizes[label]:
            name = printable(classes[label]) if classes else f"number {label}"
            raise DataError(
                f"holding out {count:,} of {plural(len(split), 'sample')} leaves nothing to train "
                f"on of class {name}, which has {int(sizes[label])}",
                hint="lower data.holdout or add images",
            )
    rank = counter.bits(seed, "holdout", 0, split.ids)
    first = split.ids if originals is None else originals[split.ids]
    if len(torch.unique(first)) == len(split):
        chosen = _single(split.labels, rank, shares)
    else:
        chosen = _together(split.labels, rank, first, shares, sizes.tolist())
    return split.subset(torch.nonzero(~chosen).flatten()), split.subset(
        torch.nonzero(chosen).flatten()
    )


def _single(labels: Tensor, rank: Tensor, shares: Sequence[int]) -> Tensor:
    """Return which samples, bool (N,), are held out: of each class those of the lowest rank."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label, share in enumerate(shares):
        members = torch.nonzero(labels == label).flatten()
        chosen[members[torch.argsort(rank[members], stable=True)[:share]]] = True
    return chosen


def _together(
    labels: Tensor, rank: Tensor, first: Tensor, shares: Sequence[int], sizes: Sequence[int]
) -> Tensor:
    """Return the same where samples with equal ``first`` are held out together or not at all.

    They come at the rank of their first, and are taken where that brings each of their classes
    nearer to its share; without copies this is what `_single` does.
    """
    groups: dict[int, list[int]] = {}
    for position, original in enumerate(first.tolist()):
        groups.setdefault(original, []).append(position)
    ranks, of = rank.tolist(), labels.tolist()
    order = sorted(groups.values(), key=lambda members: ranks[members[0]])
    adds = [Counter(of[member] for member in members) for members in order]
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    taken = [0] * len(sizes)

    def nearer(label: int, n: int, tie: bool) -> bool:
        lacking = 2 * (shares[label] - taken[label])
        return (n <= lacking if tie else n < lacking) and taken[label] + n < sizes[label]

    for tie in (False, True):  # what is as near with as without decides the total
        for members, add in zip(order, adds, strict=True):
            fits = all(nearer(label, n, tie) for label, n in add.items())
            if tie and fits:
                fits = len(members) <= 2 * (sum(shares) - sum(taken)) and not chosen[members[0]]
            if fits:
                chosen[members] = True
                for label, n in add.items():
                    taken[label] += n
    return chosen


def _shares(sizes: Tensor, count: int) -> list[int]:
    """Divide ``count`` in proportion to ``sizes``, by largest remainders."""
    exact = sizes.double() * count / sizes.sum()
    shares = exact.floor().long()
    largest = torch.argsort(exact - shares, descending=True, stable=True)
    shares[largest[: count - int(shares.sum())]] += 1
    return [int(n) for n in shares]
