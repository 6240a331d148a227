"""The table of embeddings, written piece by piece: .npz for NumPy, .parquet for everything else.

Both have a row for each picture: its ``path``, relative to the folder and with ``/``, and its
``embedding`` of C float32 numbers. In an .npz these are the arrays ``paths`` (N,) and
``embeddings`` (N, C). Equal rows give equal bytes.
"""

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from resnets.errors import ResourceError, UsageError
from resnets.files import check_free, followed, partial_of, writing

NAMES = 4096  # in a piece of the array of paths
ROW_GROUP = 8 << 20  # bytes of embeddings


def check_table(out: Path, *, overwrite: bool = False) -> None:
    """Raise UsageError for a table of another kind, ResourceError when a package is missing.

    Without ``overwrite`` a file that is there is a UsageError too, unless something was stopped:
    then only what is done can tell whose the file is.
    """
    if out.suffix not in (".npz", ".parquet"):
        raise UsageError(
            f"{out}: a table of embeddings ends in .npz or .parquet",
            hint="NumPy reads .npz; pandas, Polars, DuckDB and Spark read .parquet",
        )
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ResourceError(
            f"{out}: Parquet needs pyarrow, which is not installed",
            hint='pip install "resnets[parquet]", or let the table end in .npz',
        )
    with suppress(OSError):  # what is empty was left by one that had finished
        partial_of(out).rmdir()
    check_free(out, overwrite=overwrite or partial_of(out).exists())


def write_table(out: Path, paths: Sequence[str], channels: int, parts: Iterable[Tensor]) -> None:
    """Write paths and embeddings to ``out``, whole or not at all.

    ``parts`` are the embeddings of all paths in order, float32 (n, channels), any number at a time.
    Raises ResourceError when it cannot be written.
    """
    write = _write_npz if out.suffix == ".npz" else _write_parquet
    with writing(followed(out)) as file:
        write(file, paths, channels, parts)


def _write_npz(
    file: BinaryIO, paths: Sequence[str], channels: int, parts: Iterable[Tensor]
) -> None:
    longest = max(map(len, paths), default=1)
    names = (
        np.array(paths[start : start + NAMES], f"<U{longest}")
        for start in range(0, len(paths), NAMES)
    )
    arrays = (part.numpy().astype("<f4", copy=False) for part in parts)
    with zipfile.ZipFile(file, "w") as archive:
        _write_array(archive, "embeddings", "<f4", (len(paths), channels), arrays)
        _write_array(archive, "paths", f"<U{longest}", (len(paths),), names)


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    kind: str,
    shape: tuple[int, ...],
    pieces: Iterable[np.ndarray[Any, Any]],
) -> None:
    """Write an array of known shape; its entry has a fixed date, so that equal is equal."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(entry, header)
        for piece in pieces:
            entry.write(np.ascontiguousarray(piece).tobytes())


def _write_parquet(
    file: BinaryIO, paths: Sequence[str], channels: int, parts: Iterable[Tensor]
) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    vector = pa.list_(pa.float32(), channels)
    schema = pa.schema([("path", pa.string()), ("embedding", vector)])
    # Floating-point numbers hardly repeat: a dictionary of them would be larger than they are.
    with ParquetWriter(file, schema, use_dictionary=False) as table:
        start = 0
        for group in _grouped(parts):
            values = pa.array(group.reshape(-1).numpy())
            embeddings = pa.FixedSizeListArray.from_arrays(values, channels)
            names = pa.array(paths[start : start + len(group)], pa.string())
            table.write_table(pa.table([names, embeddings], schema))
            start += len(group)


def _grouped(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the same rows in groups of at least ROW_GROUP bytes; the last may be smaller."""
    waiting: list[Tensor] = []
    for part in parts:
        waiting.append(part)
        if sum(part.nbytes for part in waiting) >= ROW_GROUP:
            yield torch.cat(waiting)
            waiting = []
    if sum(map(len, waiting)):
        yield torch.cat(waiting)
