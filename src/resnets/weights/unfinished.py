"""A run that has not come to its end: the weights of its newest state, which is only read.

A run keeps its last states in ``state/``: one file each, written whole. Nothing here takes the
run's lock, so it may train meanwhile.
"""

import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.content import Content
from resnets.readers.documents import loads
from resnets.readers.paths import FOLDER_WEIGHTS
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import UNDECIDED, to_plain
from resnets.weights.metadata import Metadata
from resnets.weights.stated_spec import MALFORMED
from resnets.weights.tensors import check_digests, read_tensors, retied

# What stands before the names of tensors in a state.
MODEL, OPTIMIZER, AVERAGE, BEST, SOUP = "model/", "optimizer/", "average/", "best/", "soup/"
VALUES = "state"  # the key, in the metadata, of what is no tensor
_ENDED = {"stopped": "was stopped", "failed": "has failed", "finished": "has finished; saved"}
# Which of a state's weights finishing would keep, the first that are there.
_KEPT = {
    SOUP: ", the average of its last epochs' weights,",
    BEST: ", the weights that did best on the held-out split so far,",
    AVERAGE: ", the average of its weights,",
    MODEL: "",
}


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and values of a state. Raises CheckpointError when it is damaged."""
    try:
        tensors, metadata = read_tensors(path)
        values = loads(metadata[VALUES], path)
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path}: the state is missing or damaged: {error}") from None
    check_digests(path, tensors, metadata)
    return retied(tensors, metadata), values


def is_state(content: Content) -> bool:
    """Whether a file is a run's state, wherever it lies."""
    return VALUES in content.metadata and any(name.startswith(MODEL) for name in content.tree)


def is_unfinished(path: Path) -> bool:
    """Whether a path is a run folder without weights, or a state in a run folder."""
    if os.path.isdir(path):  # which Path asks too, but raises where it is not allowed to look
        has_weights = any(os.path.exists(path / name) for name in FOLDER_WEIGHTS)
        return os.path.isfile(path / "run.json") and not has_weights
    return path.parent.name == "state" and path in RunFolder(path.parent.parent).states()


def read_unfinished(path: Path) -> tuple[dict[str, Tensor], Metadata, str]:
    """Return what a run would keep if it ended at its newest state, and in words which that is.

    Or at the state that ``path`` is. Raises CheckpointError for a run that has no state yet, and
    for one that is damaged.
    """
    run = path if path.is_dir() else path.parent.parent
    folder = RunFolder(run)
    if not folder.record.exists():
        raise CheckpointError(
            f"{folder.record}: no such file: a state alone does not say what it belongs to",
            hint="give the whole run folder",
        )
    record, preprocess = folder.read_record(), folder.read_preparation().preprocess
    state, tensors, values, newer = (
        _newest(folder, record.status) if path.is_dir() else (path, *read_state(path), "")
    )
    try:
        kept = next(part for part in _KEPT if any(name.startswith(part) for name in tensors))
        step, steps = int(values["step"]), record.progress.steps
        identity = values["identity"]
        made: dict[str, Any] = {
            "name": record.name,
            "data": to_plain(record.data),
            "environment": record.environment,
            "recipe": {"name": record.recipe, **_recipe(identity)},
        }
        if record.status != "finished" or step != steps:
            made["unfinished"] = {"step": step, "steps": steps, "weights": kept.rstrip("/")}
        own = {name.removeprefix(kept): t for name, t in tensors.items() if name.startswith(kept)}
        stated: dict[str, Any] = {
            "spec": record.model.spec,
            "preprocess": preprocess,
            "classes": list(record.data.classes),
            "made": made,
        }
        if record.data.several:
            undecided = [UNDECIDED] * len(record.data.classes)
            stated |= {"outputs": "sigmoid", "thresholds": undecided}
        shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
        metadata = Metadata.from_dict(stated, shapes)
        reached = f"step {step:,}" + (f" of {steps:,}" if steps else "")
    except (CheckpointError, StopIteration, *MALFORMED) as error:
        reason = error.message if isinstance(error, CheckpointError) else repr(error)
        raise CheckpointError(
            f"{run}: the record of the run is damaged: {reason}", hint="copy the folder again"
        ) from None
    which = "its newest state" if path.is_dir() else f"its state {state.name}"
    if newer:
        which = f"its state {state.name}, as one that is newer cannot be read ({newer}),"
    ended = _ENDED.get(record.status, "has not ended, last saved")
    words = f"{run} {ended} at {reached}: {which}{_KEPT[kept]} is used"
    if identity.get("precise_batch_norm"):
        words += "; the statistics of its batch norms are those of training"
    return own, metadata, words


def _newest(folder: RunFolder, status: str) -> tuple[Path, dict[str, Tensor], dict[str, Any], str]:
    """Return the newest state that is whole, and what is wrong with a newer one, or ""."""
    problems: dict[Path, str] = {}
    for _ in range(2):  # a running one removes those before the last
        for path in folder.states():
            try:
                found = read_state(path)
            except CheckpointError as error:
                problems[path] = error.message
                continue
            there = [problem for newer, problem in problems.items() if newer.exists()]
            return path, *found, there[0] if there else ""
    run = folder.path
    again = "copy the whole folder again, or train into another one"
    if problems:
        raise CheckpointError(next(iter(problems.values())), hint=again)
    if status == "finished" or folder.has_results:  # which needs a state to resume from
        gone = f"{FOLDER_WEIGHTS[0]} is gone, and its states are too"
        gone = gone if status == "finished" else "states are gone"
        raise CheckpointError(f"{run}: its {gone}", hint=again)
    ended = _ENDED.get(status, "is")
    raise CheckpointError(
        f"{run}: the run {ended} before its first state: there are no weights yet",
        hint=f"resnets train --resume {run} resumes it",
    )


def _recipe(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe's settings in sections, of those that a state has flat."""
    recipe: dict[str, Any] = {}
    for name, value in identity.items():
        section, _, key = name.partition(".")
        if section not in ("model", "processes") and name != "data":
            (recipe.setdefault(section, {}) if key else recipe)[key or section] = value
    return recipe
