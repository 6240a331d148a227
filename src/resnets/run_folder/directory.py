"""The run folder: the only interface between training and everything after it."""

import json
import os
import platform
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from operator import attrgetter
from pathlib import Path
from typing import Any

from resnets.errors import CheckpointError, HeldError, ResourceError, UsageError
from resnets.files import drafts, sweep, take, unlock, write_json, write_text
from resnets.formatting import plural
from resnets.machine.torchrun import program
from resnets.readers.documents import damaged, lines_of, loads, read_json
from resnets.readers.paths import FOLDER_WEIGHTS
from resnets.run_folder.record import (
    SCHEMA_VERSION,
    Epoch,
    LedgerLine,
    Mistake,
    Preparation,
    Record,
    from_plain,
    to_plain,
)

RECORD = "run.json"
_LOCK = ".lock"
_STATE = re.compile(r"step-(\d{8,})\.safetensors")
_LEFT = re.compile(r"\.(step-\d{8,}\.safetensors)(\.[0-9a-f]{8})?\.tmp")

# Without which a run can be neither resumed nor proven.
_NEEDED = (
    *("status", "seed", "recipe", "model.name", "model.spec"),
    *("data.name", "data.source", "data.fingerprint", "data.train"),
)
_UNKNOWN = Record()


class RunFolder:
    """The files of one run, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / RECORD
        self.recipe = path / "recipe.yaml"
        self.data = path / "data.json"
        self.manifest = path / "pictures.sha256"
        self.metrics = path / "metrics.jsonl"
        self.ledger = path / "ledger.jsonl"
        self.mistakes = path / "mistakes.json"
        self.nonfinite = path / "nonfinite.json"
        self.weights = path / FOLDER_WEIGHTS[0]
        self.tensorboard = path / "tensorboard"
        self.tracking = path / "tracking"
        self.drawing = path / "architecture.svg"
        self.report = path / "report.html"
        self.new_images = path / "new-images.html"
        self._states = path / "state"  # may be deleted when finished
        self._locked = False

    @property
    def how_to_resume(self) -> str:
        """What to say to someone whose run has stopped."""
        return f"resume with: {program()} train --resume {shlex.quote(str(self.path))}"

    @property
    def has_results(self) -> bool:
        """Whether the run has finished an epoch, by its metrics or its weights."""
        return self.weights.exists() or (self.metrics.exists() and self.metrics.stat().st_size > 0)

    def state_path(self, step: int) -> Path:
        """Return where the state after ``step`` steps is kept."""
        return self._states / f"step-{step:08d}.safetensors"

    def states(self) -> list[Path]:
        """Return the states that are there, that of the last step first."""
        found = ((_STATE.fullmatch(path.name), path) for path in self._states.glob("step-*"))
        steps = [(int(match[1]), path) for match, path in found if match]
        return [path for _, path in sorted(steps, reverse=True)]

    def prune(self, keep: int = 2) -> None:
        """Remove all but the last ``keep`` states, and what killed processes left of others.

        Raises ResourceError when they cannot be removed.
        """
        with self._changing():
            for path in self.states()[keep:]:
                path.unlink(missing_ok=True)
            for left in self._states.glob(".step-*.safetensors*.tmp"):
                if name := _LEFT.fullmatch(left.name):
                    sweep(left.with_name(name[1]))

    def create(self, *, overwrite: bool = False) -> None:
        """Make the folder.

        Raises ResourceError when it cannot be made or another process is using it, and UsageError
        when something is there already, unless it is a run and ``overwrite`` is given, which
        removes the run's files and nothing else.
        """
        with self._changing():
            if self.path.exists() and not self.path.is_dir():
                raise ResourceError(
                    f"{self.path}: is a file, not a folder", hint="give another --out"
                )
            if self.record.exists():
                if not overwrite:
                    again = f"--resume {shlex.quote(str(self.path))}"
                    hint = f"{again} resumes it, --overwrite starts again"
                    raise UsageError(f"{self.path}: there is a run in it already", hint=hint)
                with self._held():
                    self._remove()
            elif self.path.exists() and not (overwrite and (self.path / _LOCK).exists()):
                # A run that was killed, or found no space, before its record leaves these.
                known = {self.path / _LOCK, self.manifest}
                known.update(*map(drafts, (self.record, self.manifest)))
                if not known.issuperset(self.path.iterdir()):
                    raise UsageError(
                        f"{self.path}: is not empty and not a run", hint="give another --out"
                    )
            self.path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from using this run until the context ends or the process does.

        Meanwhile the file .lock says who it is: {"pid", "host", "since"}. A second lock inside the
        first, of the same RunFolder, changes nothing. File systems that have no locks go without.

        Raises HeldError when another process holds the lock, and ResourceError when the folder is
        not there, cannot be written, or leads elsewhere by a symbolic link in place of a folder of
        its own.
        """
        with self._held():
            self._check_own_folders()
            yield

    @contextmanager
    def _held(self) -> Iterator[None]:
        if self._locked:
            yield
            return
        with self._changing():
            file = self._take_lock()
        self._locked = True
        try:
            yield
        finally:
            self._locked = False
            # The empty file stays: another process may have opened it already, and would lock a
            # file that has no name while the next one makes and locks a new one.
            with file:
                with suppress(OSError):
                    file.truncate(0)
                unlock(file)

    def _take_lock(self) -> FileIO:
        path = self.path / _LOCK
        file = take(path)
        if file is None:
            raise self._in_use()
        try:
            file.truncate(0)
            since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            holder = {"pid": os.getpid(), "host": platform.node(), "since": since}
            file.write(json.dumps(holder).encode())
        except BaseException:
            file.close()
            raise
        return file

    def _check_own_folders(self) -> None:
        """Raise ResourceError where what is written into a folder would go somewhere else."""
        for folder in (self._states, self.tensorboard, self.tracking):
            if folder.is_symlink():
                raise ResourceError(
                    f"{folder}: is a symbolic link, and what is written there would go elsewhere",
                    hint="put the folder itself in its place, or remove it",
                )

    def _in_use(self) -> HeldError:
        """Return the error for a lock that is held, by what its holder has written into it."""
        try:
            holder = read_json(self.path / _LOCK)
            who = ": pid {pid} on {host} since {since}".format(**holder)
            stop = f"stop it (kill -TERM {holder['pid']} saves first)"
        except (OSError, CheckpointError, LookupError, TypeError):
            who, stop = "", "stop it"  # it has not come to write yet, or Windows lets nobody read
        return HeldError(
            f"{self.path}: another process is using this run{who}",
            hint=f"wait for it or {stop}; or give another --out",
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResourceError(
                f"{self.path}: cannot be made or changed: {error.strerror or error}",
                hint="give another --out",
            ) from None

    def _remove(self) -> None:
        files = [path for path in vars(self).values() if isinstance(path, Path)]
        # The record goes last: until then this is a run, and can be overwritten again.
        for path in (*(set(files) - {self.path, self.record}), self.record):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            sweep(path)

    def read_record(self, *, partial: bool = False) -> Record:
        """Return run.json; ``partial`` is enough for what only shows what is there.

        Raises CheckpointError when there is none, it is damaged, or of a newer version.
        """
        if self.path.is_file():
            whole = f"give the folder that it is in: {shlex.quote(str(self.path.parent))}"
            inside = (self.path.parent / self.record.name).exists()
            raise CheckpointError(
                f"{self.path}: is a file, not a run folder: a file does not say where a run stood",
                hint=whole if inside else "give a folder that train has written",
            )
        if not self.record.exists():
            check_single(self.path)
            what = "run.json in it" if self.path.is_dir() else "such folder"
            raise CheckpointError(
                f"{self.path}: not a run folder: there is no {what}",
                hint="give the folder that `resnets train` printed, such as runs/digits-resnet20",
            )
        values = self._json(self.record)
        version = values.get("schema_version") if isinstance(values, dict) else None
        if not isinstance(version, int):
            raise damaged(self.record, "it has no schema_version: resnets did not write it")
        if version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{self.record} has schema version {version}; this resnets reads up to "
                f"{SCHEMA_VERSION}",
                hint="a newer resnets wrote it: update with `pip install -U resnets`",
            )
        record = from_plain(Record, values, self.record)
        for name in () if partial else _NEEDED:
            if attrgetter(name)(record) == attrgetter(name)(_UNKNOWN):
                raise damaged(self.record, f"{name}: is missing")
        return record

    def write_record(self, record: Record) -> None:
        """Write run.json."""
        write_json(self.record, {"schema_version": SCHEMA_VERSION, **to_plain(record)})

    def read_preparation(self) -> Preparation:
        """Return data.json, empty where there is none. Raises CheckpointError when damaged."""
        values = self._json(self.data) if self.data.exists() else {}
        values = {"skipped": values} if isinstance(values, list) else values  # of the first runs
        return from_plain(Preparation, values, self.data)

    def write_preparation(self, preparation: Preparation) -> None:
        """Write data.json."""
        write_json(self.data, to_plain(preparation))

    def read_mistakes(self) -> list[Mistake]:
        """Return mistakes.json, empty where there is none. Raises CheckpointError when damaged."""
        values = self._json(self.mistakes) if self.mistakes.exists() else []
        return from_plain(list[Mistake], values, self.mistakes)

    def write_mistakes(self, mistakes: Sequence[Mistake]) -> None:
        """Write mistakes.json."""
        write_json(self.mistakes, to_plain(mistakes))

    def rows(self, file: Path) -> Iterator[tuple[str, Any]]:
        """Yield where each line of a JSON Lines file stands, for messages, and its values.

        Raises CheckpointError as `loads` does, and where the file cannot be read.
        """
        with readable(file):
            for where, line in lines_of(file):
                yield where, loads(line, where)

    def write_metrics(self, lines: Sequence[Epoch]) -> None:
        """Write metrics.jsonl: one line for each finished epoch."""
        _write_lines(self.metrics, lines)

    def write_ledger(self, lines: Sequence[LedgerLine]) -> None:
        """Write ledger.jsonl."""
        _write_lines(self.ledger, lines)

    def _json(self, file: Path) -> Any:
        with readable(file):
            return read_json(file, lenient=True)


def seeds_in(path: Path) -> list[Path]:
    """Return the runs of a folder of several seeds, by seed; none where it is no such folder."""
    if os.path.exists(path / RECORD):
        return []
    return sorted(
        (file.parent for file in path.glob(f"seed-*/{RECORD}")),
        key=lambda seed: (len(seed.name), seed.name),
    )


def check_single(path: Path) -> None:
    """Raise CheckpointError for a folder of several seeds, where one run is meant."""
    if seeds := seeds_in(path):
        raise CheckpointError(
            f"{path}: holds {plural(len(seeds), 'run')} of several seeds, where one run is meant",
            hint=f"give one of them, such as {shlex.quote(str(seeds[0]))}",
        )


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turn an OSError into a CheckpointError that names the file."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None


def _write_lines(path: Path, lines: Sequence[Any]) -> None:
    write_text(path, "".join(json.dumps(to_plain(line)) + "\n" for line in lines))
