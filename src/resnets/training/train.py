"""From what a user says to a finished run: behind `resnets train`."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from resnets.data import NAMES
from resnets.data.dataset import Dataset
from resnets.data.given import as_dataset
from resnets.data.usual_tables import title
from resnets.errors import UsageError, check_name
from resnets.evaluation.temperature import KINDS
from resnets.machine.device import Machine
from resnets.machine.processes import join
from resnets.machine.torchrun import launch, restarts
from resnets.models import ReadingOptions, check_folder, undecided
from resnets.run_folder.directory import RunFolder
from resnets.spec import Spec
from resnets.training.begun import (
    ending_of,
    ends_as,
    model_of,
    recipe_of,
    source_of,
    start_of,
    teacher_of,
)
from resnets.training.distillation import TeacherSource
from resnets.training.other_names import find_argument, instead_of
from resnets.training.prepare import Plan, prepare
from resnets.training.progress import RunProgress
from resnets.training.recipe import Recipe, how_to_set, load_recipe, read_recipe, unnamed
from resnets.training.run import Run, finished, run
from resnets.training.starting import Start, reading_in
from resnets.training.trackers import TRACKERS
from resnets.weights.checkpoint import Source, open_checkpoint

_DEFAULT_MODEL = "resnet18"


def train(
    data: str | Path | Dataset | Any = None,
    *,
    model: str | Spec | None = None,
    recipe: str | Path | Recipe | None = None,
    weights: Source | None = None,
    teacher: TeacherSource | None = None,
    container: str | None = None,
    dialect: str | None = None,
    ema: bool = False,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    root: str | Path | None = None,
    machine: Machine = Machine(),
    **where: Any,
) -> Run:
    """Train ``model`` (resnet18) on ``data`` by ``recipe`` into the run folder ``out``.

    Where no recipe is named it is "default", and "auto" with ``weights``.

    ``data`` is digits, cifar10, cifar100, a folder of images, or a data set in hand: a `Dataset`,
    (images, labels), or what `data.given.as_dataset` takes; ``root`` is where CIFAR's files are.
    ``weights`` is where training starts from, as `create_model` takes it: a file, a run folder, the
    name of published weights, a state dict; a file of ours says the model too. Its classifier is
    taken over where it has the data's classes, its preprocessing unless the recipe says another;
    ``container``, ``dialect`` and ``ema`` choose among what it holds, as for `load_weights`.
    ``teacher`` is a network whose answers are learnt, as the recipe's ``distill`` says: a run
    folder, a file, MODEL@WEIGHTS, or a `ResNet`. It is needed again to resume.
    ``settings`` are overrides such as ``optimizer.lr=0.05``. ``resume`` is a run folder to resume,
    which says everything else but what ``settings`` change on purpose, or "auto": continue where
    ``out`` holds this very run, and start it otherwise. ``machine`` says where and how; its fields
    may be given by themselves, such as ``device="cpu"``.

    Under ``torchrun`` the processes share each batch; when it starts them anew they resume.

    Raises UsageError, DataError, CheckpointError, ResourceError and NonFiniteError as they are met,
    PeerLost when another process has failed, and Stopped, its state saved, when a signal asked the
    run to stop.
    """
    settings = [settings] if isinstance(settings, str) else settings
    machine = _machine(machine, where)
    check_model(model)
    reading = reading_in({"container": container, "dialect": dialect, "ema": ema}, weights)
    if not isinstance(resume, str | Path | None):
        raise UsageError(
            f"resume is {resume}", hint='give the run folder, or resume="auto" beside out='
        )
    continued = RunFolder(Path(resume)) if resume is not None and str(resume) != "auto" else None
    if continued and (model or recipe or out or overwrite or weights is not None):
        continued.read_record()  # what is no run says nothing
        raise UsageError(
            f"{resume} says with what it is resumed: model, recipe, weights and folder",
            hint="leave these options out, or start another run with --out",
        )
    if not continued:
        data = check_data(data)
    elif not isinstance(data, str | Path | None):
        data = as_dataset(data)
    with join(machine.where) as processes:
        machine = replace(machine, processes=processes)
        progress = RunProgress(quiet=machine.quiet or not processes.is_first)
        begin: Source | Start | None = weights
        if continued:
            folder, resumes = continued, True
            record = folder.read_record()
            if record.finished:
                if settings:
                    raise UsageError(
                        f"{folder.path}: is finished", hint="start another run with --out"
                    )
                if data is None:
                    return finished(folder, record, progress, first=processes.is_first)
            data = data if data is not None else source_of(folder, record)
            machine = _machine(ends_as(machine, record), {})
            if (words := record.ending.options) and ending_of(machine) == record.ending:
                progress.say(f"in the end as it was begun: {shlex.join(words)}")
            root = root if root is not None else record.data.root
            model, recipe = model_of(folder, record), recipe_of(folder, settings)
            begin = start_of(folder, record)
            reading = reading_in(record.weights.reading if record.weights else {}, begin)
            teacher = teacher if teacher is not None else teacher_of(folder, record)
        else:
            assert data is not None  # as was looked at above
            model = model or model_in(weights, **reading)
            meant = recipe or unnamed(weights)
            recipe = load_recipe(meant, settings)
            folder = RunFolder(Path(out) if out is not None else default_out(data, model, recipe))
            # One looks, before anyone writes.
            there = processes.is_first and folder.record.exists()
            resumes = processes.any(there and (resume is not None or _begun_here(folder)))
            if resumes and meant == "auto" and folder.recipe.exists():
                # Without a name, an earlier version started from weights by the default recipe.
                kept = read_recipe(folder.recipe).name
                recipe = load_recipe("default", settings) if kept == "default" else recipe
        plan = prepare(
            data,
            model,
            recipe,
            machine=machine,
            progress=progress,
            root=root,
            weights=begin,
            reading=reading,
            teacher=teacher,
            folder=folder,
            resume=resumes,
        )
        changes = settings if continued else ()
        return run(plan, folder, progress, resume=resumes, overwrite=overwrite, changes=changes)


@contextmanager
def planned(
    data: str | Path | Dataset | Any,
    *,
    model: str | Spec | None = None,
    recipe: str | Path | Recipe | None = None,
    weights: Source | None = None,
    teacher: TeacherSource | None = None,
    container: str | None = None,
    dialect: str | None = None,
    ema: bool = False,
    settings: Sequence[str] = (),
    root: str | Path | None = None,
    machine: Machine = Machine(),
    **where: Any,
) -> Iterator[tuple[Plan, RunProgress]]:
    """Yield what `train` would do for the same arguments, which touches no run folder.

    Raises what `train` raises before its first step.
    """
    machine = _machine(machine, where)
    check_model(model)
    reading = reading_in({"container": container, "dialect": dialect, "ema": ema}, weights)
    data = check_data(data)
    with join(machine.where) as processes:
        progress = RunProgress(quiet=machine.quiet or not processes.is_first)
        plan = prepare(
            data,
            model or model_in(weights, **reading),
            load_recipe(recipe or unnamed(weights), settings),
            machine=replace(machine, processes=processes),
            progress=progress,
            root=root,
            weights=weights,
            reading=reading,
            teacher=teacher,
        )
        with progress:
            yield plan, progress


def _machine(machine: object, fields: dict[str, Any]) -> Machine:
    """Return the machine with the fields that were given by themselves. Raises UsageError."""
    if not isinstance(machine, Machine):
        raise UsageError(
            f"machine is a {type(machine).__name__}",
            hint='give Machine(device="cpu"), or device="cpu"',
        )
    for name, value in fields.items():
        if name not in machine.__dataclass_fields__:
            raise UsageError(f"there is no argument {name}", hint=_meant(name, value))
    machine = replace(machine, **fields)
    track = (machine.track,) if isinstance(machine.track, str) else tuple(machine.track)
    for name in track:
        check_name("tracker", name, tuple(TRACKERS))
    if machine.calibrate is not None:
        check_name("calibration", machine.calibrate, KINDS)
    if not 0 <= machine.false_alarms <= 0.5:
        raise UsageError(
            f"false alarms are {machine.false_alarms}, a share of the known images from 0 to 0.5",
            hint="0.05 calls one in twenty known images unknown, 0 none",
        )
    return replace(machine, track=track)


def _meant(name: str, value: object) -> str:
    """Return what is to be typed in place of an argument that there is not."""
    if argument := find_argument(name):
        return f"did you mean {argument}?"
    words = shlex.split(how_to_set(name, str(value), mistyped=False))
    settings = [word for word in words if word != "--set"]
    return instead_of(name) or (
        f"settings={json.dumps(settings)}"
        if settings
        else "help(resnets.train) lists what there is"
    )


def check_model(model: object) -> None:
    """Raise UsageError for a model that is a thing instead of what names it."""
    if not isinstance(model, str | Spec | None):
        raise UsageError(
            f"model is a {type(model).__name__}: training builds its network itself",
            hint='give a name or a Spec, such as model="resnet18" or model=network.spec, and '
            "weights=network.state_dict() to start from its weights",
        )


def check_data(data: str | Path | Dataset | Any) -> str | Path | Dataset:
    """Return the data where they are, or as a data set. Raises UsageError where there are none."""
    if data is None:
        raise UsageError("there is no data to train on", hint="give a data set or a folder")
    return data if isinstance(data, str | Path) else as_dataset(data)


def default_out(data: str | Path | Dataset, model: str | Spec, recipe: Recipe) -> Path:
    """Return the run folder that is meant where none is named."""
    if isinstance(data, Dataset):
        name = re.sub(r"[^\w.-]", "_", data.name)
    else:
        name = str(data) if str(data) in NAMES else title(Path(data))
    parts = [name, model if isinstance(model, str) else model.name]
    named = [] if recipe.name in ("default", "auto") else [recipe.name]
    return Path("runs") / "-".join(parts + named)


def model_in(weights: Source | None, **reading: Unpack[ReadingOptions]) -> str | Spec:
    """Return the model that a file or a run says it is, or that its tensors leave no doubt of."""
    if isinstance(weights, str | Path) and Path(weights).exists():
        check_folder(weights)
        checkpoint = open_checkpoint(weights, **reading)
        return (not undecided(checkpoint) and checkpoint.spec) or _DEFAULT_MODEL
    return _DEFAULT_MODEL


def _begun_here(folder: RunFolder) -> bool:
    """Whether the run was begun by this very ``torchrun``, which has restarted its processes."""
    return restarts() > 0 and folder.read_record().launch == launch()
