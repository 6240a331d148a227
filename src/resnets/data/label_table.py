"""A table that says the class of each image: labels.csv beside the images, or any that is given.

Its columns name a file, its class or classes and, if they are there, its split, group and weight.
What its values mean is decided by all of them, and said; what cannot be meant is told with its row.
"""

import posixpath
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resnets.data.archive_names import in_digits
from resnets.data.class_folders import SPLITS, Report
from resnets.data.label_columns import NOTHING, Columns, Words, file_name, word_of
from resnets.data.listing import FromTable, Listing, Names, check_not_empty, composed, for_people
from resnets.data.scan import Disk
from resnets.data.table_files import Files
from resnets.data.tables import Table, read_table
from resnets.data.usual_tables import joined
from resnets.errors import DataError, nearest
from resnets.formatting import plural, printable

_SPLITS = SPLITS | {"dev": "validation"}
_ORDER = ("train", "validation", "test")


def open_table(
    path: Path,
    *,
    whole: bool = True,
    report: Report = lambda found: None,
    on_fault: Callable[[str], None] | None = None,
) -> Listing:
    """Return the images that a table of labels names, from the folder that it lies in.

    A folder stands for the tables of its splits together.

    A file that is not there is listed, and said with its row when it is to be read. Rows without a
    class are left out, and among ``irregular``; rows that say the same again count once.
    ``on_fault`` is told of each row that cannot be meant, which is then left out; without it the
    first is a DataError. ``whole`` asks for a training split with two classes and an image of each.

    Raises NoLabels for a table of other things, DataError, OSError, and ResourceError where Parquet
    cannot be read.
    """
    table = joined(path) if path.is_dir() else read_table(path)
    columns = Columns.of(table)
    if not table.rows:
        raise DataError(f"{printable(path)}: has no rows", hint="a row for each image: 1.jpg,cat")
    faults: list[str] = []
    names = [name for value in table.columns[columns.file] if (name := file_name(value))]
    files = Files(table.path.parent, table.names, names, report)
    rows = _Rows(table, columns, files, faults)
    kept = rows.kept()
    if faults and on_fault is None:
        more = f"; {plural(len(faults) - 1, 'other row')} cannot be meant" * (len(faults) > 1)
        raise DataError(
            f"{printable(table.path.parent)}: {faults[0]}{more}",
            hint=f"`resnets data check {shlex.quote(printable(path))}` lists them; mend the table",
        )
    for fault in faults:
        assert on_fault is not None
        on_fault(fault)
    listing = rows.listing(kept)
    if whole:
        _check_whole(listing, path)
    return listing


def _check_whole(listing: Listing, path: Path) -> None:
    shown = printable(path)
    if "train" not in listing.splits:
        raise DataError(
            f"{shown}: no image is of the split train", hint="images to train on are of train"
        )
    if len(listing.classes) == 1 and listing.targets is None:
        raise DataError(
            f"{shown}: only one class: {printable(listing.classes[0])}",
            hint="there is nothing to tell apart",
        )
    check_not_empty(listing)


@dataclass
class _Rows:
    """The rows of a table, one after the other, and what is kept of each."""

    table: Table
    columns: Columns
    files: Files
    faults: list[str]
    doubled: list[str] = field(default_factory=list)
    unlabelled: list[tuple[str, str]] = field(default_factory=list)
    by_folders: bool = False  # whether the splits are the first folders of paths

    def kept(self) -> "list[_Row]":
        """Return a row for each image."""
        splits = self._splits()
        groups = self._values(self.columns.group)
        weights = self._values(self.columns.weight)
        first: dict[str, _Row] = {}
        files = self.table.columns[self.columns.file]
        for place, words in enumerate(self.columns.labels.words):
            try:
                row = self._row(place, files[place], words, splits(place), groups, weights)
            except ValueError as error:  # also of names that no file can have
                self.faults.append(f"{self.table.at(place)}: {printable(str(error))}")
                continue
            earlier = first.setdefault(row.name, row)
            if earlier is not row:
                self._again(earlier, row)
        return [row for row in first.values() if row.words is not None]

    def _row(
        self,
        place: int,
        value: Any,
        words: Words | None,
        split: str,
        groups: Sequence[Any],
        weights: Sequence[Any],
    ) -> "_Row":
        if not (name := file_name(value)):
            raise ValueError("names no file")
        try:
            path, size, stamp = self.files.find(name)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
        if words is None:
            where = f"has no label ({self.table.at(place)})"
            self.unlabelled.append((for_people(path), where))
        group = word_of(groups[place]) if groups else None
        weight = _weight(weights[place], name) if weights else 1.0
        return _Row(place, path, size, stamp, words, split, group, weight)

    def _again(self, earlier: "_Row", row: "_Row") -> None:
        """Take down a second row of a file: the same again, or a fault."""
        here, there = self.table.at(row.place), f"row {self.table.rows[earlier.place]:,}"
        name = for_people(row.name)
        for what in ("words", "split", "group", "weight"):
            old, new = getattr(earlier, what), getattr(row, what)
            if old != new:
                kind = "label" if what == "words" else what
                old, new = (
                    " ".join(value) if isinstance(value, tuple) else value or "nothing"
                    for value in (old, new)
                )
                shown = printable(f"{new} as its {kind}, and {old} in {there}")
                self.faults.append(f"{here}: {name} has {shown}")
                return
        self.doubled.append(f"{here}: {name}, as in {there}")

    def _values(self, column: str | None) -> Sequence[Any]:
        return self.table.columns[column] if column else ()

    def _splits(self) -> Callable[[int], str]:
        """Return what tells the split of a row, and raises ValueError where it has none."""
        values = self._values(self.columns.split)
        if not values:
            files = map(file_name, self._values(self.columns.file))
            values = [name.split("/")[0] for name in files]
            if not all(folder.lower() in _SPLITS for folder in values):
                values = self._folders()
            found = {_SPLITS.get(folder.lower()) for folder in set(values)}
            self.by_folders = len(found - {None}) > 1 and "train" in found
            if not self.by_folders:
                return lambda place: "train"

        def split(place: int) -> str:
            word = word_of(values[place])
            name = _SPLITS.get((word or "").lower())
            if name is None:
                close = nearest((word or "").lower(), list(_SPLITS), 1)
                said = f'has a split called "{word}"' if word else "has no split"
                hint = f", did you mean {_SPLITS[close]}" if close else ""
                raise ValueError(f"{said}{hint}: there are train, validation and test")
            return name

        return split

    def _folders(self) -> list[str]:
        """Return the first folder of each file's path, below those that all are in."""
        paths = []
        for value in self._values(self.columns.file):
            try:
                paths.append(self.files.find(file_name(value) or "")[0])
            except ValueError:  # told where the row is looked at
                paths.append("")
        around = posixpath.commonpath({posixpath.dirname(path) for path in paths if path} or {""})
        start = len(around) + 1 if around else 0
        return [path[start:].partition("/")[0] if path else "train" for path in paths]

    def listing(self, rows: "list[_Row]") -> Listing:
        """Return the images of some rows as a listing."""
        table, root = self.table, self.table.path.parent
        if not rows:
            raise DataError(
                f"{printable(table.path)}: no row has a file and a label",
                hint="a row for each image, such as 1.jpg,cat; paths are from the table's folder",
            )
        if not any(row.stamp for row in rows):
            raise DataError(
                f"{printable(table.path)}: none of its {plural(len(rows), 'file')} is there; the "
                f"first: {printable(rows[0].name)}",
                hint=f"paths are from the folder of the table, {printable(root)}",
            )
        splits = [name for name in _ORDER if any(row.split == name for row in rows)]
        rows.sort(key=lambda row: (splits.index(row.split), composed(row.name), row.place))
        digits = in_digits({word for row in rows for word in row.words or ()})
        classes = sorted(set(digits.values()))
        if not classes:
            raise DataError(f"{printable(table.path)}: no row has a class")
        places = {name: place for place, name in enumerate(classes)}
        numbers = [[places[digits[word]] for word in row.words or ()] for row in rows]
        targets = None
        if self.columns.labels.several:
            targets = np.zeros((len(rows), len(classes)), bool)
            pairs = [(place, label) for place, own in enumerate(numbers) for label in own]
            targets[tuple(np.array(pairs, np.int64).reshape(-1, 2).T)] = True
        names = Names([row.name for row in rows])
        groups = _numbered([row.group for row in rows]) if self.columns.group else None
        named = sorted({row.group for row in rows if row.group})
        weights = [row.weight for row in rows]
        if self.columns.weight and not any(weights):
            raise DataError(f"{printable(table.path)}: all weights are 0")
        missing = {place: table.at(row.place) for place, row in enumerate(rows) if not row.stamp}
        count = int(groups.max(initial=-1)) + 1 if groups is not None else 0
        return Listing(
            root=root,
            classes=tuple(classes),
            splits=tuple(splits),
            names=names,
            labels=np.array([min(own, default=0) for own in numbers], np.int32),
            parts=np.array([splits.index(row.split) for row in rows], np.uint8),
            sizes=np.array([row.size for row in rows], np.int64),
            stamps=np.array([row.stamp for row in rows], np.int64),
            open=partial(_open, Disk(root).opener(names), missing),
            ignored=self.files.ignored,
            irregular=(*self.files.irregular, *self.unlabelled),
            groups=groups,
            weights=np.array(weights, np.float32) if self.columns.weight else None,
            targets=targets,
            table=FromTable(
                (*self._said(count), *self._suspicious(classes, named)),
                tuple(self.doubled),
                self.files.unused(),
            ),
        )

    def _said(self, groups: int) -> Iterator[str]:
        name = printable(", ".join(self.table.names))
        yield self.columns.said(self.table, groups)
        if self.files.said:
            yield f"{name}: {self.files.said}"
        if self.by_folders:
            yield f"{name}: the splits are those that paths begin with"
        if self.doubled:
            yield f"{plural(len(self.doubled), 'row')} doubled, each counted once"
        if left := sum(not used for used in self.files.used):
            yield f"{plural(left, 'image')} in the folder that no row names"

    def _suspicious(self, classes: Iterable[str], groups: Iterable[str]) -> Iterator[str]:
        for kind, names in (("class", classes), ("group", groups)):
            for name in (each for each in names if each.casefold() in NOTHING):
                shown = f'"{printable(name)}" is taken for a {kind}'
                yield f"{shown}: leave the field empty to say none"


@dataclass(frozen=True, slots=True)
class _Row:
    """What a table says of a file."""

    place: int
    name: str  # in the folder, as it is spelled there
    size: int
    stamp: int  # 0 where there is no such file
    words: Words | None
    split: str
    group: str | None
    weight: float


def _weight(value: Any, name: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = -1.0
    if not (isfinite(weight) and 0 <= weight <= 1e6):
        raise ValueError(
            f"{name} has {value if value not in (None, '') else 'nothing'} as its weight"
        )
    return weight


def _numbered(words: Sequence[str | None]) -> NDArray[np.int64]:
    """Return the group of each image as a number, in the order of their first; -1 for none."""
    numbers: dict[str, int] = {}
    of = (-1 if word is None else numbers.setdefault(word, len(numbers)) for word in words)
    return np.fromiter(of, np.int64, len(words))


def _open(open: Callable[[int], BinaryIO], missing: dict[int, str], index: int) -> BinaryIO:
    try:
        return open(index)
    except OSError as error:
        if index in missing:
            raise OSError(error.errno, f"is not there ({missing[index]})") from error
        raise
