"""Images that are there more than once, as the digests of their pixels tell."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnets.data.listing import Listing
from resnets.formatting import plural, printable


def originals(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return for each row of uint8 (N, B) the place of the first that is equal to it."""
    if not len(digests):
        return np.arange(0)
    rows = np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


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


def find_copies(listing: Listing, numbers: NDArray[np.int64], pixels: NDArray[np.uint8]) -> Copies:
    """Return which of some of a listing's images, with digests (N, B), are copies of others."""
    groups = originals(pixels)
    split, label = listing.parts[numbers], listing.labels[numbers].astype(np.int64)
    splits = listing.splits
    if len(np.unique(groups)) == len(groups):
        return Copies()

    def name(place: np.int64) -> str:
        return printable(listing.names[int(numbers[place])])

    training = np.flatnonzero(split == splits.index("train"))
    doubled = len(training) - len(np.unique(groups[training]))
    shared = []
    for second in range(1, len(splits)):
        for first in range(second):
            there, here = np.flatnonzero(split == first), np.flatnonzero(split == second)
            both = here[np.isin(groups[here], groups[there])]
            if len(both):
                twin = there[groups[there] == groups[both[0]]][0]
                pair = (name(both[0]), name(twin))
                shared.append(Shared(splits[second], splits[first], len(both), len(here), pair))
    pairs = np.unique(np.stack([groups, label], axis=1), axis=0)
    several, count = np.unique(pairs[:, 0], return_counts=True)
    torn = np.isin(groups, several[count > 1])
    example: tuple[str, ...] = ()
    if torn.any():
        first = np.flatnonzero(torn)[0]
        other = np.flatnonzero((groups == groups[first]) & (label != label[first]))[0]
        example = (name(first), name(other))
    return Copies(doubled, tuple(shared), int(torn.sum()), example)
