"""What is done of a long job, on disk, so that nothing but the last chunk is lost in a stop."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from torch import Tensor

from resnets.errors import UsageError
from resnets.files import write_json
from resnets.weights.tensors import read_tensors, write_tensors


@dataclass(frozen=True)
class Chunk:
    """Embeddings (n, C) of a chunk's good pictures, in order, and why the others are broken."""

    embeddings: Tensor
    broken: dict[int, str] = field(default_factory=dict)  # place in the chunk -> reason
    content: str = ""  # the SHA-256 of what was in the files; of earlier versions: not known


class Chunks:
    """A folder of chunks, each written whole or not at all, and the job that they belong to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, folder: Path, job: dict[str, Any], *, overwrite: bool = False) -> Self:
        """Return the chunks of a job, those that are there already and room for the rest.

        Raises UsageError when those that are there belong to another job; with ``overwrite``, and
        where nothing says to which, they are removed.
        """
        path = folder / "job.json"
        try:
            earlier = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            earlier = None
        if earlier is None or (earlier != job and overwrite):
            shutil.rmtree(folder, ignore_errors=True)
            write_json(path, job)
        elif earlier != job:
            changed = [name for name, value in job.items() if earlier.get(name) != value]
            raise UsageError(
                f"{folder}: was begun with other {' and '.join(changed)}",
                hint="to begin anew: --overwrite; to keep it for later: another --out",
            )
        return cls(folder)

    def has(self, starts: Iterable[int]) -> bool:
        """Whether all chunks that begin with these pictures are there."""
        return all(self._path(start).exists() for start in starts)

    def read(self, start: int) -> Chunk | None:
        """Return the chunk that begins with a picture; None when it is not there, or not whole."""
        try:
            tensors, metadata = read_tensors(self._path(start))
            broken = {int(row): why for row, why in json.loads(metadata["broken"]).items()}
            return Chunk(tensors["embeddings"], broken, metadata.get("content", ""))
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def embeddings(self, start: int) -> Tensor:
        """Return the embeddings (n, C) of a chunk that is there."""
        return read_tensors(self._path(start))[0]["embeddings"]

    def write(self, start: int, chunk: Chunk) -> None:
        """Write a chunk, whole or not at all; raises ResourceError."""
        told = {"broken": json.dumps(chunk.broken), "content": chunk.content}
        write_tensors(self._path(start), {"embeddings": chunk.embeddings}, told)

    def remove(self) -> None:
        """Remove the folder and all chunks."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:09d}.safetensors"
