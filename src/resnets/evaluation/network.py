"""A network on a split of a data set: each sample counted once, by however many processes."""

from math import fsum, isfinite

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
) -> Evaluation:
    """Return the answers of ``model``, in evaluation mode, on every sample of ``split``.

    Several processes share the work and all return the same. Whole batches are dealt out, so that
    each is computed as one process would, and the loss is the samples' float32 losses (of several
    classes the mean of their binary cross-entropies) summed without rounding: on equal machines and
    threads, the result is equal bit for bit however many processes there are.

    Where an image may have several classes, the model's ``thresholds`` are applied, or one half.
    Images that cannot be read, and may be left out, are not counted. The model keeps its device and
    modes. Raises ValueError for an empty split, DataError when none can be read, and NonFiniteError
    when an answer is NaN or infinite, on every process.
    """
    if len(split) == 0:
        raise ValueError("there is nothing to evaluate: the split is empty")
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    model.eval()
    classes = 0
    # float64 holds every value below exactly. They stay on the device, which need not wait.
    width = 5 if split.targets is None else 2 + split.targets.shape[1]
    rows = [torch.empty(0, width, dtype=torch.float64, device=device)]
    order = torch.arange(len(split), device=split.ids.device)
    mine = order.split(batch_size)[processes.rank :: processes.count]  # type: ignore[no-untyped-call]
    for positions, images in split.stream(mine):
        truth = split.truth[positions].to(device)
        logits = model(preprocess(images.to(device))).float()
        classes = logits.shape[1]
        columns = _one(logits, truth) if split.targets is None else _several(logits, truth)
        rows.append(torch.cat((positions.to(device)[:, None].double(), columns), dim=1))
    for module, mode in modes.items():  # frozen parts do not train while others do
        module.training = mode
    table = processes.gather(torch.cat(rows).cpu())
    if not len(table):
        raise DataError("none of the images that were to be evaluated can be read")
    table = table[table[:, 0].argsort()]
    positions, loss = table[:, 0].long(), fsum(table[:, 1].tolist())
    if not isfinite(loss):
        raise NonFiniteError(f"the loss on {plural(len(table), 'sample')} is {loss}")
    loss /= len(table)
    if split.targets is not None:
        targets = split.targets.cpu()[positions].numpy()
        several = scored(targets, table[:, 2:].numpy(), getattr(model, "thresholds", ()))
        return Evaluation.of_several(several, loss, positions.numpy())
    predicted, confidence, top5 = table[:, 2:].unbind(1)
    return Evaluation(
        labels=split.labels.cpu()[positions].numpy(),
        predicted=predicted.long().numpy(),
        confidence=confidence.float().numpy(),
        loss=loss,
        top5=int(top5.sum()),
        classes=int(processes.gather(torch.tensor([classes])).max()),
        positions=positions.numpy(),
    )


def _one(logits: Tensor, labels: Tensor) -> Tensor:
    """Return loss, predicted class, its probability, and if the label is of the top 5, (N, 4)."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    predicted, confidence = logits.argmax(1), logits.softmax(1).amax(1)
    best = logits.topk(min(5, logits.shape[1])).indices
    top5 = (best == labels[:, None]).any(1)
    return torch.stack([each.double() for each in (losses, predicted, confidence, top5)], dim=1)


def _several(logits: Tensor, targets: Tensor) -> Tensor:
    """Return loss and logits, (N, 1 + classes)."""
    losses = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none").mean(1)
    return torch.cat((losses[:, None], logits), dim=1).double()
