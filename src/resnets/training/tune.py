"""A search for settings: trials that are runs like any other, one after another."""

import json
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from resnets.data.dataset import Dataset
from resnets.data.given import GIVEN
from resnets.errors import DataError, NonFiniteError, Stopped, UsageError
from resnets.files import alone, write_text
from resnets.formatting import percent, plural
from resnets.machine.device import Machine
from resnets.machine.torchrun import launched
from resnets.readers import strict_yaml
from resnets.report.search import write_search_page
from resnets.run_folder.reading import read_run
from resnets.run_folder.record import Epoch, to_plain
from resnets.run_folder.trials import Search, SearchFolder, Trial
from resnets.spec import Spec
from resnets.training.begun import begun_from, command_of, only_in_python, taught_by
from resnets.training.distillation import IN_PYTHON, TeacherSource
from resnets.training.progress import RunProgress
from resnets.training.proposals import check_installed, falls_behind, propose
from resnets.training.recipe import Recipe, load_recipe, read_recipe, unnamed
from resnets.training.run import Run
from resnets.training.space import default_space, parse_space, read_space
from resnets.training.starting import IN_MEMORY
from resnets.training.train import check_data, default_out, model_in, planned, train
from resnets.weights.checkpoint import Source
from resnets.weights.stated_spec import read_spec

TRIALS = 20


class _Pruned(Stopped):
    """A trial is not worth its end."""


class _TimeOver(Stopped):
    """The minutes of a search are over."""


@dataclass(frozen=True)
class Tuning:
    """What a search has come to: its folder, and tune.json as it stands."""

    path: Path
    search: Search = field(repr=False)
    command: str  # that trains with the best settings; empty where there are none yet

    @property
    def recipe(self) -> Path:
        """The recipe with the best settings."""
        return SearchFolder(self.path).best

    @property
    def report(self) -> Path:
        """The page with the trials."""
        return SearchFolder(self.path).report

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        best = self.search.best
        return {
            **to_plain(self.search),
            "best": best and best.name,
            "recipe": str(self.recipe) if best else None,
            "command": self.command,
            "page": str(self.report),
        }


def tune(
    data: str | Path | Dataset | Any = None,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    search: Sequence[str] = (),
    space: str | Path | None = None,
    seed: int = 0,
    prune: bool = True,
    model: str | Spec | None = None,
    recipe: str | Path | Recipe | None = None,
    weights: Source | None = None,
    teacher: TeacherSource | None = None,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    root: str | Path | None = None,
    machine: Machine = Machine(),
    **options: Any,
) -> Tuning:
    """Look for the settings that do best on the held-out split, by ``trials`` (20) runs.

    Best is the accuracy, or mean average precision where an image may have several classes.

    What is tried are fields of the recipe: ``search`` has words such as
    ``optimizer.lr=1e-4..1e-1:log`` or ``label_smoothing=0,0.1``, ``space`` a YAML file of them;
    without either it is rate, weight decay, label smoothing and augmentation. The first trial is
    the recipe as it is; ``seed`` draws the others, that of training stays the recipe's. With
    ``prune`` a trial ends when it has fallen behind the median of those before. After ``minutes``
    the search ends with the epoch. Nothing of it sees the test split.

    The folder ``out`` has a run folder for each trial, tune.json, best.yaml and a page.
    ``resume`` is such a folder, or "auto" as in `train`, which has all other arguments.

    Raises what `train` raises; Stopped says how to resume.
    """
    if launched():
        raise UsageError("a search is one process", hint="start it without torchrun")
    if (trials is not None and trials < 1) or (minutes is not None and not minutes > 0):
        raise UsageError("a search of no trials, or of no time", hint="--trials 20 --minutes 60")
    check_installed()
    deadline = inf if minutes is None else time.monotonic() + 60 * minutes
    if resume in (None, "auto"):
        meant = recipe
        recipe, texts = load_recipe(meant or unnamed(weights), settings), read_space(search, space)
        parse_space(texts, recipe)  # before anything is read
        name = default_out(check_data(data), model or model_in(weights, **options), recipe)
        folder = SearchFolder(Path(f"{name}-tune" if out is None else out))
        if resume and meant is None and folder.recipe.exists():
            # Earlier versions started from weights by the default recipe, too.
            begun_by = read_recipe(folder.recipe).name
            recipe = load_recipe("default", settings) if begun_by == "default" else recipe
    elif model or recipe or out or overwrite or settings or search or space:
        raise UsageError(
            f"{resume} says with what it is resumed", hint="leave the other options out"
        )
    else:
        folder = SearchFolder(Path(str(resume)))
        begun = folder.read()
        recipe, texts = load_recipe(folder.recipe), begun.space
        model = read_spec(begun.spec) if begun.spec else begun.model
        root, seed, prune, trials = begun.root, begun.seed, begun.prune, trials or begun.count
        data = begun.source if data is None else data
        if begun.weights and weights is None:
            weights, options = begun.weights.source, options | begun.weights.reading
        if begun.teacher and teacher is None:
            teacher = begun.teacher.source
        for given, mark in ((data, GIVEN), (weights, IN_MEMORY), (teacher, IN_PYTHON)):
            if isinstance(given, str) and given == mark:
                raise UsageError(f"{folder.path}: began with {mark}", hint="give it again")
    what = {"root": root, "weights": weights, "teacher": teacher, "machine": machine, **options}
    with planned(data, model=model, recipe=recipe, **what) as (plan, progress):
        if plan.dataset.validation is None:
            raise UsageError(
                "nothing is held out to compare trials by", hint="--set data.holdout=0.1"
            )
        wanted = Search(
            model=plan.spec.name,
            spec=plan.spec.to_dict() if isinstance(model, Spec) else None,
            data=plan.dataset.name,
            source=plan.source,
            root=plan.root,
            fingerprint=plan.dataset.fingerprint,
            weights=begun_from(plan),
            teacher=taught_by(plan),
            space=texts or default_space(plan.recipe, starts=plan.start is not None),
            seed=seed,
            count=trials or TRIALS,
            measure="mean average precision" if plan.dataset.several else "accuracy",
            prune=prune,
        )
        own = {key: plan.recipe.flat()[key] for key in wanted.space}
        command = command_of(plan, folder.best)
    what |= {"model": model or plan.spec.name}
    with alone(folder.record):
        found = _begin(folder, wanted, recipe, resume=resume is not None, overwrite=overwrite)
        tuner = _Tuner(folder, recipe, own, command, deadline, progress, found)
        try:
            tuner.run(partial(train, data, **what))
        except (Stopped, KeyboardInterrupt) as stop:
            code = stop.exit_code if isinstance(stop, Stopped) else 130
            raise Stopped(
                f"stopped in trial {len(tuner.search.trials)} of {tuner.search.count}",
                hint=f"resume with: {_how_to_resume(folder, tuner.search)}",
                exit_code=code,
            ) from None
    return Tuning(folder.path, tuner.search, command if tuner.search.best else "")


def _begin(
    folder: SearchFolder, wanted: Search, recipe: Recipe, *, resume: bool, overwrite: bool
) -> Search:
    """Return the search to go on with, which is in its folder; raise UsageError for another."""
    text = strict_yaml.dump(recipe.model_dump(mode="json", exclude_unset=True))
    if folder.record.exists() and not overwrite:
        if not resume:
            raise UsageError(
                f"{folder.path}: there is a search in it already",
                hint="--resume auto resumes it, --overwrite starts again",
            )
        begun = folder.read()
        if begun.fingerprint != wanted.fingerprint:
            raise DataError(
                f"{folder.path}: the images or labels are others than when the search began",
                hint="start another with --out",
            )
        begun = replace(begun, count=wanted.count, source=wanted.source, root=wanted.root)
        other = [
            name
            for name, value in vars(begun).items()
            if name != "trials" and value != getattr(wanted, name)
        ]
        if load_recipe(folder.recipe) != recipe:
            other.append("recipe")
        if other:
            raise UsageError(
                f"{folder.path}: is a search with another {' and '.join(other)}",
                hint="give another --out, or resume it by its folder",
            )
        return begun
    if overwrite:
        for run in folder.trials():
            run.create(overwrite=True)
        for file in (folder.record, folder.best, folder.report):
            file.unlink(missing_ok=True)
    elif any(not path.name.startswith(".") for path in folder.path.iterdir()):
        raise UsageError(f"{folder.path}: is not empty and not a search", hint="give another --out")
    write_text(folder.recipe, text)
    folder.write(wanted)
    return wanted


def _how_to_resume(folder: SearchFolder, search: Search) -> str:
    given = only_in_python(search.source, search.weights, search.teacher)
    if given:
        said = (word if name == "data" else f"{name}={word}" for name, word in given.items())
        return f"resnets.tune({', '.join(said)}, resume={str(folder.path)!r})"
    return f"resnets tune --resume {shlex.quote(str(folder.path))}"


def _scores(lines: Sequence[Epoch]) -> tuple[float, ...]:
    """Return what trials are compared by after each epoch."""
    return tuple(
        line.validation_accuracy or 0.0 if line.validation_map is None else line.validation_map
        for line in lines
    )


@dataclass
class _Tuner:
    """What takes one trial after another, and writes down each before and after it."""

    folder: SearchFolder
    recipe: Recipe
    own: dict[str, Any]  # the recipe's values of what is searched
    command: str
    deadline: float  # of `time.monotonic`
    progress: RunProgress
    search: Search

    def run(self, train: Callable[..., Run]) -> None:
        """Take trials until there are as many as wanted, or the time is over."""
        space, begun = parse_space(self.search.space, self.recipe), False
        with suppress(_TimeOver):
            while True:
                trials = self.search.trials
                if not trials or trials[-1].status != "running":
                    if len(trials) >= self.search.count:
                        break
                    if begun and time.monotonic() > self.deadline:
                        raise _TimeOver("the time is over")
                    settings = propose(space, trials, self.search.seed) if trials else self.own
                    trial = Trial(f"trial-{len(trials):03d}", settings)
                    self.search = replace(self.search, trials=(*trials, trial))
                    self.folder.write(self.search)
                begun = True
                self._take(train)
            return
        done = sum(trial.status != "running" for trial in self.search.trials)
        self.progress.say(
            f"the time is over after {plural(done, 'trial')} of {self.search.count}; resume with: "
            f"{_how_to_resume(self.folder, self.search)}"
        )

    def _take(self, train: Callable[..., Run]) -> None:
        """Bring the last trial to its end, and the folder up to it."""
        trial, number = self.search.trials[-1], len(self.search.trials)
        folder = self.folder.trial(trial.name)
        words = [f"{key}={json.dumps(value)}" for key, value in trial.settings.items()]
        self.progress.say(f"trial {number} of {self.search.count}: {' '.join(words)}")
        found: dict[str, Any]
        late = None
        try:
            recipe = load_recipe(self.recipe, words)
            run = train(
                recipe=recipe,
                out=folder.path,
                resume="auto",
                test=False,
                remember=False,
                watch=self._watch,
            )
            late, held_out = run.asked_to_stop, run.results["validation"]
            score = held_out.get("map", held_out["accuracy"])
            found = {"status": "finished", "score": score, "loss": held_out["loss"]}
        except _Pruned:
            found = {"status": "pruned"}
        except NonFiniteError as error:
            found = {"status": "diverged", "reason": error.message}
        except UsageError as error:
            found = {"status": "refused", "reason": error.message}
        if folder.record.exists():
            record = read_run(folder.path)
            found["epochs"] = scores = _scores(record.epochs)
            found["seconds"] = record.progress.seconds
            if scores and found["status"] != "finished":
                found |= {"score": scores[-1], "loss": record.epochs[-1].validation_loss}
        self.search = self.search.with_last(**found)
        self.folder.write(self.search)
        folder.prune(keep=0)  # what it would be resumed from
        self._show(number)
        if late is not None and number < self.search.count:
            raise Stopped("asked to stop", exit_code=late)

    def _watch(self, lines: Sequence[Epoch], epochs: int) -> None:
        """End a trial after an epoch that shows that it is in vain, or when the time is over."""
        if self.search.prune and falls_behind(_scores(lines), epochs, self.search.trials[:-1]):
            raise _Pruned("fallen behind")
        if len(lines) < epochs and time.monotonic() > self.deadline:
            raise _TimeOver("the time is over")

    def _show(self, number: int) -> None:
        """Say what came of a trial, and let recipe and page follow."""
        trial, best = self.search.trials[-1], self.search.best
        line = f"trial {number}: {trial.status}"
        if trial.score is not None:
            line += f", held out {percent(trial.score, 2)}"
        if best:
            line += f"; best so far {percent(best.score, 2)}, {best.name}"
        self.progress.say(line)
        if best and best is trial:
            recipe = read_recipe(self.folder.trial(best.name).recipe)
            source = f"{best.name} of a search among {plural(self.search.count, 'trial')}"
            named = recipe.model_copy(update={"name": f"{recipe.name}-tuned", "source": source})
            write_text(self.folder.best, named.to_yaml())
        write_search_page(self.folder, self.search, self.command)
