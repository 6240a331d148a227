"""Exact metrics of a model on a split: each sample counted once, by however many processes."""

from dataclasses import dataclass
from math import fsum, isfinite
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.create import restore
from resnets.data import open_dataset
from resnets.data.dataset import Split
from resnets.data.holdout import divide
from resnets.data.preprocess import Preprocess, preprocess_of
from resnets.device import choose_device
from resnets.errors import DataError, NonFiniteError
from resnets.processes import ALONE, Processes
from resnets.wording import plural


@dataclass(frozen=True)
class Evaluation:
    """What a model answered on each sample of a split, and the metrics that follow."""

    labels: Tensor  # int64 (N,)
    predicted: Tensor  # int64 (N,)
    confidence: Tensor  # float32 (N,), the probability of the predicted class
    loss: float  # mean cross-entropy
    top5: int  # samples whose class is among the five most probable
    classes: int

    @property
    def accuracy(self) -> float:
        """The fraction of samples whose most probable class is right."""
        return int((self.predicted == self.labels).sum()) / len(self.labels)

    @property
    def confusion(self) -> list[list[int]]:
        """Samples of true class i (row) predicted as j (column)."""
        cells = torch.bincount(
            self.labels * self.classes + self.predicted, minlength=self.classes**2
        )
        return cells.view(self.classes, self.classes).tolist()

    def mistakes(self, count: int) -> list[int]:
        """Return the positions of the most confident wrong answers, worst first."""
        wrong = torch.nonzero(self.predicted != self.labels).flatten()
        order = torch.argsort(self.confidence[wrong], descending=True, stable=True)
        return wrong[order[:count]].tolist()

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON-able values."""
        return {
            "samples": len(self.labels),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "top5_accuracy": self.top5 / len(self.labels),
            "confusion": self.confusion,
        }


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: Split,
    preprocess: Preprocess,
    *,
    batch_size: int = 128,
    processes: Processes = ALONE,
) -> Evaluation:
    """Return the answers of ``model``, in evaluation mode, on every sample of ``split``.

    Several processes share the work and all return the same. Whole batches are dealt out, so that
    each is computed as one process would, and the loss is the samples' float32 losses summed
    without rounding: on equal machines and threads, the result is equal bit for bit however many
    processes there are.

    The model keeps its device and mode. Raises ValueError for an empty split and NonFiniteError
    when an answer is NaN or infinite, on every process.
    """
    if len(split) == 0:
        raise ValueError("there is nothing to evaluate: the split is empty")
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    classes = 0
    # float64 holds every value below exactly. They stay on the device, which need not wait.
    rows = [torch.empty(0, 5, dtype=torch.float64, device=device)]
    for start in range(0, len(split), batch_size)[processes.rank :: processes.count]:
        stop = min(start + batch_size, len(split))
        positions = torch.arange(start, stop, device=split.ids.device)
        images, labels = split.batch(positions)
        labels = labels.to(device)
        logits = model(preprocess(images.to(device))).float()
        classes = logits.shape[1]
        losses = F.cross_entropy(logits, labels, reduction="none")
        predicted, confidence = logits.argmax(1), logits.softmax(1).amax(1)
        best = logits.topk(min(5, classes)).indices
        top5 = (best == labels[:, None]).any(1)
        columns = (positions, losses, predicted, confidence, top5)
        rows.append(torch.stack([column.to(device).double() for column in columns], dim=1))
    model.train(training)
    table = processes.gather(torch.cat(rows).cpu())
    _, losses, predicted, confidence, top5 = table[table[:, 0].argsort()].unbind(1)
    loss = fsum(losses.tolist())
    if not isfinite(loss):
        raise NonFiniteError(f"the loss on {plural(len(split), 'sample')} is {loss}")
    return Evaluation(
        labels=split.labels.cpu(),
        predicted=predicted.long(),
        confidence=confidence.float(),
        loss=loss / len(split),
        top5=int(top5.sum()),
        classes=int(processes.gather(torch.tensor([classes])).max()),
    )


def evaluate_run(
    run: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    root: str | Path | None = None,
    device: str = "auto",
) -> tuple[str, Evaluation]:
    """Return the name of a part of ``data`` and what a trained model answers on it.

    On the data that it was trained on, the parts are those of the run, the held-out one included;
    a folder of pictures without parts is taken whole, as "all". ``split`` names the part; left out,
    it is the last one there is: test, else validation. Raises CheckpointError when there is no
    model in ``run``, UsageError or DataError when there is no such part or the classes are others.
    """
    model, passport = restore(run)
    model, made = model.to(choose_device(device)), passport.made
    preprocess = preprocess_of(model)
    dataset = open_dataset(
        data,
        root=Path(root) if root is not None else None,
        side=preprocess.resize,
        channels=preprocess.channels,
        broken=made.get("recipe", {}).get("data", {}).get("broken", "error"),
    )
    if dataset.classes != model.classes:
        raise DataError(
            f"{data}: its classes are {', '.join(dataset.classes[:8])}, the model's are "
            f"{', '.join(model.classes[:8])}",
            hint="evaluate on data with the classes that the model was trained on",
        )
    if made.get("data", {}).get("fingerprint") == dataset.fingerprint:
        how = made["recipe"]["data"]
        dataset = divide(dataset, how["holdout"], how["split_seed"])
    elif split is None and list(dataset.parts) == ["train"]:
        return "all", evaluate(model, dataset.train, preprocess)
    part = split or list(dataset.parts)[-1]
    return part, evaluate(model, dataset.part(part), preprocess)
