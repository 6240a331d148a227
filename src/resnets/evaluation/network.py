"""A network on a split of a data set: each sample counted once, by however many processes."""

from math import fsum, isfinite

import torch
import torch.nn.functional as F
from torch import nn

from resnets.data.dataset import Split
from resnets.data.preprocess import Preprocess
from resnets.errors import DataError, NonFiniteError
from resnets.evaluation.scores import Evaluation
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
    each is computed as one process would, and the loss is the samples' float32 losses summed
    without rounding: on equal machines and threads, the result is equal bit for bit however many
    processes there are.

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
    rows = [torch.empty(0, 5, dtype=torch.float64, device=device)]
    order = torch.arange(len(split), device=split.ids.device)
    mine = order.split(batch_size)[processes.rank :: processes.count]  # type: ignore[no-untyped-call]
    for positions, images in split.stream(mine):
        labels = split.labels[positions].to(device)
        logits = model(preprocess(images.to(device))).float()
        classes = logits.shape[1]
        losses = F.cross_entropy(logits, labels, reduction="none")
        predicted, confidence = logits.argmax(1), logits.softmax(1).amax(1)
        best = logits.topk(min(5, classes)).indices
        top5 = (best == labels[:, None]).any(1)
        columns = (positions, losses, predicted, confidence, top5)
        rows.append(torch.stack([column.to(device).double() for column in columns], dim=1))
    for module, mode in modes.items():  # frozen parts do not train while others do
        module.training = mode
    table = processes.gather(torch.cat(rows).cpu())
    positions, losses, predicted, confidence, top5 = table[table[:, 0].argsort()].unbind(1)
    if not len(table):
        raise DataError("none of the images that were to be evaluated can be read")
    loss = fsum(losses.tolist())
    if not isfinite(loss):
        raise NonFiniteError(f"the loss on {plural(len(table), 'sample')} is {loss}")
    return Evaluation(
        labels=split.labels.cpu()[positions.long()].numpy(),
        predicted=predicted.long().numpy(),
        confidence=confidence.float().numpy(),
        loss=loss / len(table),
        top5=int(top5.sum()),
        classes=int(processes.gather(torch.tensor([classes])).max()),
        positions=positions.long().numpy(),
    )
