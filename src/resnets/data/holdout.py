"""Holding a part of the training data out: seeded, stratified, the same for every run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnets.data import counter
from resnets.data.dataset import Dataset, Split
from resnets.data.images import printable
from resnets.data.label_sets import hold_out_several
from resnets.errors import DataError
from resnets.formatting import plural

_EXCHANGED = 20_000  # groups times classes, up to which pairs of groups are compared


def divide(dataset: Dataset, amount: float | int, seed: int) -> Dataset:
    """Return the data set with a validation split: its own, or one held out of training."""
    if dataset.validation is not None or not amount:
        return dataset
    kept, held = hold_out(
        dataset.train,
        amount,
        seed,
        originals=dataset.originals,
        grouped=dataset.groups is not None,
        classes=dataset.classes,
    )
    return replace(dataset, train=kept, validation=held if len(held) else None)


def hold_out(
    split: Split,
    amount: float | int,
    seed: int,
    *,
    originals: Tensor | None = None,
    grouped: bool = False,
    classes: Sequence[str] = (),
) -> tuple[Split, Split]:
    """Return (kept, held out); ``amount`` is a fraction below 1 or a number of samples.

    Each class gives its share, rounded so that the total is exact; where a sample may have several
    classes, each set of them does, and each class as nearly as that goes. A sample's place depends
    on (seed, its id) alone. ``originals``, int64 by id, names for each sample the first that it
    stays together with, as copies do, at the place of that first; shares are met as nearly as that
    allows. ``grouped`` says that many may stay together, such as the images of a patient: then no
    group that is moved from one side to the other brings all classes nearer to their shares, and
    one at least is held out. Raises DataError when nothing would be left of a class to train on.
    """
    count = round(amount * len(split)) if amount < 1 else int(amount)
    if count == 0:
        return split, split.subset(torch.arange(0))
    rank = counter.bits(seed, "holdout", 0, split.ids)
    first = split.ids if originals is None else originals[split.ids]
    if split.targets is not None:
        chosen = hold_out_several(split.targets, rank, first, count)
        _check_left(split.targets.sum(0), split.targets[chosen].sum(0), count, len(split), classes)
    else:
        sizes = torch.bincount(split.labels)
        shares = _shares(sizes, count)
        _check_left(sizes, torch.tensor(shares), count, len(split), classes)
        if len(torch.unique(first)) == len(split):
            chosen = _single(split.labels, rank, shares)
        else:
            chosen = _together(split.labels, rank, first, shares, sizes.tolist())
            if grouped:
                chosen = _nearest(split.labels, rank, first, shares, chosen)
    return split.subset(~chosen), split.subset(chosen)


def _check_left(
    sizes: Tensor, held: Tensor, count: int, total: int, classes: Sequence[str]
) -> None:
    """Raise DataError where all of a class's samples are held out."""
    for label in torch.nonzero((sizes > 0) & (held >= sizes)).flatten().tolist():
        name = printable(classes[label]) if classes else f"number {label}"
        raise DataError(
            f"holding out {count:,} of {plural(total, 'sample')} leaves nothing to train on of "
            f"class {name}, which has {int(sizes[label])}",
            hint="lower data.holdout (0 holds nothing out), or add images",
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


def _nearest(
    labels: Tensor, rank: Tensor, first: Tensor, shares: Sequence[int], chosen: Tensor
) -> Tensor:
    """Return which are held out after moving or exchanging groups as long as that comes nearer.

    What is made smaller is the sum, over classes, of the samples by which they miss their shares.
    """
    _, leader, group = np.unique(first.numpy(), return_index=True, return_inverse=True)
    order = np.argsort(rank.numpy()[leader], kind="stable")  # of equal moves the lowest rank's
    group = np.argsort(order)[group]
    share = np.array(shares)
    pairs, count = np.unique(group * len(share) + labels.numpy(), return_counts=True)
    of, label = np.divmod(pairs, len(share))  # samples of a class in a group, where there are any
    size, inside = np.bincount(labels, minlength=len(share)), chosen.numpy()[leader[order]]
    while True:
        sign = np.where(inside[of], -1, 1)
        taken = np.bincount(label, count * inside[of], len(share)).astype(np.int64)
        after = (taken[label] + sign * count).astype(np.float64)
        after[(sign > 0) & (after >= size[label])] = np.inf  # nothing to train on
        gain = np.abs(after - share[label]) - np.abs(taken - share)[label]
        gains = np.bincount(of, gain, len(leader))
        if inside.sum() == 1:
            gains[inside] = np.inf
        best = int(gains.argmin())
        if np.isinf(gains[best]) and not inside.any():
            raise DataError(
                f"holding out {sum(shares):,} of {plural(len(labels), 'sample')}: each group has "
                "all that there is of a class",
                hint="set data.holdout to 0, or divide the data yourself",
            )
        if not inside.any() or gains[best] < 0:
            inside[best] = not inside[best]
            continue
        pair = []
        if len(leader) * len(share) <= _EXCHANGED:
            table = np.zeros((len(leader), len(share)), np.int64)
            table[of, label] = count
            pair = _exchange(table, inside, share, size)
        if not pair:
            return torch.from_numpy(inside[group])
        inside[pair] = ~inside[pair]


def _exchange(
    table: NDArray[np.int64],
    inside: NDArray[np.bool_],
    share: NDArray[np.int64],
    size: NDArray[np.int64],
) -> list[int]:
    """Return the two groups whose exchange comes nearest to the shares; none where none does.

    ``table`` is (groups, classes): how many samples.
    """
    taken = table[inside].sum(0)
    best, pair, out = np.abs(taken - share).sum(), [], np.flatnonzero(~inside)
    for one in np.flatnonzero(inside):
        after = taken - table[one] + table[out]
        missed = np.abs(after - share).sum(1)
        missed[((after >= size) & (size > 0)).any(1)] = best
        if len(out) and missed.min() < best:
            best, pair = missed.min(), [int(one), int(out[missed.argmin()])]
    return pair


def _shares(sizes: Tensor, count: int) -> list[int]:
    """Divide ``count`` in proportion to ``sizes``, by largest remainders."""
    exact = sizes.double() * count / sizes.sum()
    shares = exact.floor().long()
    largest = torch.argsort(exact - shares, descending=True, stable=True)
    shares[largest[: count - int(shares.sum())]] += 1
    return [int(n) for n in shares]
