"""One pack that is being written: its members, where they lie, and the index that ends it."""

import os
from array import array
from dataclasses import dataclass, field
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.indexed import Index, room_for, told_of
from resnets.data.listing import Listing
from resnets.data.pack_journal import write
from resnets.data.packs import BLOCK, FIRST, INDEX, header, padding, pointer
from resnets.files import open_own

_END = bytes(2 * BLOCK)  # of a tar


@dataclass
class PackFile:
    """A pack that is being written, from ``base`` on: what lies before it stays as it is."""

    path: Path
    listing: Listing
    more: dict[str, Any]  # plain values that its index is to have
    base: int = FIRST
    old: Index | None = None  # of what is there already
    images: "array[int]" = field(default_factory=lambda: array("q"))  # those of the members
    names: list[str] = field(default_factory=list)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    digests: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        open_own(self.path).close()
        self.file = FileIO(self.path, "r+")
        self.at = self.base  # where the next member goes
        fixed, self._each = room_for(self.listing, self.more)
        self._room = fixed + 2 * BLOCK + len(_END)  # of the index and what surrounds it

    def keep(self, image: int, name: str, offset: int, size: int, digest: bytes) -> None:
        """Take down a member that is there."""
        self.images.append(image)
        self.names.append(name)
        self.offsets.append(offset)
        self.sizes.append(size)
        self.digests += digest
        self._room += self._each + _length(name)

    def length_with(self, name: str, size: int) -> int:
        """Return how many bytes the whole has at most with one more member."""
        member = len(header(name, size)) + size + len(padding(size))
        return self.at + member + self._room + self._each + _length(name)

    def holds(self, image: int, name: str, size: int, digest: str) -> bool:
        """Whether the next member is there already; if so it is taken over."""
        start = header(name, size)
        self.file.seek(self.at)
        found = self.file.read(len(start) + size) or b""
        content = found[len(start) :]
        if found[: len(start)] != start or sha256(content).hexdigest() != digest:
            return False
        self._place(image, name, len(start), content)
        return True

    def add(self, image: int, name: str, content: bytes) -> str:
        """Write the next member, and return its digest. Raises OSError."""
        start = header(name, len(content))
        self.file.seek(self.at)
        write(self.file, b"".join((start, content, padding(len(content)))))
        return self._place(image, name, len(start), content)

    def _place(self, image: int, name: str, start: int, content: bytes) -> str:
        digest = sha256(content)
        self.keep(image, name, self.at + start, len(content), digest.digest())
        self.at += start + len(content) + len(padding(len(content)))
        return digest.hexdigest()

    def begin(self) -> None:
        """Say that the pack has no index yet, unless it has one of what lies before."""
        if self.base == FIRST:
            self.file.seek(0)
            write(self.file, pointer())

    def finish(self) -> None:
        """Write the index, then the pointer to it, and close the file. Raises OSError."""
        images, listing, old = np.array(self.images), self.listing, self.old
        told = {name: column[images] for name, column in told_of(listing).items()}
        if old is None or not old.tells(listing, told):
            told["offsets"], told["sizes"] = np.array(self.offsets), np.array(self.sizes)
            told["sources"] = listing.sizes[images]
            told["digests"] = np.frombuffer(self.digests, np.uint8).reshape(-1, 32)
            index = Index.in_order(listing, self.names, told, self.more).encoded()
            start = header(INDEX, len(index))
            self.file.seek(self.at)
            self._end(b"".join((start, index, padding(len(index)))))
            self.file.seek(0)
            write(self.file, pointer(self.at + len(start), index))
            os.fsync(self.file.fileno())
        elif self.file.seek(0, os.SEEK_END) != self.base + len(_END):
            self.file.seek(self.base)
            self._end(b"")
        self.file.close()

    def _end(self, data: bytes) -> None:
        """Write the last bytes of the file and cut off what may be behind them."""
        write(self.file, data + _END)
        self.file.truncate()
        os.fsync(self.file.fileno())


def _length(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass")) + 1
