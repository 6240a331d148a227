"""A table of a paper again: rows trained seed by seed, resumably, and put beside the paper's."""

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from resnets.data.cifar import LAYOUTS, data_root
from resnets.data.dataset import Dataset
from resnets.errors import Stopped, UsageError, check_name
from resnets.evaluation.assess import evaluate
from resnets.evaluation.kept import RECORD
from resnets.files import write_json
from resnets.formatting import plural
from resnets.inference.partition import Part
from resnets.machine.device import Machine
from resnets.models import create_model
from resnets.papers.paper_tables import find_table
from resnets.papers.published import Table
from resnets.readers.documents import read_json
from resnets.report.reproduced import write_reproduction
from resnets.run_folder.directory import RECORD as RUN
from resnets.run_folder.directory import RunFolder, seeds_in
from resnets.studies.experiments import Asked, Experiment, experiments, jobs, parse_scale
from resnets.studies.measured import Measured, measured_alone, measured_runs, same_experiment
from resnets.training.outlook import plan as look_ahead
from resnets.training.progress import RunProgress
from resnets.training.recipe import load_recipe
from resnets.training.seeds import train_seeds
from resnets.training.train import train

SCHEMA_VERSION = 1
FILE = "table.json"
# How images are shown where a table says more than "test": a name of `evaluation.protocols`.
SHOWN = {
    "1-crop": "torchvision",
    "1-crop at 320": "resnext-320",
    "10-crop": "he2015-ten-crops",
    "multi-scale": "he2015-multi-scale",
    "ensemble, multi-scale": "he2015-multi-scale",
}


@dataclass(frozen=True)
class Images:
    """Where there are images: CIFAR's files below ``root``, ImageNet's in ``data``."""

    data: str | Path | Dataset | None = None
    root: str | Path | None = None

    def of(self, dataset: str) -> str | Path | Dataset | None:
        """Return what is trained on; None where it is not known."""
        if isinstance(self.data, Dataset) or dataset == "imagenet":
            return self.data
        root = data_root(None if self.root is None else Path(self.root))
        folders = [each.folder for each in LAYOUTS[dataset]]
        return dataset if any(root.name == f or (root / f).exists() for f in folders) else None

    def lacking(self, dataset: str) -> str:
        """Say how there will be images of a data set."""
        if dataset == "imagenet":
            return "no images of ImageNet: name their folder with --data"
        return f"no {dataset} here: resnets data get {dataset}"


@dataclass(frozen=True)
class Reproduction:
    """What a table has come to: its folder, and table.json as it stands."""

    path: Path
    values: Mapping[str, Any]

    @property
    def report(self) -> Path:
        """The page."""
        return (self.path / FILE).with_suffix(".html")

    @property
    def markdown(self) -> Path:
        """The table in Markdown."""
        return (self.path / FILE).with_suffix(".md")

    def to_dict(self) -> dict[str, Any]:
        """Return table.json."""
        return dict(self.values)


def reproduce(
    table: str | Table,
    *,
    scale: Fraction | float | str = 1,
    seeds: int = 1,
    rows: Sequence[str] = (),
    small: bool = False,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    data: str | Path | Dataset | None = None,
    root: str | Path | None = None,
    weights: Mapping[str, Sequence[str]] | None = None,
    part: Part | None = None,
    minutes: float | None = None,
    kept: str | Path | None = None,
    command: str = "",
    machine: Machine = Machine(),
) -> Reproduction:
    """Train the rows of a table, one seed of all of them first, and put them beside the paper's.

    ``scale`` is the fraction of the paper's iterations, ``small`` takes the table's stand-in for
    small machines, and ``settings`` change every recipe; all are said wherever results are. In the
    folder ``out`` each row is a folder of seeds; table.html, table.md and table.json are written
    after each seed, and the same call resumes what was stopped. ``data`` are ImageNet's images, or
    a `Dataset` that stands for all; ``root`` is where CIFAR is. ``weights`` are files or names of
    published weights by row: these rows are evaluated by the table's protocol, not trained.

    ``part`` is this machine's share of rows and seeds; the last of the parts writes the table.
    After ``minutes`` a run ends with its epoch, resumably. ``kept`` is a folder of results, in
    which those of the same experiments are looked for.

    Raises what `train` and `evaluate` raise; Stopped says how to resume.
    """
    if not isinstance(table, Table):
        table = find_table(table)
    asked = Asked(table, parse_scale(str(scale)), seeds, tuple(rows), small, tuple(settings))
    folder = Path(f"runs/reproduce-{table.key}" if out is None else out)
    files = {row: tuple(given) for row, given in (weights or {}).items()}
    for row in files:
        check_name(f"row of {table.key}", row, [each.key for each in asked.chosen])
    _check_same(folder, asked)
    work = _Work(asked, folder, Images(data, root), files, machine, minutes, kept, command)
    work.run(part)
    return Reproduction(folder, work.values())


def _check_same(folder: Path, asked: Asked) -> None:
    """Raise UsageError where a folder has another reproduction."""
    if (folder / RUN).exists():
        raise UsageError(f"{folder}: is a run itself", hint="give another --out")
    path = folder / FILE
    if not path.exists():
        return
    there = read_json(path)
    own = [asked.table.key, *asked.options]
    if [there["table"], *there["options"]] != own:
        raise UsageError(
            f"{folder}: is of {shlex.join([there['table'], *there['options']])}",
            hint="give another --out",
        )


@dataclass(frozen=True)
class _Work:
    asked: Asked
    folder: Path
    images: Images
    weights: Mapping[str, tuple[str, ...]]
    machine: Machine
    minutes: float | None
    kept: str | Path | None
    command: str

    @property
    def hint(self) -> str:
        return f"resume with: {self.command}" if self.command else "the same call resumes"

    def run(self, part: Part | None) -> None:
        """Do what there is to do of a part, and write the table as often as it changes."""
        found = experiments(self.asked)
        trained = [each for each in found if each.row.key not in self.weights]
        mine = jobs([each for each in trained if not self.lacks(each)], self.asked.seeds)
        every = list(mine)
        if part:
            mine = shared(mine, part)
        say = RunProgress(quiet=self.machine.quiet).say
        deadline = time.monotonic() + 60 * self.minutes if self.minutes else None
        for number, (seed, experiment) in enumerate(mine, start=1):
            say(f"{experiment.row.label}, seed {seed}: {number} of {plural(len(mine), 'run')}")
            self._train(experiment, seed, deadline, last=number == len(mine))
            if part is None or self._all_there(every):
                self.write()
        for experiment in found if part is None or part.number == part.of else ():
            if files := self.weights.get(experiment.row.key):
                self._evaluate(experiment, files, f"{experiment.row.key}-weights")
        if part is None or self._all_there(every):
            self.write()
        else:
            say("the table is written by the part that ends last, or by the command without --part")

    def _train(
        self, experiment: Experiment, seed: int, deadline: float | None, *, last: bool
    ) -> None:
        recipe = load_recipe(experiment.recipe, [f"seed={experiment.recipe.seed + seed}"])
        source = self.images.of(experiment.dataset)
        folder = self.folder / experiment.name
        try:
            _check_time(deadline)
            machine = replace(self.machine, watch=lambda *_: _check_time(deadline))
            run = train(
                source,
                model=experiment.spec,
                recipe=recipe,
                out=folder / f"seed-{recipe.seed}",
                resume="auto",
                root=self.images.root,
                machine=machine,
            )
            self._sum_up(experiment, source)
            for each in experiments(self.asked):
                protocol = SHOWN.get(each.row.figure.protocol)
                same = not each.row.lacks and each.name == experiment.name
                if same and each.dataset == "imagenet" and protocol:
                    self._evaluate(each, [str(run.path)], _evaluated(each, run.path))
            if run.asked_to_stop is not None and not last:
                raise Stopped("stopped between two runs", exit_code=run.asked_to_stop)
        except Stopped as stopped:
            stopped.hint = self.hint
            raise

    def _sum_up(self, experiment: Experiment, source: Any) -> None:
        """Write seeds.json and the page of the seeds that follow each other, all finished."""
        first = experiment.recipe.seed
        folder, count = self.folder / experiment.name, 0
        while _finished(folder / f"seed-{first + count}"):
            count += 1
        if count:
            train_seeds(
                source,
                count,
                model=experiment.spec,
                recipe=experiment.recipe,
                out=folder,
                resume="auto",
                root=self.images.root,
                machine=replace(self.machine, quiet=True),
            )

    def _evaluate(self, experiment: Experiment, files: Sequence[str], name: str) -> None:
        """Measure weights by the table's protocol; what is measured already is not again."""
        protocol = SHOWN.get(experiment.row.figure.protocol)
        source = self.images.of(experiment.dataset)
        if source is None or isinstance(source, Dataset):
            return
        models = [
            word
            if Path(word).exists() or experiment.row.lacks
            else create_model(experiment.spec, weights=word)
            for word in files
        ]
        evaluate(
            models,
            source,
            root=self.images.root,
            device=self.machine.device,
            protocol=protocol,
            out=self.folder / name,
        )

    def lacks(self, experiment: Experiment) -> str:
        """Say why a row cannot be trained here; empty where it can."""
        if experiment.row.lacks:
            return experiment.row.lacks
        there = self.images.of(experiment.dataset) is not None
        return "" if there else self.images.lacking(experiment.dataset)

    def _all_there(self, every: Sequence[tuple[int, Experiment]]) -> bool:
        return all(
            _finished(self.folder / each.name / f"seed-{each.recipe.seed + seed}")
            for seed, each in every
        )

    def measured(self, experiment: Experiment) -> Measured | None:
        """Return what there is of a row."""
        figure, key = experiment.row.figure, experiment.row.key
        if files := self.weights.get(key):
            path = self.folder / f"{key}-weights" / RECORD
            return measured_alone(path, files) if path.exists() else None
        if experiment.row.lacks:
            return None
        runs = [path for path in seeds_in(self.folder / experiment.name) if _finished(path)]
        protocol = SHOWN.get(figure.protocol) if experiment.dataset == "imagenet" else None
        by_protocol = {path: self.folder / _evaluated(experiment, path) / RECORD for path in runs}
        if protocol:
            runs = [path for path in runs if by_protocol[path].exists()]
        return measured_runs(experiment, runs, by_protocol if protocol else {}) if runs else None

    def values(self) -> dict[str, Any]:
        """Return table.json as it stands."""
        table, asked = self.asked.table, self.asked
        return {
            "schema_version": SCHEMA_VERSION,
            "table": table.key,
            "source": table.source,
            "title": table.title,
            "shows": table.shows,
            "left_out": table.note,
            "scale": str(asked.scale),
            "options": asked.options,
            "changes": asked.changes,
            "seeds": asked.seeds,
            "command": self.command,
            "rows": [self._row(experiment) for experiment in experiments(asked)],
        }

    def _row(self, experiment: Experiment) -> dict[str, Any]:
        row, found = experiment.row, self.measured(experiment)
        trains = not row.lacks
        before = same_experiment(experiment, self.kept) if trains and self.kept else None
        why = self.lacks(experiment)
        weighed = row.key in self.weights
        if weighed and not found:
            why = self.images.lacking(experiment.dataset)
        return {
            "key": row.key,
            "label": row.label,
            "published": {
                "model": row.figure.model,
                "dataset": row.figure.dataset,
                "protocol": row.figure.protocol,
                "error_percent": row.figure.error_percent,
                "top5_percent": row.figure.top5_percent,
                "note": row.figure.note,
                "source": row.figure.source,
                "parameters": row.parameters,
            },
            "model": experiment.spec.name if trains else "",
            "dataset": experiment.dataset,
            "recipe": experiment.recipe.name if trains and not weighed else "",
            "settings": list(row.settings),
            "iterations": experiment.iterations if trains and not weighed else None,
            "scale": str(self.asked.scale),
            "folder": f"{row.key}-weights" if weighed else experiment.name if trains else "",
            "measured": found.to_dict() if found else None,
            "before": before.to_dict() if before else None,
            "lacks": "" if found else why or "not trained yet",
        }

    def write(self) -> None:
        """Write page, Markdown and JSON."""
        values = self.values()
        write_json(self.folder / FILE, values)
        write_reproduction(self.folder / FILE, values)


def _finished(path: Path) -> bool:
    folder = RunFolder(path)
    return folder.record.exists() and json.loads(folder.record.read_text()).get("status") == (
        "finished"
    )


def _evaluated(experiment: Experiment, run: Path) -> str:
    return f"{experiment.row.key}-{run.name}"


def _check_time(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() > deadline:
        raise Stopped("the time is over")


def shared(every: Sequence[Any], part: Part) -> list[Any]:
    """Return a part of jobs: every so many of them, which mixes rows and seeds."""
    return list(every[part.number - 1 :: part.of])


@dataclass(frozen=True)
class Outlook:
    """What a row would take here; seconds are None where there are no images to measure with."""

    experiment: Experiment
    seconds: float | None  # of a run of a single seed
    memory: int | None  # bytes
    lacks: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        row, trains = self.experiment.row, not self.experiment.row.lacks
        return {
            "key": row.key,
            "label": row.label,
            "model": self.experiment.spec.name if trains else "",
            "dataset": self.experiment.dataset,
            "recipe": self.experiment.recipe.name if trains else "",
            "iterations": self.experiment.iterations if trains else None,
            "seconds_each": self.seconds,
            "memory": self.memory,
            "lacks": self.lacks,
        }


def plan(
    asked: Asked,
    *,
    data: str | Path | Dataset | None = None,
    root: str | Path | None = None,
    machine: Machine = Machine(),
    each: Callable[[Outlook], None] = lambda found: None,
) -> list[Outlook]:
    """Say what a reproduction would take here, row by row; nothing is written.

    Of each row a few steps are measured, as `train --plan` does. ``each`` is told of a row when it
    is known.
    """
    from resnets.training.memory import peak_memory

    images, found = Images(data, root), []
    for experiment in experiments(asked):
        row = experiment.row
        source = images.of(experiment.dataset)
        seconds = memory = None
        lacks = row.lacks or ("" if source is not None else images.lacking(experiment.dataset))
        if not lacks:
            ahead = look_ahead(
                source,
                model=experiment.spec,
                recipe=experiment.recipe,
                root=root,
                machine=replace(machine, quiet=True),
            )
            seconds, memory = ahead.seconds, ahead.memory
        elif not row.lacks:
            recipe = experiment.recipe
            memory = peak_memory(
                experiment.spec,
                batch_size=recipe.batch_size,
                precision=recipe.precision,
                optimizer=recipe.optimizer.kind,
            ).peak.total
        found.append(Outlook(experiment, seconds, memory, lacks))
        each(found[-1])
    return found
