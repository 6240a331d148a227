"""Everything that resuming needs, in one file: plain tensors and JSON, written whole or not at all.

Sample order and augmentation are functions of (seed, epoch, sample), so there is no generator state
to keep: the step says it all.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from resnets.errors import CheckpointError, DataError
from resnets.weights.tensors import damaged, read_tensors, write_tensors

_MODEL, _OPTIMIZER = "model/", "optimizer/"


@dataclass
class Totals:
    """Sums over the samples of the epoch so far."""

    samples: int = 0
    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0  # in training steps, batches included
    data_seconds: float = 0.0  # of these, in making batches

    def add(
        self, samples: int, loss: float, correct: int, seconds: float, data_seconds: float
    ) -> None:
        """Count a batch; ``loss`` is its mean."""
        self.samples += samples
        self.loss += loss * samples
        self.correct += correct
        self.seconds += seconds
        self.data_seconds += data_seconds

    @property
    def mean_loss(self) -> float:
        """The mean loss over the samples so far."""
        return self.loss / self.samples


@dataclass
class RunState:
    """Where a run stands. ``step`` counts finished optimizer steps."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    identity: dict[str, Any]  # of recipe, data and model: what must not change when going on
    step: int = 0
    seconds: float = 0.0  # of the whole run, evaluation included, over all its sittings
    epoch: Totals = field(default_factory=Totals)
    metrics: list[dict[str, Any]] = field(default_factory=list)  # a line for each finished epoch

    def save(self, path: Path) -> None:
        """Write the state to ``path``. Raises ResourceError; an earlier state then stays."""
        tensors = {_MODEL + key: tensor for key, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                if isinstance(value, Tensor):
                    tensors[f"{_OPTIMIZER}{key}/{name}"] = value
        values = {
            "identity": self.identity,
            "step": self.step,
            "seconds": self.seconds,
            "epoch": asdict(self.epoch),
            "metrics": self.metrics,
        }
        write_tensors(path, tensors, {"state": json.dumps(values)})

    def load(self, path: Path) -> None:
        """Continue from the state in ``path``.

        Raises CheckpointError when it is damaged or belongs to another recipe or model, DataError
        when the data set is another.
        """
        try:
            tensors, metadata = read_tensors(path)
            values = json.loads(metadata["state"])
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path}: the state is missing or damaged: {error}",
                hint="start again with --overwrite, or without --resume in another folder",
            ) from None
        if wrong := damaged(tensors, metadata):
            raise CheckpointError(
                f"{path}: the state is damaged: {wrong[0]} does not have its SHA-256",
                hint="start again with --overwrite, or without --resume in another folder",
            )
        self._check_identity(path, values["identity"])
        self.model.load_state_dict({key: tensors[_MODEL + key] for key in self.model.state_dict()})
        parameters = dict(self.model.named_parameters())
        for name, tensor in tensors.items():
            if name.startswith(_OPTIMIZER):
                key, _, parameter = name.removeprefix(_OPTIMIZER).partition("/")
                # Of the parameter's own memory format, so that the step stays as fast.
                value = torch.empty_like(parameters[parameter]).copy_(tensor)
                self.optimizer.state[parameters[parameter]][key] = value
        self.step, self.seconds = values["step"], values["seconds"]
        self.epoch, self.metrics = Totals(**values["epoch"]), values["metrics"]

    def _check_identity(self, path: Path, saved: dict[str, Any]) -> None:
        changed = [key for key in self.identity if self.identity[key] != saved.get(key)]
        if changed:
            differences = "; ".join(
                "the pictures or labels have changed"
                if key == "data"
                else f"{key}: {saved.get(key)} before, {self.identity[key]} now"
                for key in changed
            )
            kind = DataError if changed == ["data"] else CheckpointError
            raise kind(
                f"{path}: the run cannot go on, it would be another one: {differences}",
                hint="start a new run with another --out",
            )
