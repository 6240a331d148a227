"""Whether the run in a folder is the one that is asked for, and where it stands."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from resnets.data.identity import changes as changes_of
from resnets.data.identity import read_manifest
from resnets.errors import CheckpointError, UsageError
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import Change, Record
from resnets.training.prepare import Plan, identity_of
from resnets.training.progress import RunProgress
from resnets.training.recipe import read_recipe
from resnets.training.state import RunState, differences


def check_same(plan: Plan, folder: RunFolder, record: Record) -> None:
    """Raise UsageError when a finished run, whose state may have been deleted, is another."""
    recipe = read_recipe(folder.recipe)
    weights = record.weights.digest if record.weights else None
    teacher = record.teacher.digest if record.teacher else None
    before = identity_of(recipe, record.model.spec, record.data.fingerprint, weights, teacher)
    now = {key: value for key, value in plan.identity.items() if key != "processes"}
    if changed := differences(before, now, _data_changes(plan, folder, record)):
        raise UsageError(
            f"{folder.path}: holds a finished run, and this would be another one: "
            f"{'; '.join(changed.values())}",
            hint="give another --out",
        )


def take_up(
    plan: Plan,
    folder: RunFolder,
    progress: RunProgress,
    state: RunState,
    record: Record,
    changes: Sequence[str],
) -> Record | None:
    """Bring the state to where the run in the folder stands, and return its record.

    None where it has no state.
    """
    processes, states = plan.machine.processes, folder.states()
    unfounded = folder.has_results and not states
    processes.wait()  # all have looked before one writes
    if unfounded:
        raise CheckpointError(
            f"{folder.path}: its state is gone, or of an older version, so it cannot be resumed",
            hint="give another --out, or --overwrite to start again",
        )
    if not states:
        return None
    # Until the next state the one on disk is from before an earlier change.
    found, may_change = _data_changes(plan, folder, record), bool(changes or record.changes)
    problems = state.load(states, may_change=may_change, data_changes=found)
    for problem, path in zip(problems, states, strict=False):
        progress.say(f"{problem}; resumed from the state before it")
        if processes.is_first:
            path.unlink(missing_ok=True)
    steps = processes.gather(torch.tensor([state.step]))
    if (steps != state.step).any():
        raise CheckpointError(
            f"{folder.path}: the processes have read states of different steps",
            hint="give all of them the same folder, and try again",
        )
    if changes:
        _check_length(plan, folder, state)
        change = Change(state.step, tuple(changes))
        record = replace(record, changes=(*record.changes, change))
    return replace(record, data=replace(record.data, source=plan.source))  # they may have moved


def _data_changes(plan: Plan, folder: RunFolder, record: Record) -> str:
    """Return in what the images differ from those that the run has begun with, if known."""
    dataset = plan.dataset
    if record.data.fingerprint == dataset.fingerprint or dataset.manifest is None:
        return ""
    before = read_manifest(folder.manifest)
    return "" if before is None else str(changes_of(before, dataset.manifest))


def _check_length(plan: Plan, folder: RunFolder, state: RunState) -> None:
    """Raise UsageError for a changed length that would cut an epoch's books in two."""
    steps, lines = plan.steps, state.ledger.lines
    if steps < state.step or (steps == state.step and state.epoch.samples):
        raise UsageError(
            f"{folder.path}: is at step {state.step:,} already",
            hint="raise schedule.epochs or schedule.iterations",
        )
    if lines and lines[-1].steps < plan.batches and steps > state.step:
        raise UsageError(
            f"{folder.path}: has ended within an epoch and cannot be longer",
            hint="start another run with --out",
        )
