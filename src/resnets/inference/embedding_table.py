"""A table of embeddings: .npz for NumPy, .parquet for everything else.

Both have a row for each image: its ``path``, relative to the folder and with ``/``, and its
``embedding`` of C float32 numbers. In an .npz these are the arrays ``paths`` (N,) and
``embeddings`` (N, C). Equal rows give equal bytes.
"""

import math
import zipfile
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from resnets.files import followed, writing
from resnets.inference.folder_job import check_out
from resnets.inference.partition import Part

ENDINGS = (".npz", ".parquet")
READERS = "NumPy reads .npz; pandas, Polars, DuckDB and Spark read .parquet"
CHUNK = 128  # images; where one ends a batch ends, and earlier versions began another file
PATHS_AT_ONCE = 4096  # in a piece of the array of paths
ROW_GROUP = 8 << 20  # bytes of embeddings


def check_table(out: Path, *, overwrite: bool = False, part: Part | None = None) -> None:
    """Raise UsageError or ResourceError where no table of embeddings can be written."""
    check_out(out, "embeddings", ENDINGS, READERS, overwrite=overwrite, part=part)


def write_table(
    out: Path,
    paths: Collection[str],
    channels: int,
    pieces: Iterable[NDArray[np.float32]],
    *,
    row_group: int = ROW_GROUP,
) -> None:
    """Write paths and embeddings to ``out``, whole or not at all.

    ``paths`` are gone through several times. ``pieces`` are the embeddings of all of them in order,
    (n, channels), any number at a time; ``row_group`` is how many bytes of them a group of rows in
    Parquet has at least. Raises ResourceError when it cannot be written.
    """
    with writing(followed(out)) as file:
        if out.suffix.lower() == ".npz":
            _write_npz(file, paths, channels, pieces)
        else:
            _write_parquet(file, paths, channels, _grouped(pieces, row_group))


def _write_npz(
    file: BinaryIO, paths: Collection[str], channels: int, pieces: Iterable[NDArray[np.float32]]
) -> None:
    longest = max(map(len, paths), default=1)
    names = (np.array(some, f"<U{longest}") for some in _batched(paths, PATHS_AT_ONCE))
    with zipfile.ZipFile(file, "w") as archive:
        _write_array(archive, "embeddings", "<f4", (len(paths), channels), pieces)
        _write_array(archive, "paths", f"<U{longest}", (len(paths),), names)


def _batched(paths: Iterable[str], size: int) -> Iterator[list[str]]:
    coming = iter(paths)
    return iter(lambda: [*islice(coming, size)], [])


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    kind: str,
    shape: tuple[int, ...],
    pieces: Iterable[NDArray[Any]],
) -> None:
    """Write an array of known shape; its entry has a fixed date, so that equal is equal."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(entry, header)
        for piece in pieces:
            entry.write(np.ascontiguousarray(piece).tobytes())


def _write_parquet(
    file: BinaryIO, paths: Collection[str], channels: int, groups: Iterable[NDArray[np.float32]]
) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    vector = pa.list_(pa.float32(), channels)
    schema = pa.schema([("path", pa.string()), ("embedding", vector)])
    # Floating-point numbers hardly repeat: a dictionary of them would be larger than they are.
    with ParquetWriter(file, schema, use_dictionary=False) as table:
        coming = iter(paths)
        for group in groups:
            embeddings = pa.FixedSizeListArray.from_arrays(pa.array(group.reshape(-1)), channels)
            names = pa.array([*islice(coming, len(group))], pa.string())
            table.write_table(pa.table([names, embeddings], schema))


def _grouped(pieces: Iterable[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    """Yield the same rows in groups of at least so many bytes; the last may be smaller."""
    waiting: list[NDArray[np.float32]] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(each.nbytes for each in waiting) >= size:
            yield np.concatenate(waiting)
            waiting = []
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)


def read_paths(table: Path) -> Iterator[str]:
    """Yield the paths of a table that `write_table` has written. Raises OSError and ValueError."""
    for some in _read(table, "path", "paths"):
        yield from some.tolist()


def read_embeddings(table: Path, channels: int, counts: Iterable[int]) -> Iterator[NDArray[Any]]:
    """Yield the embeddings of such a table, (n, channels), ``counts`` of them at a time.

    Raises OSError and ValueError.
    """
    pieces = _read(table, "embedding", "embeddings")
    held: NDArray[Any] = np.empty((0, channels), "<f4")
    for count in counts:
        while len(held) < count:
            held = np.concatenate([held, next(pieces)])
        yield held[:count]
        held = held[count:]


def _read(table: Path, column: str, array: str) -> Iterator[NDArray[Any]]:
    """Yield a column of Parquet, or an array in an .npz, some thousand rows at a time."""
    if table.suffix.lower() == ".npz":
        with zipfile.ZipFile(table) as archive, archive.open(f"{array}.npy") as entry:
            npy.read_magic(entry)
            shape, _, kind = npy.read_array_header_1_0(entry)
            size = kind.itemsize * math.prod(shape[1:])
            while data := entry.read(PATHS_AT_ONCE * size):
                yield np.frombuffer(data, kind).reshape(-1, *shape[1:])
        return
    from pyarrow.parquet import ParquetFile

    with ParquetFile(table) as file:
        for batch in file.iter_batches(PATHS_AT_ONCE, columns=[column]):
            values = batch.column(0)
            if column == "path":
                yield np.array(values.to_pylist(), object)
            else:
                yield values.flatten().to_numpy().reshape(len(values), -1)
