"""What the papers measured inside their nets: layer responses and gradients."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.nn import ResNet
from resnets.nn.blocks import Block


@dataclass(frozen=True)
class Measurement:
    """A number for a named part of a network."""

    name: str
    value: float


def layer_responses(model: ResNet, images: Tensor) -> list[Measurement]:
    """Return the standard deviation of each 3x3 layer's response (He et al. 2015, Fig. 7).

    The response is the output of the batch norm after the convolution, before any activation or
    addition; where no batch norm follows (pre-activation) or only one behind the addition, the
    convolution's own. ``images`` is a float batch (N, C, H, W); the model is measured in evaluation
    mode and left as it was.
    """
    modules = dict(model.named_modules())
    layers: dict[str, nn.Module] = {}
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            inside, _, last = name.rpartition(".")
            norm = name.replace("conv", "bn")
            if last.isdigit():  # of a deep stem or a projection, which are sequences
                norm = f"{inside}.{int(last) + 1}"
                norm = norm if norm in modules else inside.replace("conv", "bn")
            unit = modules[inside]
            bare = isinstance(unit, Block) and (
                unit.order == "preactivation" or unit.last_weighted == last
            )
            layers[name] = module if bare else modules[norm]
    with (
        torch.no_grad(),
        heard(model, layers, lambda output: output.double().std(correction=0)) as found,
    ):
        model(images)
    return [Measurement(name, found[name].item()) for name in layers]


def gradient_norms(model: ResNet, images: Tensor, labels: Tensor) -> list[Measurement]:
    """Return the Euclidean norm of the loss's gradient over each unit's parameters.

    Units are the blocks, first to last; the loss is the mean cross-entropy of the batch, in
    training mode. Gradients, statistics and mode of the model are left as they were.
    """
    units = {name: m for name, m in model.named_modules() if isinstance(m, Block)}
    parameters = [[p for p in unit.parameters() if p.requires_grad] for unit in units.values()]
    with trial(model):
        loss = F.cross_entropy(model(images), labels)
        flat = torch.autograd.grad(loss, [p for unit in parameters for p in unit])
    gradients = iter(flat)
    return [
        Measurement(name, sum(next(gradients).double().square().sum().item() for _ in mine) ** 0.5)
        for name, mine in zip(units, parameters, strict=True)
    ]


@contextmanager
def trial(model: nn.Module) -> Iterator[None]:
    """Put a model into training mode; its modes and statistics are as before at the end."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with temporary_mode(model, training=True):
            yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])


@contextmanager
def temporary_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model and all its modules into training or evaluation mode, and back at the end."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


@contextmanager
def heard(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    keep: Callable[[Tensor], Tensor] = lambda output: output,
) -> Iterator[dict[str, Tensor]]:
    """Collect what is to be kept of each module's output in a pass in evaluation mode, by its name.

    ``keep`` is called at once: an activation may overwrite the output in place. No trace is left in
    the model.
    """
    found: dict[str, Tensor] = {}

    def listen(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = keep(output)

        return hook

    handles = [module.register_forward_hook(listen(name)) for name, module in modules.items()]
    try:
        with temporary_mode(model, training=False):
            yield found
    finally:
        for handle in handles:
            handle.remove()
