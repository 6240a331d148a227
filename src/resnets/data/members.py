"""A tree of files of which the names are known, such as an archive's members."""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from resnets.data.class_folders import Contents, Walk, has_extension, is_hidden
from resnets.data.headers import is_image
from resnets.data.listing import Listing, Names
from resnets.errors import DataError
from resnets.formatting import printable


def listing_of(
    names: Sequence[str],
    sizes: Sequence[int],
    stamps: Sequence[int],
    open: Callable[[int], BinaryIO],
    root: Path,
) -> Listing:
    """Return the classes and images of a tree of which the names of files are known.

    ``names`` are relative and POSIX, in any order, without "." and ".."; of equal ones the last
    holds. One with a slash at its end is a folder's, which only matters where it is empty.
    ``open(i)`` returns the content of number i, and is called for names that do not tell whether it
    is an image. ``root`` is what messages name. Raises what `Walk.listing` raises, and DataError
    for a name that no file can have.
    """
    if strange := [name for name in names if not name or "\0" in name]:
        raise DataError(f"{printable(root)}: holds a file called {strange[0]!r}")
    return Walk(root, _Members(names, sizes, stamps, open)).listing()


class _Members:
    """A tree of files by their names: what is below a folder is a range of the sorted ones."""

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[int],
        stamps: Sequence[int],
        open: Callable[[int], BinaryIO],
    ) -> None:
        self.sizes, self.stamps, self.open = sizes, stamps, open
        self.places = {name: place for place, name in enumerate(names)}
        self.names = sorted(self.places)

    def contents(self, folder: str) -> Contents:
        found = Contents()
        prefix = f"{folder}/" if folder else ""
        at = bisect_left(self.names, prefix)
        while at < len(self.names) and self.names[at].startswith(prefix):
            name, slash, _ = self.names[at][len(prefix) :].partition("/")
            if not name:  # the folder itself
                at += 1
            elif slash:
                (found.hidden if is_hidden(name) else found.folders).append(name)
                at = bisect_left(self.names, f"{prefix}{name}0")  # "0" comes after "/"
            else:
                self._take(found, name, self.places[self.names[at]])
                at += 1
        found.folders.sort()  # "cat-2/" comes before "cat/"
        return found

    def _take(self, found: Contents, name: str, place: int) -> None:
        if is_hidden(name):
            found.hidden.append(name)
        elif has_extension(name) or is_image(partial(self.open, place)):
            found.images.append((name, self.sizes[place], self.stamps[place]))
        else:
            found.others.append((name, None))

    def identity(self, folder: str) -> Hashable:
        return folder

    def opener(self, names: Names) -> Callable[[int], BinaryIO]:
        order = [self.places[names.spelled(i)] for i in range(len(names))]
        return partial(_open_member, self.open, np.array(order, np.int64))


def _open_member(open: Callable[[int], BinaryIO], order: NDArray[np.int64], index: int) -> BinaryIO:
    return open(int(order[index]))
