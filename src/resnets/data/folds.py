"""All labelled images of training and held-out split as one, and in folds."""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnets.data import counter
from resnets.data.dataset import Dataset, ImageSource, MemoryImages, Split
from resnets.data.photographs import Photographs
from resnets.errors import DataError
from resnets.formatting import plural


@dataclass(frozen=True)
class Pool:
    """The samples of training and held-out split, in this order, and what is known of them."""

    split: Split
    held_out: NDArray[np.bool_]  # (N,), of the held-out split
    copies: NDArray[np.int64]  # (N,), equal where they are copies, or of a group; -1: unknown
    groups: NDArray[np.int64]  # (N,), equal where they are of a group; -1: of none

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each, (N,)."""
        return self.split.labels.numpy()

    def subset(self, index: Tensor) -> "Pool":
        """Return the samples at positions ``index``."""
        return Pool(
            self.split.subset(index),
            *(column[index.numpy()] for column in (self.held_out, self.copies, self.groups)),
        )


def pooled(dataset: Dataset) -> Pool:
    """Return what a data set has labelled outside of its test split."""
    train, held = dataset.train, dataset.validation
    split = train
    if held and held.images is not train.images:
        images = _of_both(train.images, held.images)
        held = replace(held, ids=held.ids + len(train.images))
        split = _joined(replace(train, images=images), held)
    elif held:
        split = _joined(train, held)

    def of_training(values: Tensor | None) -> NDArray[np.int64]:
        """Return what is known by the id of a training sample for all."""
        found = np.full(len(split), -1)
        if values is not None:
            known = split.ids < len(values)
            found[known.numpy()] = values[split.ids[known]].numpy()
        return found

    groups = of_training(dataset.groups)
    if isinstance(split.images, Photographs) and split.images.listing.groups is not None:
        groups = split.images.listing.groups[split.images.numbers[split.ids.numpy()]]
    held_out = np.arange(len(split)) >= len(train)
    return Pool(split, held_out, of_training(dataset.originals), groups)


def folds_of(
    labels: NDArray[np.int64], together: NDArray[np.int64], ids: Tensor, count: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold of each sample, (N,) of 0 to ``count`` - 1, each class spread evenly.

    Samples with an equal number in ``together`` are of one fold. In an order that depends on
    (seed, ids) alone, larger such groups first, each goes where there is least of its classes.
    Raises DataError for fewer groups than folds.
    """
    rank = counter.bits(seed, "folds", 0, ids).tolist()
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(together.tolist()):
        groups[number].append(place)
    if len(groups) < count:
        raise DataError(
            f"{plural(len(groups), 'different image')}, and {count} folds",
            hint="each fold takes one at least: lower the number of folds, or add images",
        )
    taken = np.zeros((count, int(labels.max()) + 1), np.int64)
    fold = np.zeros(len(labels), np.int64)
    for members in sorted(groups.values(), key=lambda each: (-len(each), rank[each[0]])):
        classes, number = np.unique(labels[members], return_counts=True)
        fold[members] = least = np.lexsort((taken.sum(1), taken[:, classes].sum(1)))[0]
        taken[least, classes] += number
    return fold


def _joined(first: Split, second: Split) -> Split:
    """Return the samples of two splits of the images of the first."""

    def both(name: str) -> Tensor | None:
        one, other = getattr(first, name), getattr(second, name)
        return None if one is None or other is None else torch.cat((one, other))

    ids, labels = torch.cat((first.ids, second.ids)), torch.cat((first.labels, second.labels))
    return Split(first.images, ids, labels, both("targets"), both("weights"))


def _of_both(first: ImageSource, second: ImageSource) -> ImageSource:
    """Return the images of two sources as one. Raises DataError for sources of other kinds."""
    if isinstance(first, Photographs) and isinstance(second, Photographs):
        numbers = np.concatenate((first.numbers, second.numbers))
        return Photographs(
            first.listing, numbers, first.store, kept=first.kept, tolerance=first.tolerance
        )
    if isinstance(first, MemoryImages) and isinstance(second, MemoryImages):
        names = [*first.names, *second.names]
        pixels = torch.cat((first.pixels, second.pixels))
        return MemoryImages(pixels, names if len(names) == len(pixels) else ())
    raise DataError("the images of training and held-out split are of different kinds")
