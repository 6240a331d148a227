"""What is known of labels before any is suspected: models without the image, and neighbours."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.data.copies import originals, together
from resnets.data.dataset import Dataset
from resnets.data.folds import Pool, pooled
from resnets.data.given import GIVEN
from resnets.data.neighbours import nearest
from resnets.data.preprocess import preprocess_of
from resnets.errors import DataError, NonFiniteError, UsageError
from resnets.evaluation.network import computed
from resnets.machine.device import Machine
from resnets.machine.torchrun import launched
from resnets.models import open_model
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import Record
from resnets.training.begun import model_of, recipe_of, source_of, teacher_of
from resnets.training.distillation import TeacherSource
from resnets.training.out_of_fold import OutOfFold, out_of_fold
from resnets.training.prepare import Plan
from resnets.training.starting import IN_MEMORY
from resnets.training.train import planned
from resnets.weights.checkpoint import Source

FOLDS, NEIGHBOURS = 5, 10


@dataclass(frozen=True)
class Evidence:
    """What models and neighbours say of each of N labelled images."""

    plan: Plan  # of the run, as it would be trained again
    pool: Pool
    copies: NDArray[np.int64]  # (N,), equal where pixels are
    outside: OutOfFold
    shares: NDArray[np.float32]  # (N, classes), of its nearest neighbours that have each label

    @property
    def joined(self) -> NDArray[np.float32]:
        """What both say together, (N, classes): their mean."""
        return np.asarray((self.outside.probabilities + self.shares) / 2, np.float32)


def gather_evidence(
    folder: RunFolder,
    out: Path,
    *,
    folds: int = FOLDS,
    neighbours: int = NEIGHBOURS,
    settings: Sequence[str] = (),
    data: str | Path | Dataset | Any = None,
    weights: Source | None = None,
    teacher: TeacherSource | None = None,
    overwrite: bool = False,
    machine: Machine = Machine(),
    **where: Any,
) -> Evidence:
    """Repeat a run on folds of its images into ``out``, and embed all of them.

    The arguments are those of `find_suspects`, which raises what this does.
    """
    if launched():
        raise UsageError("looking for suspects is one process", hint="start it without torchrun")
    if folds < 2 or neighbours < 1:
        raise UsageError(f"{folds} folds, {neighbours} neighbours", hint="give at least 2 and 1")
    record = folder.read_record()
    if not record.finished:
        raise UsageError(f"{folder.path}: is not finished", hint=folder.how_to_resume)
    if record.data.several:
        raise UsageError(
            f"{folder.path}: its images may have several classes, and suspects are found where "
            "each has one"
        )
    given = _beginning(folder, record, weights, teacher)
    with planned(
        run_data(folder, record) if data is None else data,
        model=model_of(folder, record),
        recipe=recipe_of(folder, settings),
        root=record.data.root,
        machine=machine,
        **given,
        **where,
    ) as (plan, progress):
        if out.resolve().is_relative_to(plan.source):
            raise UsageError(
                f"{out}: run folders inside {plan.source} would become a part of the data",
                hint="give another --out",
            )
        if plan.dataset.fingerprint != record.data.fingerprint:
            progress.say("images or labels are others than when the run was trained")
        progress.say("embedding the images of the training and held-out splits")
        pool, embeddings, copies = _embedded(folder.path, pooled(plan.dataset), plan.machine.where)
    apart = together(copies, pool.copies, pool.groups)
    outside = out_of_fold(
        plan, pool, apart, folds, out, given, overwrite=overwrite, say=progress.say
    )
    count = len(plan.dataset.classes)
    shares = neighbour_shares(embeddings, apart, pool.labels, neighbours, count)
    return Evidence(plan, pool, copies, outside, shares)


def neighbour_shares(
    embeddings: NDArray[np.float32],
    apart: NDArray[np.int64],
    labels: NDArray[np.int64],
    count: int,
    classes: int,
) -> NDArray[np.float32]:
    """Return which share of the nearest of each image has each label, (N, classes).

    Those with an equal number in ``apart`` are no neighbours.
    """
    places, _ = nearest(embeddings, apart, count)
    there = places >= 0
    rows = np.nonzero(there)[0]
    cells = np.bincount(rows * classes + labels[places[there]], minlength=len(labels) * classes)
    shares = cells.reshape(-1, classes) / np.maximum(there.sum(1, keepdims=True), 1)
    return np.asarray(shares, np.float32)


def _embedded(
    run: str | Path, pool: Pool, device: torch.device
) -> tuple[Pool, NDArray[np.float32], NDArray[np.int64]]:
    """Return the samples that can be read, a run's embeddings of them, and which are equal.

    Equal are images whose pixels are, as the network's data set has them: the number is that of
    the first, (N,).
    """
    model = open_model(run).to(device)
    preprocess, digests = preprocess_of(model), bytearray()

    def embed(images: torch.Tensor) -> torch.Tensor:
        for pixels in images.permute(0, 2, 3, 1).contiguous().cpu().numpy():
            digests.extend(hashlib.sha256(pixels).digest())
        return model.embed(preprocess(images)).float()

    places, rows = computed(embed, pool.split, device)
    if not rows.isfinite().all():
        raise NonFiniteError(
            f"{run}: an embedding is NaN or infinite", hint="the model's weights have diverged"
        )
    found = np.frombuffer(digests, np.uint8).reshape(len(rows), -1)
    return pool.subset(places), rows.numpy(), originals(found)


def run_data(folder: RunFolder, record: Record) -> str:
    """Return where a run has its data. Raises DataError where they are no longer there."""
    try:
        return source_of(folder, record)
    except DataError as error:
        in_python = f"resnets.find_suspects({str(folder.path)!r}, data=data)"
        moved = "if they are elsewhere: --data PLACE"
        error.hint = in_python if record.data.source == GIVEN else moved
        raise


def _beginning(
    folder: RunFolder, record: Record, weights: Source | None, teacher: TeacherSource | None
) -> dict[str, Any]:
    """Return what a run has begun from, as `train` is told it. Raises UsageError."""
    begun = record.weights
    if weights is None and begun and begun.source == IN_MEMORY:
        raise UsageError(
            f"{folder.path}: began from {IN_MEMORY}",
            hint=f"resnets.find_suspects({str(folder.path)!r}, weights=weights)",
        )
    return {
        "weights": weights if weights is not None else begun and begun.source,
        "teacher": teacher if teacher is not None else teacher_of(folder, record),
        **(begun.reading if begun else {}),
    }
