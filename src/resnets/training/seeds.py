"""Train one recipe with several seeds, and put what came of it beside what was published."""

import os
import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnets.data.dataset import Dataset
from resnets.data.given import GIVEN
from resnets.errors import Stopped, UsageError
from resnets.files import write_json
from resnets.formatting import plural
from resnets.machine.device import Machine
from resnets.machine.torchrun import program, restarts
from resnets.papers.paper_tables import published
from resnets.papers.published import CLASSES, IMAGES, Published
from resnets.report.page import write_report
from resnets.run_folder.directory import RunFolder, seeds_in
from resnets.run_folder.record import Record
from resnets.spec import Spec
from resnets.training.begun import words_of
from resnets.training.progress import RunProgress
from resnets.training.recipe import Recipe, load_recipe, read_recipe, unnamed
from resnets.training.run import Run
from resnets.training.starting import reading_in
from resnets.training.train import (
    check_data,
    check_model,
    default_out,
    model_in,
    train,
)

SCHEMA_VERSION = 1
# Settings that are compared apart, or need not be the paper's.
_APART = {"name", "source", "seed", "batch_size", "schedule.iterations", "schedule.epochs"}
_NEUTRAL = {"data.split_seed", "data.broken"}


@dataclass(frozen=True)
class Comparison:
    """A published error and in what these runs are not a reproduction of it; empty: in nothing."""

    row: Published
    differences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            **asdict(self.row),
            "source": self.row.source,
            "accuracy_percent": self.row.accuracy_percent,
            "reproduction": not self.differences,
            "differences": list(self.differences),
        }


@dataclass(frozen=True)
class Repetition:
    """Finished runs that differ in nothing but their seed; figures are fractions.

    They are accuracies, or mean average precisions where an image may have several classes.
    """

    path: Path
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    model: str
    data: str
    recipe: str
    minutes: float
    command: str  # that repeats it beside it; empty where Python gave the data
    part: str | None  # "test" where there is such a part, else "validation", else None
    measure: str  # what the figures are: "accuracy" or "mAP"
    comparisons: tuple[Comparison, ...]

    @property
    def figures(self) -> list[float]:
        """The figure of each run on ``part``, in the order of the seeds."""
        scores = [run.results[self.part] for run in self.runs] if self.part else []
        return [score.get("map", score["accuracy"]) for score in scores]

    @property
    def median(self) -> float | None:
        """The median figure."""
        return statistics.median(self.figures) if self.part else None

    @property
    def mean(self) -> float | None:
        """The mean figure."""
        return statistics.fmean(self.figures) if self.part else None

    @property
    def sd(self) -> float | None:
        """The standard deviation of the sample, with n - 1; None for a single run."""
        return statistics.stdev(self.figures) if len(self.figures) > 1 else None

    @property
    def best(self) -> float | None:
        """The best figure."""
        return max(self.figures) if self.part else None

    @property
    def report(self) -> Path:
        """The page that compares the runs."""
        return RunFolder(self.path).report

    def to_dict(self) -> dict[str, Any]:
        """Return seeds.json."""
        scores = [run.results[self.part] if self.part else {} for run in self.runs]
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.path.resolve().name,
            "model": self.model,
            "data": self.data,
            "recipe": self.recipe,
            "part": self.part,
            "measure": self.measure,
            "n": len(self.runs),
            "seeds": [
                {
                    "seed": seed,
                    "accuracy": score.get("accuracy"),
                    **({"map": score["map"]} if "map" in score else {}),
                    "run": run.path.name,
                }
                for seed, run, score in zip(self.seeds, self.runs, scores, strict=True)
            ],
            "median": self.median,
            "mean": self.mean,
            "sd": self.sd,
            "best": self.best,
            "published": [comparison.to_dict() for comparison in self.comparisons],
            "minutes": self.minutes,
            "command": self.command,
        }


def train_seeds(
    data: str | Path | Dataset | Any,
    seeds: int = 5,
    *,
    out: str | Path | None = None,
    model: str | Spec | None = None,
    recipe: str | Path | Recipe | None = None,
    settings: Sequence[str] = (),
    resume: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Repetition:
    """Train with the recipe's seed and those after it, and summarise the runs.

    The runs are the folders seed-0, seed-1, ... of ``out``, by their seeds; seeds.json and
    report.html beside them say what came of it. ``resume="auto"`` continues where this stopped, or
    adds seeds. All else is as `train` has it.

    Raises UsageError for fewer than one seed, a ``resume`` that is a run, and an ``out`` with runs
    in it, and what `train` raises; Stopped says how to resume.
    """
    check_model(model)
    data = check_data(data)
    check_count(seeds)
    if resume not in (None, "auto"):
        several = bool(seeds_in(Path(resume)))
        raise UsageError(
            f"{resume} {'holds several runs' if several else 'is one run'}, and cannot be resumed "
            f"as {plural(seeds, 'seed')}",
            hint=f"{f'--out {resume} ' * several}--resume auto resumes where several seeds stopped",
        )
    options["remember"] = False  # all are to know their images alike, later ones too
    weights = options.get("weights")
    model = model or model_in(weights, **reading_in(options, weights))
    recipe = load_recipe(recipe or unnamed(weights), settings)
    path = seeds_out(default_out(data, model, recipe)) if out is None else Path(out)
    recipes = [load_recipe(recipe, [f"seed={recipe.seed + i}"]) for i in range(seeds)]
    folders = [RunFolder(path / f"seed-{each.seed}") for each in recipes]
    _check_free(path, folders, taken=resume is not None or overwrite or restarts() > 0)
    if overwrite and is_first() and not restarts():
        for folder in folders:  # all at once: a later one must not be taken for a new one's
            if folder.record.exists():
                folder.create(overwrite=True)
    quiet = options.get("quiet", options.get("machine", Machine()).quiet)
    progress = RunProgress(quiet=quiet or not is_first())
    runs: list[Run] = []
    for number, (each, folder) in enumerate(zip(recipes, folders, strict=True), start=1):
        title = f"seed {each.seed}, {number} of {seeds}"
        progress.say(title)
        try:
            runs.append(
                train(
                    data,
                    model=model,
                    recipe=each,
                    out=folder.path,
                    resume=resume,
                    overwrite=overwrite,
                    **options,
                )
            )
        except Stopped as stopped:
            stopped.message = f"{title}: {stopped.message}"
            stopped.hint = _how_to_resume(folders[0], seeds, path)
            raise
        code = runs[-1].asked_to_stop
        if code is not None and number < seeds:
            hint = _how_to_resume(folders[0], seeds, path)
            raise Stopped(f"stopped after {title}", hint=hint, exit_code=code)
    found = _summarise(path, folders, recipes, runs)
    if is_first():
        write_json(path / "seeds.json", found.to_dict())
        write_report([run.path for run in runs], found.report)
    return found


def check_count(seeds: int) -> None:
    """Raise UsageError for fewer than one seed."""
    if seeds < 1:
        raise UsageError(f"{seeds} seeds are none", hint="give 1 or more, such as 5")


def seeds_out(run: Path) -> Path:
    """Return the folder of several seeds, where one run would be in ``run``."""
    return run.with_name(f"{run.name}-seeds")


def is_first() -> bool:
    """Whether this process, of those that ``torchrun`` started, writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def _check_free(path: Path, folders: Sequence[RunFolder], *, taken: bool) -> None:
    """Raise UsageError before the first run when a later one could not begin."""
    if RunFolder(path).record.exists():
        raise UsageError(f"{path}: is a run itself", hint="give another --out")
    there = [folder.path for folder in folders if folder.record.exists()]
    if there and not taken:
        raise UsageError(
            f"{there[0]}: there is a run in it already",
            hint="--resume auto resumes these seeds, --overwrite starts again",
        )


def how_to_resume(path: Path) -> str:
    """Return what to say of a folder of seeds: how those that have begun are resumed together."""
    begun = seeds_in(path)
    return _how_to_resume(RunFolder(begun[0]), len(begun), path)


def _how_to_resume(first: RunFolder, seeds: int, out: Path) -> str:
    command = _command(first, seeds, out)
    in_python = 'the same call with resume="auto" resumes'
    return f"resume with: {command} --resume auto" if command else in_python


def _command(first: RunFolder, seeds: int, out: Path) -> str:
    """Return the command that trains these seeds into ``out``; recipe.yaml has every setting.

    Empty where data, weights or teacher were given in Python, or a network without a name.
    """
    record = first.read_record()
    data, begun = record.data, (record.model.name, record.weights, record.teacher)
    options = ("--recipe", str(first.recipe), "--seeds", str(seeds), "--out", str(out))
    words = words_of(data.source, *begun, data.root, *options, *record.ending.options)
    return f"{program()} train {shlex.join(words)}" if words else ""


def _summarise(
    path: Path, folders: Sequence[RunFolder], recipes: Sequence[Recipe], runs: Sequence[Run]
) -> Repetition:
    records = [folder.read_record() for folder in folders]
    first = records[0]
    data, model = first.data, first.model.name
    known = () if data.several else published(model, data.name)
    rows = [row for row in known if row.error_percent is not None]
    recipe = read_recipe(folders[0].recipe)
    return Repetition(
        path=path,
        runs=tuple(runs),
        seeds=tuple(each.seed for each in recipes),
        model=model,
        data=data.name,
        recipe=recipe.name,
        minutes=round(sum(record.progress.seconds or 0 for record in records) / 60, 2),
        command=_command(folders[0], len(runs), path.with_name(f"{path.name}-again")),
        part="test" if data.test else "validation" if data.validation else None,
        measure="mAP" if data.several else "accuracy",
        comparisons=tuple(
            Comparison(row, tuple(differences(row, first, recipe, len(runs)))) for row in rows
        ),
    )


def differences(
    row: Published, record: Record, recipe: Recipe, runs: int, shown: str = "1-crop"
) -> Iterator[str]:
    """Say why so many runs by ``recipe``, one of them of ``record``, do not reproduce a row.

    ``shown`` is the protocol by which they were measured.
    """
    data, steps, epochs = record.data, record.progress.steps or 0, record.progress.epochs or 0
    if row.iterations and steps != row.iterations:
        yield f"{plural(steps, 'iteration')}, not {row.iterations:,}"
    if row.epochs and epochs != row.epochs:
        yield f"{plural(epochs, 'epoch')}, not {row.epochs:,}"
    if row.batch and recipe.batch_size != row.batch:
        yield f"batches of {recipe.batch_size}, not {row.batch}"
    if row.dataset != "imagenet":
        if data.source != row.dataset:
            kind = "data set" if data.source == GIVEN else "folder"
            yield f"a {kind} called {data.name}, not {row.dataset}'s own files"
        if not data.test:
            yield "measured on the held-out split, not on the test split"
    elif len(data.classes) != CLASSES["imagenet"] or (data.train or 0) < 0.9 * IMAGES["imagenet"]:
        yield (
            f"{plural(data.train or 0, 'training image')} and {len(data.classes):,} classes, not "
            f"ImageNet's {IMAGES['imagenet']:,} and {CLASSES['imagenet']:,}"
        )
    if row.protocol == "10-crop" and shown != row.protocol:
        yield "measured on one crop, not on ten"
    elif row.protocol == "multi-scale" and shown != row.protocol:
        yield "measured on one crop, not at several scales"
    statistic, _, number = row.protocol.rpartition(" of ")
    if statistic and runs < int(number):
        yield f"{plural(runs, 'run')}, not the {row.protocol}"
    yield from _other_settings(row, recipe)


def _other_settings(row: Published, recipe: Recipe) -> list[str]:
    """Say where ``recipe`` leaves the one that follows the row's paper."""
    if not row.recipe:
        return ["no recipe of the paper to compare the settings with"]
    here, there = _settings(recipe), _settings(load_recipe(row.recipe))
    if row.dataset != "imagenet":
        here.pop("data.view")  # of sets with a name there is one, and earlier versions named none
    return [f"{key} {here[key]}, not {there[key]}" for key in here if here[key] != there[key]]


def _settings(recipe: Recipe) -> dict[str, Any]:
    return {key: v for key, v in recipe.flat().items() if key not in _APART | _NEUTRAL}
