"""Likely label errors: a run's images whose labels models and neighbours contradict."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.data.corrections import LABELS, Corrected, correct, write_labels, write_suspects
from resnets.data.dataset import Dataset
from resnets.data.samples import thumbnail_url
from resnets.evaluation.confident_learning import likely_wrong, self_confidence, suggestions
from resnets.machine.device import Machine
from resnets.report.suspects_page import SHOWN, write_suspects_page
from resnets.run_folder.directory import RunFolder
from resnets.training.distillation import TeacherSource
from resnets.training.label_evidence import (
    FOLDS,
    NEIGHBOURS,
    Evidence,
    gather_evidence,
    run_data,
)
from resnets.weights.checkpoint import Source

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
    folder = RunFolder(Path(run))
    out = folder.path / "suspects" if out is None else Path(out)
    evidence = gather_evidence(
        folder,
        out,
        folds=folds,
        neighbours=neighbours,
        settings=settings,
        data=data,
        weights=weights,
        teacher=teacher,
        overwrite=overwrite,
        machine=machine,
        **where,
    )
    plan, pool = evidence.plan, evidence.pool
    places, suspects = _ranked(evidence)
    write_labels(out / LABELS, plan.dataset)
    found = Suspects(
        path=out,
        run=folder.path,
        data=plan.dataset.name,
        images=len(pool.labels),
        folds=folds,
        neighbours=neighbours,
        accuracy=evidence.outside.accuracy(pool.labels),
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
    source = Path(run_data(folder, folder.read_record()) if data is None else data)
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


def _ranked(evidence: Evidence) -> tuple[list[int], list[Suspect]]:
    """Return the suspects, copies under several labels before the others, and their positions."""
    pool, copies, outside = evidence.pool, evidence.copies, evidence.outside
    labels, both, classes = pool.labels, evidence.joined, evidence.plan.dataset.classes
    suggested, scores = suggestions(both, labels), 1 - self_confidence(both, labels)
    under_several = _under_several_labels(copies, labels)
    under_several.sort(key=lambda members: -scores[members].max())
    of_copy = {place: members for members in under_several for place in members}
    order = [place for each in under_several for place in each[np.argsort(-scores[each])].tolist()]
    judged = np.flatnonzero(outside.judged)
    likely = judged[likely_wrong(both[judged], labels[judged])].tolist()
    order += [place for place in likely if place not in of_copy]
    names = list(map(str, pool.split.names(torch.arange(len(labels)))))

    def suspect(place: int) -> Suspect:
        own, other = int(labels[place]), int(suggested[place])
        twins: tuple[str, ...] = ()
        if place in of_copy:
            members = of_copy[place]
            others = members[labels[members] != own]
            other = max(set(labels[others].tolist()), key=lambda label: float(both[place, label]))
            twins = tuple(f"{classes[labels[each]]}: {names[each]}" for each in others.tolist())
        model, share = outside.probabilities[place], evidence.shares[place]
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
