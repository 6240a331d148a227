"""A table of predictions: CSV, JSON lines or Parquet, a row for each image, in order.

JSON lines are the records of `Prediction.to_dict`. The other two have the columns ``path``,
``error``, ``class_1``, ``probability_1``, ``class_2`` and so on, where images may have several
classes as many as one has, ``label_set`` where these are asked for, a list in Parquet and in CSV
its JSON, and ``unknown`` and ``unknown_score`` of a model that tells them; what a row has not is
empty, or null in Parquet. Equal records give equal bytes.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from resnets.data.identity import images_digest
from resnets.data.images import Stored, printable
from resnets.data.listing import Made
from resnets.data.scan import names_in
from resnets.data.sources import listed_in, stored_in
from resnets.errors import DataError
from resnets.files import followed, writing
from resnets.inference.folder_job import CONTENT, FolderJob, Record, Records, check_out, line
from resnets.inference.partition import Part, Section, Told
from resnets.inference.prediction import (
    at_most,
    batches,
    prepared,
    resolved,
    set_sizes,
    warn_of_softmax,
)
from resnets.inference.runtimes import Runtime
from resnets.readers.paths import open_regular
from resnets.weights.conformal import DEFAULT

if TYPE_CHECKING:
    import pyarrow as pa

    from resnets.nn import ResNet

ROWS = 4096  # of a group in Parquet


@dataclass(frozen=True)
class Predicted:
    """What ``predict_table`` made: the table, and how many of its images are broken."""

    path: Path
    images: int  # rows of the table
    broken: int
    resumed: int  # images that an earlier call, which was stopped, had done

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return {
            "path": str(self.path),
            "pictures": self.images,
            "broken": self.broken,
            "resumed": self.resumed,
        }


def predict_table(
    model: "ResNet | Runtime | str | Path",
    images: str | Path | Stored | Iterable[str | Path | Stored],
    out: str | Path,
    *,
    top: int | None = None,
    batch_size: int = 8,
    coverage: float | None = None,
    sets: str = DEFAULT,
    part: Part | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_broken: Callable[[DataError], None] = lambda error: None,
) -> Predicted:
    """Write the predictions of images, and of those in folders, lists and archives, to a table.

    ``model``, ``coverage`` and ``sets`` are what `predict` takes; ``out`` ends in .csv, .jsonl or
    .parquet. In memory are the paths and three batches; what is done lies in a hidden file beside
    ``out`` until the table is whole. After a stop of any kind the same call resumes and ends with
    the same bytes. An image that cannot be read has a row that says why; a call that resumes looks
    at it again, and at every image whose content is another than it was.

    With ``part`` it is the table of one part of the images, and beside it lies the record by which
    `resnets.inference.gather.gather` puts all of them together; a part that is whole already is
    left as it is.

    ``on_progress`` is called with how many images of how many are done, ``on_broken`` with the
    error of each broken image when it is met. Raises what `predict` raises; UsageError for
    another ending, and, unless ``overwrite`` gives up what is there, for a file that this job has
    not written and when what was stopped had another model, other images or other options;
    DataError for a folder without images; ResourceError.
    """
    out = Path(out)
    check_table(out, overwrite=overwrite, part=part)
    names = image_names([images] if isinstance(images, str | Path | Stored) else images)
    runtime = resolved(model, len(names))
    warn_of_softmax(runtime)
    job = _Predictions(out, names, runtime, top, batch_size, coverage, sets, part, on_broken)
    resumed, broken = job.run(overwrite=overwrite, on_progress=on_progress)
    return Predicted(out, len(job.names), len(broken), resumed)


def check_table(out: Path, *, overwrite: bool = False, part: Part | None = None) -> None:
    """Raise UsageError or ResourceError where no table of predictions can be written."""
    readers = "spreadsheets read .csv; pandas, Polars and DuckDB read all three"
    check_out(out, "predictions", tuple(_WRITERS), readers, overwrite=overwrite, part=part)


class ImageNames(list[str | Stored]):
    """Names of images, none of folders or archives."""


def image_names(images: Iterable[str | Path | Stored]) -> Sequence[str | Stored]:
    """Return the names of images, in place of folders, lists and archives those in them.

    What it has returned before it returns as it is. Raises DataError for a folder or list without
    images, and for packs, tars and Parquet that cannot be read.
    """
    if isinstance(images, ImageNames | Made):
        return images
    images, names = [*images], ImageNames()
    for image in images:
        if isinstance(image, Stored):
            names.append(image)
        elif found := stored_in(image):
            if len(images) == 1:
                return found
            names += found
        elif listed := listed_in(image):
            start = str(Path(image).with_name("-"))[:-1]  # as Path has it, for millions of names
            names += [os.path.join(start, name) for name in listed]
        elif os.path.isdir(image):  # Path.is_dir() raises for names that no file system takes
            names += [str(Path(image) / name) for name in names_in(Path(image))]
        else:
            names.append(str(image))
    return names


class _Predictions(FolderJob):
    def __init__(
        self,
        out: Path,
        images: Sequence[str | Stored],
        runtime: Runtime,
        top: int | None,
        batch_size: int,
        coverage: float | None,
        sets: str,
        part: Part | None,
        on_broken: Callable[[DataError], None],
    ) -> None:
        section = None
        if part:
            shown = (printable(str(image)) for image in images)
            section = Section.find(part, shown, images, batch_size)
            images = section.cut(images)
        self.images, self.runtime, self.batch_size = images, runtime, batch_size
        names = [*map(str, images)]
        files = [image if isinstance(image, Stored) else Path(image) for image in images]
        self.top, self.sizes = at_most(runtime, top), set_sizes(runtime, coverage, sets)
        self.on_broken = on_broken
        made_of = {
            "model": runtime.digest(),
            "pictures": images_digest(names, files),
            "number of classes": self.top,
            "batch size": batch_size,  # on both of these the last bits of a result may depend
            "runtime": f"{runtime.name} {runtime.version}",
        }
        if runtime.outputs == "sigmoid":  # what was begun before they had a meaning is of a softmax
            made_of["meaning of outputs"] = "sigmoid"
        if coverage is not None:
            made_of |= {"coverage": coverage, "label sets": sets}
        super().__init__(out, [*map(printable, names)], files, made_of, section)

    def answers(self, start: int) -> Iterator[list[Record]]:
        images = self.images[start:]
        for batch in batches(self.runtime, images, self.top, self.batch_size, self.sizes):
            for prediction in batch:
                if prediction.error is not None:
                    self.on_broken(prediction.error)
            yield [prediction.to_dict() for prediction in batch]

    def fault(self, place: int) -> str | None:
        found = prepared(self.runtime, self.images[place])
        return found.message if isinstance(found, DataError) else None

    def in_whole_batches(self, count: int) -> int:
        return count // self.batch_size * self.batch_size

    def write(self, records: Records, broken: dict[int, str]) -> Told:
        told = ({k: v for k, v in record.items() if k != CONTENT} for record in records())
        top = self.top
        if self.runtime.thresholds:
            top = max((len(record.get("predictions", ())) for record in records()), default=0)
        columns = columns_of(self.runtime, top, with_sets=self.sizes is not None)
        write_table(self.out, told, columns)
        return Told(columns=columns)


def columns_of(runtime: Runtime, top: int, *, with_sets: bool) -> list[str]:
    """Return the names of the columns of a table, of which a row has so many classes at most."""
    ranked = [f"{kind}_{i}" for i in range(1, top + 1) for kind in ("class", "probability")]
    tells = runtime.calibration and runtime.calibration.unknown
    more = ["label_set"] * with_sets + (["unknown", "unknown_score"] if tells else [])
    return ["path", "error", *ranked, *more]


def write_table(out: Path, records: Iterable[Record], columns: Sequence[str]) -> None:
    """Write records to ``out``, whole or not at all. Raises ResourceError."""
    with writing(followed(out)) as file:
        _WRITERS[out.suffix.lower()](file, records, columns)


def _write_jsonl(file: BinaryIO, records: Iterable[Record], columns: Sequence[str]) -> None:
    file.writelines(map(line, records))


def _write_csv(file: BinaryIO, records: Iterable[Record], columns: Sequence[str]) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for record in records:
        told = _row(record, columns)
        row = [json.dumps(v, ensure_ascii=False) if isinstance(v, list | bool) else v for v in told]
        table.writerow(row)
    text.detach()  # which writes what is left, and leaves the file open


def _write_parquet(file: BinaryIO, records: Iterable[Record], columns: Sequence[str]) -> None:
    from pyarrow.parquet import ParquetWriter

    rows = iter(records)
    with ParquetWriter(file, arrow_table([], columns).schema) as table:
        while group := list(islice(rows, ROWS)):
            table.write_table(arrow_table(group, columns))


def arrow_table(records: Sequence[Record], columns: Sequence[str]) -> "pa.Table":
    """Return records as a table of Arrow, null where one has no such column."""
    import pyarrow as pa

    of_name = {
        "label_set": pa.list_(pa.string()),
        "unknown": pa.bool_(),
        "unknown_score": pa.float64(),
    }
    of_name |= {name: pa.float64() for name in columns if name.startswith("probability")}
    schema = pa.schema([(name, of_name.get(name, pa.string())) for name in columns])
    values = zip(*(_row(record, columns) for record in records), strict=True)
    if not records:
        return schema.empty_table()
    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    return pa.table(arrays, schema)


_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}


def _row(record: Record, columns: Sequence[str]) -> list[Any]:
    values = dict(record)
    for place, pair in enumerate(record.get("predictions", ()), start=1):
        values |= {f"{kind}_{place}": value for kind, value in pair.items()}
    return [values.get(name) for name in columns]


def read_records(table: Path) -> Iterator[Record]:
    """Yield the records of a table that `write_table` has written.

    Written again, also in another form, they are those of the one that first had them. Raises
    OSError and ValueError.
    """
    suffix = table.suffix.lower()
    if suffix == ".jsonl":
        with open_regular(table) as file:
            yield from map(json.loads, file)
    elif suffix == ".csv":
        with open_regular(table) as file:
            rows = csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""))
            yield from map(_record, ({k: _told(k, v) for k, v in row.items()} for row in rows))
    else:
        from pyarrow.parquet import ParquetFile

        with ParquetFile(table) as file:
            for batch in file.iter_batches(ROWS):
                yield from map(_record, batch.to_pylist())


def _told(column: str, text: str) -> Any:
    """Return the value of a cell of CSV; None where it is empty."""
    if not text or column in ("path", "error") or column.startswith("class_"):
        return text or None
    return json.loads(text)  # a number, or what is no number and no text


def _record(row: Record) -> Record:
    """Return the record that `_row` has made a row of."""
    ranks = sum(name.startswith("class_") for name in row)
    pairs = [
        {name: row.pop(f"{name}_{i}") for name in ("class", "probability")}
        for i in range(1, ranks + 1)
    ]
    record = {name: value for name, value in row.items() if value is not None}
    if "error" not in record:
        known = [pair for pair in pairs if pair["probability"] is not None]
        record["predictions"] = [{**pair, "class": pair["class"] or ""} for pair in known]
    order = ("path", "error", "predictions")  # as `Prediction.to_dict` has them
    return {name: record.pop(name) for name in order if name in record} | record
