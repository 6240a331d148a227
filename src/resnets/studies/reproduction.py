"""A table of a paper again: rows trained seed by seed, resumably, and put beside the paper's."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from resnets.data.dataset import Dataset
from resnets.data.preprocess import imagenet
from resnets.errors import HeldError, Stopped, UsageError
from resnets.evaluation.assess import evaluate
from resnets.formatting import plural
from resnets.inference.partition import Part
from resnets.machine.device import Machine
from resnets.machine.torchrun import launched
from resnets.models import create_model
from resnets.papers.paper_tables import find_table
from resnets.papers.published import Table
from resnets.studies.experiments import Asked, Experiment, Images, experiments, jobs, parse_scale
from resnets.studies.row_costs import hours
from resnets.studies.table_folder import TableFolder, finished, protocol_of
from resnets.training.progress import RunProgress
from resnets.training.recipe import load_recipe
from resnets.training.seeds import train_seeds
from resnets.training.train import train


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
) -> TableFolder:
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
    if minutes is not None and not minutes > 0:
        raise UsageError(f"{minutes:g} minutes are no time", hint="give more than 0")
    if not isinstance(table, Table):
        table = find_table(table)
    asked = Asked(table, parse_scale(str(scale)), seeds, tuple(rows), small, tuple(settings))
    files = {row: tuple(given) for row, given in (weights or {}).items()}
    path = TableFolder.default(asked) if out is None else Path(out)
    folder = TableFolder(asked, path, Images(data, root), files, kept, command)
    asked.check(files, folder.images)
    folder.check_same()
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    try:
        _Work(folder, machine, deadline).run(part)
    except Stopped as stopped:
        stopped.hint = f"resume with: {command}" if command else "the same call resumes"
        raise
    return folder


@dataclass(frozen=True)
class _Work:
    """What trains and measures what a folder does not have yet."""

    folder: TableFolder
    machine: Machine
    deadline: float | None  # of `time.monotonic`

    def run(self, part: Part | None) -> None:
        """Do a part, and write the table as often as it changes; of parts the last one does."""
        folder, say = self.folder, RunProgress(quiet=self.machine.quiet).say
        found = experiments(folder.asked)
        weighed = [each for each in found if each.row.key in folder.weights]
        trained = [each for each in found if each not in weighed and not folder.lacks(each)]
        every = jobs(trained, folder.asked.seeds)
        mine = shared(every, part) if part else every
        left = [each for seed, each in mine if not finished(folder.seed(each, seed))]
        if len(left) > 1 and not self.machine.quiet and not launched():
            for line in hours(left, images=folder.images, machine=self.machine):
                say(line)

        def write() -> bool:
            there = all(finished(folder.seed(each, seed)) for seed, each in every)
            if there or not part:
                folder.write()
            return there

        for number, (seed, each) in enumerate(mine, start=1):
            say(f"{each.row.label}, seed {seed}: {number} of {plural(len(mine), 'run')}")
            self._check_time()
            asked_to_stop = self._train(each, seed, part)
            write()
            if asked_to_stop is not None and number < len(mine):
                raise Stopped("stopped between two runs", exit_code=asked_to_stop)
        for each in weighed if part is None or part.number == part.of else ():
            self._evaluate(each)
        if not write() and part:
            say("the part that ends last writes the table, and so does the command without --part")

    def _train(self, experiment: Experiment, seed: int, part: Part | None) -> int | None:
        """Train a seed, or go on with it; return the exit code where it was asked to stop late."""
        folder, recipe = self.folder, experiment.recipe
        run = train(
            folder.images.of(experiment.dataset),
            model=experiment.spec,
            recipe=load_recipe(recipe, [f"seed={recipe.seed + seed}"]),
            out=folder.seed(experiment, seed),
            resume="auto",
            root=folder.images.root,
            machine=replace(self.machine, watch=lambda *_: self._check_time()),
        )
        try:
            self._sum_up(experiment)
        except HeldError:
            if part is None:
                raise
            # Another part is at one of these seeds, and sums up when it has finished it.
        for each in experiments(folder.asked):
            if not each.row.lacks and each.name == experiment.name and protocol_of(each):
                self._evaluate(each, run.path)
        return run.asked_to_stop

    def _check_time(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Stopped("the time is over")

    def _sum_up(self, experiment: Experiment) -> None:
        """Write seeds.json and the page of the seeds that are finished, from the first on."""
        folder, count = self.folder, 0
        while finished(folder.seed(experiment, count)):
            count += 1
        if count:
            train_seeds(
                folder.images.of(experiment.dataset),
                count,
                model=experiment.spec,
                recipe=experiment.recipe,
                out=folder.path / experiment.name,
                resume="auto",
                root=folder.images.root,
                machine=replace(self.machine, quiet=True),
            )

    def _evaluate(self, experiment: Experiment, run: Path | None = None) -> None:
        """Measure a run, or a row's weights, by the table's protocol, if they are not yet."""
        source = self.folder.images.of(experiment.dataset)
        if source is None or isinstance(source, Dataset):
            return
        models: list[Any] = [str(run)]
        if run is None:
            files = self.folder.weights[experiment.row.key]
            models = [self._opened(experiment, file) for file in files]
        evaluate(
            models,
            source,
            root=self.folder.images.root,
            device=self.machine.device,
            protocol=protocol_of(experiment),
            out=self.folder.evaluation(experiment, run),
        )

    def _opened(self, experiment: Experiment, file: str) -> Any:
        if experiment.row.lacks:  # an ensemble, whose nets say themselves what they are
            return file
        model = create_model(experiment.spec, weights=file, head="keep")
        if model.preprocess is None:  # as all nets of ImageNet's tables are, but for few
            model.preprocess = imagenet(experiment.spec.in_channels, experiment.spec.image_size)
        return model


def shared(every: Sequence[Any], part: Part) -> list[Any]:
    """Return a part of jobs: every so many of them, which mixes rows and seeds."""
    return list(every[part.number - 1 :: part.of])
