"""The training loop: dataset -> order -> batch -> augment -> step -> state -> evaluate."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resnets.data.augment import Augment
from resnets.data.dataset import Split
from resnets.data.order import batch_bounds, epoch_order
from resnets.data.preprocess import Preprocess
from resnets.errors import NonFiniteError, Stopped
from resnets.evaluation import evaluate
from resnets.files import write_json
from resnets.training.folder import RunFolder
from resnets.training.progress import RunProgress, metrics_text
from resnets.training.recipe import Recipe
from resnets.training.schedule import learning_rate
from resnets.training.state import RunState, Totals
from resnets.training.step import training_step
from resnets.training.stop import StopRequest
from resnets.training.tensorboard import Scalars
from resnets.wording import duration


@dataclass(frozen=True)
class Feed:
    """The training split as augmented, normalised batches."""

    split: Split
    augment: Augment
    preprocess: Preprocess
    batch_size: int
    seed: int
    device: torch.device

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(batch_bounds(len(self.split), self.batch_size))

    def indices(self, epoch: int) -> list[Tensor]:
        """Return, for each batch of an epoch, its samples' positions in the split, int64 (N,)."""
        order = epoch_order(len(self.split), self.seed, epoch)
        return [order[start:stop] for start, stop in batch_bounds(len(order), self.batch_size)]

    def batch(self, index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return images float32 (N, C, H, W) and labels int64 (N,) on the device."""
        images, labels = (part.to(self.device) for part in self.split.batch(index))
        images = self.augment(images, self.split.ids[index].to(self.device), epoch)
        return self.preprocess.normalize(images), labels


def total_steps(recipe: Recipe, feed: Feed) -> int:
    """Return the number of optimizer steps that the recipe asks for."""
    return recipe.schedule.iterations or (recipe.schedule.epochs or 0) * len(feed)


def fit(
    state: RunState,
    feed: Feed,
    validation: Split | None,
    recipe: Recipe,
    folder: RunFolder,
    progress: RunProgress,
    stop: StopRequest,
) -> None:
    """Train from ``state.step`` to the end of the recipe, saving the state after every epoch.

    Raises Stopped, after saving, when ``stop`` was asked for, and NonFiniteError, leaving the state
    of the epoch before on disk, when the loss or a weight is NaN or infinite.
    """
    batches = len(feed)
    steps = total_steps(recipe, feed)
    if state.step == steps:  # stopped after its last step
        return
    epochs = -(-steps // batches)
    scalars = Scalars(folder.tensorboard, purge_step=state.step + 1)
    clock = _Clock(state, steps)
    state.model.train()
    for epoch in range(state.step // batches, epochs):
        title = f"epoch {epoch + 1:{len(str(epochs))}d}/{epochs}"
        indices = feed.indices(epoch)
        last = min(batches, steps - epoch * batches)
        for batch in range(state.step - epoch * batches, last):
            started = time.monotonic()
            images, labels = feed.batch(indices[batch], epoch)
            ready = time.monotonic()
            lr = learning_rate(recipe.schedule, recipe.optimizer.lr, state.step, steps)
            try:
                loss, correct = training_step(
                    state.model,
                    state.optimizer,
                    images,
                    labels,
                    lr=lr,
                    label_smoothing=recipe.label_smoothing,
                )
            except NonFiniteError as error:
                names = feed.split.names(indices[batch])
                raise _explained(error, folder, state.step, epoch, batch, names, lr) from None
            state.step += 1
            state.epoch.add(len(labels), loss, correct, time.monotonic() - started, ready - started)
            speed = f"{state.epoch.samples / state.epoch.seconds:.0f} img/s"
            text = f"loss {state.epoch.mean_loss:.3f}   {speed}   {clock.eta}"
            progress.step(title, batch + 1, last, text)
            if stop.signal and batch + 1 < last:
                break
        else:
            held_out = _evaluate(state, feed, validation)
            line = _metrics(state, batches, lr, held_out)
            line["seconds"] = round(clock.seconds, 3)
            state.metrics.append(line)
            state.epoch = Totals()
            folder.write_metrics(state.metrics)
            scalars.add(state.step, line)
            progress.epoch(title, f"{metrics_text(line)}   {clock.eta}".rstrip())
        state.seconds = clock.seconds
        _check_weights(state)
        state.save(folder.state)
        if stop.signal:
            raise Stopped(
                f"stopped and saved at step {state.step:,} of {steps:,}",
                hint=folder.how_to_go_on,
            )
    scalars.close()


class _Clock:
    """Monotonic time of a run over its sittings, and the time that is left."""

    def __init__(self, state: RunState, steps: int) -> None:
        self._state, self._steps = state, steps
        self._first_step, self._before = state.step, state.seconds
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    @property
    def eta(self) -> str:
        if self._state.step == self._steps:
            return ""
        done = self._state.step - self._first_step
        left = (time.monotonic() - self._began) / done * (self._steps - self._state.step)
        return f"ETA {duration(left)}"


def _check_weights(state: RunState) -> None:
    for name, parameter in state.model.named_parameters():
        if not parameter.isfinite().all():
            raise NonFiniteError(
                f"{name} has a value that is NaN or infinite after step {state.step:,}",
                hint="an earlier epoch's state is kept; lower optimizer.lr",
            )


def _evaluate(state: RunState, feed: Feed, split: Split | None) -> dict[str, Any] | None:
    if split is None:
        return None
    return evaluate(state.model, split, feed.preprocess, batch_size=feed.batch_size).to_dict()


def _metrics(
    state: RunState, batches: int, lr: float, held_out: dict[str, Any] | None
) -> dict[str, Any]:
    totals = state.epoch
    return {
        "epoch": round(state.step / batches, 4),
        "step": state.step,
        "lr": lr,
        "train_loss": totals.mean_loss,
        "train_accuracy": totals.correct / totals.samples,
        "validation_loss": held_out and held_out["loss"],
        "validation_accuracy": held_out and held_out["accuracy"],
        "samples": totals.samples,
        "train_seconds": round(totals.seconds, 3),
        "data_seconds": round(totals.data_seconds, 3),
        "images_per_second": round(totals.samples / totals.seconds, 1),
    }


def _explained(
    error: NonFiniteError,
    folder: RunFolder,
    step: int,
    epoch: int,
    batch: int,
    names: list[int] | list[str],
    lr: float,
) -> NonFiniteError:
    """Return the error with the batch that caused it, which nonfinite.json lists whole."""
    details = {"step": step, "epoch": epoch + 1, "batch": batch + 1, "lr": lr, "samples": names}
    write_json(folder.nonfinite, details)
    shown = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
    return NonFiniteError(
        f"{error.message} at step {step:,} (epoch {epoch + 1}, batch {batch + 1}, rate {lr:g}); "
        f"its samples, {shown}, are listed in {folder.nonfinite}",
        hint="an earlier epoch's state is kept; lower optimizer.lr or look at these samples",
    )
