"""What is done of a pack that is not whole: a line of JSON for each image, in a file beside it.

A line is an image's name, its size and its stamp as they were, and then either the name, size and
SHA-256 of what stands for it in the pack, or nothing and the reason why it is left out.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from resnets.errors import CheckpointError
from resnets.files import open_own
from resnets.readers.documents import loads

_VERSION = 1
_LINE = 1 << 16  # bytes of a line


class Journal:
    """The journal of a pack, made where there is none. Raises OSError."""

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f".{out.name}.journal")
        self.file = open_own(self.path)
        self._end = 0
        with open(self.path, "rb") as lines:
            head = _record(lines.readline(_LINE))
            self.head: dict[str, Any] = head if isinstance(head, dict) else {}
            if self.head.pop("version", None) == _VERSION:
                self._end = lines.tell()

    def records(self) -> Iterator[list[Any]]:
        """Yield the lines behind the first. Those after which another is asked for are kept."""
        with open(self.path, "rb") as lines:
            lines.seek(self._end)
            while isinstance(record := _record(line := lines.readline(_LINE)), list):
                yield record
                self._end += len(line)

    def begin(self, head: dict[str, Any]) -> None:
        """Cut off what is not kept, which is all where it was begun with another ``head``."""
        if self.head != head:
            self._end = 0
        self.file.truncate(self._end)
        if not self._end:
            self.add({"version": _VERSION, **head})

    def add(self, record: Any) -> None:
        """Append a line."""
        write(self.file, json.dumps(record).encode() + b"\n")


def write(file: FileIO, data: bytes) -> None:
    """Write all of some bytes; a file without a buffer may take a part of them at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _record(line: bytes) -> Any:
    """Return what a line says; None for one that is not whole."""
    with suppress(CheckpointError, UnicodeDecodeError):
        return loads(line.decode(), "") if line.endswith(b"\n") else None
    return None
