"""What a run begins from: in words that begin it again, and as its folder has it."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resnets.data import NAMES
from resnets.data.given import GIVEN
from resnets.data.images import printable
from resnets.errors import CheckpointError, DataError, UsageError
from resnets.machine.device import Machine
from resnets.machine.torchrun import program
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import Ending, Record, Taught, Weights
from resnets.spec import Spec
from resnets.training.distillation import IN_PYTHON
from resnets.training.prepare import Plan
from resnets.training.recipe import Recipe, load_recipe, read_recipe
from resnets.training.starting import IN_MEMORY, Start, reading_in
from resnets.weights.checkpoint import Source
from resnets.weights.stated_spec import read_spec
from resnets.zoo import is_named


def begun_from(plan: Plan) -> Weights | None:
    """Return what a run's record says of the weights it starts from."""
    start = plan.start
    return Weights(start.source, start.digest, dict(start.reading)) if start else None


def taught_by(plan: Plan) -> Taught | None:
    """Return what a run's record says of its teacher."""
    teacher = plan.teacher
    return Taught(teacher.source, teacher.digest, teacher.network.spec.name) if teacher else None


def ending_of(machine: Machine) -> Ending:
    """Return what a run's record says of what is fitted in the end."""
    return Ending(machine.calibrate or "none", machine.false_alarms)


def only_in_python(source: str, weights: Weights | None, teacher: Taught | None) -> dict[str, str]:
    """Return what Python alone can give again, by its argument, and as what it is written there."""
    found = {
        "data": ("data", source == GIVEN),
        "weights": ("weights", weights and weights.source == IN_MEMORY),
        "teacher": ("model", teacher and teacher.source == IN_PYTHON),
    }
    return {name: word for name, (word, in_python) in found.items() if in_python}


def words_of(
    source: str,
    model: str,
    weights: Weights | None,
    teacher: Taught | None,
    root: str | None,
    *options: str,
) -> list[str]:
    """Return the words after `train` that begin a run, with ``options`` such as its recipe.

    There are none where Python gave something, or the network has no name that would mean it.
    """
    if only_in_python(source, weights, teacher) or not is_named(model):
        return []
    words = [source, "--model", model, *options]
    words += weights.options if weights else []
    words += teacher.options if teacher else []
    return words + (["--root", root] if root else [])


def command_of(plan: Plan, recipe: Path, out: str | None = None) -> str:
    """Return the command that trains what a plan does, by the recipe in a file.

    It is a call in Python where a command cannot say it.
    """
    model, weights, teacher = plan.spec.name, begun_from(plan), taught_by(plan)
    ending = ending_of(plan.machine)
    options = ("--recipe", str(recipe), *(("--out", out) if out else ()), *ending.options)
    if words := words_of(plan.source, model, weights, teacher, plan.root, *options):
        return shlex.join(["resnets", "train", *words])
    arguments = {
        "model": repr(model) if is_named(model) else f"resnets.{plan.spec!r}",
        "recipe": repr(str(recipe)),
        "weights": weights and repr(weights.source),
        **{name: repr(value) for name, value in (weights.reading if weights else {}).items()},
        "teacher": teacher and repr(teacher.source),
        "out": out and repr(out),
        "root": plan.root and repr(plan.root),
        **{name: repr(value) for name, value in _unusual(ending).items()},
    }
    arguments |= only_in_python(plan.source, weights, teacher)
    data = arguments.pop("data", repr(plan.source))
    said = (f"{name}={value}" for name, value in arguments.items() if value)
    return f"resnets.train({', '.join((str(data), *said))})"


def source_of(folder: RunFolder, record: Record) -> str:
    """Return where a run has its data; raises DataError where they are no longer there."""
    source, path = record.data.source, shlex.quote(str(folder.path))
    if source in NAMES or Path(source).exists():
        return source
    if source == GIVEN:
        raise DataError(
            f"{folder.path}: was trained on a data set that Python gave",
            hint=f"give it again: resnets.train(data, resume={str(folder.path)!r})",
        )
    raise DataError(
        f"{folder.path}: its images were in {printable(source)}, which is not there",
        hint=f"if they are elsewhere: {program()} train NEWPLACE --resume {path}",
    )


def model_of(folder: RunFolder, record: Record) -> Spec:
    """Return the network of a run. Raises CheckpointError where its record is damaged."""
    try:
        return read_spec(record.model.spec)
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder.record}: is damaged: {error.message}", hint="start the run anew: --overwrite"
        ) from None


def recipe_of(folder: RunFolder, settings: Sequence[str]) -> Recipe:
    """Return the recipe of a run, with settings changed. Raises CheckpointError without one."""
    if not folder.recipe.exists():
        raise CheckpointError(
            f"{folder.path}: was killed before it began", hint="start it with --overwrite"
        )
    return load_recipe(read_recipe(folder.recipe), settings)


def start_of(folder: RunFolder, record: Record) -> Source | Start | None:
    """Return what a run has started from; once it has a state, that says the values."""
    start = record.weights
    if start is None:
        return None
    source = start.source
    if folder.states():
        note = f"weights: those of the saved state; the run began from {source}"
        reading = reading_in(start.reading, source)
        return Start(source, start.digest, lines=(note,), reading=reading)
    if source == IN_MEMORY:
        raise CheckpointError(
            f"{folder.path}: was killed before its first state, and began from {source}",
            hint="start it again: resnets.train(..., weights=..., overwrite=True)",
        )
    return source


def ends_as(machine: Machine, record: Record) -> Machine:
    """Return a machine that ends a run as it was begun, but for what it says itself."""
    said = _unusual(ending_of(machine))
    return replace(machine, **{k: v for k, v in _unusual(record.ending).items() if k not in said})


def _unusual(ending: Ending) -> dict[str, Any]:
    """Return the fields of a machine that say what is fitted in the end, but for usual ones."""
    usual = vars(Ending())
    found = {name: value for name, value in vars(ending).items() if value != usual[name]}
    return {name: None if value == "none" else value for name, value in found.items()}


def teacher_of(folder: RunFolder, record: Record) -> str | None:
    """Return where a run has its teacher; raises UsageError where it has to be given again."""
    if record.teacher is None:
        return None
    source, path = record.teacher.source, str(folder.path)
    where = source.partition("@")[2] or source
    if source == IN_PYTHON:
        hint = f"give it again: resnets.train(resume={path!r}, teacher=model)"
    elif Path(where).is_absolute() and not Path(where).exists():
        hint = f"if it is elsewhere: {program()} train --resume {shlex.quote(path)} --teacher PLACE"
    else:
        return source
    raise UsageError(f"{path}: its teacher, {printable(source)}, is not there", hint=hint)
