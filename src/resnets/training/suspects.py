"""Likely label errors: what models that have not learnt an image, and its neighbours, say of it."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.data.copies import originals, together
from resnets.data.corrections import LABELS, Corrected, correct, write_labels, write_suspects
from resnets.data.dataset import Dataset
from resnets.data.folds import Pool, pooled
from resnets.data.given import GIVEN
from resnets.data.neighbours import nearest
from resnets.data.preprocess import preprocess_of
from resnets.data.samples import thumbnail_url
from resnets.errors import DataError, NonFiniteError, UsageError
from resnets.evaluation.confident_learning import likely_wrong, margins, suggestions
from resnets.evaluation.network import computed
from resnets.machine.device import Machine
from resnets.machine.torchrun import launched
from resnets.models import open_model
from resnets.report.suspects_page import SHOWN, write_suspects_page
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import Record
from resnets.training.distillation import TeacherSource
from resnets.training.out_of_fold import OutOfFold, out_of_fold
from resnets.training.starting import IN_MEMORY
from resnets.training.train import model_of, planned, recipe_of, source_of, teacher_of
from resnets.weights.checkpoint import Source

FOLDS, NEIGHBOURS = 5, 10
SUSPECTS = "suspects.csv"


@dataclass(frozen=True)
class Suspect:
    """An image whose label is likely wrong, and who says what of it."""

    file: str  # in the data; the number of the image where it is no file
    split: str  # train or validation
    label: str
    suggested: str
    score: float  # 0 to 1, the surest; 1 of copies under several labels
    model: float  # the probability of its label to a model that has not learnt it
    model_suggested: float  # and that of the suggested one
    neighbours: float  # the share of its nearest neighbours that have its label
    neighbours_suggested: float
    copies: tuple[str, ...] = ()  # the same image under other labels, as "LABEL: FILE"


@dataclass(frozen=True)
class Suspects:
    """What ``find_suspects`` found, the surest first, and where page and table of it are."""

    path: Path
    run: Path
    data: str
    images: int
    folds: int
    neighbours: int
    accuracy: float  # of the models on the images that they have not learnt
    suspects: tuple[Suspect, ...]
    command: str  # that makes labels of the edited table; empty where images are no files

    @property
    def table(self) -> Path:
        """The CSV to edit, whose column ``accept`` is empty."""
        return self.path / SUSPECTS

    @property
    def page(self) -> Path:
        """The page to look at."""
        return self.path / "suspects.html"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        paths = {name: str(getattr(self, name)) for name in ("path", "run", "table", "page")}
        return {**asdict(self), **paths}


def find_suspects(
    run: str | Path,
    *,
    folds: int = FOLDS,
    neighbours: int = NEIGHBOURS,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    data: str | Path | Dataset | Any = None,
    weights: Source | None = None,
    teacher: TeacherSource | None = None,
    overwrite: bool = False,
    machine: Machine = Machine(),
    **where: Any,
) -> Suspects:
    """Return which images of a run's training and held-out splits are likely mislabelled.

    Confident learning: the run is repeated ``folds`` times, each time without a part of the images,
    of which that model then says how probable each class is. Beside this stands which share of an
    image's nearest ``neighbours`` in the run's own embeddings has each label; itself, its copies
    and images of its group are none. Copies under several labels come first.

    The repetitions are run folders, fold-1 and so on in ``out`` (RUN/suspects), by the run's recipe
    with ``settings``, from the same weights; after a stop of any kind the same call resumes. Table
    and page lie beside them. ``data``, ``weights`` and ``teacher`` are needed where the run had
    them from Python, or where they have moved; ``machine`` and its fields are as in `train`.

    Raises UsageError for a run that is not finished, and where images may have several classes;
    and what `train` raises.
    """
    if launched():
        raise UsageError("looking for suspects is one process", hint="start it without torchrun")
    if folds < 2 or neighbours < 1:
        raise UsageError(f"{folds} folds, {neighbours} neighbours", hint="give at least 2 and 1")
    folder = RunFolder(Path(run))
    record = folder.read_record()
    if not record.finished:
        raise UsageError(f"{run}: is not finished", hint=folder.how_to_resume)
    if record.data.several:
        raise UsageError(
            f"{run}: its images may have several classes; suspects are found where each has one"
        )
    given = _beginning(folder, record, weights, teacher)
    with planned(
        _source(folder, record) if data is None else data,
        model=model_of(folder, record),
        recipe=recipe_of(folder, settings),
        root=record.data.root,
        machine=machine,
        **given,
        **where,
    ) as (plan, progress):
        if plan.dataset.fingerprint != record.data.fingerprint:
            progress.say("images or labels are others than when the run was trained")
        progress.say("embedding the images of the training and held-out splits")
        pool, embeddings, copies = _embedded(run, pooled(plan.dataset), plan.machine.where)
    out = folder.path / "suspects" if out is None else Path(out)
    apart = together(copies, pool.copies, pool.groups)
    outside = out_of_fold(
        plan, pool, apart, folds, out, given, overwrite=overwrite, say=progress.say
    )
    classes = plan.dataset.classes
    votes = neighbour_shares(embeddings, apart, pool.labels, neighbours, len(classes))
    places, suspects = _ranked(pool, classes, outside, votes, copies)
    write_labels(out / LABELS, plan.dataset)
    found = Suspects(
        path=out,
        run=folder.path,
        data=plan.dataset.name,
        images=len(copies),
        folds=folds,
        neighbours=neighbours,
        accuracy=outside.accuracy(pool.labels),
        suspects=tuple(suspects),
        command=_command(folder, out, Path(plan.source)),
    )
    write_suspects(found.table, [asdict(suspect) for suspect in suspects])
    images = [thumbnail_url(pool.split, place) for place in places[:SHOWN]]
    write_suspects_page(found.page, found.to_dict(), images)
    return found


def apply_suspects(
    run: str | Path,
    table: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    overwrite: bool = False,
) -> Corrected:
    """Write a table of labels that `train` takes to ``out``, with what ``table`` accepts.

    ``table`` is the suspects.csv of a run with its column ``accept`` filled in: x takes what is
    suggested, a class takes that, "drop" leaves the image out. Images stay where and in the split
    where they are; ``data`` is where they are now, if they have moved.

    Raises UsageError and DataError as `data.corrections.correct` does.
    """
    folder, table = RunFolder(Path(run)), Path(table)
    source = Path(_source(folder, folder.read_record()) if data is None else data)
    beside = [path / LABELS for path in (table.parent, folder.path / "suspects")]
    labels = next((path for path in beside if path.exists()), beside[1])
    return correct(labels, table, _root(source), Path(out), overwrite=overwrite)


def _root(source: Path) -> Path:
    """Return the folder of the images, which a table of labels lies in."""
    return source if source.is_dir() else source.parent


def _command(folder: RunFolder, out: Path, source: Path) -> str:
    if not (out / LABELS).exists():
        return ""
    table, corrected = out / SUSPECTS, _root(source) / "corrected.csv"
    words = ["resnets", "data", "suspects", str(folder.path)]
    return shlex.join([*words, "--apply", str(table), "--out", str(corrected)])


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


def joined(probabilities: NDArray[np.float32], shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what models and neighbours say together, (N, classes): the mean of both."""
    return np.asarray((probabilities + shares) / 2, np.float32)


def _ranked(
    pool: Pool,
    classes: Sequence[str],
    outside: OutOfFold,
    shares: NDArray[np.float32],
    copies: NDArray[np.int64],
) -> tuple[list[int], list[Suspect]]:
    """Return the suspects, copies under several labels before the others, and their positions."""
    labels = pool.labels
    both = joined(outside.probabilities, shares)
    suggested, scores = suggestions(both, labels), (1 - margins(both, labels)) / 2
    under_several = _under_several_labels(copies, labels)
    under_several.sort(key=lambda members: -scores[members].max())
    of_copy = {place: members for members in under_several for place in members}
    order = [place for each in under_several for place in each[np.argsort(-scores[each])].tolist()]
    likely = np.flatnonzero(likely_wrong(both, labels) & outside.judged)
    surest_first = likely[np.argsort(-scores[likely], kind="stable")].tolist()
    order += [place for place in surest_first if place not in of_copy]
    names = list(map(str, pool.split.names(torch.arange(len(labels)))))

    def suspect(place: int) -> Suspect:
        own, other = int(labels[place]), int(suggested[place])
        twins: tuple[str, ...] = ()
        if place in of_copy:
            members = of_copy[place]
            others = members[labels[members] != own]
            other = max(set(labels[others].tolist()), key=lambda label: float(both[place, label]))
            twins = tuple(f"{classes[labels[each]]}: {names[each]}" for each in others.tolist())
        model, share = outside.probabilities[place], shares[place]
        return Suspect(
            file=names[place],
            split="validation" if pool.held_out[place] else "train",
            label=classes[own],
            suggested=classes[other],
            score=1.0 if twins else round(float(scores[place]), 4),
            model=round(float(model[own]), 4),
            model_suggested=round(float(model[other]), 4),
            neighbours=round(float(share[own]), 4),
            neighbours_suggested=round(float(share[other]), 4),
            copies=twins,
        )

    return order, [suspect(place) for place in order]


def _under_several_labels(
    copies: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return the positions of equal images whose labels differ, together."""
    pairs = np.unique(np.stack([copies, labels], 1), axis=0)
    numbers, count = np.unique(pairs[:, 0], return_counts=True)
    return [np.flatnonzero(copies == number) for number in numbers[count > 1]]


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


def _source(folder: RunFolder, record: Record) -> str:
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
