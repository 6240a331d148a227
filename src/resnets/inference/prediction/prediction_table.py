"""The table of predictions: CSV, JSON lines or Parquet, a row for each picture, in order.

JSON lines are the records of `Prediction.to_dict`. The other two have the columns ``path``,
``error``, ``class_1``, ``probability_1``, ``class_2`` and so on; what a row has not is empty, or
null in Parquet. Equal records give equal bytes.
"""

import csv
import io
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from resnets.errors import ResourceError, UsageError
from resnets.files import check_free, followed, json_text, partial_of, writing

Record = dict[str, Any]
ROWS = 4096  # of a group in Parquet


def check_table(out: Path, *, overwrite: bool = False) -> None:
    """Raise UsageError for a table of another kind, ResourceError when it cannot be written.

    Without ``overwrite`` a file that is there is a UsageError too, unless something was stopped:
    then only what is done can tell whose the file is.
    """
    if out.suffix.lower() not in _WRITERS:
        raise UsageError(
            f"{out}: a table of predictions ends in .csv, .jsonl or .parquet",
            hint="spreadsheets read .csv; pandas, Polars and DuckDB read all three",
        )
    if out.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise ResourceError(
            f"{out}: Parquet needs pyarrow, which is not installed",
            hint='pip install "resnets[parquet]", or let the table end in .csv or .jsonl',
        )
    if out.exists() and not out.is_file():
        raise ResourceError(f"{out}: is no ordinary file", hint="give the name of a file")
    check_free(out, overwrite=overwrite or partial_of(out).exists())


def write_table(out: Path, records: Iterable[Record], top: int) -> None:
    """Write records, each with at most ``top`` classes, to ``out``, whole or not at all.

    Raises ResourceError when it cannot be written.
    """
    with writing(followed(out)) as file:
        _WRITERS[out.suffix.lower()](file, records, top)


def _write_jsonl(file: BinaryIO, records: Iterable[Record], top: int) -> None:
    for record in records:
        file.write(line(record))


def line(record: Record) -> bytes:
    """Return a record as a line of JSON."""
    return json_text(record).encode() + b"\n"


def _write_csv(file: BinaryIO, records: Iterable[Record], top: int) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_columns(top))
    table.writerows(_row(record, top) for record in records)
    text.detach()  # which writes what is left, and leaves the file open


def _write_parquet(file: BinaryIO, records: Iterable[Record], top: int) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    kinds = [pa.string(), pa.string(), *[pa.string(), pa.float64()] * top]
    schema = pa.schema(list(zip(_columns(top), kinds, strict=True)))
    rows = (_row(record, top) for record in records)
    with ParquetWriter(file, schema) as table:
        while group := list(islice(rows, ROWS)):
            columns = zip(*group, strict=True)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
            table.write_table(pa.table(arrays, schema))


_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}


def _columns(top: int) -> list[str]:
    ranks = range(1, top + 1)
    return ["path", "error", *(f"{kind}_{i}" for i in ranks for kind in ("class", "probability"))]


def _row(record: Record, top: int) -> list[Any]:
    values = [v for pair in record.get("predictions", ()) for v in pair.values()]
    return [record["path"], record.get("error"), *values, *[None] * (2 * top - len(values))]
