"""A list of images in parts, each a table of its own, and the record beside each of these tables.

A part is a contiguous run of whole batches, so that its rows are to the bit those of one process.
Whoever makes a part lists all images, and looks at its own alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from resnets.data.identity import digest_files
from resnets.data.images import Stored
from resnets.errors import CheckpointError, DataError, UsageError
from resnets.files import partial_of, write_json
from resnets.readers.documents import read_json
from resnets.readers.fields import Count, check

SCHEMA_VERSION = 1
_RECORD = ".part.json"
_MOST = 6  # digits of the number of parts

Image = TypeVar("Image")


@dataclass(frozen=True)
class Part:
    """One of several parts, counted from 1: ``Part(3, 16)`` is the third of sixteen.

    ``command`` is the command line that makes it, without what tells it from the other parts.
    Raises UsageError for a part that there is not.
    """

    number: int
    of: int
    command: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(
                f"part {self}: there is none", hint="parts are counted from 1: 1/16 to 16/16"
            )

    @classmethod
    def parse(cls, text: str, command: str = "") -> "Part":
        """Return the part that a text such as "3/16" means. Raises UsageError."""
        words = text.split("/")
        if len(words) != 2 or not all(
            w.isascii() and w.isdigit() and len(w) <= _MOST for w in words
        ):
            raise UsageError(f'"{text}" is no part', hint="the third of sixteen parts is 3/16")
        number, of = map(int, words)
        return cls(number, of, command)

    def bounds(self, count: int, unit: int) -> tuple[int, int]:
        """Return where the part begins and ends among so many images, at multiples of ``unit``.

        The last part ends with the last image. Parts of few images may be empty.
        """
        units = -(-count // unit)
        begin, end = (
            min(units * k // self.of * unit, count) for k in (self.number - 1, self.number)
        )
        return begin, end

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Section:
    """Where a part lies in the list of all images, and what is known of that list.

    ``names`` digests the names of all images as tables have them, in their order, and ``archives``
    the sizes of those in packs, tars and Parquet, which cost no look at files. ``known`` are some
    names by their place: of the first and the last image of the part and of the list, and of those
    before and after the part.
    """

    number: Count
    of: Count
    unit: Count  # images
    total: Count  # images in the list
    names: str  # SHA-256
    archives: str  # SHA-256
    known: dict[int, str]
    command: str

    @classmethod
    def find(
        cls, part: Part, names: Iterable[str], images: Sequence[str | Path | Stored], unit: int
    ) -> "Section":
        """Return the section of a part of all images, whose ``names`` are read once."""
        total = len(images)
        begin, end = part.bounds(total, unit)
        wanted = {0, begin - 1, begin, end - 1, end, total - 1}
        known, digest, archives = {}, NamesDigest(), sha256()
        for place, (name, image) in enumerate(zip(names, images, strict=True)):
            digest.add(name)
            if place in wanted:
                known[place] = name
            if isinstance(image, Stored):
                archives.update(b"%d\0" % image.size)
        return cls(
            *(part.number, part.of, unit, total),
            *(digest.text, archives.hexdigest(), known, part.command),
        )

    @property
    def part(self) -> Part:
        """Which part it is."""
        return Part(self.number, self.of, self.command)

    @property
    def bounds(self) -> tuple[int, int]:
        """Where the part begins and ends in the list."""
        return self.part.bounds(self.total, self.unit)

    @property
    def count(self) -> int:
        """How many images the part has."""
        begin, end = self.bounds
        return end - begin

    def numbered(self, number: int) -> "Section":
        """Return the section of another part of the same list."""
        return replace(self, number=number)

    def cut(self, images: Sequence[Image]) -> Sequence[Image]:
        """Return the images of the part among all."""
        return images[slice(*self.bounds)]

    def made_of(self, whole: dict[str, Any]) -> dict[str, Any]:
        """Return what a table of the part is made of, where it is ``whole`` but for being one."""
        images = [whole["pictures"], self.names, self.archives]
        return whole | {"pictures": images, "parts": str(self.part)}


class NamesDigest:
    """The SHA-256 of names in their order, none of which is held."""

    def __init__(self) -> None:
        self._digest = sha256()

    def add(self, name: str) -> None:
        """Take down the next name."""
        self._digest.update(name.encode("utf-8", "backslashreplace") + b"\0")

    @property
    def text(self) -> str:
        """The digest, as hexadecimal digits."""
        return self._digest.hexdigest()


@dataclass(frozen=True)
class Told:
    """What else there is to know of a table to put it together with others."""

    columns: list[str] = field(default_factory=list)  # of predictions
    channels: Count = 0  # of embeddings
    left_out: list[str] = field(default_factory=list)  # of embeddings: names of broken images


@dataclass(frozen=True)
class PartRecord:
    """What is written beside the table of a part, as OUT.part.json.

    ``made_of`` is that of the `FolderJob`; ``broken`` are the images that could not be read, by
    their place in the part, and why.
    """

    section: Section
    made_of: dict[str, Any]
    broken: dict[int, str]
    told: Told
    sha256: str  # of the table
    schema_version: Count = SCHEMA_VERSION

    @property
    def is_possible(self) -> bool:
        """Whether the numbers, which anybody may have written, fit each other."""
        section, told = self.section, self.told
        return (
            section.unit > 0
            and section.part.of < 10**_MOST
            and all(0 <= place < section.count for place in self.broken)
            and (not told.channels or len(told.left_out) == len(self.broken))
        )

    def write(self, table: Path) -> None:
        """Write it beside the table, whole or not at all. Raises ResourceError."""
        write_json(record_of(table), asdict(self))

    @classmethod
    def read(cls, table: Path) -> "PartRecord":
        """Return the record of a table that is whole.

        Raises DataError for a table that is no part, is still being written, or has a record that
        is damaged.
        """
        path = record_of(table)
        if table.name.endswith(_RECORD):
            raise DataError(
                f"{table}: is the record of a part",
                hint=f"give the table, {table.name[: -len(_RECORD)]}",
            )
        if partial_of(table).exists():
            raise DataError(
                f"{table}: is not whole: its command still runs, or was stopped",
                hint="wait for it, or type it again: it resumes",
            )
        if not path.is_file():
            what = "was not made with --part" if table.exists() else "there is no such table"
            raise DataError(f"{table}: {what}", hint=f"a part has {path.name} beside it")
        try:
            record = check(cls, read_json(path), path)
            if record.schema_version != SCHEMA_VERSION:
                raise CheckpointError(f"{path}: is of another version of resnets")
            if not record.is_possible:
                raise CheckpointError(f"{path}: damaged: a part that cannot be")
        except (CheckpointError, UsageError) as error:
            raise DataError(error.message, hint="make the part again, with --overwrite") from None
        return record


def record_of(table: Path) -> Path:
    """Return where the record of a part's table lies."""
    return table.with_name(f"{table.name}{_RECORD}")


def digest_of(table: Path) -> str:
    """Return the SHA-256 of a file; zeros where it cannot be read."""
    return digest_files([table]).tobytes().hex()
