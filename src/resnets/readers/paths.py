"""Files by their names: opened without waiting, spelled for libraries, quoted in messages."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from resnets.errors import CheckpointError

FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in a folder, the first that is there
_LONGEST = 2000


def at(path: str | Path, error: CheckpointError) -> CheckpointError:
    """Return ``error`` with the file before it, on one line and without control characters."""
    said = error.message.startswith((f"{path}: ", f"{path}{os.sep}"))
    message = error.message if said else f"{path}: {error.message}"
    return CheckpointError(_shown(message), hint=_shown(error.hint))


def _shown(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[:_LONGEST]
    )


def open_regular(path: str | Path, *, looked_at: bool = False) -> BinaryIO:
    """Open an ordinary file to be read, without ever waiting for the other end of a pipe.

    Raises OSError, as for a file that is not there, for a pipe, a socket or a device, whose end
    may never come; what it is stands in ``strerror``. ``looked_at`` spares a look at a file that
    has just been seen to be one.
    """
    if not looked_at:  # opening some devices moves them already
        _check_regular(path, os.stat(path))

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=opener)  # noqa: SIM115  (the caller closes it)
    try:
        _check_regular(path, os.fstat(file.fileno()))  # it may have been exchanged meanwhile
    except BaseException:
        file.close()
        raise
    return file


def irregular(status: os.stat_result) -> str | None:
    """Return what it is that is neither a file nor a folder, such as "a named pipe"."""
    return _IRREGULAR.get(stat.S_IFMT(status.st_mode))


_IRREGULAR = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _check_regular(path: str | Path, status: os.stat_result) -> None:
    if kind := irregular(status):
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))


def is_plain(text: str | Path) -> bool:
    """Whether the bytes of a name are its letters in UTF-8, also where the locale has others."""
    try:
        return str(text).encode("utf-8") == os.fsencode(text)
    except UnicodeEncodeError:
        return False


@contextmanager
def spelled(path: Path, *beside: str) -> Iterator[Path]:
    """Yield a name that is UTF-8 for a file to be read or written: its own, or a link for a while.

    ``beside`` are the endings of files of the same name that a library opens by itself. A mapped
    file stays readable after its link has gone.
    """
    if is_plain(path):
        yield path
        return
    with TemporaryDirectory(prefix="resnets-") as folder:
        for ending in (path.suffix, *beside):
            link = Path(folder, f"file{ending if is_plain(ending) else ''}")
            link.symlink_to(path.with_suffix(ending).absolute())
        yield Path(folder, f"file{path.suffix if is_plain(path.suffix) else ''}")
