"""What the rows of a table would take on this machine, from a few steps that are forgotten."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resnets.analysis.profiling import profile
from resnets.errors import ResourceError
from resnets.formatting import duration, plural
from resnets.machine.device import Machine
from resnets.studies.experiments import Asked, Experiment, Images, experiments
from resnets.training.memory import peak_memory
from resnets.training.outlook import Outlook
from resnets.training.outlook import plan as look_ahead

MEMORY = 2e9  # bytes that a measured step takes at most, about; whole ones of deep nets have killed
_BYTES = 8  # that a step in float32 keeps of an activation: what a norm reads, and what it returns


@dataclass(frozen=True)
class RowCost:
    """What a row would take here; seconds are None where it lacks images or memory to measure."""

    experiment: Experiment
    seconds: float | None  # of a run of a single seed
    memory: int | None  # bytes of a step of training, counted
    lacks: str
    images: int = 0  # that measured steps had, of each batch
    like: str = ""  # the row before it by whose runs it is measured, in another way

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
            "like": self.like,
        }

    def sentences(self) -> list[str]:
        """Say it, in clauses."""
        if self.memory is None:
            return [self.lacks]
        experiment, recipe = self.experiment, self.experiment.recipe
        told = (
            f"{experiment.spec.name} on {experiment.dataset} by {recipe.name}, "
            f"{plural(experiment.iterations, 'iteration')} of {recipe.batch_size}"
        )
        if self.like:
            return [told, f"the runs of {self.like}, measured in another way"]
        cost = self.lacks if self.seconds is None else f"{duration(self.seconds)} a seed"
        few = self.seconds is not None and self.images < recipe.batch_size
        some = f", timed with {self.images} of its {recipe.batch_size} images at once"
        return [told, f"{cost}, {self.memory / 1e9:.2g} GB a step{some if few else ''}"]


def plan(
    asked: Asked,
    *,
    images: Images,
    weights: Mapping[str, Sequence[str]] | None = None,
    machine: Machine = Machine(),
    each: Callable[[RowCost], None] = lambda found: None,
) -> list[RowCost]:
    """Say what a reproduction would take here, row by row; nothing is written.

    Of each row a few steps are measured, as `train --plan` does, but for what MEMORY allows.
    ``weights`` are of rows that are evaluated and not trained. ``each`` is told of a row when it is
    known.
    """
    weights = weights or {}
    found: list[RowCost] = []
    trained: dict[str, RowCost] = {}
    for experiment in experiments(asked):
        row, files = experiment.row, weights.get(experiment.row.key, ())
        if files:
            cost = RowCost(experiment, None, None, f"evaluated, not trained: {', '.join(files)}")
        elif row.lacks:
            cost = RowCost(experiment, None, None, row.lacks)
        elif experiment.name in trained:
            cost = replace(trained[experiment.name], experiment=experiment)
            cost = replace(cost, like=trained[experiment.name].experiment.row.key)
        else:
            cost = trained[experiment.name] = _measured(experiment, images, machine)
        found.append(cost)
        each(cost)
    return found


def hours(left: Sequence[Experiment], *, images: Images, machine: Machine) -> list[str]:
    """Say in lines how long these runs take here together: one is measured, the smallest.

    The others are reckoned by their multiply-adds, in no time. Raises what `train` raises.
    """
    every = {each.name: each for each in left}
    macs = {name: profile(each.spec).macs for name, each in every.items()}
    work = [macs[each.name] * each.iterations * each.recipe.batch_size for each in left]
    least = min(work)
    smallest = left[work.index(least)]
    seconds = _ahead(smallest, images, machine)[0].seconds / least
    most = max(macs, key=lambda name: macs[name])
    of_most = sum(w for w, each in zip(work, left, strict=True) if each.name == most)
    of_them = f"{duration(seconds * of_most)} of them: {every[most].row.label}"
    return [
        f"{plural(len(left), 'run')}: about {duration(seconds * sum(work))} on this machine as "
        "busy as it is now",
        *([of_them] if len(every) > 1 else []),
        f"(from a few steps of {smallest.spec.name}, by multiply-adds; --plan measures each row)",
    ]


def _measured(experiment: Experiment, images: Images, machine: Machine) -> RowCost:
    if images.of(experiment.dataset) is None:
        recipe = experiment.recipe
        memory = peak_memory(
            experiment.spec,
            batch_size=recipe.batch_size,
            precision=recipe.precision,
            optimizer=recipe.optimizer.kind,
        ).peak.total
        return RowCost(experiment, None, memory, images.lacking(experiment.dataset))
    try:
        ahead, shown = _ahead(experiment, images, machine)
    except ResourceError as error:  # the other rows may fit
        return RowCost(experiment, None, None, error.message)
    return RowCost(experiment, ahead.seconds, ahead.memory, "", shown)


def _ahead(experiment: Experiment, images: Images, machine: Machine) -> tuple[Outlook, int]:
    """Return what steps of a row have shown, and how many images they had."""
    shown = experiment.recipe.batch_size
    if machine.where.type == "cpu":  # whose memory others use, and where few images are as fast
        fit = int(MEMORY / (_BYTES * profile(experiment.spec).activations))
        shown = max(experiment.recipe.optimizer.accumulate, min(shown, fit))
    ahead = look_ahead(
        images.of(experiment.dataset),
        model=experiment.spec,
        recipe=experiment.recipe,
        root=images.root,
        images=shown,
        machine=replace(machine, quiet=True),
    )
    return ahead, shown
