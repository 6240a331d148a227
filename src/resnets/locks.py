"""One process at a time: locks on files, which end with the process that holds them."""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any

from resnets.errors import ResourceError

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems
_TRIES = 100  # at a file that others make and remove meanwhile


def try_lock(file: IO[Any], *, otherwise: bool = True) -> bool:
    """Keep other processes out of an open file until it is closed; False when one keeps it.

    Systems and file systems that have no locks (flock) go without, and answer ``otherwise``.
    """
    if sys.platform == "win32":
        return otherwise
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return otherwise
    return True


def unlock(file: IO[Any]) -> None:
    """End a lock; closing alone would leave it to processes that were forked meanwhile."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def is_at(file: IO[Any], path: Path) -> bool:
    """Whether an open file still has this name: another process may have removed or replaced it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except OSError:
        return False


def open_own(path: Path) -> FileIO:
    """Open a file of ours to append to it, and to read; it is made where there is none.

    Raises OSError for a symbolic link, which could lead to anybody's file, and for what is no
    ordinary file.
    """
    follow_no_link = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    # Python closes it in programs that are started meanwhile (PEP 446).
    return checked(
        FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags | follow_no_link, 0o666))
    )


def checked(file: FileIO) -> FileIO:
    """Return the open file; raises OSError, and closes it, where it is no ordinary file."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is no ordinary file", file.name)
    return file


def take(path: Path) -> FileIO | None:
    """Return the file, open and locked; None while another process has it.

    Raises OSError as `open_own` does.
    """
    for _ in range(_TRIES):
        file = open_own(path)
        try:
            free = try_lock(file)
            if free and is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        if not free:
            return None
    return None


def busy(path: Path) -> ResourceError:
    """Return the error for a file that another process is writing."""
    return ResourceError(f"{path}: another process is writing it", hint="wait for it, or stop it")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other processes from writing ``out`` meanwhile, by a hidden file beside it.

    Raises ResourceError when another process is writing it, or the folder cannot be written.
    """
    path = out.with_name(f".{out.name}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = take(path)
    except OSError as error:
        raise ResourceError(
            f"{out}: cannot be written: {error.strerror or error}", hint="choose another --out"
        ) from None
    if file is None:
        raise busy(out)
    with file:
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
            unlock(file)
