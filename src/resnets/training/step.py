"""One training step, without branches on the environment, and the optimizer that it drives."""

from math import isfinite

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.errors import NonFiniteError
from resnets.training.recipe import OptimizerRecipe


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """Return SGD over a model's parameters; only what the recipe says is decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    decays = [recipe.decay == "all" or p.ndim > 1 for p in parameters]
    groups = [
        {
            "params": [p for p, decay in zip(parameters, decays, strict=True) if decay == wanted],
            "weight_decay": recipe.weight_decay if wanted else 0.0,
        }
        for wanted in (True, False)
    ]
    return torch.optim.SGD(
        groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, foreach=True
    )


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    lr: float,
    label_smoothing: float = 0.0,
) -> tuple[float, int]:
    """Update the model on one batch; return the mean loss and the number of right answers.

    Raises NonFiniteError before any weight is changed when the loss is NaN or infinite.
    """
    logits = model(images)
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    value = loss.item()  # note: this waits for the device
    if not isfinite(value):
        raise NonFiniteError(f"the loss is {value}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return value, int((logits.argmax(1) == labels).sum())
