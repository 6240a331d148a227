"""What a folder on a disk holds, before any image is decoded: one walk, one look at each file."""

import os
import stat
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from resnets.data.class_folders import (
    Contents,
    Report,
    Walk,
    has_extension,
    is_archive,
    is_hidden,
)
from resnets.data.headers import is_image
from resnets.data.listing import EXPECTED, Listing, Names
from resnets.errors import DataError
from resnets.formatting import printable
from resnets.readers.paths import irregular, open_regular

STAMP = (1 << 63) - 1  # a time of change as a number that an int64 holds, in the year 2400 too

ARCHIVES = (".tar", ".pack", ".parquet")  # names of files with images in them


def scan(path: Path, report: Report = lambda found: None) -> Listing:
    """Return the classes and images of a data folder, without decoding them.

    ``report`` is told now and then how many are found. Raises DataError for a folder that cannot be
    read, and what `Walk.listing` raises.
    """
    check_folder_at(path)
    with readable(path):
        return Walk(path, Disk(path)).listing(report)


def check_folder_at(path: Path) -> None:
    """Raise DataError where there is no such folder."""
    if not path.exists():
        raise DataError(f"{printable(path)}: there is no such folder", hint=EXPECTED)
    if not path.is_dir():
        if (ending := path.suffix.lower()) in ARCHIVES:  # what is one is not asked for here
            raise DataError(
                f"{printable(path)}: is called {ending}, and its content is none",
                hint="fetch it again from where it came",
            )
        raise DataError(f"{printable(path)}: is a file, not a folder of images", hint=EXPECTED)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says against reading ``path``, or what is in it, into a DataError."""
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else path
        raise DataError(
            f"{printable(where)}: cannot be read: {error.strerror}", hint="check its permissions"
        ) from error


def names_in(folder: Path) -> list[str]:
    """Return the files of a folder, and of those below it, that should be images, by name.

    What only has an image's name stands for itself; decoding it says what it is. Raises DataError
    when there are none. What else has images in it is a UserWarning.
    """
    if not folder.exists():
        raise DataError(f"{printable(folder)}: there is no such folder", hint="give images")
    walk = Walk(folder, Disk(folder.resolve(), facts=False))
    images = walk.images("")
    if not images:
        raise DataError(f"{printable(folder)}: there are no images in it", hint="give images")
    warn_of([each for each in sorted(walk.irregular) if is_archive(each[0])])
    return sorted((name for name, _, _ in images), key=by_folder)


def warn_of(left_out: Sequence[tuple[str, str]]) -> None:
    """Warn the caller's caller of what is left out, and why."""
    if left_out:
        (name, reason), *others = left_out
        more = f"; so are {len(others):,} more" if others else ""
        warnings.warn(f"left out: {name}: {reason}{more}", stacklevel=4)


def by_folder(name: str) -> str:
    """Return what sorts relative names as paths are: folder by folder, whatever their letters."""
    return name.replace("/", "\0")


class Disk:
    """The files of a folder on a disk.

    Sizes and stamps cost a look at each file, of which there is one at most; without ``facts`` they
    are 0, and a pipe with an image's name counts as an image.
    """

    def __init__(self, root: Path, *, facts: bool = True) -> None:
        self.root, self.facts = os.fspath(root), facts

    def contents(self, folder: str) -> Contents:
        """Return what lies in a folder. Raises OSError."""
        found = Contents()
        path = self._path(folder)
        with _entries(path) as entries:
            for entry in sorted(entries, key=attrgetter("name")):
                name = entry.name
                if is_hidden(name):
                    found.hidden.append(name)
                    continue
                try:
                    if entry.is_dir():
                        found.folders.append(name)
                    else:
                        self._take(found, path, entry)
                except OSError:  # a link to nothing: broken, and told so when its turn comes
                    found.images.append((name, 0, 0))
        return found

    def _take(self, found: Contents, path: str, entry: "os.DirEntry[str]") -> None:
        named = has_extension(entry.name)
        if named and not self.facts:
            found.images.append((entry.name, 0, 0))
            return
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode) and (kind := irregular(status)):
            (found.irregular if named else found.others).append((entry.name, kind))
        elif named or _is_image(os.path.join(path, entry.name)):
            modified, changed = status.st_mtime_ns, status.st_ctime_ns
            stamp = (modified if modified > changed else changed) & STAMP  # max() takes longer
            found.images.append((entry.name, status.st_size, stamp))
        else:
            found.others.append((entry.name, None))

    def identity(self, folder: str) -> Hashable:
        """Return what the names of one real folder have in common. Raises OSError."""
        status = os.stat(self._path(folder))
        return status.st_dev, status.st_ino

    def _path(self, folder: str) -> str:
        return os.path.join(self.root, folder) if folder else self.root

    def opener(self, names: Names) -> Callable[[int], BinaryIO]:
        """Return what opens the file of that number in ``names``."""
        return partial(_open, self.root, names)


@contextmanager
def _entries(path: str) -> Iterator[Iterator["os.DirEntry[str]"]]:
    """List a folder by its descriptor, so that no look at a file in it walks the whole path."""
    if os.scandir not in os.supports_fd:
        with os.scandir(path) as entries:
            yield entries
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(folder) as entries:
            yield entries
    finally:
        os.close(folder)


def _is_image(path: str) -> bool:
    return is_image(partial(open_regular, path, looked_at=True))


def _open(root: str, names: Names, index: int) -> BinaryIO:
    return open_regular(os.path.join(root, names.spelled(index)))
