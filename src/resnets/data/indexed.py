"""Where images lie in large files, as columns: of a pack, or of tars that were walked once.

The form in bytes is documented for everyone in docs/packs.md: a line of JSON, then the columns.
"""

import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resnets.data.listing import Listing, Names
from resnets.errors import CheckpointError, ResourceError
from resnets.files import write_bytes
from resnets.machine.downloads import cache_folder
from resnets.readers.documents import loads
from resnets.readers.paths import open_regular

VERSION = 1
_RULES = 2  # by which images are found; an index that is kept of others is made again
SPLITS = ("train", "validation", "test")
MANY = 1000

Read = Callable[[int, int, int], bytes]  # of a file's number, offset and size; raises OSError

# Name, type and width of each column, in the order in which they lie in the file.
_COLUMNS = (
    ("offsets", "<i8", 1),
    ("sizes", "<i8", 1),
    ("sources", "<i8", 1),
    ("files", "<i4", 1),
    ("labels", "<i4", 1),
    ("digests", "u1", 32),
    ("parts", "u1", 1),
    # Where a table of labels says them; an index without them is read by earlier versions too.
    ("groups", "<i8", 1),
    ("weights", "<f4", 1),
    ("targets", "u1", 0),  # 0 or 1, as wide as there are classes
)
_OPTIONAL = ("groups", "weights", "targets")
_ALIGNED = 64  # the length of the first line, so that the columns are aligned
_LINE = 1 << 26  # bytes of it at most
_STAMP = (1 << 63) - 1  # as in the scan of a folder
_NO_DIGESTS = np.zeros((0, 32), np.uint8)
_OPEN_FILES = 64
LARGEST = 1 << 30  # bytes of an image


@dataclass(frozen=True, eq=False)
class Index:
    """Labelled images in files, in the order of a `Listing`."""

    classes: tuple[str, ...]
    splits: tuple[str, ...]
    names: Names
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int32]
    parts: NDArray[np.uint8]
    sources: NDArray[np.int64]  # bytes of what an image was made from; (0,) where that is not known
    digests: NDArray[np.uint8]  # (N, 32), SHA-256; (0, 32) where they are not known
    # Which of several files it lies in; (0,) where there is one.
    files: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    groups: NDArray[np.int64] | None = None  # this and the next as in a `Listing`
    weights: NDArray[np.float32] | None = None
    targets: NDArray[np.bool_] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)  # plain values of whoever wrote it

    @classmethod
    def of(
        cls,
        listing: Listing,
        offsets: Sequence[int],
        files: Sequence[int],
        digests: NDArray[np.uint8] = _NO_DIGESTS,
        **more: Any,
    ) -> "Index":
        """Return the index of a listing whose stamps say which of the other values are an image's.

        Digests count if there are as many as images.
        """
        rows = listing.stamps
        return cls(
            classes=listing.classes,
            splits=listing.splits,
            names=listing.names,
            offsets=np.array(offsets, np.int64)[rows],
            sizes=listing.sizes,
            labels=listing.labels,
            parts=listing.parts,
            sources=np.zeros(0, np.int64),
            files=np.array(files, np.int32)[rows],
            digests=digests[rows] if len(digests) == len(offsets) else _NO_DIGESTS,
            more=more,
        )

    @classmethod
    def in_order(
        cls,
        of: "Listing | Index",
        names: Sequence[str],
        columns: Mapping[str, NDArray[Any]],
        more: Mapping[str, Any],
    ) -> "Index":
        """Return the index of images in any order, with the classes and splits of others."""
        parts = columns["parts"]
        order = sorted(range(len(names)), key=lambda row: (parts[row], names[row]))
        ordered: dict[str, Any] = {name: column[order] for name, column in columns.items()}
        return cls(of.classes, of.splits, Names([names[i] for i in order]), **ordered, more=more)

    def tells(self, listing: Listing, told: Mapping[str, NDArray[Any]]) -> bool:
        """Whether it tells the same of as many images, with the classes and splits of a listing."""
        before = told_of(self)
        return (
            (self.classes, self.splits) == (listing.classes, listing.splits)
            and before.keys() == told.keys()
            and all(np.array_equal(before[name], told[name]) for name in told)
        )

    def encoded(self) -> bytes:
        """Return it in bytes."""
        given = {column[0]: getattr(self, column[0]) for column in _COLUMNS}
        there = [name for name, values in given.items() if values is not None and len(values)]
        columns = [column for column in _columns(self.classes) if column[0] in there]
        line = _head(len(self.names), columns, self, self.more)
        line += b" " * (-(len(line) + 1) % _ALIGNED) + b"\n"
        arrays = (np.asarray(getattr(self, name), kind).tobytes() for name, kind, _ in columns)
        return b"".join((line, *arrays, bytes(self.names.packed)))

    @classmethod
    def decoded(cls, data: bytes, lengths: Sequence[int]) -> "Index":
        """Return the index in some bytes, of files of these lengths.

        Raises ValueError for what is none, and for one that points out of its files.
        """
        end = data.find(b"\n", 0, _LINE)
        try:
            head = loads(data[: max(end, 0)].decode(), "")
        except CheckpointError as error:
            raise ValueError(error.message) from None
        if not isinstance(head, dict) or head.pop("version", None) != VERSION:
            raise ValueError(f"is not of version {VERSION}")
        count, columns = head.pop("count", None), head.pop("columns", None)
        classes, splits = (_texts(head.pop(name, None)) for name in ("classes", "splits"))
        if type(count) is not int or not 0 < count <= len(data):
            raise ValueError("has an impossible number of images")
        known = [list(column) for column in _columns(classes)]
        if not isinstance(columns, list) or columns != [c for c in known if c in columns]:
            raise ValueError("has unknown columns")
        found: dict[str, Any] = {}
        at = end + 1
        for name, kind, width in _columns(classes):
            there = count * ([name, kind, width] in columns)
            values = np.frombuffer(data, kind, there * width, at)
            wide = name in ("digests", "targets")
            found[name] = values.reshape(there, width) if wide else values
            if name in _OPTIONAL and not there:
                found[name] = None
            at += values.nbytes
        if found["targets"] is not None:
            if found["targets"].max() > 1:
                raise ValueError("has classes of images that are neither yes nor no")
            found["targets"] = found["targets"].view(np.bool_)
        data[at:].decode("utf-8", "surrogatepass")
        index = cls(classes, splits, Names(data[at:]), **found, more=head)
        index.check(lengths)
        return index

    def check(self, lengths: Sequence[int]) -> None:
        """Raise ValueError for numbers that fit neither each other nor files of these lengths."""
        count = len(self.names)
        if [split for split in SPLITS if split in self.splits] != list(self.splits):
            raise ValueError("has unknown splits")
        if any(len(c) != count for c in (self.offsets, self.sizes, self.labels, self.parts)):
            raise ValueError("lacks columns, or has other names than images")
        files = self.files if len(self.files) else np.zeros(count, np.int32)
        for values, top in (
            (self.labels, len(self.classes)),
            (self.parts, len(self.splits)),
            (files, len(lengths)),
        ):
            if values.min() < 0 or values.max() >= top:
                raise ValueError("has classes, splits or files beyond those that it names")
        if (np.diff(self.parts.astype(np.int16)) < 0).any():
            raise ValueError("has splits that do not follow each other")
        weights = np.zeros(0) if self.weights is None else self.weights
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError("has impossible weights of images")
        room = np.asarray(lengths, np.int64)[files] - self.sizes
        if ((self.offsets < 0) | (self.sizes < 0) | (self.offsets > room)).any():
            raise ValueError("has images beyond the end of the file")

    def listing(
        self,
        root: Path,
        read: Read,
        stamps: Sequence[int],
        *,
        verify: bool = False,
    ) -> Listing:
        """Return the images as a listing; ``stamps`` are the files'.

        With ``verify``, opening an image whose bytes are not those of its digest is an OSError.
        """
        files = self.files if len(self.files) else np.zeros(len(self.names), np.int32)
        known = len(self.digests) > 0

        def open_(index: int) -> BinaryIO:
            data = read(int(files[index]), int(self.offsets[index]), int(self.sizes[index]))
            if verify and known and sha256(data).digest() != self.digests[index].tobytes():
                raise OSError(errno.EIO, "its bytes have changed since it was packed")
            return BytesIO(data)

        return Listing(
            root=root,
            classes=self.classes,
            splits=self.splits,
            names=self.names,
            labels=self.labels,
            parts=self.parts,
            sizes=self.sizes,
            stamps=self._stamps() if known else np.array(stamps, np.int64)[files],
            open=open_,
            ignored=tuple(self.more.get("ignored", ())),
            irregular=tuple((name, what) for name, what in self.more.get("irregular", ())),
            stored=np.lexsort((self.offsets, files)),
            groups=self.groups,
            weights=self.weights,
            targets=self.targets,
        )

    def _stamps(self) -> NDArray[np.int64]:
        """Return what stands for the content itself, and stays when images are appended.

        As numbers they are less than any time of today.
        """
        first = np.ascontiguousarray(self.digests[:, :8]).view("<u8")[:, 0]
        return (first >> np.uint64(4)).astype(np.int64)


def told_of(images: Listing | Index) -> dict[str, NDArray[Any]]:
    """Return the columns that tell what images are, those that there are, by name."""
    columns = ((name, getattr(images, name)) for name in ("labels", "parts", *_OPTIONAL))
    return {name: column for name, column in columns if column is not None}


def indexed(
    root: Path,
    paths: Sequence[Path],
    make: Callable[[], Index],
    read: Read,
    *,
    verify: bool = False,
    cache: Path | None = None,
    many: int = MANY,
) -> Listing:
    """Return the images in files, by the index of an earlier call or by what ``make`` returns.

    An index of ``many`` images and more is kept in ``cache``, a folder in the user's where none is
    given, as long as the files are what they were. Raises OSError.
    """
    states = [path.stat() for path in paths]
    stamps = [max(state.st_mtime_ns, state.st_ctime_ns) & _STAMP for state in states]
    lengths = [state.st_size for state in states]
    words = [str(path.resolve()) for path in (root, *paths)]
    digest = sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()
    kept = (cache or cache_folder("indices")) / f"{digest[:32]}.index"
    facts = [_RULES, digest, lengths, stamps]
    with suppress(OSError, ValueError), open_regular(kept) as file:
        index = Index.decoded(file.read(), lengths)
        if index.more.get("of") == facts:
            return index.listing(root, read, stamps, verify=verify)
    index = make()
    if len(index.names) >= many:
        with suppress(ResourceError):
            write_bytes(kept, replace(index, more={**index.more, "of": facts}).encoded())
    return index.listing(root, read, stamps, verify=verify)


class Stretches:
    """Parts of files, read by any thread at any time; so many files at most stay open.

    They are read, not mapped: a file that is cut short meanwhile is then an OSError, where a
    mapped one ends the process, and what was read counts as nobody's memory.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        # A file that is dropped is closed by the last thread that still reads it.
        self._file = lru_cache(_OPEN_FILES)(lambda number: _Open(paths[number]))
        self._paths = paths

    def read(self, file: int, offset: int, size: int) -> bytes:
        """Return a part of the file of a number. Raises OSError, also where it is cut short."""
        if size > LARGEST:
            raise OSError(errno.EFBIG, f"is larger than {LARGEST >> 30} GB")
        data = self._file(file).read(offset, size)
        if len(data) != size:
            raise OSError(errno.EIO, "the file ends before it", str(self._paths[file]))
        return data


class _Open:
    """A file that is closed when nobody reads it any more."""

    def __init__(self, path: Path) -> None:
        self._file, self._lock = open_regular(path), Lock()

    def read(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def room_for(listing: Listing, more: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many bytes an index of images of a listing has at most: of its own, and for each.

    The name of an image, and a byte for its end, come to these.
    """
    given = [
        column for column in _columns(listing.classes) if getattr(listing, column[0], 0) is not None
    ]
    line = _head(_STAMP, given, listing, more)
    return len(line) + _ALIGNED, sum(np.dtype(kind).itemsize * width for _, kind, width in given)


def _head(
    count: int,
    columns: Sequence[tuple[str, str, int]],
    of: Listing | Index,
    more: Mapping[str, Any],
) -> bytes:
    """Return the first line of an index but for its end, in ASCII."""
    head = {"version": VERSION, "count": count, "columns": columns}
    head |= {"classes": of.classes, "splits": of.splits, **more}
    return json.dumps(head).encode()  # the bytes of names that are no UTF-8 are escaped


def _columns(classes: Sequence[str]) -> list[tuple[str, str, int]]:
    return [(name, kind, width or len(classes)) for name, kind, width in _COLUMNS]


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(type(value) is str for value in values):
        raise ValueError("has classes or splits that are no names")
    return tuple(values)
