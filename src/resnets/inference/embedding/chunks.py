"""What is done of a long job, on disk, so that nothing but the last chunk is lost in a stop."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from torch import Tensor

from resnets.errors import CheckpointError, UsageError
from resnets.files import write_json
from resnets.readers.documents import read_json
from resnets.readers.paths import open_regular
from resnets.weights.tensors import read_tensors, write_tensors

VERSION = 1  # of the form of the folder
_JOB, _FINISHED = "job.json", "finished.json"


@dataclass(frozen=True)
class Chunk:
    """Embeddings (n, C) of a chunk's good pictures, in order, and why the others are broken."""

    embeddings: Tensor
    broken: dict[int, str] = field(default_factory=dict)  # place in the chunk -> reason
    content: str = ""  # the SHA-256 of what was in the files; of earlier versions: not known


class Chunks:
    """A folder of chunks, each written whole or not at all, and the job that they belong to."""

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.folder, self.job = folder, job

    @classmethod
    def open(cls, folder: Path, job: dict[str, Any], *, overwrite: bool = False) -> Self:
        """Return the chunks of a job, those that are there already and room for the rest.

        Raises UsageError when those that are there belong to another job; with ``overwrite``, and
        where nothing says to which, they are removed.
        """
        path = folder / _JOB
        earlier = _read(path) or (_read(folder / _FINISHED) or {}).get("job")
        version = earlier.pop("version", VERSION) if isinstance(earlier, dict) else VERSION
        if folder.is_symlink():  # what is removed and written there would be somebody's
            raise UsageError(f"{folder}: is a symbolic link", hint="remove it")
        same = earlier == job and version == VERSION
        if not isinstance(earlier, dict) or (overwrite and not same):
            shutil.rmtree(folder, ignore_errors=True)
            write_json(path, {"version": VERSION, **job})
        elif version != VERSION:
            raise UsageError(
                f"{folder}: was begun by another version of resnets",
                hint="to begin anew: --overwrite; to keep it for later: another --out",
            )
        elif not same:
            changed = [name for name, value in job.items() if earlier.get(name) != value]
            raise UsageError(
                f"{folder}: was begun with other {' and '.join(changed)}",
                hint="to begin anew: --overwrite; to keep it for later: another --out",
            )
        return cls(folder, job)

    def has(self, starts: Iterable[int]) -> bool:
        """Whether all chunks that begin with these pictures are there."""
        return all(self._path(start).exists() for start in starts)

    def read(self, start: int, count: int) -> Chunk | None:
        """Return the chunk of ``count`` pictures that begins with one; None where it is not whole,
        or not there."""
        try:
            tensors, metadata = read_tensors(self._path(start))
            broken = {int(row): why for row, why in json.loads(metadata["broken"]).items()}
            chunk = Chunk(tensors["embeddings"], broken, metadata.get("content", ""))
            return chunk if len(chunk.embeddings) + len(broken) == count else None
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def embeddings(self, start: int) -> Tensor:
        """Return the embeddings (n, C) of a chunk that is there."""
        return read_tensors(self._path(start))[0]["embeddings"]

    def write(self, start: int, chunk: Chunk) -> None:
        """Write a chunk, whole or not at all; raises ResourceError."""
        told = {"broken": json.dumps(chunk.broken), "content": chunk.content}
        write_tensors(self._path(start), {"embeddings": chunk.embeddings}, told)

    def finish(self, out: Path, done: dict[str, Any]) -> None:
        """Keep what came of the job, whose table ``out`` is whole, until all else is removed."""
        write_json(
            self.folder / _FINISHED,
            {"job": {"version": VERSION, **self.job}, "table": _digest(out), "done": done},
        )

    def finished(self, out: Path) -> dict[str, Any] | None:
        """Return what came of the job where ``out`` is its table, which lacks nothing."""
        found = _read(self.folder / _FINISHED)
        try:
            return found["done"] if found and found["table"] == _digest(out) else None
        except (OSError, KeyError):
            return None

    def remove(self) -> None:
        """Remove the folder and all chunks, last of all what says whose they are."""
        for path in (*self.folder.glob("*.safetensors"), self.folder / _JOB):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:09d}.safetensors"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except (OSError, CheckpointError):
        return None
    return found if isinstance(found, dict) else None


def _digest(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
