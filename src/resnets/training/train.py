"""From what a user says to finished runs, one or several side by side: behind `resnets train`."""

import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from resnets.data import NAMES
from resnets.data.images import printable
from resnets.errors import CheckpointError, DataError, Stopped, UsageError
from resnets.machine.device import choose_device
from resnets.machine.processes import join, launch, launched, program, restarts
from resnets.run_folder.directory import RunFolder
from resnets.spec import Spec
from resnets.training.experiment import Experiment, Machine, Run, Running, finished
from resnets.training.progress import RunProgress
from resnets.training.recipe import Recipe, load_recipe, read_recipe
from resnets.training.signals import StopRequest
from resnets.weights.metadata import read_spec


def train(
    data: str | Path | None = None,
    *,
    model: str | Spec | None = None,
    recipe: str | Path | Recipe | None = None,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    root: str | Path | None = None,
    device: str = "auto",
    compile: bool = False,
    capture: bool = True,
    checkpointing: bool = False,
    save_minutes: float = 10,
    quiet: bool = False,
) -> Run:
    """Train ``model`` (resnet18) on ``data`` by ``recipe`` (default) into the run folder ``out``.

    ``data`` is digits, cifar10, cifar100 or a folder of pictures; ``root`` is where CIFAR's files
    are. ``settings`` are overrides such as ``optimizer.lr=0.05``. ``resume`` is a run folder to go
    on with, which says everything else but what ``settings`` change on purpose, or "auto": go on
    where ``out`` holds this very run, and start it otherwise. ``compile`` runs the network through
    `torch.compile`. On a GPU the step is recorded as a CUDA graph, where the recipe allows it and
    ``capture`` is not False. ``checkpointing`` computes blocks again on the way back, for a
    fraction of the memory and the same result. The state is saved after every epoch and every
    ``save_minutes``.

    Under ``torchrun`` the processes share each batch; when it starts them anew they go on.

    Raises UsageError, DataError, CheckpointError, ResourceError and NonFiniteError as they are met,
    PeerLost when another process has failed, and Stopped, its state saved, when a signal asked the
    run to stop.
    """
    settings = [settings] if isinstance(settings, str) else settings
    check_words(data, model)
    goes_on = resume is not None and str(resume) != "auto"
    if goes_on and (model or recipe or out or overwrite):
        raise UsageError(
            f"{resume} says with what it goes on: model, recipe and folder",
            hint="leave these options out, or start another run with --out",
        )
    if data is None and not goes_on:
        raise UsageError("there is no data to train on", hint="give a data set or a folder")
    with join(choose_device(device)) as processes:
        where = choose_device(device)
        machine = Machine(processes, where, compile, save_minutes, capture, checkpointing)
        progress = RunProgress(quiet=quiet or not processes.is_first)
        if goes_on:
            running = _go_on(RunFolder(Path(str(resume))), data, settings, root, machine, progress)
        else:
            assert data is not None
            model, recipe = model or "resnet18", load_recipe(recipe or "default", settings)
            folder = RunFolder(Path(out) if out is not None else default_out(data, model, recipe))
            parts = (data, model, recipe, folder, root, machine, progress)
            running = _begin(*parts, resume=bool(resume), overwrite=overwrite)
        return _together([running], machine)[0]


def train_side_by_side(
    data: str | Path,
    model: str | Spec,
    recipes: Sequence[Recipe],
    outs: Sequence[Path],
    *,
    resume: bool = False,
    overwrite: bool = False,
    root: str | Path | None = None,
    device: str = "auto",
    compile: bool = False,
    capture: bool = True,
    checkpointing: bool = False,
    save_minutes: float = 10,
    quiet: bool = False,
) -> list[Run]:
    """Train by several recipes in one process, a step of each in turn, each into its run folder.

    On a GPU each has a stream of its own, so that nets too small to fill it share it. The rest is
    as `train` has it; when one fails or is stopped, all are saved and end. Raises UsageError for
    more than one under ``torchrun``.
    """
    several = len(recipes) > 1
    with join(choose_device(device)) as processes:
        if several and processes.count > 1:
            raise UsageError(
                "several processes share one run, and cannot train several at once",
                hint="leave out torchrun, or --parallel-seeds",
            )
        stop = StopRequest(watch_parent=launched())
        where = choose_device(device)
        machine = Machine(processes, where, compile, save_minutes, capture, checkpointing, stop)
        runnings = []
        for recipe, out in zip(recipes, outs, strict=True):
            title = f"seed {recipe.seed}  " if several else ""
            progress = RunProgress(quiet=quiet or not processes.is_first, title=title)
            folder = RunFolder(out)
            parts = (data, model, recipe, folder, root, machine, progress)
            runnings.append(_begin(*parts, resume=resume, overwrite=overwrite))
        return _together(runnings, machine)


def check_words(data: object, model: object) -> None:
    """Raise UsageError for data and models that are things instead of what names them."""
    if not isinstance(model, str | Spec | None):
        raise UsageError(
            f"model is a {type(model).__name__}: training builds its network itself, with fresh "
            "weights",
            hint='give a name or a Spec, such as model="resnet18" or model=network.spec',
        )
    if not isinstance(data, str | Path | None):
        raise UsageError(
            f"data is a {type(data).__name__}, not a name or a folder",
            hint="give digits, cifar10, cifar100 or the path of a folder of pictures",
        )


def _begin(
    data: str | Path,
    model: str | Spec,
    recipe: Recipe,
    folder: RunFolder,
    root: str | Path | None,
    machine: Machine,
    progress: RunProgress,
    *,
    resume: bool,
    overwrite: bool,
) -> Running:
    """Return a run that goes on where there is one to go on with, and starts otherwise."""
    processes = machine.processes
    # One looks, before anyone writes.
    there = processes.is_first and folder.record.exists() and (resume or _begun_here(folder))
    goes_on = processes.any(bool(there))
    parts = (data, model, recipe, folder, root, machine, progress)
    experiment = Experiment(*parts, goes_on=goes_on)
    return experiment.go_on() if goes_on else experiment.start(overwrite=overwrite)


def _go_on(
    folder: RunFolder,
    data: str | Path | None,
    settings: Sequence[str],
    root: str | Path | None,
    machine: Machine,
    progress: RunProgress,
) -> Running:
    """Go on with the run in a folder, which says with what."""
    record = folder.read()
    if record.get("status") == "finished":
        if settings:
            raise UsageError(f"{folder.path}: is finished", hint="start another run with --out")
        return (yield from finished(folder, record, machine.processes))
    data = data if data is not None else _source(folder, record)
    root = root if root is not None else record["data"]["root"]
    if not folder.recipe.exists():
        raise CheckpointError(
            f"{folder.path}: was killed before it began", hint="start it with --overwrite"
        )
    try:
        spec = read_spec(record["model"]["spec"])
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder.record}: is damaged: {error.message}", hint="start the run anew: --overwrite"
        ) from None
    recipe = load_recipe(read_recipe(folder.recipe), settings)
    parts = (data, spec, recipe, folder, root, machine, progress)
    return (yield from Experiment(*parts, goes_on=True).go_on(settings))


def _source(folder: RunFolder, record: dict[str, Any]) -> str:
    """Return where a run has its data; raises DataError where they are no longer there."""
    source = str(record["data"]["source"])
    if source in NAMES or Path(source).exists():
        return source
    raise DataError(
        f"{folder.path}: its pictures were in {printable(source)}, which is not there",
        hint=f"if they are elsewhere: {program()} train NEWPLACE --resume "
        f"{shlex.quote(str(folder.path))}",
    )


def _together(runnings: Sequence[Running], machine: Machine) -> list[Run]:
    """Return the runs, finished, after taking a step of each in turn.

    The first error ends all of them, once the others have saved.
    """
    runs: dict[int, Run] = {}
    problem: BaseException | None = None
    waiting = dict(enumerate(runnings))
    streams = [_stream(machine.device) for _ in runnings]
    while waiting:
        for number, running in list(waiting.items()):
            try:
                with streams[number]:
                    next(running)
                continue
            except StopIteration as end:
                runs[number] = end.value
            except Exception as error:
                if problem is None or isinstance(problem, Stopped):
                    problem = error
                if machine.stop and not isinstance(error, Stopped):
                    machine.stop.ask()
            del waiting[number]
    if problem is not None:
        raise problem
    return [runs[number] for number in range(len(runnings))]


def _stream(device: torch.device) -> AbstractContextManager[None]:
    """Return what puts a run's work on a queue of its own, where the device has queues."""
    if device.type != "cuda":
        return nullcontext()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))  # the data are on their way there
    return torch.cuda.stream(stream)


def _begun_here(folder: RunFolder) -> bool:
    """Whether the run was begun by this very ``torchrun``, which has restarted its processes."""
    return restarts() > 0 and folder.read().get("launch") == launch()


def default_out(data: str | Path, model: str | Spec, recipe: Recipe) -> Path:
    """Return the run folder that is meant where none is named."""
    parts = [Path(data).resolve().name if str(data) not in NAMES else str(data)]
    parts += [model if isinstance(model, str) else model.name]
    return Path("runs") / "-".join(parts + ([recipe.name] if recipe.name != "default" else []))
