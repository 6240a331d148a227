"""A network on a split of a data set: each sample counted once, by however many processes."""

from collections.abc import Callable
from dataclasses import replace
from math import fsum, isfinite

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.data import counter
from resnets.data.dataset import Split
from resnets.data.preprocess import Preprocess
from resnets.errors import DataError, NonFiniteError
from resnets.evaluation.scores import Evaluation
from resnets.evaluation.several import scored
from resnets.formatting import plural
from resnets.machine.processes import ALONE, Processes


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: Split,
    preprocess: Preprocess,
    *,
    batch_size: int = 128,
    processes: Processes = ALONE,
    keep_logits: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Return the answers of ``model``, in evaluation mode, on every sample of ``split``.

    Several processes share the work and all return the same. Whole batches are dealt out, so that
    each is computed as one process would, and the loss is the samples' float32 losses (of several
    classes the mean of their binary cross-entropies) summed without rounding: on equal machines and
    threads, the result is equal bit for bit however many processes there are.

    What is answered is calibrated where the model has a ``calibration``; the loss is of its logits
    as they are. Where an image may have several classes, the model's ``thresholds`` are applied, or
    one half. ``keep_logits`` keeps them in the result; ``on_progress`` is told how many images this
    process has done, of how many there are.
    Images that cannot be read, and may be left out, are not counted. The model keeps its device and
    modes. Raises ValueError for an empty split, DataError when none can be read, and NonFiniteError
    when an answer is NaN or infinite, on every process.
    """
    if len(split) == 0:
        raise ValueError("there is nothing to evaluate: the split is empty")
    device = next(model.parameters()).device
    calibration, several = getattr(model, "calibration", None), split.targets is not None
    with_logits = keep_logits or calibration is not None
    modes = {module: module.training for module in model.modules()}
    model.eval()
    classes = 0
    # float64 holds every value below exactly. They stay on the device, which need not wait.
    rows: list[Tensor] = []
    order = torch.arange(len(split), device=split.ids.device)
    mine = order.split(batch_size)[processes.rank :: processes.count]  # type: ignore[no-untyped-call]
    for positions, images in split.stream(mine):
        truth = split.truth[positions].to(device)
        logits = model(preprocess(images.to(device))).float()
        classes = logits.shape[1]
        columns = _several(logits, truth) if several else _one(logits, truth, with_logits)
        rows.append(torch.cat((positions.to(device)[:, None].double(), columns), dim=1))
        on_progress(sum(map(len, rows)), len(split))
    for module, mode in modes.items():  # frozen parts do not train while others do
        module.training = mode
    classes = int(processes.gather(torch.tensor([classes])).max())
    width = 2 + classes if several else 5 + classes * with_logits
    nothing = torch.empty(0, width, dtype=torch.float64, device=device)  # one may have had no batch
    table = processes.gather(torch.cat((nothing, *rows)).cpu())
    if not len(table):
        raise DataError("none of the images that were to be evaluated can be read")
    table = table[table[:, 0].argsort()]
    positions, loss = table[:, 0].long(), fsum(table[:, 1].tolist())
    if not isfinite(loss):
        raise NonFiniteError(f"the loss on {plural(len(table), 'sample')} is {loss}")
    loss /= len(table)
    logits = table[:, -classes:].float().numpy()
    if split.targets is not None:
        targets = split.targets.cpu()[positions].numpy()
        scores = scored(targets, logits, getattr(model, "thresholds", ()))
        found = Evaluation.of_several(scores, loss, positions.numpy(), logits)
    else:
        predicted, confidence, top5 = table[:, 2:5].unbind(1)
        found = Evaluation(
            labels=split.labels.cpu()[positions].numpy(),
            predicted=predicted.long().numpy(),
            confidence=confidence.float().numpy(),
            loss=loss,
            top5=int(top5.sum()),
            classes=classes,
            positions=positions.numpy(),
            logits=logits if with_logits else None,
        )
    if calibration is not None:
        found = found.calibrated(calibration)
    return found if keep_logits else replace(found, logits=None)


def some(split: Split, count: int) -> Split:
    """Return at most so many of a split's images, drawn by lot, and always the same."""
    if len(split) <= count:
        return split
    order = torch.argsort(counter.bits(0, "probe", 0, split.ids), stable=True)
    return split.subset(order[:count].sort().values)


@torch.no_grad()
def computed(
    compute: Callable[[Tensor], Tensor],
    split: Split,
    device: torch.device,
    *,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Return the positions, (M,), of the images of a split that can be read, and what is computed.

    ``compute`` makes a row for each of a batch of images, uint8 (N, C, H, W) on the device; what is
    returned lies on the CPU.
    """
    positions, rows = [], []
    order = torch.arange(len(split)).split(batch_size)  # type: ignore[no-untyped-call]
    for where, images in split.stream(order):
        positions.append(where)
        rows.append(compute(images.to(device)).cpu())
    return torch.cat(positions), torch.cat(rows)


def _one(logits: Tensor, labels: Tensor, with_logits: bool) -> Tensor:
    """Return loss, predicted class, its probability, and if the label is of the top 5, (N, 4).

    With logits, (N, 4 + classes), these follow.
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    predicted, confidence = logits.argmax(1), logits.softmax(1).amax(1)
    best = logits.topk(min(5, logits.shape[1])).indices
    top5 = (best == labels[:, None]).any(1)
    columns = [each.double() for each in (losses, predicted, confidence, top5)]
    return torch.cat((torch.stack(columns, dim=1), *[logits.double()] * with_logits), dim=1)


def _several(logits: Tensor, targets: Tensor) -> Tensor:
    """Return loss and logits, (N, 1 + classes)."""
    losses = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none").mean(1)
    return torch.cat((losses[:, None], logits), dim=1).double()
