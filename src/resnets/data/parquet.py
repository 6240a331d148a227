"""Parquet files with images and labels in them, as Hugging Face has them, as data sets.

Images are bytes in a column, or in the field "bytes" of one; classes are numbers, whose names the
file's metadata may have, or names. Rows are compressed in groups, of which a whole one has to be
read for any image in it: a pack of the same images is read many times faster.
"""

import posixpath
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from importlib.util import find_spec
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from resnets.data.archive_names import check_folders, folder_of, in_digits, splits_of, titles
from resnets.data.class_folders import Report, has_extension
from resnets.data.images import Stored
from resnets.data.indexed import Index, indexed
from resnets.data.listing import Listing
from resnets.data.members import listing_of
from resnets.data.scan import readable
from resnets.errors import CheckpointError, DataError, lacking
from resnets.formatting import plural, printable
from resnets.readers.documents import loads

_IMAGES = ("image", "img", "jpg", "png")  # names of columns
_LABELS = ("label", "labels", "fine_label", "class", "cls", "target")
_KINDS = {"images": "bytes, or a struct with bytes,", "labels": "whole numbers or names"}
_GROUPS = 4  # that stay in memory
_FILES = 16  # that stay open
_LARGEST_GROUP = 4 << 30  # bytes
_MOST_ROWS = 20_000_000
LONGEST = 200  # letters of a class's name


def open_parquet(
    paths: Sequence[Path], root: Path, *, report: Report = lambda found: None, **kept: Any
) -> Listing:
    """Return the images of Parquet files in ``root``, or of the one that it is.

    Names are as in a folder of the images: split, class, file and row. The split of one of several
    files is the one that its name, or its folder's, has in it. ``report`` is told how many rows
    are found; ``kept`` is what `indexed` takes. Raises DataError for files that are damaged or have
    no such columns, and ResourceError where pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise lacking(f"{printable(root)}: Parquet needs pyarrow", "parquet")
    rows = _Rows(paths)

    def make() -> Index:
        return _index(paths, root, rows, report)

    with readable(root):
        return indexed(root, paths, make, rows.read, **kept)


def images_of_parquet(paths: Sequence[Path], root: Path, source: str) -> list[Stored]:
    """Return the images of Parquet files by their rows, whether or not they have classes.

    ``source`` is how the files were named. Raises what `open_parquet` does, OSError.
    """
    rows, found = _Rows(paths), []
    for number, (path, title) in enumerate(zip(paths, titles(paths, root), strict=True)):
        stamp = path.stat().st_mtime_ns
        for row, ending in enumerate(rows.file(number).endings()):
            opened = partial(_opened, rows, number, row)
            found.append(Stored(source, f"{title}{row:08d}{ending}", opened, 0, stamp))
    return found


def _opened(rows: "_Rows", number: int, row: int) -> BinaryIO:
    return BytesIO(rows.read(number, row))


def _index(paths: Sequence[Path], root: Path, rows: "_Rows", report: Report) -> Index:
    """Return where all images lie: in which file, and, in place of an offset, in which row."""
    places, files, labels = array("q"), array("i"), []
    names: list[str] = []
    without: list[tuple[str, str]] = []
    splits = splits_of(paths, root)
    about = zip(paths, titles(paths, root), splits, strict=True)
    for number, (path, title, split) in enumerate(about):
        if split is None and "train" in splits:
            without.append((printable(path.name), "is beside the splits, and is none"))
            continue
        file = rows.file(number)
        found, endings = file.classes(), file.endings()
        if not len(found) == len(endings) == file.starts[-1]:
            raise DataError(f"{printable(path)}: its columns have unequal numbers of rows")
        for row, (label, ending) in enumerate(zip(found, endings, strict=True)):
            if label is not None:
                labels.append(label)
                names.append(f"{split or 'train'}//{title}{row:08d}{ending}")
                places.append(row)
                files.append(number)
        if lacking_one := found.count(None):
            without.append(
                (printable(path.name), f"has {plural(lacking_one, 'row')} without a class")
            )
        report(len(names))
    if not names and without:
        raise DataError(f"{printable(root)}: no row has a class")
    check_folders(set(labels), root)
    known = in_digits(set(labels))
    names = [
        name.replace("//", f"/{folder_of(known[label])}/", 1)
        for name, label in zip(names, labels, strict=True)
    ]

    def open_(index: int) -> BinaryIO:
        return BytesIO(rows.read(files[index], places[index]))

    # In place of stamps: which of them an image was.
    listing = listing_of(names, [0] * len(names), range(len(names)), open_, root)
    return Index.of(listing, places, files, irregular=without)


def plain_columns(path: Path) -> dict[str, list[Any]]:
    """Return the values of a Parquet file without images by the names of its columns.

    Raises DataError for one that is damaged or larger than any table of labels, and ResourceError
    where pyarrow is not installed.
    """
    file = _open(path)
    with _told(path):
        metadata = file.metadata
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        large = any(group.total_byte_size > _LARGEST_GROUP for group in groups)
        if large or metadata.num_rows > _MOST_ROWS:
            raise DataError(f"{printable(path)}: is larger than a table of labels may be")
        features = _features((file.schema_arrow.metadata or {}).get(b"huggingface", b""))
        found = {}
        for name, column in zip(file.schema_arrow.names, file.read().columns, strict=True):
            words = _told_apart(features.get(name, {}).get("names"))
            values = column.to_pylist()
            found[name] = [words.get(value, value) for value in values] if words else values
        return found


def holds_images(path: Path) -> bool:
    """Whether a Parquet file has images in it. Raises what `plain_columns` does."""
    file = _open(path)
    with _told(path):
        return any(_holds_images(field.type) for field in file.schema_arrow)


def _open(path: Path) -> Any:
    if find_spec("pyarrow") is None:
        raise lacking(f"{printable(path)}: Parquet needs pyarrow", "parquet")
    from pyarrow.parquet import ParquetFile

    with _told(path):
        return ParquetFile(path)


class _File:
    """An open Parquet file, and which of its columns are images and classes."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, _open(path)
        with _told(path):
            schema = self.file.schema_arrow
            self.features = _features((schema.metadata or {}).get(b"huggingface", b""))
        self.kinds: dict[str, Any] = {field.name: field.type for field in schema}
        self.image = self._column("images", _IMAGES, "Image", _holds_images)
        self.fields = {field.name for field in _inner(self.kinds[self.image])}
        metadata = self.file.metadata
        counts = (metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        self.starts = [*accumulate(counts, initial=0)]

    def _column(
        self, what: str, names: Sequence[str], feature: str, fits: Callable[[Any], bool]
    ) -> str:
        """Return the column of images or labels: the first of usual names, or the only one."""
        able = [name for name, kind in self.kinds.items() if fits(kind)]
        said = [name for name in able if self.features.get(name, {}).get("_type") == feature]
        for name in names:
            if name in (said or able):
                return name
        if len(said) == 1:
            return said[0]
        columns = ", ".join(f"{name} ({kind})" for name, kind in self.kinds.items())
        raise DataError(
            f"{printable(self.path)}: no column of {what}: it has {printable(columns[:300])}",
            hint=f"{what} are {_KINDS[what]} in a column called {' or '.join(names)}",
        )

    def classes(self) -> list[str | None]:
        """Return the class of each row; None where it has none."""
        label = self._column("labels", _LABELS, "ClassLabel", _holds_labels)
        with _told(self.path):
            found = self.file.read(columns=[label]).column(0).to_pylist()
        names = _told_apart(self.features.get(label, {}).get("names"))
        return [
            None if value in (None, "", -1) else names.get(value, str(value))[:LONGEST]
            for value in found
        ]

    def endings(self) -> list[str]:
        """Return what the names of the images end in, where they have names: else as JPEG."""
        if "path" not in self.fields:
            return [".jpg"] * self.starts[-1]
        with _told(self.path):
            found = self.file.read(columns=[f"{self.image}.path"]).column(0).to_pylist()
        endings = (posixpath.splitext((value or {}).get("path") or "")[1] for value in found)
        return [ending if has_extension(ending) else ".jpg" for ending in endings]

    def images(self, group: int) -> Any:
        """Return the column of images of a group of rows. Raises OSError for a huge one."""
        # Not by column: pyarrow ends the process over damaged statistics of one.
        if self.file.metadata.row_group(group).total_byte_size > _LARGEST_GROUP:
            raise OSError(f"is in a group of rows of more than {_LARGEST_GROUP >> 30} GB")
        column = f"{self.image}.bytes" if self.fields else self.image
        with _told(self.path):
            return self.file.read_row_group(group, columns=[column]).column(0)


class _Rows:
    """The images in rows of files; a few groups of rows stay in memory, for all threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.file = lru_cache(_FILES)(lambda number: _File(paths[number]))
        self._lock = Lock()
        self._images = lru_cache(_GROUPS)(lambda number, group: self.file(number).images(group))

    def read(self, number: int, row: int, _: int = 0) -> bytes:
        """Return the image in a row of a file. Raises OSError."""
        try:
            with self._lock:  # no file takes two readers, and who waits wants the same group
                file = self.file(number)
                group = bisect_right(file.starts, row) - 1
                column = self._images(number, group)
            with _told(file.path):
                value = column[row - file.starts[group]].as_py()
        except DataError as error:
            raise OSError(error.message) from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise OSError("has no bytes of an image, at most the name of a file")
        return data


def _features(text: bytes) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's metadata say of columns."""
    with suppress(CheckpointError, UnicodeDecodeError, AttributeError):
        found = loads(text.decode(), "").get("info", {}).get("features", {})
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    return {}


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    inner = [field.type for field in _inner(kind) if field.name == "bytes"]
    return any(types.is_binary(each) or types.is_large_binary(each) for each in inner or [kind])


def _holds_labels(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))


def _inner(kind: Any) -> list[Any]:
    """Return the fields of a column that has such."""
    from pyarrow import types

    return [kind.field(i) for i in range(kind.num_fields)] if types.is_struct(kind) else []


def _told_apart(words: object) -> dict[Any, str]:
    """Return the names of classes by number; two of one name, as ImageNet's, have it in theirs."""
    if not isinstance(words, list) or not all(type(word) is str for word in words):
        return {}
    times = Counter(words)
    return {i: word if times[word] == 1 else f"{word} {i}" for i, word in enumerate(words)}


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into a DataError: damage leads pyarrow anywhere."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        why = printable((str(error).splitlines() or [""])[0][:200] or type(error).__name__)
        raise DataError(
            f"{printable(path)}: cannot be read as Parquet: {why}", hint="fetch it again"
        ) from error
