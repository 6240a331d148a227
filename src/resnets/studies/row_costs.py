"""What the rows of a table would take on this machine, from a few steps that are forgotten."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from resnets.errors import ResourceError
from resnets.machine.device import Machine
from resnets.studies.experiments import Asked, Experiment, Images, experiments
from resnets.training.memory import peak_memory
from resnets.training.outlook import plan as look_ahead


@dataclass(frozen=True)
class RowCost:
    """What a row would take here; seconds are None where it lacks images or memory to measure."""

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
    images: Images,
    machine: Machine = Machine(),
    each: Callable[[RowCost], None] = lambda found: None,
) -> list[RowCost]:
    """Say what a reproduction would take here, row by row; nothing is written.

    Of each row a few steps are measured, as `train --plan` does. ``each`` is told of a row when it
    is known.
    """
    found = []
    for experiment in experiments(asked):
        row = experiment.row
        source = images.of(experiment.dataset)
        seconds = memory = None
        lacks = row.lacks or ("" if source is not None else images.lacking(experiment.dataset))
        if not lacks:
            try:
                ahead = look_ahead(
                    source,
                    model=experiment.spec,
                    recipe=experiment.recipe,
                    root=images.root,
                    machine=replace(machine, quiet=True),
                )
            except ResourceError as error:  # the other rows may fit
                lacks = error.message
            else:
                seconds, memory = ahead.seconds, ahead.memory
        elif not row.lacks:
            recipe = experiment.recipe
            memory = peak_memory(
                experiment.spec,
                batch_size=recipe.batch_size,
                precision=recipe.precision,
                optimizer=recipe.optimizer.kind,
            ).peak.total
        found.append(RowCost(experiment, seconds, memory, lacks))
        each(found[-1])
    return found
