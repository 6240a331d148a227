"""Tables of plain values as columns: CSV in the ways it is written, lines of JSON, Parquet."""

import csv
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

from resnets.data.parquet import plain_columns
from resnets.errors import CheckpointError, DataError
from resnets.formatting import plural, printable
from resnets.readers.documents import loads
from resnets.readers.paths import open_regular

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")

_LARGEST = 1 << 30  # bytes of a table of text
_CELLS = 400_000_000
_LINE = 1 << 20  # bytes of a line of JSON
_DELIMITERS = ",;\t|"
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Table:
    """The values of a table by the names of its columns; None where there is none."""

    path: Path
    columns: dict[str, list[Any]]  # of text in CSV
    rows: list[int]  # where each row ends: the line of a text, the number in Parquet, from 1 on
    files: tuple[str, ...] = ()  # from the folder of ``path``, where it is made of several
    of: tuple[int, ...] = ()  # then, in which of these each row stands

    @property
    def names(self) -> tuple[str, ...]:
        """The files that it is written in, from the folder that its own paths begin in."""
        return self.files or (self.path.name,)

    @property
    def is_text(self) -> bool:
        """Whether it has text alone, in which several words may be one value."""
        return self.path.suffix.lower() in (".csv", ".tsv")

    def at(self, place: int) -> str:
        """Say where the row at a place stands."""
        name = self.names[self.of[place] if self.of else 0]
        return f"{printable(name)}, row {self.rows[place]:,}"


def read_table(path: Path) -> Table:
    """Return a table whose name ends as one of ENDINGS.

    Raises DataError for what is none, OSError, and ResourceError where pyarrow is not installed.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        columns = plain_columns(path)
        return Table(path, columns, [*range(1, len(next(iter(columns.values()), [])) + 1)])
    if (size := path.stat().st_size) > _LARGEST:
        raise DataError(
            f"{printable(path)}: has {size / 1e9:.1f} GB, more than a table of text may",
            hint="write it as Parquet",
        )
    with open_regular(path) as file:
        return _lines(path, file) if ending == ".jsonl" else _csv(path, file)


def _csv(path: Path, file: BinaryIO) -> Table:
    start = file.read(3)
    encoding = next((e for mark, e in _MARKS.items() if start.startswith(mark)), "utf-8")
    file.seek(0)
    line = 1
    records: list[list[str]] = []
    rows: list[int] = []
    try:
        with TextIOWrapper(file, encoding, newline="") as text:
            head = text.readline(_LINE)
            text.seek(0)
            sign = max(_DELIMITERS, key=lambda each: len(next(csv.reader([head], delimiter=each))))
            reader = csv.reader(text, delimiter=sign, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for record in reader:
                line = reader.line_num
                if any(map(str.strip, record)):
                    records.append(_fitting(record, len(header), path, line))
                    rows.append(line)
    except UnicodeDecodeError:
        other = shlex.quote(printable(path.with_name(f"{path.stem}-utf8{path.suffix}")))
        this = shlex.quote(printable(path))
        raise _fault(
            path,
            _undecoded(path),
            "is not UTF-8",
            f"write it anew: iconv -f WINDOWS-1252 -t UTF-8 {this} > {other}; give that",
        ) from None
    except csv.Error as error:
        raise _fault(path, line + 1, f"is not CSV: {error}", "close the quotes") from None
    _check_header(path, header)
    columns = dict(zip(header, map(list, zip(*records, strict=True)), strict=False))
    return Table(path, {name: columns.get(name, []) for name in header}, rows)


def _fitting(record: list[str], width: int, path: Path, row: int) -> list[str]:
    """Return a row with as many fields as the first has. Raises DataError for one with others."""
    if len(record) < width or any(record[width:]):
        raise _fault(
            path,
            row,
            f"has {plural(len(record), 'field')}, the first row {width}",
            "put quotes around a field that holds the sign between fields",
        )
    return record[:width]


def _undecoded(path: Path) -> int:
    """Return the number of the first line that is not UTF-8."""
    with open_regular(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _lines(path: Path, file: BinaryIO) -> Table:
    records: list[dict[str, Any]] = []
    rows: list[int] = []
    for number, record in _records(path, file):
        records.append(record)
        rows.append(number)
    names = [*dict.fromkeys(name for record in records for name in record)]
    _check_header(path, names)
    if len(names) * len(records) > _CELLS:
        raise DataError(f"{printable(path)}: has {len(names):,} columns, more than it may")
    return Table(path, {name: [record.get(name) for record in records] for name in names}, rows)


def _records(path: Path, file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line that is not empty, and the object in it."""
    number = 0
    while line := file.readline(_LINE):
        number += 1
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            record = loads(text, "", lenient=True) if text else None
        except (UnicodeDecodeError, CheckpointError):
            record = text = "?"
        if text and not isinstance(record, dict):
            raise _fault(
                path, number, "is no JSON object in UTF-8", 'for example {"file": "1.jpg"}'
            )
        if record:
            yield number, record


def _check_header(path: Path, names: list[str]) -> None:
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise DataError(
            f"{printable(path)}: has two columns called {printable(twice)}", hint="rename one"
        )
    if len(names) > 20_000:
        raise DataError(f"{printable(path)}: has {len(names):,} columns, more than it may")


def _fault(path: Path, row: int, what: str, hint: str) -> DataError:
    return DataError(f"{printable(path)}, row {row:,}: {what}", hint=hint)
