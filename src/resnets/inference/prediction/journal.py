"""What is done of a table, on disk line by line, so that a stop costs the last batch at most."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from io import BufferedWriter
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Self

from resnets.data.images import printable
from resnets.errors import CheckpointError, ResourceError, UsageError
from resnets.files import FULL, take
from resnets.inference.prediction.prediction_table import Record, line
from resnets.readers.documents import loads
from resnets.readers.paths import open_regular

VERSION = 1  # of the form of the file


class Journal:
    """A file of JSON lines: the job, then the record of each picture that is done, in order."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.done = 0  # pictures that an earlier call has done

    @classmethod
    def open(
        cls,
        path: Path,
        job: dict[str, Any],
        names: Sequence[str],
        batch_size: int,
        *,
        overwrite: bool = False,
    ) -> Self:
        """Return the journal of a job: what is there of it, up to the last whole batch.

        Raises UsageError when what is there belongs to another job; with ``overwrite``, and where
        nothing says to which, it is removed. Raises ResourceError when it cannot be written, and
        while another process writes it.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = take(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        if file is None:
            raise ResourceError(
                f"{path}: another process is writing it", hint="wait for it, or stop it"
            )
        journal = cls(path, BufferedWriter(file))
        try:
            journal._go_on(job, names, batch_size, overwrite)
        except BaseException:
            journal.close()
            raise
        return journal

    def add(self, records: Iterable[Record]) -> None:
        """Add the records of a batch; raises ResourceError."""
        try:
            self._file.write(b"".join(map(line, records)))
            self._file.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def records(self) -> Iterator[Record]:
        """Yield all records."""
        with open_regular(self.path) as file:
            yield from map(json.loads, islice(file, 1, None))

    def keep(self, done: int) -> None:
        """Forget the records of all pictures but the first ``done``."""
        with self.path.open("rb") as file:
            end = sum(map(len, islice(file, 1 + done)))
        self._file.truncate(end)
        self.done = done

    def close(self) -> None:
        """Let other processes write the file."""
        with suppress(OSError):  # what a full disk has not taken is lost already
            self._file.close()

    def remove(self) -> None:
        """Remove the file, and let other processes write another."""
        if sys.platform == "win32":  # where open files stay
            self.close()
        self.path.unlink(missing_ok=True)
        self.close()

    def _go_on(
        self, job: dict[str, Any], names: Sequence[str], batch_size: int, overwrite: bool
    ) -> None:
        with self.path.open("rb") as file:
            earlier = _record(next(file, b""))
            end = file.tell()
            for count, text in enumerate(file, 1):
                record = _record(text)
                if count > len(names) or record.get("path") != printable(names[count - 1]):
                    break  # torn by the stop, or never written by a computer that crashed
                if count % batch_size == 0 or count == len(names):
                    self.done, end = count, file.tell()
        version = earlier.pop("version", VERSION)  # earlier versions had none
        if earlier and version != VERSION and not overwrite:
            raise UsageError(
                f"{self.path}: was begun by another version of resnets",
                hint="to begin anew: --overwrite; to keep it for later: another --out",
            )
        if earlier and earlier != job and not overwrite:
            changed = [name for name in {**job, **earlier} if earlier.get(name) != job.get(name)]
            raise UsageError(
                f"{self.path}: was begun with other {' and '.join(changed)}",
                hint="to begin anew: --overwrite; to keep it for later: another --out",
            )
        if earlier == job and version == VERSION:
            self._file.truncate(end)
            return
        self.done = 0
        self._file.truncate(0)
        self.add([{"version": VERSION, **job}])


def _record(text: bytes) -> Record:
    """Return the record of a line; an empty one where the line is not whole."""
    try:
        record = loads(text.decode(), "") if text.endswith(b"\n") else {}
    except (CheckpointError, UnicodeDecodeError):
        return {}
    return record if isinstance(record, dict) else {}


def _unwritable(path: Path, error: OSError) -> ResourceError:
    hint = (
        "free some space; what is done is kept" if error.errno in FULL else "choose another --out"
    )
    return ResourceError(f"{path}: cannot be written: {error.strerror or error}", hint=hint)
