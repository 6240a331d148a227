"""Files that are written whole or not at all, and by one process at a time."""

import errno
import hashlib
import io
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from resnets.errors import ResourceError, UsageError

FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in a folder, the first that is there
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # how systems say that there is no space left
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
}


def draft(path: Path) -> Path:
    """Return the file that is written first and then takes the name of ``path``."""
    return path.with_name(f".{path.name}.tmp")


def partial_of(path: Path) -> Path:
    """Return where what is done of a file lies, over many calls, until the file is whole."""
    return path.with_name(f".{path.name}.partial")


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError for a file that is there, unless ``overwrite`` gives it up."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: is there already", hint="--overwrite, or another --out")


def open_regular(path: str | Path) -> BinaryIO:
    """Open an ordinary file to be read, without ever waiting for the other end of a pipe.

    Raises OSError, as for a file that is not there, for a pipe, a socket or a device, whose end
    may never come; what it is stands in ``strerror``.
    """
    _check_regular(path, os.stat(path))  # opening some devices moves them already

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


def try_lock(file: IO[bytes]) -> bool:
    """Keep other processes out of an open file until it is closed; False when one keeps it.

    Systems and file systems that have no locks (flock) go without.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
    return True


def unlock(file: IO[bytes]) -> None:
    """End a lock; closing alone would leave it to processes that were forked meanwhile."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def writing(path: Path, *, size: int | None = None) -> Iterator[BinaryIO]:
    """Open ``path`` to be written piece by piece, whole or not at all; missing parents are made.

    It goes to a temporary file beside ``path`` first, which at the end is synced, read back and
    renamed, so that after a crash the old file or the new one is there. ``size`` is its length in
    bytes where that is known, to be told when the disk is full.

    Raises ResourceError for a full disk or a folder that cannot be written, for a disk that does
    not return what was written, and for a ``path`` that is no ordinary file, such as a device. A
    symbolic link is written through.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no ordinary file"
        raise ResourceError(f"{path}: is {kind}", hint="give the name of a file")
    temporary = draft(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _Summed(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            with suppress(AttributeError, OSError):  # so that the disk is read, not its cache
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if not file.is_kept_in(temporary):
            raise ResourceError(
                f"{path}: is not what was written: the disk is failing",
                hint="choose a folder on another disk; the earlier file, if any, is untouched",
            )
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "choose another folder")
        raise ResourceError(
            f"{path}: cannot be written: {error.strerror or error}{_lack(temporary, size, error)}",
            hint=f"{remedy}; the earlier file, if any, is untouched",
        ) from error
    finally:
        with suppress(OSError):  # nothing to remove, or a parent that is no folder
            temporary.unlink()


class _Summed(io.BufferedWriter):
    """A new file that knows the length and the SHA-256 of what is written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self._sha256, self._length, self._in_order = hashlib.sha256(), 0, True

    def write(self, data: Any) -> int:
        start = self.tell()
        count = super().write(data)
        self._in_order &= start == self._length
        self._length = max(self._length, start + count)
        self._sha256.update(data)
        return count

    def is_kept_in(self, path: Path) -> bool:
        """Whether ``path`` has this content.

        Only the length is compared after a writer has gone back: zip archives do, to fill in
        headers, and carry checksums of their own.
        """
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
            same = found == self._sha256.digest() or not self._in_order
            return same and file.tell() == self._length


def _sync(folder: Path) -> None:
    """Make the names in a folder last, on systems where that is needed and possible."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lack(temporary: Path, size: int | None, error: OSError) -> str:
    """Return how much space was needed and how much there is, as far as that is known."""
    if error.errno not in FULL:
        return ""
    written = temporary.stat().st_size if temporary.exists() else 0
    needed = f": after {_bytes(written)}" if size is None else f": {_bytes(size)} needed"
    if error.errno == errno.EFBIG and sys.platform != "win32":
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        return needed if limit == resource.RLIM_INFINITY else f"{needed}, {_bytes(limit)} allowed"
    if error.errno == errno.EDQUOT or not temporary.parent.exists():
        return needed  # what a disk has free says nothing about a quota
    free = shutil.disk_usage(temporary.parent).free
    # A whole file would have had the place of its part, which is about to be removed.
    return f"{needed}, {_bytes(free if size is None else free + written)} free"


def _bytes(count: int) -> str:
    if count < 1e5:
        return f"{count:,} bytes"
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all, as `writing` does."""
    with writing(path, size=len(data)) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to ``path``, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path``, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
