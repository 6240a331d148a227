"""Everything that resuming needs, in one file: plain tensors and JSON, written whole or not at all.

Sample order and augmentation are functions of (seed, epoch, sample), so there is no generator state
to keep: the step says it all.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnets.errors import CheckpointError, DataError
from resnets.nn import ResNet
from resnets.readers.documents import damaged
from resnets.readers.fields import Count, Real, check
from resnets.run_folder.ledger import Ledger
from resnets.run_folder.record import Epoch, to_plain
from resnets.spec import Spec
from resnets.training.ema import Average, Soup
from resnets.training.recipe import Recipe, ScheduleRecipe
from resnets.training.schedule import Patience, RateMemory
from resnets.weights.tensors import write_tensors
from resnets.weights.unfinished import (
    AVERAGE,
    BEST,
    MODEL,
    OPTIMIZER,
    SOUP,
    VALUES,
    read_state,
)

# Settings that may change within a run, on purpose: neither which sample comes when nor what there
# is in the state depends on them.
CHANGEABLE = (
    "optimizer.lr",
    "optimizer.matrix_lr",
    "optimizer.weight_decay",
    "optimizer.clip",
    "schedule.",
    "augment.",
    "distill.",
    "label_smoothing",
    "class_weights",
    "effective_beta",
    "data.broken",  # and data.broken_limit
    "target_threshold",
    "loss",
    "asymmetric.",
)


@dataclass
class Totals:
    """Sums over the samples of the epoch so far."""

    samples: int = 0
    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0  # in training steps, batches included
    data_seconds: float = 0.0  # of these, in making batches

    def add(self, samples: int, loss: float, correct: int) -> None:
        """Count samples, the sum of their losses, and the correct answers."""
        self.samples += samples
        self.loss += loss
        self.correct += correct

    def pass_by(self, seconds: float, data_seconds: float = 0.0) -> None:
        """Count the time of a step, and that of making its batch."""
        self.seconds += seconds
        self.data_seconds += data_seconds

    @property
    def mean_loss(self) -> float:
        """The mean loss over the samples so far."""
        return self.loss / self.samples


@dataclass
class Best:
    """The weights that did best on the held-out split so far."""

    figure: float  # their accuracy there; of several classes an image, their mAP
    tensors: dict[str, Tensor]


@dataclass
class RunState:
    """Where a run stands. ``step`` counts finished optimizer steps."""

    model: ResNet
    optimizer: torch.optim.Optimizer
    identity: dict[str, Any]  # of recipe, data and model: what must not change when resuming
    average: Average | None = None
    scaler: torch.amp.GradScaler | None = None
    step: int = 0
    skipped: int = 0  # steps that the loss scaler left out; the schedule does not count them
    seconds: float = 0.0  # of the whole run, evaluation included, over all its sessions
    rate: RateMemory = field(default_factory=RateMemory)
    epoch: Totals = field(default_factory=Totals)
    ledger: Ledger = field(default_factory=Ledger)
    metrics: list[Epoch] = field(default_factory=list)  # a line for each finished epoch
    best: Best | None = None
    soup: Soup = field(default_factory=Soup)
    patience: Patience = field(default_factory=Patience)

    @property
    def losses(self) -> list[float]:
        """The mean training loss of each finished epoch."""
        return [line.train_loss for line in self.metrics if line.train_loss is not None]

    def save(self, path: Path) -> None:
        """Write the state to ``path``. Raises ResourceError; an earlier state then stays."""
        tensors = {MODEL + key: tensor for key, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                if isinstance(value, Tensor):
                    tensors[f"{OPTIMIZER}{key}/{name}"] = value
        if self.average:
            tensors |= {AVERAGE + key: tensor for key, tensor in self.average.tensors.items()}
        tensors |= {SOUP + key: tensor for key, tensor in self.soup.tensors.items()}
        if self.best:
            tensors |= {BEST + key: tensor for key, tensor in self.best.tensors.items()}
        values = {
            "identity": self.identity,
            "scaler": self.scaler and self.scaler.state_dict(),
            "best": self.best and self.best.figure,
            **{key: to_plain(getattr(self, key)) for key in _VALUES},
        }
        write_tensors(path, tensors, {VALUES: json.dumps(values)})

    def load(
        self, paths: Sequence[Path], *, may_change: bool = False, data_changes: str = ""
    ) -> list[str]:
        """Continue from the newest of ``paths``, newest first, that is whole.

        ``may_change`` lets CHANGEABLE settings differ; ``data_changes`` says in what the data set
        is another, where that is known. Returns what was wrong with the paths before it. Raises
        CheckpointError when all are damaged or it belongs to another recipe or model, DataError
        when the data set is another.
        """
        problems = []
        for path in paths:
            try:
                tensors, values = read_state(path)
                plain = check(_Values, values, path)
            except CheckpointError as error:
                problems.append(error.message)
                continue
            changeable = CHANGEABLE if may_change else ()
            self._check_identity(path, plain.identity, changeable, data_changes)
            try:
                self._take(tensors, plain)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise damaged(path, f"{type(error).__name__}: {reason}") from None
            return problems
        raise CheckpointError(
            "; ".join(problems) or "there is no state to resume from",
            hint="start again with --overwrite, or without --resume in another folder",
        )

    def _take(self, tensors: dict[str, Tensor], values: "_Values") -> None:
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts.setdefault(f"{part}/", {})[rest] = tensor
        self.model.load_state_dict(parts[MODEL])
        parameters = dict(self.model.named_parameters())
        for name, tensor in parts.get(OPTIMIZER, {}).items():
            key, _, parameter = name.partition("/")
            if tensor.shape == parameters[parameter].shape:
                # Of the parameter's own memory format, so that the step stays as fast.
                tensor = torch.empty_like(parameters[parameter]).copy_(tensor)
            self.optimizer.state[parameters[parameter]][key] = tensor
        if self.average:
            self.average.load(parts[AVERAGE])
        self.soup.tensors = parts.get(SOUP, {})
        if self.scaler:
            self.scaler.load_state_dict(values.scaler or {})
        if values.best is not None:
            self.best = Best(values.best, parts[BEST])
        for key in _VALUES:
            setattr(self, key, getattr(values, key))

    def _check_identity(
        self,
        path: Path,
        saved: dict[str, Any],
        changeable: tuple[str, ...],
        data_changes: str,
    ) -> None:
        found = differences(saved, self.identity, data_changes)
        changed = {key: words for key, words in found.items() if not key.startswith(changeable)}
        if changed:
            kind = DataError if list(changed) == ["data"] else CheckpointError
            raise kind(
                f"{path}: the run cannot be resumed, it would be another one: "
                f"{'; '.join(changed.values())}",
                hint="start a new run with another --out",
            )


def differences(
    saved: dict[str, Any], identity: dict[str, Any], data_changes: str = ""
) -> dict[str, str]:
    """Say, by key, in what the identity of a run is another than that which was saved.

    ``data_changes`` says in what the data set is another, where that is known.
    """
    # A setting or an axis that is younger than the run: what it then did is the default.
    saved = {key: value for key, value in _DEFAULTS.items() if key in identity} | saved
    keys = list(identity) + [key for key in saved if key not in identity]
    return {
        key: "the images or labels have changed" + (data_changes and f": {data_changes}")
        if key == "data"
        else f"{key}: {saved.get(key)} before, {identity.get(key)} now"
        for key in keys
        if identity.get(key) != saved.get(key)
    }


@dataclass(frozen=True)
class _Values:
    """What of a state is no tensor."""

    identity: dict[str, Any]
    scaler: dict[str, Any] | None
    best: Real | None
    step: Count
    skipped: Count
    seconds: Real
    metrics: list[Epoch]
    rate: RateMemory
    epoch: Totals
    ledger: Ledger
    patience: Patience = field(default_factory=Patience)  # states of earlier versions have none


_VALUES = ("step", "skipped", "seconds", "metrics", "rate", "epoch", "ledger", "patience")
_DEFAULTS = {
    **Recipe(name="any", schedule=ScheduleRecipe(epochs=1)).flat(),
    **{f"model.{name}": value for name, value in Spec().to_dict().items()},
    "data.view": "square",  # which is no default any more
}
