"""Files that are written whole or not at all."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from resnets.errors import ResourceError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # how systems say that there is no space left


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` to be written piece by piece, whole or not at all; missing parents are made.

    It goes to a temporary file beside ``path`` first, which at the end is synced and renamed, so
    that after a crash the old file or the new one is there. Raises ResourceError for a full disk or
    a folder that cannot be written, and for a ``path`` that is no ordinary file, such as a device.
    A symbolic link is written through.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no ordinary file"
        raise ResourceError(f"{path}: is {kind}", hint="give the name of a file")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        remedy = "free some space" if error.errno in FULL else "choose another folder"
        raise ResourceError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint=f"{remedy}; the earlier file, if any, is untouched",
        ) from error
    finally:
        with suppress(OSError):  # nothing to remove, or a parent that is no folder
            temporary.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all, as `writing` does."""
    with writing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to ``path``, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path``, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
