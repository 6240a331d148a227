"""Labelled image files, wherever they lie: names, classes, splits and sizes, in columns."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from resnets.errors import DataError
from resnets.formatting import printable

EXPECTED = (
    "expected photos/<class>/*.jpg, or photos/train/<class>/*.jpg with val/ and test/ beside, or "
    "photos/labels.csv with columns file,label"
)


T = TypeVar("T")


class Made(Sequence[T]):
    """What is made of each of some numbers when it is asked for: of millions nothing is held."""

    def __init__(self, make: Callable[[int], T], numbers: NDArray[np.int64]) -> None:
        self.make, self.numbers = make, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Made[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Made[T]":
        if isinstance(index, slice):
            return Made(self.make, self.numbers[index])
        return self.make(int(self.numbers[index]))


class Names(Sequence[str]):
    """Relative names of files, POSIX, made NFC when asked for; in memory are their bytes alone.

    ``spelled`` has them as the file system or archive does, which is what opens a file.
    """

    def __init__(self, names: Iterable[str] | bytes | bytearray) -> None:
        self.packed = names if isinstance(names, bytes | bytearray) else pack([*names])
        self._ends = np.flatnonzero(np.frombuffer(self.packed, np.uint8) == 0)

    def spelled(self, index: int) -> str:
        """Return a name as it is written where the file lies, in whatever Unicode form."""
        index = range(len(self))[index]
        start = int(self._ends[index - 1]) + 1 if index else 0
        return self.packed[start : self._ends[index]].decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return composed(self.spelled(index))


def pack(names: Sequence[str]) -> bytes:
    """Return the bytes of names, each ended by a zero byte, which no name of a file can hold."""
    return "\0".join((*names, "")).encode("utf-8", "surrogatepass")


composed = partial(unicodedata.normalize, "NFC")  # a name in the Unicode form that is compared


def for_people(name: str) -> str:
    """Return a name, spelled in whatever Unicode form, as messages have it."""
    return printable(composed(name))


@dataclass(frozen=True)
class FromTable:
    """What is to be told of the table of labels that a listing was made from."""

    said: tuple[str, ...]  # how it was understood
    doubled: tuple[str, ...]  # rows that say the same again
    unlisted: tuple[str, ...]  # images in its folder that no row names


@dataclass(frozen=True, eq=False)
class Listing:
    """Labelled image files, wherever they lie: none is decoded. Some 70 bytes of memory a file.

    By split, and by name in each; names that are equal in NFC stay in the order of their folders.
    """

    root: Path  # the folder or file that was opened
    classes: tuple[str, ...]  # NFC, in code-point order
    splits: tuple[str, ...]  # train, validation, test: those that are there, in this order
    names: Names  # relative, POSIX, NFC
    labels: NDArray[np.int32]  # (N,), number in classes
    parts: NDArray[np.uint8]  # (N,), number in splits; ascending
    sizes: NDArray[np.int64]  # (N,), bytes; 0 where the system does not tell
    stamps: NDArray[np.int64]  # (N,), another number when the content may be another
    open: Callable[[int], BinaryIO]  # the encoded image number i; raises OSError
    ignored: tuple[str, ...] = ()  # hidden files and files that are no images
    irregular: tuple[tuple[str, str], ...] = ()  # pipes and the like named as images; what each is
    stored: NDArray[np.int64] | None = None  # (N,), numbers as they lie in files, if another order
    groups: NDArray[np.int64] | None = None  # (N,), who stays together in a split; -1: of no group
    weights: NDArray[np.float32] | None = None  # (N,), the share in the loss; 1 is usual
    targets: NDArray[np.bool_] | None = None  # (N, classes), where an image may have several
    table: FromTable | None = None

    @property
    def fastest(self) -> NDArray[np.int64]:
        """The numbers of all images in the order in which they are read fastest."""
        return np.arange(len(self)) if self.stored is None else self.stored

    @property
    def answers(self) -> NDArray[np.int64]:
        """What is true of each image as a number (N,), equal where all of their classes are."""
        if self.targets is None:
            return self.labels.astype(np.int64)
        _, kinds = np.unique(np.packbits(self.targets, 1), axis=0, return_inverse=True)
        return kinds.reshape(-1).astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def counts(
        self, kept: slice | Sequence[int] | NDArray[np.int64] = slice(None)
    ) -> NDArray[np.int64]:
        """Return how many images, or of those ``kept``, each split has of each class."""
        found = np.zeros((len(self.splits), len(self.classes)), np.int64)
        if self.targets is None:
            np.add.at(found, (self.parts[kept], self.labels[kept]), 1)
        else:
            np.add.at(found, self.parts[kept], self.targets[kept])
        return found

    def shown(self, index: int) -> str:
        """Return the name of an image for people."""
        return printable(self.names[index])


def check_not_empty(listing: Listing, kept: slice | Sequence[int] = slice(None)) -> None:
    """Raise DataError when a class has nothing to train on, or a split nothing at all.

    ``kept`` are the images that count, those that are not broken.
    """
    root, classes, splits = printable(listing.root), listing.classes, listing.splits
    counts = listing.counts(kept)
    if not counts.any():
        raise DataError(f"{root}: no images", hint=EXPECTED)
    for name, count in zip(classes, counts[splits.index("train")], strict=True):
        if not count:
            raise DataError(
                f"{root}: class {printable(name)} has no images to train on",
                hint="take its rows out, or give some of split train"
                if listing.table
                else "remove the folder, or put images into it",
            )
    for split, count in zip(splits, counts.sum(1), strict=True):
        if not count:
            raise DataError(f"{root}: {split} has no images", hint="remove the folder")
