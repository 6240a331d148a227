"""From a folder of pictures to a table of embeddings, in constant memory, going on after a stop."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnets.analysis.responses import temporary_mode
from resnets.data.dataset import Skipped
from resnets.data.identity import content_digest
from resnets.data.images import PictureError, printable
from resnets.data.preprocess import preprocess_of
from resnets.data.scan import pictures_digest, pictures_in
from resnets.errors import NonFiniteError
from resnets.files import alone, check_free, partial_of, write_json
from resnets.inference.embedding.chunks import Chunk, Chunks
from resnets.inference.embedding.embedding_table import check_table, write_table
from resnets.inference.runtimes.torch_runtime import network_digest
from resnets.nn import ResNet

CHUNK = 128  # pictures; what a kill costs at most
_WORKERS = min(16, os.cpu_count() or 1)  # Pillow decodes without holding the interpreter's lock


@dataclass(frozen=True)
class Embedded:
    """What ``embed_folder`` made: the table, and what it could not read."""

    path: Path
    pictures: int  # rows of the table
    channels: int  # numbers in each row
    resumed: int  # pictures that an earlier call, which was stopped, had done
    broken: tuple[Skipped, ...]
    broken_list: Path | None  # the file that lists them

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return {
            "path": str(self.path),
            "pictures": self.pictures,
            "channels": self.channels,
            "resumed": self.resumed,
            "broken": len(self.broken),
            "broken_list": str(self.broken_list) if self.broken_list else None,
        }


def embed_folder(
    model: ResNet,
    folder: str | Path,
    out: str | Path,
    *,
    normalize: bool = False,
    batch_size: int = 32,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_broken: Callable[[PictureError], None] = lambda error: None,
) -> Embedded:
    """Write ``model.embed`` of every picture below a folder to a table, in the order of its paths.

    ``out`` ends in .npz or .parquet. In memory are the paths, a batch, and some thousand rows; what
    is done lies in a hidden folder beside ``out`` until the table is whole. After a stop of any
    kind the same call goes on and ends with the same bytes. Pictures that cannot be read have no
    row; they are listed in OUT.broken.json, and a call that goes on looks at them again, and at
    every chunk of which a picture has another content than it had.

    ``on_progress`` is called with how many pictures of how many are done, ``on_broken`` with the
    error of each broken picture when it is met. Raises UsageError for another ending, and, unless
    ``overwrite`` gives up what is there, for a file that this job has not written and when what was
    stopped had another model, other pictures or other options; DataError for a folder without
    pictures; CheckpointError for a model without preprocessing; NonFiniteError for embeddings that
    are NaN or infinite; ResourceError.
    """
    folder, out = Path(folder), Path(out)
    check_table(out, overwrite=overwrite)
    embedder = _Embedder(model, _root(folder), normalize, batch_size, on_broken)
    names = [file.relative_to(embedder.root).as_posix() for file in pictures_in(folder)]
    job = {
        "weights or preprocessing": network_digest(model, embedder.preprocess),
        "pictures": pictures_digest(embedder.root, names),
        "normalize": normalize,
        "batch size": batch_size,  # on both of these the last bits of a result may depend
        "device": embedder.device.type,
    }
    with alone(out):
        chunks = Chunks.open(partial_of(out), job, overwrite=overwrite)
        if done := chunks.finished(out):  # it was killed when nothing was left to do but to tidy
            done["resumed"] = len(names)
        else:
            done = _written(out, names, embedder, chunks, overwrite, on_progress)
            chunks.finish(out, done)
        chunks.remove()
    broken = tuple(Skipped(path, reason) for path, reason in done["broken"])
    channels = model.spec.channels[-1]
    listed = _broken_list(out) if broken else None
    return Embedded(out, len(names) - len(broken), channels, done["resumed"], broken, listed)


def _written(
    out: Path,
    names: Sequence[str],
    embedder: "_Embedder",
    chunks: Chunks,
    overwrite: bool,
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Write the table, from the chunks that are there and others; return what came of it."""
    starts = range(0, len(names), CHUNK)
    # A stop after the table is written, and before the chunks are removed, leaves both.
    check_free(out, overwrite=overwrite or chunks.has(starts))

    broken: dict[int, str] = {}
    resumed = 0
    for start in starts:
        some = names[start : start + CHUNK]
        chunk = chunks.read(start, len(some))
        if chunk is None or embedder.has_changed(some, chunk):
            chunk = embedder.chunk(some)
            chunks.write(start, chunk)
        else:
            resumed += len(some)
        broken |= {start + row: reason for row, reason in chunk.broken.items()}
        on_progress(start + len(some), len(names))

    skipped = [(printable(names[i]), reason) for i, reason in broken.items()]
    _list_broken(out, skipped)
    rows = [printable(name) for i, name in enumerate(names) if i not in broken]
    channels = embedder.model.spec.channels[-1]
    write_table(out, rows, channels, (chunks.embeddings(start) for start in starts))
    return {"broken": skipped, "resumed": resumed}


class _Embedder:
    """Reads pictures and embeds them, batch by batch."""

    def __init__(
        self,
        model: ResNet,
        root: Path,
        normalize: bool,
        batch_size: int,
        on_broken: Callable[[PictureError], None],
    ) -> None:
        self.model, self.preprocess = model, preprocess_of(model)
        self.root, self.normalize, self.batch_size = root, normalize, batch_size
        self.on_broken = on_broken
        self.device = next(model.parameters()).device

    def chunk(self, names: Sequence[str]) -> Chunk:
        """Return the embeddings of some pictures, and which of them are broken."""
        parts = [torch.empty(0, self.model.spec.channels[-1])]
        broken: dict[int, str] = {}
        with ThreadPoolExecutor(_WORKERS) as pool:
            for start in range(0, len(names), self.batch_size):
                read = list(pool.map(self._read, names[start : start + self.batch_size]))
                for row, answer in enumerate(read, start):
                    if isinstance(answer, PictureError):
                        broken[row] = answer.reason
                        self.on_broken(answer)
                if good := [answer for answer in read if isinstance(answer, Tensor)]:
                    parts.append(self._embed(torch.cat(good)))
        return Chunk(torch.cat(parts), broken, self._content(names))

    def has_changed(self, names: Sequence[str], chunk: Chunk) -> bool:
        """Whether a picture of a chunk is another now, or no longer broken as the chunk says."""
        if chunk.content and chunk.content != self._content(names):
            return True
        for row, reason in chunk.broken.items():
            answer = self._read(names[row])
            if isinstance(answer, Tensor) or answer.reason != reason:
                return True
        return False

    def _content(self, names: Sequence[str]) -> str:
        return content_digest([self.root / name for name in names])

    def _read(self, name: str) -> Tensor | PictureError:
        try:
            return self.preprocess(self.root / name)
        except PictureError as error:
            return error

    def _embed(self, images: Tensor) -> Tensor:
        with temporary_mode(self.model, training=False), torch.no_grad():
            found = self.model.embed(images.to(self.device), self.normalize).float().cpu()
        if not found.isfinite().all():
            raise NonFiniteError(
                "an embedding is NaN or infinite", hint="the model's weights have diverged"
            )
        return found


def _root(folder: Path) -> Path:
    """Return what paths in the table are relative to; a single picture stands in its own folder."""
    whole = folder.resolve()
    return whole.parent if whole.is_file() else whole


def _broken_list(out: Path) -> Path:
    return out.with_name(f"{out.name}.broken.json")


def _list_broken(out: Path, broken: Sequence[tuple[str, str]]) -> None:
    """Write the list of broken pictures beside the table; without any, remove an earlier list."""
    path = _broken_list(out)
    if broken:
        write_json(path, [{"path": name, "reason": reason} for name, reason in broken])
    else:
        path.unlink(missing_ok=True)
