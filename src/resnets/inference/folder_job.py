"""A folder of images -> one table, in constant memory, resumed after a stop of any kind.

What is done lies in a hidden journal beside the table until that is whole: lines of JSON, of which
the first says what the table depends on, and each other is the record of an image, in order.
"""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from io import BufferedWriter
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from resnets.data.identity import digest_files
from resnets.data.images import Stored
from resnets.errors import CheckpointError, DataError, ResourceError, UsageError, lacking
from resnets.files import alone, check_free, halted, json_text, open_own, partial_of
from resnets.inference.partition import Part, PartRecord, Section, Told, digest_of, record_of
from resnets.readers.documents import loads
from resnets.readers.paths import open_regular

Record = dict[str, Any]  # "path" and either "error" or what a table tells of the image
Records = Callable[[], Iterator[Record]]
VERSION = 1  # of the form of the journal
CONTENT = "content"  # of a record: the SHA-256 of what was in the file; earlier versions had none
_AT_ONCE = 512  # images that are read at a time to see whether they are the same


class FolderJob(ABC):
    """A table that is made of images; a subclass says of each what the table tells.

    ``names`` are how the table names the images, ``files`` where they are, both in order.
    ``made_of`` holds all that the table's bytes depend on, under the words that name it to a user.
    Where they are a part of more, ``section`` says which.
    """

    def __init__(
        self,
        out: Path,
        names: Sequence[str],
        files: Sequence[Path | Stored],
        made_of: dict[str, Any],
        section: Section | None = None,
    ) -> None:
        self.out, self.names, self.files, self.section = out, names, files, section
        self.made_of = section.made_of(made_of) if section else made_of

    @abstractmethod
    def answers(self, start: int) -> Iterator[list[Record]]:
        """Yield the records of the images from one on, batch by batch."""

    @abstractmethod
    def fault(self, place: int) -> str | None:
        """Return why an image cannot be read now, as its record would say it; None if it can."""

    @abstractmethod
    def in_whole_batches(self, count: int) -> int:
        """Return how many of the first ``count`` images are in batches that end among them."""

    @abstractmethod
    def write(self, records: Records, broken: dict[int, str]) -> Told:
        """Write the table, whole or not at all; ``broken`` says, by place, why images have none.

        Returns what there is to know of the table, for whoever puts parts together.
        """

    def adopt(self, journal: Path, *, overwrite: bool) -> None:  # noqa: B027  (nothing, mostly)
        """Turn what an earlier version left of this job in another form into a journal."""

    def run(
        self, *, overwrite: bool, on_progress: Callable[[int, int], None]
    ) -> tuple[int, dict[int, str]]:
        """Make the table; return how many images an earlier call had done, and which are broken.

        Images that were broken are looked at again, and so is the content of all that are done:
        from the batch of the first that is another on, all is done anew, since the last bits of a
        result may depend on the rest of its batch. A part that is whole already is left as it is.

        Raises UsageError, unless ``overwrite`` gives up what is there, for a file that this job has
        not written, and where what was begun had other images or options; ResourceError when files
        cannot be written, and while another process writes them.
        """
        with alone(self.out):
            self.adopt(partial_of(self.out), overwrite=overwrite)
            if not overwrite and (broken := self._finished()) is not None:
                return len(self.names), broken
            journal = Journal.open(partial_of(self.out), self, overwrite=overwrite)
            done = resumed = journal.done
            try:
                # A stop after the table is written, and before the journal is removed, leaves both.
                was_whole = journal.is_resumed and done == len(self.names)
                check_free(self.out, overwrite=overwrite or was_whole)
                if (changed := self._first_changed(journal)) is not None:
                    journal.keep(self.in_whole_batches(changed))
                done = resumed = journal.done
                for records in self.answers(done):
                    content = digest_files(self.files[done : done + len(records)])
                    journal.add(
                        {**record, CONTENT: digest.tobytes().hex()}
                        for record, digest in zip(records, content, strict=True)
                    )
                    done += len(records)
                    on_progress(done, len(self.names))
                broken = {
                    place: record["error"]
                    for place, record in enumerate(journal.records())
                    if "error" in record
                }
                told = self.write(journal.records, broken)
                if self.section:
                    digest = digest_of(self.out)
                    record = PartRecord(self.section, self.made_of, broken, told, digest)
                    record.write(self.out)
                else:
                    record_of(self.out).unlink(missing_ok=True)
            except BaseException:
                (journal.close if done else journal.remove)()
                raise
            journal.remove()
        return resumed, broken

    def _finished(self) -> dict[int, str] | None:
        """Return the broken images of the part where its table is whole; None where it is not."""
        if self.section is None or partial_of(self.out).exists():
            return None
        try:
            record = PartRecord.read(self.out)
            same = record.made_of == self.made_of and record.sha256 == digest_of(self.out)
        except DataError:
            return None
        return record.broken if same else None

    def _first_changed(self, journal: "Journal") -> int | None:
        """Return the place of the first image that is another, or no longer broken."""
        records = enumerate(journal.records())
        while some := list(islice(records, _AT_ONCE)):
            content = digest_files([self.files[place] for place, _ in some])
            for (place, record), digest in zip(some, content, strict=True):
                now = digest.tobytes().hex()
                if record.get(CONTENT, now) != now:
                    return place
                # Versions differ in words: what counts is that it is still broken.
                if "error" in record and self.fault(place) is None:
                    return place
        return None


class Journal:
    """The file of what is done of a job."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.done = 0  # images that an earlier call has done
        self.is_resumed = False

    @classmethod
    def open(cls, path: Path, job: FolderJob, *, overwrite: bool = False) -> "Journal":
        """Return the journal of a job: what is there of it, up to the last whole batch.

        What is of another job is a UsageError; with ``overwrite``, and where nothing says of which
        it is, it is removed. Raises ResourceError when it cannot be written.
        """
        try:
            journal = cls(path, BufferedWriter(open_own(path)))
        except OSError as error:
            raise halted(path, error) from error
        try:
            journal._resume(job, overwrite)
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
            raise halted(self.path, error) from error

    def records(self) -> Iterator[Record]:
        """Yield all records."""
        with open_regular(self.path) as file:
            yield from map(json.loads, islice(file, 1, None))

    def keep(self, done: int) -> None:
        """Forget the records of all images but the first ``done``."""
        with self.path.open("rb") as file:
            end = sum(map(len, islice(file, 1 + done)))
        self._file.truncate(end)
        self.done = done

    def close(self) -> None:
        """Leave the file to the next call."""
        with suppress(OSError):  # what a full disk has not taken is lost already
            self._file.close()

    def remove(self) -> None:
        """Remove the file."""
        if sys.platform == "win32":  # where open files stay
            self.close()
        self.path.unlink(missing_ok=True)
        self.close()

    def _resume(self, job: FolderJob, overwrite: bool) -> None:
        with self.path.open("rb") as file:
            earlier = _record(next(file, b""))
            if belongs(job.out, earlier, job.made_of, overwrite=overwrite):
                end, total = file.tell(), len(job.names)
                for count, text in enumerate(file, 1):
                    if count > total or _record(text).get("path") != job.names[count - 1]:
                        break  # torn by the stop, or never written by a computer that crashed
                    if count == total or job.in_whole_batches(count) == count:
                        self.done, end = count, file.tell()
                self._file.truncate(end)
                self.is_resumed = True
                return
        self._file.truncate(0)
        self.add([{"version": VERSION, **job.made_of}])


def line(record: Record) -> bytes:
    """Return a record as a line of JSON."""
    return json_text(record).encode() + b"\n"


def belongs(out: Path, earlier: Record, made_of: Record, *, overwrite: bool) -> bool:
    """Whether what was begun of a table can be resumed: it is of this form, and made of the same.

    Raises UsageError where it is not, unless ``overwrite`` gives it up or nothing says what it is.
    """
    version = earlier.pop("version", VERSION)  # earlier versions had none
    if version == VERSION and earlier == made_of:
        return True
    if earlier and not overwrite:
        changed = [n for n in {**made_of, **earlier} if earlier.get(n) != made_of.get(n)]
        words = ["images" if name == "pictures" else name for name in changed]
        other = f"with other {' and '.join(words)}"
        raise UsageError(
            f"{out}: was begun {other if version == VERSION else 'by another version of resnets'}",
            hint="to begin anew: --overwrite; to keep it for later: another --out",
        )
    return False


def check_out(
    out: Path,
    content: str,
    endings: Sequence[str],
    readers: str,
    *,
    overwrite: bool,
    part: Part | None = None,
) -> None:
    """Raise UsageError for a table of another kind, ResourceError when it cannot be written.

    ``content`` is what it is a table of, ``readers`` the hint who reads which. Without
    ``overwrite`` a file that is there is a UsageError too, unless something was stopped, or it is a
    part as well: then only what is done can tell whose the file is.
    """
    *others, last = endings
    if out.suffix.lower() not in endings:
        listed = f"{', '.join(others)} or {last}"
        raise UsageError(f"{out}: a table of {content} ends in {listed}", hint=readers)
    if out.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        instead = f", or let the table end in {' or '.join(others)}"
        raise lacking(f"{out}: Parquet needs pyarrow", "parquet", instead)
    if out.exists() and not out.is_file():
        raise ResourceError(f"{out}: is no ordinary file", hint="give the name of a file")
    known = partial_of(out).exists() or (part is not None and record_of(out).exists())
    check_free(out, overwrite=overwrite or known)


def _record(text: bytes) -> Record:
    """Return the record of a line; an empty one where the line is not whole."""
    try:
        record = loads(text.decode(), "") if text.endswith(b"\n") else {}
    except (CheckpointError, UnicodeDecodeError):
        return {}
    return record if isinstance(record, dict) else {}
