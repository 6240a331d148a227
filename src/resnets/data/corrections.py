"""Labels that somebody has looked at again: a table to edit, and the labels that come of it."""

import csv
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from resnets.data.dataset import Dataset
from resnets.data.listing import composed, for_people
from resnets.data.photographs import Photographs
from resnets.data.tables import Table, read_table
from resnets.errors import DataError, UsageError, nearest
from resnets.files import check_free, json_text, write_text
from resnets.formatting import printable

LABELS = "labels.jsonl"  # of all images, as they were given; beside the suspects
COLUMNS = ("file", "label", "suggested", "score", "accept")
LEAVE_OUT = "drop"
_YES = {"x", "yes", "y", "true", "1"}
_NO = {"", "no", "n", "false", "0"}


@dataclass(frozen=True)
class Corrected:
    """A table of labels that was written, and how it differs from those that were given."""

    path: Path
    images: int
    changed: int
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {**vars(self), "path": str(self.path)}


def write_suspects(path: Path, suspects: Sequence[Mapping[str, Any]]) -> None:
    """Write the table that is to be edited, with COLUMNS.

    What has been accepted in one that is there stays. Raises DataError where it cannot be read.
    """
    decided = {row["file"]: row for row in _table_rows(path) if row.get("accept")}
    rows = [
        {**suspect, "accept": decided.pop(suspect["file"], {}).get("accept", "")}
        for suspect in suspects
    ]
    write_text(path, _csv([*rows, *decided.values()], COLUMNS))


def write_labels(path: Path, dataset: Dataset) -> None:
    """Write the labels of all files of a data set, a line of JSON each; nothing of other images."""
    rows = [row for name, split in dataset.parts.items() for row in _rows(dataset, name)]
    path.unlink(missing_ok=True)
    if rows:
        write_text(path, _lines(rows))


def _rows(dataset: Dataset, name: str) -> Iterator[dict[str, Any]]:
    split = dataset.parts[name]
    images = split.images
    if not isinstance(images, Photographs):
        return
    listing, numbers = images.listing, images.numbers[split.ids.numpy()].tolist()
    if not (listing.root / listing.names.spelled(numbers[0])).is_file():
        return
    for place, (number, label) in enumerate(zip(numbers, split.labels.tolist(), strict=True)):
        row = {"file": listing.names.spelled(number), "label": dataset.classes[label]}
        row["split"] = name
        if listing.groups is not None:
            row["group"] = int(listing.groups[number]) if listing.groups[number] >= 0 else None
        if split.weights is not None:
            row["weight"] = float(split.weights[place])
        yield row


def correct(
    labels: Path, edited: Path, root: Path, out: Path, *, overwrite: bool = False
) -> Corrected:
    """Write a table of labels for training to ``out``, as an edited table of suspects has them.

    ``labels`` are those that were given, of files below ``root``; splits stay. In the column
    ``accept`` an x takes what is suggested, the name of a class takes that, "drop" leaves the image
    out, and nothing changes nothing. Raises UsageError where ``out`` can be no such table, and
    DataError for what ``edited`` says of no image, or cannot mean.
    """
    check_free(out, overwrite=overwrite)
    if out.suffix.lower() not in (".csv", ".jsonl"):
        raise UsageError(f"{out}: labels are written as .csv or .jsonl")
    below = _below(out, root)
    if not labels.exists():
        raise UsageError(
            f"{labels}: is not there: it lists images that are files in folders",
            hint="`resnets data unpack` makes such of packs, tars and Parquet; train on them",
        )
    rows = _table_rows(labels)
    new = dict(
        _decided(read_table(edited), {for_people(row["file"]): row["label"] for row in rows})
    )
    changed, left_out, kept = 0, 0, []
    for row in rows:
        label = new.get(for_people(row["file"]), row["label"])
        changed += label not in (row["label"], None)
        left_out += label is None
        if label is not None:
            kept.append(row | {"file": (below / row["file"]).as_posix(), "label": label})
    if out.suffix.lower() == ".csv":
        _check_names(kept, out)
        write_text(out, _csv(kept, [*rows[0]]))
    else:
        write_text(out, _lines(kept))
    return Corrected(out, len(kept), changed, left_out)


def _table_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table by their columns; none where there is no table."""
    columns = read_table(path).columns if path.exists() else {}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _below(out: Path, root: Path) -> Path:
    """Return where the images are from the folder of a table. Raises UsageError where not in it."""
    whole = root.resolve()
    try:
        return whole.relative_to(out.resolve().parent)
    except ValueError:
        beside = shlex.quote(str(root / f"corrected{out.suffix}"))
        raise UsageError(
            f"{out}: a table names files in and below its own folder, and {printable(root)} is not",
            hint=f"--out {beside}",
        ) from None


def _decided(edited: Table, labels: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Yield which label a file shall have, None for none, where something is accepted."""
    if missing := [name for name in ("file", "suggested", "accept") if name not in edited.columns]:
        raise DataError(
            f"{printable(edited.path)}: has no column {missing[0]}",
            hint=f"give the table that has {', '.join(COLUMNS)}",
        )
    classes = set(labels.values())
    for place, (file, suggested, accept) in enumerate(
        zip(*(edited.columns[name] for name in ("file", "suggested", "accept")), strict=True)
    ):
        word = composed(str("" if accept is None else accept).strip())
        if word not in classes and word.lower() in _NO:
            continue
        if file not in labels:
            raise DataError(f"{edited.at(place)}: no image is called {printable(str(file))}")
        if word not in classes and word.lower() == LEAVE_OUT:
            yield file, None
            continue
        chosen = suggested if word not in classes and word.lower() in _YES else word
        if chosen not in classes:
            close = nearest(str(chosen), sorted(classes), 1)
            raise DataError(
                f'{edited.at(place)}: no class is called "{printable(str(chosen))}"',
                hint=f"did you mean {printable(close)}?"
                if close
                else f"accept is x, a class, {LEAVE_OUT}, or nothing",
            )
        yield file, chosen


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{json_text(row)}\n" for row in rows)


def _check_names(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Raise UsageError for names that would mean something else in CSV."""
    for row in rows:
        of_several = {"|", ";"} & set(row["label"])  # they stand between several classes
        if of_several or row["file"] != printable(row["file"]):
            raise UsageError(
                f"{printable(row['label' if of_several else 'file'])}: is no name for CSV",
                hint=f"--out {shlex.quote(str(out.with_suffix('.jsonl')))}",
            )


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    text = StringIO()
    table = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
