"""The tables of all parts -> the table that one process would have written, to the byte.

Before anything is written it is proved that every image of the list has exactly one answer: all
parts are of the same list and made of the same, none is missing or there twice, each table is the
one that its record was written for, and the names in them, in their order, have the list's digest.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from shlex import quote
from typing import Any

from resnets.errors import DataError, UsageError
from resnets.files import alone, check_free, partial_of, write_broken
from resnets.formatting import plural
from resnets.inference import embedding_table, prediction_table
from resnets.inference.partition import NamesDigest, PartRecord, Section, digest_of, record_of

_OWN = ("pictures", "parts")  # of what a part is made of: not that of others
_SHOWN = 3  # gaps in a list
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Gathered:
    """What ``gather`` made: a table of all images of so many parts."""

    path: Path
    parts: int
    images: int  # in the list; those of embeddings that are broken have no row
    broken: int

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return {
            "path": str(self.path),
            "parts": self.parts,
            "pictures": self.images,
            "broken": self.broken,
        }


def gather(
    tables: Iterable[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Gathered:
    """Put the tables of all parts together, in constant memory.

    ``tables`` are what `predict_table` or `embed_folder` have written with ``part``, in any order;
    ``out`` may end otherwise than they do. ``on_progress`` is called with the images of how many of
    all have been proved to be there.

    Raises DataError, which says what is the matter and how it is put right, where an image has no
    answer or two, and where tables do not belong together, have changed or are not whole; then
    nothing is written. Raises UsageError and ResourceError as `predict_table` does.
    """
    out = Path(out)
    parts = _together([_Table(path, PartRecord.read(path)) for path in map(Path, tables)])
    total = parts[0].section.total
    kind = _Embeddings if parts[0].record.told.channels else _Predictions
    kind.check(out, overwrite=overwrite)
    if out.resolve() in {part.path.resolve() for part in parts}:
        raise UsageError(f"{out}: is one of the parts", hint="another --out")
    for part in parts:
        if digest_of(part.path) != part.record.sha256:
            raise DataError(
                f"{part.path}: has changed since it was made", hint=_again(part, parts[0])
            )
    names, done = NamesDigest(), 0
    for part in parts:
        with _readable(part):
            for name in kind.names(part):
                names.add(name)
        done += part.section.count
        on_progress(done, total)
    if names.text != parts[0].section.names:
        raise DataError(
            f"{out}: the rows of the {plural(len(parts), 'part')} are not the images of the list",
            hint="make the parts again, with --overwrite",
        )
    with alone(out):
        check_free(out, overwrite=overwrite)
        kind.write(out, parts)
        record_of(out).unlink(missing_ok=True)  # it may have been a part
    return Gathered(out, parts[0].section.of, total, sum(len(part.record.broken) for part in parts))


@dataclass(frozen=True)
class _Table:
    """The table of a part, and its record."""

    path: Path
    record: PartRecord

    @property
    def section(self) -> Section:
        return self.record.section

    @property
    def made_of(self) -> dict[str, Any]:
        """What all parts have to be made of."""
        return {name: value for name, value in self.record.made_of.items() if name not in _OWN}

    @property
    def kind(self) -> tuple[Any, ...]:
        """What is the same of all parts."""
        section = self.section
        images = (section.total, section.names, section.archives)
        return section.of, section.unit, *images, sorted(self.made_of.items())


class _Predictions:
    """How tables of predictions are read and written."""

    check = staticmethod(prediction_table.check_table)

    @staticmethod
    def names(part: _Table) -> Iterator[str]:
        return (record["path"] for record in prediction_table.read_records(part.path))

    @staticmethod
    def write(out: Path, parts: Sequence[_Table]) -> None:
        records = chain.from_iterable(prediction_table.read_records(part.path) for part in parts)
        columns = max((part.record.told.columns for part in parts), key=len)
        prediction_table.write_table(out, records, columns)


class _Embeddings:
    """How tables of embeddings are, in which broken images have no row."""

    check = staticmethod(embedding_table.check_table)

    @staticmethod
    def names(part: _Table) -> Iterator[str]:
        rows, left_out = embedding_table.read_paths(part.path), iter(part.record.told.left_out)
        for place in range(part.section.count):
            yield next(left_out if place in part.record.broken else rows)
        yield from rows  # there are none

    @staticmethod
    def write(out: Path, parts: Sequence[_Table]) -> None:
        broken = (
            zip(part.record.told.left_out, part.record.broken.values(), strict=True)
            for part in parts
        )
        write_broken(out, chain.from_iterable(broken))
        channels = parts[0].record.told.channels
        rows = (
            embedding_table.read_embeddings(part.path, channels, _rows_of_chunks(part))
            for part in parts
        )
        embedding_table.write_table(out, _Paths(parts), channels, chain.from_iterable(rows))


def _rows_of_chunks(part: _Table) -> Iterator[int]:
    """Yield how many images of each chunk have a row: groups of rows end where a chunk does."""
    unit, count = part.section.unit, part.section.count
    broken = Counter(place // unit for place in part.record.broken)
    for number, start in enumerate(range(0, count, unit)):
        yield min(unit, count - start) - broken[number]


class _Paths(Collection[str]):
    """The paths of the rows of all parts, none of which is held."""

    def __init__(self, parts: Sequence[_Table]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(part.section.count - len(part.record.broken) for part in self.parts)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(embedding_table.read_paths(part.path) for part in self.parts)

    def __contains__(self, path: object) -> bool:
        return any(path == each for each in self)


@contextmanager
def _readable(part: _Table) -> Iterator[None]:
    """Turn whatever readers raise of a table that nobody has written so into a DataError."""
    try:
        yield
    except Exception as error:
        raise DataError(f"{part.path}: cannot be read: {error}", hint=_again(part, part)) from error


def _together(tables: Sequence[_Table]) -> list[_Table]:
    """Return the tables of all parts that have images, in their order. Raises DataError."""
    if not tables:
        raise UsageError("there is no part to gather", hint="give the tables of all parts")
    ((kind, _),) = Counter(str(table.kind) for table in tables).most_common(1)
    usual = next(table for table in tables if str(table.kind) == kind)
    for table in tables:
        if difference := _difference(table, usual):
            raise DataError(
                f"{table.path}: {difference}",
                hint=f"{_again(table, usual)}; if that changes nothing, the others are out of date",
            )
    found = sorted(tables, key=lambda table: table.section.number)
    for one, other in pairwise(found):
        if one.section.number == other.section.number:
            same = one.path.resolve() == other.path.resolve()
            raise DataError(
                f"{one.path}: is given twice"
                if same
                else f"{one.path} and {other.path}: both are part {one.section.part}",
                hint="give one of them",
            )
    _check_none_is_missing(found)
    return found


def _difference(table: _Table, usual: _Table) -> str:
    """Return in what a table is not of the same kind as another; nothing where it is."""
    own, other = table.section, usual.section
    if own.of != other.of:
        return f"is part {own.part}, and {usual.path} is part {other.part}"
    if own.total != other.total:
        counts = f"{plural(own.total, 'image')}, not {other.total:,}"
        return f"is of another list of images than {usual.path}: of {counts}"
    if own.names != other.names:
        return f"is of another list of images than {usual.path}: as long, with other names or order"
    if own.archives != other.archives:
        return f"is of other archives than {usual.path}: images in them have other sizes"
    made, expected = table.made_of | {"unit": own.unit}, usual.made_of | {"unit": other.unit}
    changed = [name for name in expected | made if made.get(name) != expected.get(name)]
    told = [
        f"{name} ({made[name]}, not {expected[name]})"
        if name in made and name in expected and not _DIGEST.fullmatch(str(made[name]))
        else name
        for name in changed
    ]
    return f"was made with other {' and '.join(told)} than {usual.path}" if told else ""


def _check_none_is_missing(found: Sequence[_Table]) -> None:
    """Raise DataError, with images and their names, where parts are missing that have images."""
    section = found[0].section
    known = {place: name for table in found for place, name in table.section.known.items()}
    there = {table.section.number for table in found}
    gaps: list[list[Section]] = []  # contiguous parts
    for number in range(1, section.of + 1):
        missing = section.numbered(number)
        if number in there or not missing.count:
            continue
        if gaps and gaps[-1][-1].bounds[1] == missing.bounds[0]:
            gaps[-1].append(missing)
        else:
            gaps.append([missing])
    if not gaps:
        return
    told = []
    for gap in gaps[:_SHOWN]:
        (begin, _), (_, end) = gap[0].bounds, gap[-1].bounds
        one, last = gap[0].number, gap[-1].number
        which = f"part {one}" if one == last else f"parts {one} to {last}"
        names = " to ".join(dict.fromkeys(known.get(i, "?") for i in (begin, end - 1)))
        begun = ", begun" if partial_of(_named(found[0], one)).exists() else ""
        told.append(f"{which} ({plural(end - begin, 'image')}: {names}){begun}")
    more = sum(map(len, gaps[_SHOWN:]))
    told += [f"{more:,} more"] if more else []
    raise DataError(
        f"missing of {plural(section.of, 'part')}: {', '.join(told)}",
        hint=_command(gaps[0][0], found[0]),
    )


def _command(section: Section, like: _Table) -> str:
    """Return the command that makes a part, whose table is named like that of another."""
    table = _named(like, section.number)
    return f"give {table} too" if record_of(table).exists() else _made(section, table)


def _again(table: _Table, like: _Table) -> str:
    """Return the command that makes a table again as another was made."""
    number = min(table.section.number, like.section.of)
    return _made(like.section.numbered(number), table.path, overwrite=True)


def _made(section: Section, table: Path, *, overwrite: bool = False) -> str:
    if not section.command:
        more = ", overwrite=True" if overwrite else ""
        return f"make it with part=Part({section.number}, {section.of}){more}"
    more = " --overwrite" if overwrite else ""
    return f"`{section.command} --part {section.part} --out {quote(str(table))}{more}`"


def _named(like: _Table, number: int) -> Path:
    """Return the name of a part's table, as another part's is."""
    path, own = like.path, str(like.section.number)
    places = [*re.finditer(rf"(?<!\d)0*{own}(?!\d)", path.stem)]
    if not places:
        return path.with_name(f"part-{number}{path.suffix}")
    start, end = places[0].span()
    stem = f"{path.stem[:start]}{number:0{end - start}d}{path.stem[end:]}"
    return path.with_name(f"{stem}{path.suffix}")
