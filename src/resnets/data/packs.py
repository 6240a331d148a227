"""A pack: a plain tar of images that begins with a pointer to the index of all of them.

Its form is documented for everyone in docs/packs.md. Members are never changed once written; new
ones, and a new index, follow the old index, which stays in force until the pointer is overwritten
as the last thing of all.
"""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from resnets.data.indexed import Index
from resnets.errors import DataError
from resnets.formatting import printable
from resnets.readers.paths import open_regular

BLOCK = 512
POINTER, INDEX = ".resnets/pack", ".resnets/index"  # hidden where a pack is unpacked by tar
TITLE = b"resnets pack 1\n"
FIRST = 2 * BLOCK  # where the second member begins

_TIME = 946_684_800  # the first second of 2000: the same images are the same bytes
_HINT = "copy or pack it again"


@dataclass(frozen=True)
class Pack:
    """An open pack's index, and where that ends: behind it is what was begun and not finished."""

    index: Index
    end: int

    @property
    def made(self) -> Mapping[str, Any]:
        """How its images were made."""
        return dict(self.index.more.get("made", {}))


def header(name: str, size: int) -> bytes:
    """Return the header of a member, in one block or, for long names, several."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime = size, _TIME
    try:
        return member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
    except ValueError:
        return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """Return the zeros that follow content of so many bytes."""
    return bytes(-size % BLOCK)


def pointer(offset: int = 0, index: bytes = b"") -> bytes:
    """Return the first member, which says where the index lies; without one, that there is none."""
    line = f"index {offset} {len(index)} {sha256(index).hexdigest()}\n".encode()
    return header(POINTER, BLOCK) + (TITLE + line).ljust(BLOCK - 1) + b"\n"


def is_pack(path: Path) -> bool:
    """Whether a file begins as a pack does. Raises OSError."""
    with open_regular(path) as file:
        return _begins(file)


def _begins(file: BinaryIO) -> bool:
    start = file.read(FIRST)
    name = start[: len(POINTER)] == POINTER.encode() and start[len(POINTER) : 100].strip(b"\0")
    return name == b"" and start[BLOCK:].startswith(TITLE[:-2])


def read_pack(path: Path) -> Pack:
    """Return the index of a pack. Raises DataError for one that is damaged, OSError."""
    with open_regular(path) as file:
        length = file.seek(0, 2)
        for again in (True, False):  # the pointer may be overwritten in this moment
            file.seek(BLOCK)
            start = file.read(BLOCK)
            if not start.startswith(TITLE):
                raise _fault(path, "is of another version of packs", "a newer resnets reads it")
            try:
                _, offset, size, digest = start[len(TITLE) :].split(b"\n")[0].decode().split()
                first, count = int(offset), int(size)
            except ValueError:
                raise _fault(path, "has a damaged beginning") from None
            if not count:
                raise _fault(path, "is not finished", "the same `resnets data pack` resumes")
            if not (first > FIRST and 0 < count <= length - first):
                raise _fault(path, "ends before its index: it is not whole")
            file.seek(first)
            data = file.read(count)
            if sha256(data).hexdigest() == digest:
                break
            if not again:
                raise _fault(path, "has a damaged index")
        try:
            index = Index.decoded(data, [first])
        except (ValueError, TypeError) as error:
            raise _fault(path, f"has a damaged index: it {error}") from None
        return Pack(index, first + count + len(padding(count)))


def _fault(path: Path, what: str, hint: str = _HINT) -> DataError:
    return DataError(f"{printable(path)}: {what}", hint=hint)
