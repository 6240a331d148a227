"""Files that are written whole or not at all, and by one process at a time."""

import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any, BinaryIO

from resnets.errors import HeldError, ResourceError, UsageError, unwritable

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems
_TRIES = 100  # at a file that others make and remove meanwhile
_OF_RUNS = ("run.json", "seeds.json", "tune.json")  # by which a folder of training is known
_LONGEST = 48  # letters of a name in that of its temporary file, which has a limit too
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # how systems say that there is no space left
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
}


def try_lock(file: IO[Any], *, otherwise: bool = True) -> bool:
    """Keep other processes out of an open file until it is closed; False when one keeps it.

    File systems that have no locks go without, and answer ``otherwise``.
    """
    from filelock import lock_descriptor  # a fifth of what --help takes, which needs no lock

    try:
        return lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return otherwise


def unlock(file: IO[Any]) -> None:
    """End a lock; closing alone would leave it to processes that were forked meanwhile."""
    from filelock import unlock_descriptor

    with suppress(OSError):
        unlock_descriptor(file.fileno())


def take(path: Path) -> FileIO | None:
    """Return a file of ours, made where there is none, open and locked; None where it is held.

    Raises OSError as `open_own` does.
    """
    for _ in range(_TRIES):
        file = open_own(path)
        try:
            free = try_lock(file)
            if free and _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        if not free:
            return None
    return None


def open_own(path: Path) -> FileIO:
    """Open a file of ours to append to it, and to read; it is made where there is none.

    Raises OSError for a symbolic link, which could lead to anybody's file, and for what is no
    ordinary file.
    """
    follow_no_link = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    # Python closes it in programs that are started meanwhile (PEP 446).
    file = FileIO(
        path, "a+", opener=lambda name, flags: os.open(name, flags | follow_no_link, 0o666)
    )
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is no ordinary file", file.name)
    return file


def _is_at(file: IO[Any], path: Path) -> bool:
    """Whether an open file still has this name: another process may have removed or replaced it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except OSError:
        return False


def halted(out: Path | str, error: OSError) -> ResourceError:
    """Return the error for what cannot be written on, and is resumed by the same command."""
    full = error.errno in FULL
    hint = "free some space; the same command resumes" if full else "choose another --out"
    return unwritable(out, error, hint)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other processes from writing ``out`` meanwhile, by a hidden file beside it.

    Raises HeldError when another process is writing it, and ResourceError when the folder cannot be
    written.
    """
    path = out.with_name(f".{out.name}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = take(path)
    except OSError as error:
        raise unwritable(out, error, "choose another --out") from None
    if file is None:
        raise HeldError(f"{out}: another process is writing it", hint="wait for it, or stop it")
    with file:
        try:
            yield
        finally:
            with suppress(OSError):  # where open files keep their names it stays, and harms nobody
                path.unlink()
            unlock(file)


def drafts(path: Path) -> list[Path]:
    """Return what killed processes may have left of writing ``path``, some of it under way."""
    name = re.escape(path.name)  # alone in those of earlier versions
    known = re.compile(rf"\.({re.escape(path.name[:_LONGEST])}\.[0-9a-f]{{8}}|{name})\.tmp")
    try:
        with os.scandir(path.parent) as entries:
            return [path.with_name(entry.name) for entry in entries if known.fullmatch(entry.name)]
    except OSError:
        return []


def sweep(path: Path) -> None:
    """Remove what killed processes have left of writing ``path``; what is under way stays."""
    for left in drafts(path):
        with suppress(OSError):
            if left.is_symlink():
                left.unlink()
                continue
            with open_own(left) as file:
                # Windows locks no drafts: a locked file could not be read back there.
                if sys.platform != "win32" and try_lock(file, otherwise=False):
                    left.unlink()


def followed(path: Path) -> Path:
    """Return the file that a user's name for one means, through symbolic links.

    A folder that training has written may come from a stranger: links in it are not followed, but
    replaced by what is written.
    """
    is_of_a_run = any(os.path.lexists(path.parent / name) for name in _OF_RUNS)
    return path if is_of_a_run or not path.is_symlink() else path.resolve()


def partial_of(path: Path) -> Path:
    """Return where what is done of a file lies, over many calls, until the file is whole."""
    return path.with_name(f".{path.name}.partial")


def check_free(path: Path, *, overwrite: bool, option: str = "--out") -> None:
    """Raise UsageError for a file that is there, unless ``overwrite`` gives it up."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: is there already", hint=f"--overwrite, or another {option}")


@contextmanager
def writing(path: Path, *, size: int | None = None) -> Iterator[BinaryIO]:
    """Open ``path`` to be written piece by piece, whole or not at all; missing parents are made.

    It goes to a temporary file beside ``path`` first, which at the end is synced, read back and
    renamed, so that after a crash the old file or the new one is there. ``size`` is its length in
    bytes where that is known, to be told when the disk is full.

    Raises ResourceError for a full disk or a folder that cannot be written, for a disk that does
    not return what was written, and for a ``path`` that is no ordinary file, such as a device. A
    symbolic link is replaced, whatever it leads to; `followed` is for those that a user names.
    """
    _check_ordinary(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        with _drafted(path) as file:
            temporary = file.path
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
            if sys.platform == "win32":  # where open files keep their names
                file.close()
            temporary.replace(path)  # still locked: nobody takes it for a killed process's
        sync_folder(path.parent)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "choose another folder")
        lack = _lack(temporary or path, size, error)
        raise ResourceError(
            f"{path}: cannot be written: {error.strerror or error}{lack}",
            hint=f"{remedy}; the earlier file, if any, is untouched",
        ) from error
    finally:
        with suppress(OSError):  # nothing to remove, or a parent that is no folder
            if temporary:
                temporary.unlink()


def _check_ordinary(path: Path) -> None:
    if path.exists() and not path.is_file() and not path.is_symlink():
        kind = "a folder" if path.is_dir() else "no ordinary file"
        raise ResourceError(f"{path}: is {kind}", hint="give the name of a file")


def _drafted(path: Path) -> "_Summed":
    """Return a new file beside ``path``, under a name that nobody can have foreseen, locked."""
    while True:
        name = f".{path.name[:_LONGEST]}.{secrets.token_hex(4)}.tmp"
        with suppress(FileExistsError):
            file = _Summed(path.with_name(name))
            # One that looks for what killed processes have left may be quicker than the lock.
            if sys.platform == "win32" or (try_lock(file) and _is_at(file, file.path)):
                return file
            file.close()


class _Summed(io.BufferedWriter):
    """A new file that knows the length and the SHA-256 of what is written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "xb"))  # of nobody else, nor a link of theirs
        self.path = path
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


def sync_folder(folder: Path) -> None:
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
    """Write UTF-8 text to ``path``, whole or not at all.

    Of names that are no UTF-8 the bytes that are not are written as escapes, which JSON reads back.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def json_text(value: Any) -> str:
    """Return ``value`` as JSON on one line that fits into any UTF-8.

    Of names that are no UTF-8 the bytes that are not are escapes, which every reader turns back.
    """
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path``, whole or not at all; rows of numbers are lines.

    A number on each line would make a confusion matrix several times as large.
    """
    write_text(path, _indented(value, "\n") + "\n")


def broken_list(out: Path) -> Path:
    """Return where the images that are not in a table or a pack are listed."""
    return out.with_name(f"{out.name}.broken.json")


def write_broken(out: Path, broken: Iterable[tuple[str, str]]) -> None:
    """List the paths of images that are not in a table or a pack, and why; no list of none.

    Raises ResourceError.
    """
    if listed := [{"path": path, "reason": why} for path, why in broken]:
        write_json(broken_list(out), listed)
    else:
        broken_list(out).unlink(missing_ok=True)


def _indented(value: Any, margin: str) -> str:
    inner = margin + " "
    if isinstance(value, dict) and value:
        # Alone, so that a key becomes text as it always does.
        keys = (json.dumps({key: 0}, ensure_ascii=False)[1:-2] for key in value)
        lines = [
            key + _indented(part, inner) for key, part in zip(keys, value.values(), strict=True)
        ]
        return "{" + inner + f",{inner}".join(lines) + margin + "}"
    if isinstance(value, list | tuple) and not all(isinstance(part, int | float) for part in value):
        return (
            "[" + inner + f",{inner}".join(_indented(part, inner) for part in value) + margin + "]"
        )
    separators = (",", ": ") if isinstance(value, list | tuple) else None
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators)
