"""Tars as data sets: packs, tars of class folders, and WebDataset's of samples, one or many.

A foreign tar is walked once; where its images lie is kept in the user's cache until it changes.
"""

import os
import posixpath
import shlex
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from resnets.data.archive_names import (
    check_folders,
    folder_of,
    in_digits,
    splits_of,
    titles,
)
from resnets.data.class_folders import SPLITS, Report, class_name, has_extension, is_hidden
from resnets.data.images import Stored
from resnets.data.indexed import Index, Read, Stretches, indexed
from resnets.data.listing import Listing
from resnets.data.members import listing_of
from resnets.data.pack_folder import joined
from resnets.data.packs import is_pack, read_pack
from resnets.data.scan import readable
from resnets.data.tar_headers import UNENDED, members
from resnets.data.webdataset import Samples
from resnets.errors import DataError
from resnets.formatting import printable
from resnets.readers.paths import open_regular

_LARGEST = 1 << 20  # bytes of a file that says a class
_TOLD = 1000  # of what is passed over, and members between two reports
_CAPTIONS = 1000  # different classes of half of all samples or more are taken for these


def open_tars(
    paths: Sequence[Path],
    root: Path,
    *,
    verify: bool = False,
    report: Report = lambda found: None,
    **kept: Any,
) -> Listing:
    """Return the images of tars in ``root``, or of the one that it is.

    Names are as in a folder of the images. Splits and classes are those of the folders in a tar.
    Where there are several, one of samples, or of class folders alone, belongs to the split that
    `splits_of` finds, and images without folders are of a class of the tar's name.

    ``verify`` has images of packs compared with their digests when they are opened, ``report`` is
    told now and then how many members are found, and ``kept`` is what `indexed` takes. Raises
    DataError for tars that cannot be read, are damaged or in no known layout.
    """
    stretches = Stretches(paths)
    with readable(root):
        if len(paths) == 1 and is_pack(paths[0]):
            return read_pack(paths[0]).index.listing(root, stretches.read, [0], verify=verify)
        found = _Found(root, paths, stretches.read, report)
        return indexed(root, paths, found.index, stretches.read, verify=verify, **kept)


def images_of_tars(
    paths: Sequence[Path], root: Path, source: str
) -> tuple[list[Stored], list[tuple[str, str]]]:
    """Return the images of tars by the names of their members, whatever their folders mean.

    Behind them, what is left out and why. ``source`` is how the tars were named. Raises DataError
    for what is damaged or no tar, OSError.
    """
    read, found = Stretches(paths).read, {}
    left_out: list[tuple[str, str]] = []
    for number, (path, title) in enumerate(zip(paths, titles(paths, root), strict=True)):
        before = title and f"{title[:-1]}/"
        if is_pack(path):
            read_pack(path)  # raises where it is not whole: its members may end too early
        with readable(path), open_regular(path) as file:
            stamp = os.fstat(file.fileno()).st_mtime_ns
            for member in members(file, path):
                own, name = posixpath.basename(member.name), before + member.name
                if member.kind == UNENDED:
                    left_out.append(_unended(path))
                elif not has_extension(own) or is_hidden(own):
                    continue
                elif member.kind:
                    left_out.append((printable(name), f"is {member.kind}, not a file"))
                else:
                    opened = partial(_opened, read, number, member.offset, member.size)
                    found[name] = Stored(source, name, opened, member.size, stamp)
    images = [*found.values()]  # the last of equal names counts, as where tar unpacks them
    return images, left_out


def _unended(path: Path) -> tuple[str, str]:
    what = "ends without the mark of a tar's end: look whether it was cut off"
    return printable(path.name), what


def _opened(read: Read, number: int, offset: int, size: int) -> BinaryIO:
    return BytesIO(read(number, offset, size))


@dataclass
class _Found:
    """What is found in tars: the names that images would have in a folder, and where they lie."""

    root: Path
    paths: Sequence[Path]
    read: Read
    report: Report
    names: list[str] = field(default_factory=list)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    files: "array[int]" = field(default_factory=lambda: array("i"))
    digests: list[bytes] = field(default_factory=list)
    sampled: list[range] = field(default_factory=list)  # which of them are samples
    folders: list[tuple[int, range, str]] = field(default_factory=list)  # of a tar, in one around
    labels: set[str] = field(default_factory=set)  # what samples say
    irregular: list[tuple[str, str]] = field(default_factory=list)
    titles: Sequence[str] = ()
    splits: Sequence[str | None] = ()
    walked: int = 0

    def index(self) -> Index:
        """Walk through all tars and return the index of their images."""
        packs = [read_pack(path).index for path in self.paths if is_pack(path)]
        whole = joined(packs, self.root) if len(packs) == len(self.paths) else None
        if whole is not None:
            return whole
        self.titles, self.splits = titles(self.paths, self.root), splits_of(self.paths, self.root)
        for number, path in enumerate(self.paths):
            if is_pack(path):
                self._take_pack(number, path)
            else:
                self._take_tar(number, path)
        self._place()
        self._align_numbers()
        self._tell_apart()
        listing = listing_of(  # in place of stamps: which row an image was
            self.names, self.sizes, range(len(self.names)), self._open, self.root
        )
        return Index.of(
            listing,
            self.offsets,
            self.files,
            np.frombuffer(b"".join(self.digests), np.uint8).reshape(-1, 32),
            ignored=listing.ignored[:_TOLD],
            irregular=[*self.irregular, *listing.irregular][:_TOLD],
        )

    def _take_pack(self, number: int, path: Path) -> None:
        index = read_pack(path).index
        names = [index.names.spelled(i) for i in range(len(index.names))]
        if not _by_folders(index, names):
            raise DataError(
                f"{printable(path)}: keeps what a table says, and is read with no other file",
                hint=f"give {shlex.quote(printable(path))}, or pack one table of all",
            )
        self._add(number, self._of_split(number, names), index.offsets, index.sizes)
        self.digests.append(index.digests.tobytes())

    def _take_tar(self, number: int, path: Path) -> None:
        names: list[str] = []
        offsets, sizes = array("q"), array("q")
        with open_regular(path) as file:
            for member in members(file, path):
                self.walked += 1
                if self.walked % _TOLD == 0:
                    self.report(self.walked)
                name = posixpath.normpath(member.name)
                if member.kind == UNENDED:
                    self.irregular.append(_unended(path))
                elif member.kind:
                    if has_extension(name):
                        self._pass_over(path, member.name, f"is {member.kind}, not a file")
                elif name.startswith(("/", "../")) or name in (".", "..") or "\0" in name:
                    self._pass_over(path, member.name, "has a name that leads out of the tar")
                else:
                    names.append(name)
                    offsets.append(member.offset)
                    sizes.append(member.size)
        samples = Samples(names)
        if samples.are_there:
            places, names = self._samples(number, path, names, offsets, sizes, samples)
            self.sampled.append(range(len(self.names), len(self.names) + len(names)))
        else:
            places, names = [*range(len(names))], self._in_folders(number, path, names)
        self._add(number, names, [offsets[i] for i in places], [sizes[i] for i in places])

    def _samples(
        self,
        number: int,
        path: Path,
        names: Sequence[str],
        offsets: Sequence[int],
        sizes: Sequence[int],
        samples: Samples,
    ) -> tuple[list[int], list[str]]:
        """Return the places of the images of samples, and their names by split and class."""

        def read(place: int) -> bytes:
            return self.read(number, offsets[place], min(_LARGEST, sizes[place]))

        split = self.splits[number] or "train"
        before = self.titles[number]
        places, found = [], []
        for key, place in samples.images.items():
            label = samples.label(key, read)
            if label is None:
                self._pass_over(path, names[place], "has no class in a .cls, .json or .txt beside")
                continue
            ending = posixpath.splitext(names[place])[1]
            places.append(place)
            self.labels.add(label)
            found.append(f"{split}/{folder_of(label)}/{before}{key.replace('/', '-')}{ending}")
        for place in samples.further:
            self._pass_over(path, names[place], "is a second image of a sample")
        return places, found

    def _in_folders(self, number: int, path: Path, names: list[str]) -> list[str]:
        """Return the names of the files in a tar of no samples; `_place` has to look at most."""
        folders = [posixpath.dirname(name) for name in names if has_extension(name)]
        several = len(self.paths) > 1
        if several and folders and not any(folders):
            split = self.splits[number]
            before = f"{split}/{path.stem}/" if split else f"{path.stem}/"
            return [before + name for name in names]
        if folders:
            outer = _around(folders, alone=not several).strip("/")
            rows = range(len(self.names), len(self.names) + len(names))
            self.folders.append((number, rows, outer))
        return names

    def _place(self) -> None:
        """Call files as they stand in a folder for all tars, each of which may have one around it.

        What they share is such a folder; what is a class in another tar is none.
        """
        outers = [outer for *_, outer in self.folders]
        shared = posixpath.commonpath(outers) if outers else ""
        bare = (rows for _, rows, outer in self.folders if not outer)
        classes = {self.names[row].partition("/")[0] for rows in bare for row in rows}
        for number, rows, outer in self.folders:
            around = shared or outer
            if around.partition("/")[0] in classes:
                around = ""
            before = around and f"{around}/"
            names = [self.names[row].removeprefix(before) for row in rows]
            self.names[rows.start : rows.stop] = self._of_split(number, names)

    def _of_split(self, number: int, names: list[str]) -> list[str]:
        """Return names in the folder of their file's split, where they are in no split's."""
        split = self.splits[number]
        if split and not any(name.partition("/")[0].lower() in SPLITS for name in names):
            return [f"{split}/{name}" for name in names]
        return names

    def _add(
        self, number: int, names: Sequence[str], offsets: Iterable[int], sizes: Iterable[int]
    ) -> None:
        self.names += names
        self.offsets.extend(offsets)
        self.sizes.extend(sizes)
        self.files.extend([number] * len(names))

    def _align_numbers(self) -> None:
        """Give classes that are numbers as many digits, so that they are in their order.

        Raises DataError for classes that seem to be no classes.
        """
        check_folders(self.labels, self.root)
        rows = [row for some in self.sampled for row in some]
        known = in_digits({self.names[row].split("/", 2)[1] for row in rows})
        if len(known) > max(_CAPTIONS, len(rows) // 2) and not min(known).isdigit():
            raise DataError(
                f"{printable(self.root)}: {len(rows):,} samples say {len(known):,} classes, such "
                f"as {printable(min(known))}: are these captions?",
                hint="a sample is of the class that its .cls has, or .json under label",
            )
        for row in rows:
            split, label, rest = self.names[row].split("/", 2)
            self.names[row] = f"{split}/{known[label]}/{rest}"
        if len(set(self.names)) < len(self.names) and rows:
            raise DataError(f"{printable(self.root)}: two samples have the same name")

    def _tell_apart(self) -> None:
        """Put the name of its tar before that of an image that another tar has, too.

        Of equal names in one tar the last holds, as where tar unpacks it.
        """
        first: dict[str, int] = {}
        for name, number in zip(self.names, self.files, strict=True):
            first.setdefault(name, number)
        for row, number in enumerate(self.files):
            if first[self.names[row]] != number:
                folder, name = posixpath.split(self.names[row])
                while (told := posixpath.join(folder, name := self.titles[number] + name)) in first:
                    pass
                self.names[row] = told

    def _pass_over(self, path: Path, name: str, why: str) -> None:
        where = f"{path.name}/{name}" if len(self.paths) > 1 else name
        self.irregular.append((printable(where), why))

    def _open(self, row: int) -> BinaryIO:
        return BytesIO(self.read(self.files[row], self.offsets[row], self.sizes[row]))


def _by_folders(index: Index, names: Sequence[str]) -> bool:
    """Whether the folders of a pack's images say all that it tells of them."""
    if any(each is not None for each in (index.groups, index.weights, index.targets)):
        return False
    for name, label, part in zip(names, index.labels.tolist(), index.parts.tolist(), strict=True):
        first, *rest = name.split("/")
        if len(rest) > 1 and SPLITS.get(first.lower()) == index.splits[part]:
            first = rest[0]
        elif len(index.splits) > 1:
            return False
        if class_name(first) != index.classes[label]:
            return False
    return True


def _around(folders: Sequence[str], *, alone: bool) -> str:
    """Return the folder that holds the folders of splits or classes of all images, with a slash.

    Where a tar is ``alone``, and has nothing but a split to look at, that is such a folder too.
    """
    kept: list[str] = []
    for name in posixpath.commonpath(folders).split("/") if all(folders) else ():
        split = SPLITS.get(name.lower())
        if split == "train" or (split and not alone):
            break
        kept.append(name)
    if kept and "/".join(kept) in folders:  # a class
        kept.pop()
    return "".join(f"{name}/" for name in kept)
