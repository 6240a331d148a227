"""Images that are there more than once, as the digests of their pixels tell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnets.data.listing import Listing, Made
from resnets.formatting import plural


def originals(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return for each row of uint8 (N, B) the place of the first that is equal to it."""
    if not len(digests):
        return np.arange(0)
    rows = np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def together(*columns: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return for each of N samples the first of those that it stays together with, int64 (N,).

    Those are all that have an equal number in a column of (N,), and those that are together with
    them by another; a number below 0 is alone.
    """
    known = [column for column in columns if column is not None]
    first = np.arange(len(known[0]))
    apart = [np.where(column < 0, column.max(initial=0) + 1 + first, column) for column in known]
    kinds = [np.unique(column, return_inverse=True)[1] for column in apart]
    while True:
        before = first
        for kind in kinds:
            lowest = np.full(len(first), len(first))
            np.minimum.at(lowest, kind, first)
            first = lowest[kind]
        first = first[first]
        if (first == before).all():
            return first


@dataclass(frozen=True)
class Shared:
    """Images of one part that are in another too, with one of them and its copy there."""

    part: str
    other: str
    count: int
    of: int  # images of the part
    example: tuple[str, str]


@dataclass(frozen=True)
class Copies:
    """Images with the same pixels, whatever their files' formats."""

    doubled: int = 0  # training images of which an earlier one has the pixels
    shared: tuple[Shared, ...] = ()
    two_classes: int = 0  # images whose pixels are in more than one class
    two_classes_example: tuple[str, ...] = ()

    def sentences(self, *, together: bool) -> list[str]:
        """Say which images are there more than once.

        ``together`` says that a validation split is held out of training, and copies are not torn.
        """
        notes = []
        if self.doubled:
            copy = "is a copy of another" if self.doubled == 1 else "are copies of others"
            notes.append(
                f"{plural(self.doubled, 'training image')} {copy}"
                + ("; copies stay on one side of the held-out split" if together else "")
            )
        for shared in self.shared:
            here, there = shared.example
            notes.append(
                f"{shared.count:,} of {plural(shared.of, f'{shared.part} image')} "
                f"{'is' if shared.count == 1 else 'are'} also in {shared.other}, such as {here}, "
                f"which is {there}: a result on them is no result on new images"
            )
        if self.two_classes:
            here, there = self.two_classes_example
            notes.append(
                f"{plural(self.two_classes, 'image')} stand under more than one class, such as "
                f"{here} and {there}"
            )
        return notes


def find_shared(
    listing: Listing, numbers: NDArray[np.int64], groups: NDArray[np.int64]
) -> list[Shared]:
    """Return between which splits of a listing's images ``numbers`` some of a group are divided.

    ``groups``, (N,), has the group of each; below 0 it is of none.
    """
    split, splits, found = listing.parts[numbers], listing.splits, []
    names = Made(listing.shown, numbers)
    for second in range(1, len(splits)):
        for first in range(second):
            there, here = np.flatnonzero(split == first), np.flatnonzero(split == second)
            both = here[np.isin(groups[here], groups[there]) & (groups[here] >= 0)]
            if len(both):
                twin = there[groups[there] == groups[both[0]]][0]
                pair = (names[int(both[0])], names[int(twin)])
                found.append(Shared(splits[second], splits[first], len(both), len(here), pair))
    return found


def groups_sentences(torn: Sequence[Shared]) -> list[str]:
    """Say which groups are divided between splits."""
    return [
        f"{each.count:,} of {plural(each.of, f'{each.part} image')} "
        f"{'is' if each.count == 1 else 'are'} of groups that are also in {each.other}, such as "
        f"{each.example[0]} with {each.example[1]}: a result on them is no result on new groups"
        for each in torn
    ]


def find_copies(listing: Listing, numbers: NDArray[np.int64], pixels: NDArray[np.uint8]) -> Copies:
    """Return which of some of a listing's images, with digests (N, B), are copies of others."""
    groups = originals(pixels)
    split, label = listing.parts[numbers], listing.answers[numbers]
    splits = listing.splits
    if len(np.unique(groups)) == len(groups):
        return Copies()
    training = np.flatnonzero(split == splits.index("train"))
    doubled = len(training) - len(np.unique(groups[training]))
    shared = find_shared(listing, numbers, groups)
    pairs = np.unique(np.stack([groups, label], axis=1), axis=0)
    several, count = np.unique(pairs[:, 0], return_counts=True)
    torn = np.isin(groups, several[count > 1])
    example: tuple[str, ...] = ()
    if torn.any():
        first = np.flatnonzero(torn)[0]
        other = np.flatnonzero((groups == groups[first]) & (label != label[first]))[0]
        example = tuple(listing.shown(int(numbers[place])) for place in (first, other))
    return Copies(doubled, tuple(shared), int(torn.sum()), example)
