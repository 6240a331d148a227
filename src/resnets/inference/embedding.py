"""Embeddings of folders of images, as tables of one row for each image."""

import json
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from resnets.analysis.responses import temporary_mode
from resnets.data.dataset import Skipped
from resnets.data.headers import ImageError
from resnets.data.identity import content_digest, digest_files, images_digest
from resnets.data.images import Stored, printable
from resnets.data.pipeline import read_ahead
from resnets.data.preprocess import preprocess_of
from resnets.data.sources import named_images_in
from resnets.errors import CheckpointError, NonFiniteError, UsageError
from resnets.files import broken_list, write_broken, writing
from resnets.inference.embedding_table import CHUNK, check_table, write_table
from resnets.inference.folder_job import (
    CONTENT,
    VERSION,
    FolderJob,
    Record,
    Records,
    belongs,
    line,
)
from resnets.inference.partition import Part, Section, Told
from resnets.inference.runtimes.torch_runtime import network_digest
from resnets.nn import ResNet
from resnets.readers.documents import read_json
from resnets.weights.tensors import read_tensors

_ADOPTED = "journal"


@dataclass(frozen=True)
class Embedded:
    """What ``embed_folder`` made: the table, and what it could not read."""

    path: Path
    images: int  # rows of the table
    channels: int  # numbers in each row
    resumed: int  # images that an earlier call, which was stopped, had done
    broken: tuple[Skipped, ...]
    broken_list: Path | None  # the file that lists them

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return {
            "path": str(self.path),
            "pictures": self.images,
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
    part: Part | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_broken: Callable[[ImageError], None] = lambda error: None,
) -> Embedded:
    """Write ``model.embed`` of every image below a folder to a table, in the order of its paths.

    In place of a folder a list of paths (.txt), a pack, tars or Parquet may be given. With ``part``
    it is the table of one part of the images, as `predict_table` makes it.

    ``out`` ends in .npz or .parquet. In memory are the paths, three batches, and some thousand
    rows; what is done lies in a hidden file beside ``out`` until the table is whole. After a stop
    of any kind the same call resumes and ends with the same bytes. Images that cannot be read have
    no row; they are listed in OUT.broken.json, and a call that resumes looks at them again, and at
    every image whose content is another than it was.

    ``on_progress`` is called with how many images of how many are done, ``on_broken`` with the
    error of each broken image when it is met. Raises UsageError for another ending, and, unless
    ``overwrite`` gives up what is there, for a file that this job has not written and when what was
    stopped had another model, other images or other options; DataError for a folder without
    images; CheckpointError for a model without preprocessing; NonFiniteError for embeddings that
    are NaN or infinite; ResourceError.
    """
    out = Path(out)
    check_table(out, overwrite=overwrite, part=part)
    job = _Embeddings(out, Path(folder), model, normalize, batch_size, part, on_broken)
    resumed, broken = job.run(overwrite=overwrite, on_progress=on_progress)
    skipped = tuple(Skipped(job.names[place], reason) for place, reason in broken.items())
    listed = broken_list(out) if broken else None
    return Embedded(out, len(job.names) - len(broken), job.channels, resumed, skipped, listed)


class _Embeddings(FolderJob):
    def __init__(
        self,
        out: Path,
        folder: Path,
        model: ResNet,
        normalize: bool,
        batch_size: int,
        part: Part | None,
        on_broken: Callable[[ImageError], None],
    ) -> None:
        self.model, self.preprocess = model, preprocess_of(model)
        self.normalize, self.batch_size, self.on_broken = normalize, batch_size, on_broken
        self.device, self.channels = next(model.parameters()).device, model.spec.channels[-1]
        names, files = named_images_in(folder)
        section = None
        if part:
            section = Section.find(part, map(printable, names), files, CHUNK)
            names, files = section.cut(names), section.cut(files)
        made_of = {
            "weights or preprocessing": network_digest(model, self.preprocess),
            "pictures": images_digest(names, files),
            "normalize": normalize,
            "batch size": batch_size,  # on both of these the last bits of a result may depend
            "device": self.device.type,
        }
        super().__init__(out, [*map(printable, names)], files, made_of, section)

    def answers(self, start: int) -> Iterator[list[Record]]:
        batches = (self.files[begin:end] for begin, end in self._bounds(start))
        names = iter(self.names[start:])
        for read in read_ahead(self._read, batches):
            good = [answer for answer in read if isinstance(answer, Tensor)]
            rows = iter(self._embed(torch.cat(good)) if good else ())
            records: list[Record] = []
            for answer, name in zip(read, names):  # noqa: B905  (names are of all batches)
                if isinstance(answer, ImageError):
                    self.on_broken(answer)
                    records.append({"path": name, "error": answer.reason})
                else:
                    records.append(_record(name, next(rows)))
            yield records

    def _bounds(self, start: int) -> Iterator[tuple[int, int]]:
        """Yield where each batch begins and ends, from the image ``start`` on."""
        while start < len(self.files):
            end = min(start + self.batch_size, start // CHUNK * CHUNK + CHUNK)
            yield start, end
            start = end

    def fault(self, place: int) -> str | None:
        answer = self._read(self.files[place])
        return answer.reason if isinstance(answer, ImageError) else None

    def in_whole_batches(self, count: int) -> int:
        chunks, rest = divmod(count, CHUNK)
        return chunks * CHUNK + rest // self.batch_size * self.batch_size

    def write(self, records: Records, broken: dict[int, str]) -> Told:
        rows = [name for place, name in enumerate(self.names) if place not in broken]
        left_out = [self.names[place] for place in broken]
        write_broken(self.out, zip(left_out, broken.values(), strict=True))
        write_table(self.out, rows, self.channels, self._pieces(records()))
        return Told(channels=self.channels, left_out=left_out)

    def _pieces(self, records: Iterator[Record]) -> Iterator[NDArray[np.float32]]:
        """Yield the embeddings (n, C) of the good images of each chunk."""
        while chunk := list(islice(records, CHUNK)):
            rows = b"".join(b64decode(row["embedding"]) for row in chunk if "error" not in row)
            yield np.frombuffer(rows, "<f4").reshape(-1, self.channels)

    def _read(self, file: Path | Stored) -> Tensor | ImageError:
        try:
            return self.preprocess(file)
        except ImageError as error:
            return error

    def _embed(self, images: Tensor) -> Tensor:
        with temporary_mode(self.model, training=False), torch.no_grad():
            found = self.model.embed(images.to(self.device), self.normalize).float().cpu()
        if not found.isfinite().all():
            raise NonFiniteError(
                "an embedding is NaN or infinite", hint="the model's weights have diverged"
            )
        return found

    def adopt(self, journal: Path, *, overwrite: bool) -> None:
        """Turn the folder of chunks, which earlier versions kept, into a journal."""
        if journal.is_symlink():  # what is removed and written there would be somebody's
            raise UsageError(f"{journal}: is a symbolic link", hint="remove it")
        aside = journal.with_name(f"{journal.name}.earlier")
        if journal.is_dir():
            try:
                earlier = read_json(journal / "job.json")
            except (OSError, CheckpointError):
                earlier = None
            earlier = earlier if isinstance(earlier, dict) else {}
            if belongs(self.out, earlier, self.made_of, overwrite=overwrite):
                with writing(journal / _ADOPTED) as file:
                    file.write(line({"version": VERSION, **self.made_of}))
                    file.writelines(map(line, self._kept_in_chunks(journal)))
            shutil.rmtree(aside, ignore_errors=True)
            journal.rename(aside)
        with suppress(OSError):  # there is none, but after a change of versions, or a stop here
            (aside / _ADOPTED).rename(journal)
        shutil.rmtree(aside, ignore_errors=True)

    def _kept_in_chunks(self, folder: Path) -> Iterator[Record]:
        for start in range(0, len(self.names), CHUNK):
            names, files = self.names[start : start + CHUNK], self.files[start : start + CHUNK]
            try:
                tensors, metadata = read_tensors(folder / f"{start:09d}.safetensors")
                broken = {int(row): why for row, why in json.loads(metadata["broken"]).items()}
                embeddings = tensors["embeddings"]
            except (OSError, SafetensorError, KeyError, ValueError):
                return
            content = metadata.get(CONTENT)  # of all of them; the first versions had none
            if len(embeddings) + len(broken) != len(names):
                return
            if content and content != content_digest(files):
                return
            rows = iter(embeddings)
            for row, (name, digest) in enumerate(zip(names, digest_files(files), strict=True)):
                known = {CONTENT: digest.tobytes().hex()} if content else {}
                if row in broken:
                    yield {"path": name, "error": broken[row], **known}
                else:
                    yield {**_record(name, next(rows)), **known}


def _record(name: str, row: Tensor) -> Record:
    values = row.numpy().astype("<f4", copy=False)
    return {"path": name, "embedding": b64encode(values.tobytes()).decode()}
