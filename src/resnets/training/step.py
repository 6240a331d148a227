"""One training step, and the optimizer that it drives."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.data import counter
from resnets.errors import NonFiniteError
from resnets.machine.processes import ALONE, Processes
from resnets.training.distillation import distilled
from resnets.training.optimizers import CaffeSGD, Lamb, Muon
from resnets.training.recipe import AsymmetricRecipe, OptimizerRecipe, Recipe

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


Place = tuple[int, float]  # a part of the network, and what the rate is multiplied by in it


def build_optimizer(
    model: nn.Module,
    recipe: OptimizerRecipe,
    place: Callable[[str], Place] | None = None,
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over a model's parameters; only what it says is decayed.

    Decay is added to the gradient, also Adam's: the L2 penalty of Keras's regularisers. ``place``
    gives parameters, by name, rates of their own; those of a group begin to learn together.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    norms = {
        id(p) for layer in model.modules() if isinstance(layer, _NORMS) for p in layer.parameters()
    }
    decays = [
        {
            "convolutions": p.ndim == 4,
            "weights": p.ndim > 1,
            "biases": id(p) not in norms,
            "all": True,
        }[recipe.decay]
        for p in parameters
    ]
    groups = [
        {
            "params": [p for p, decay in zip(parameters, decays, strict=True) if decay == wanted],
            "weight_decay": recipe.weight_decay if wanted else 0.0,
        }
        for wanted in (True, False)
    ]
    if recipe.kind == "muon":
        groups = _orthogonal(groups, recipe)
    if place is not None:
        groups = _placed(groups, {id(p): place(name) for name, p in model.named_parameters()})
    # The rate below is the peak; each step sets its own, from the schedule, before it is taken.
    betas = (recipe.momentum, recipe.second_momentum)
    if recipe.kind in ("adam", "adamw"):
        adam = torch.optim.Adam if recipe.kind == "adam" else torch.optim.AdamW
        return adam(groups, recipe.peak, betas, recipe.epsilon, foreach=True)
    if recipe.kind == "lamb":
        return Lamb(groups, recipe.peak, betas, recipe.epsilon, trust_clip=recipe.trust_clip)
    if recipe.kind == "muon":
        return Muon(groups, recipe.peak, recipe.momentum)
    if recipe.momentum_form == "caffe":
        return CaffeSGD(groups, recipe.peak, recipe.momentum)
    return torch.optim.SGD(
        groups, recipe.peak, recipe.momentum, nesterov=recipe.nesterov, foreach=True
    )


def _orthogonal(groups: list[dict[str, Any]], recipe: OptimizerRecipe) -> list[dict[str, Any]]:
    """Return Muon's groups, orthogonal for every convolution but the first, the stem."""
    decayed, others = groups
    _, *convolutions = (p for p in decayed["params"] if p.ndim == 4)
    left = [p for p in decayed["params"] if not any(p is c for c in convolutions)]
    orthogonal = {
        "params": convolutions,
        "orthogonal": True,
        "lr_scale": recipe.matrix_lr / recipe.peak,
    }
    return [orthogonal, decayed | {"params": left}, others]


def _placed(groups: list[dict[str, Any]], places: Mapping[int, Place]) -> list[dict[str, Any]]:
    """Divide groups by the places of their parameters, given by id."""
    divided = []
    for group in groups:
        for here in sorted({places[id(p)] for p in group["params"]}):
            own = [p for p in group["params"] if places[id(p)] == here]
            scale = here[1] * group.get("lr_scale", 1.0)
            divided.append(group | {"params": own, "lr_scale": scale})
    return divided


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Let what a network itself draws, such as dropout, depend on nothing but the step."""
    torch.manual_seed(int(counter.bits(seed, "dropout", step, torch.tensor([rank]))))


@dataclass(frozen=True)
class Outcome:
    """What a step did, over the batch of all processes."""

    samples: int
    loss: float  # mean over the samples
    correct: int
    skipped: bool = False  # no weight has changed: in float16, the scaled gradient was infinite


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    lr: float,
    recipe: Recipe,
    scaler: torch.amp.GradScaler | None = None,
    processes: Processes = ALONE,
    sums: Tensor | None = None,
    teacher: nn.Module | None = None,
) -> Outcome | None:
    """Update the model by the gradient of the mean loss over the batch of all processes.

    ``images`` (N, C, H, W) are this process's share of it, and may be none; with several processes
    the model is DistributedDataParallel. ``targets`` are what the loss compares with, classes int64
    (N,) or their probabilities (N, classes); ``labels`` int64 (N,) are what is counted as correct.
    Where an image may have several classes they are bool (N, classes), and an image is correct
    whose classes, and no others, have a probability above one half.
    ``weights`` float32 (N,) are the factors of the samples' losses, also of the loss that is told;
    the mean is over samples, not over weights, so that no division of a batch changes it.
    ``scaler`` comes with float16. ``teacher`` sees the same images, in evaluation mode, and its
    logits (N, classes) are learnt as the recipe's ``distill`` says.

    With ``sums``, float64 (3,) on the device, nothing is told to the host, as a CUDA graph demands:
    loss and correct samples are added there, and a 1 where something is not finite; each group's
    ``lr`` is a tensor that is set already. It is for one process and without a scaler.

    Raises NonFiniteError when the loss or a gradient is NaN or infinite, before any weight or any
    memory of the optimizer is changed; batch norm's statistics have then seen the batch.
    """
    optimizer.zero_grad(set_to_none=True)
    found = _backward(model, images, targets, labels, weights, recipe, scaler, processes, teacher)
    if scaler is not None:
        scaler.unscale_(optimizer)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    outcome, samples = None, len(images)
    if sums is not None:
        sums += torch.stack((*found, ~(norm + found[0]).isfinite()))
    else:
        outcome = _checked(model, torch.stack((*found, norm)), samples, scaler, processes)
        if outcome.skipped:
            return outcome
        samples = outcome.samples
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
    factor = recipe.batch_size / samples
    if recipe.optimizer.clip is not None:
        # Of one rounding in float64, wherever it is computed; the norm stays on the device.
        length = norm.double() * factor + 1e-6
        smaller = torch.full_like(length, recipe.optimizer.clip).div(length).clamp(max=1.0)
        torch._foreach_mul_(gradients, (factor * smaller).to(norm.dtype))
    elif factor != 1:
        torch._foreach_mul_(gradients, factor)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    return outcome


def _checked(
    model: nn.Module,
    found: Tensor,
    samples: int,
    scaler: torch.amp.GradScaler | None,
    processes: Processes,
) -> Outcome:
    """Return what came of all processes' batch; raise NonFiniteError before a weight is changed."""
    loss, correct, length = found.tolist()  # note: this waits for the device
    loss, correct, total = processes.sum([loss, correct, samples])
    if not isfinite(loss):
        raise NonFiniteError(f"the loss is {loss}")
    outcome = Outcome(int(total), loss / total, int(correct), skipped=not isfinite(length))
    if outcome.skipped:
        if scaler is None:
            raise NonFiniteError(f"the gradient{_culprit(model)} is NaN or infinite")
        scaler.update()
        if scaler.get_scale() < 1:
            raise NonFiniteError(f"the gradient{_culprit(model)} is NaN or infinite at any scale")
    return outcome


def _backward(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    recipe: Recipe,
    scaler: torch.amp.GradScaler | None,
    processes: Processes,
    teacher: nn.Module | None,
) -> Tensor:
    """Give the parameters their gradients; return the sums of losses and of correct samples.

    The gradient is that of all processes' summed loss over the recipe's batch size, which an
    epoch's last batch may not reach: its samples are not counted yet.
    """
    count = recipe.optimizer.accumulate
    columns = (images, targets, labels, *(() if weights is None else (weights,)))
    pieces = list(zip(*(column.tensor_split(count) for column in columns), strict=True))
    if processes.count == 1:  # several join in as often as each other, if with nothing
        pieces = [piece for piece in pieces if len(piece[0])]
    share = processes.count / recipe.batch_size  # gradients are averaged over processes
    lower = recipe.precision != "float32"
    autocast = torch.autocast(images.device.type, getattr(torch, recipe.precision), enabled=lower)
    apart = getattr(model, "no_sync", nullcontext)
    sums = []
    for number, (x, target, label, *factors) in enumerate(pieces, start=1):
        with nullcontext() if number == len(pieces) else apart():
            with autocast:
                logits = model(x)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss = _loss(logits, target, recipe, *factors, several=label.ndim == 2)
            if teacher is not None:
                with autocast, torch.no_grad():
                    taught = teacher(x)
                loss = distilled(loss, logits, taught, recipe.distill, *factors)
            scaled = loss * share if scaler is None else scaler.scale(loss * share)
            scaled.backward()  # type: ignore[no-untyped-call]
        right = logits.argmax(1) == label if label.ndim == 1 else ((logits > 0) == label).all(1)
        sums.append(torch.stack((loss.detach(), right.sum())))
    return torch.stack(sums).sum(0)


def _loss(
    logits: Tensor,
    target: Tensor,
    recipe: Recipe,
    weights: Tensor | None = None,
    *,
    several: bool = False,
) -> Tensor:
    """Return the sum of the samples' losses, each times its weight.

    ``several`` classes may be true of an image.
    """
    smoothing, classes = recipe.label_smoothing, logits.shape[1]
    if recipe.loss == "cross_entropy":
        reduction = "sum" if weights is None else "none"
        loss = F.cross_entropy(logits, target, reduction=reduction, label_smoothing=smoothing)
        return loss if weights is None else (loss * weights).sum()
    if target.ndim == 1:
        target = torch.zeros_like(logits).scatter_(1, target[:, None], 1)
    # Smoothed towards all classes alike, or where each is answered by itself towards not knowing.
    spread = smoothing / (2 if several else classes)
    shares = target.to(logits.dtype) * (1 - smoothing) + spread
    if recipe.target_threshold is not None:
        shares = (shares > recipe.target_threshold).to(logits.dtype)
    each = None if weights is None else weights[:, None]
    if recipe.loss == "asymmetric":
        losses = _asymmetric(logits, shares, recipe.asymmetric)
        return (losses if each is None else losses * each).sum() / classes
    return F.binary_cross_entropy_with_logits(logits, shares, each, reduction="sum") / classes


def _asymmetric(logits: Tensor, shares: Tensor, recipe: AsymmetricRecipe) -> Tensor:
    """Return the loss of each class, (N, classes) (Ben-Baruch et al. 2021, sec. 2.1 to 2.4)."""
    shifted = (logits.sigmoid() - recipe.clip).clamp(min=0)
    without = torch.log1p(-shifted) if recipe.clip else F.logsigmoid(-logits)  # which stays finite
    positive = (-logits).sigmoid() ** recipe.gamma_positive * F.logsigmoid(logits)
    negative = shifted**recipe.gamma_negative * without
    return -shares * positive - (1 - shares) * negative


def _culprit(model: nn.Module) -> str:
    """Return " of" and the first parameter whose gradient has a NaN or an infinity."""
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f" of {name.removeprefix('_orig_mod.').removeprefix('module.')}"
    return "'s norm"  # its squares exceed the number format
