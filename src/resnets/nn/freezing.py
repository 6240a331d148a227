"""Freezing: which parameters and statistics stay as they are, whatever is done to the model."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.errors import UsageError

FreezeBatchNorm = Literal["none", "stats", "affine", "both"]


@dataclass(frozen=True)
class Freezing:
    """What of a backbone is frozen.

    ``frozen_stages``: -1 nothing, 0 the stem, k the stem and the first k stages: their parameters,
    their statistics, and everything random in them. ``norm_eval`` and ``freeze_bn`` are about the
    batch norms of all stages: their statistics ("stats", which is what norm_eval means), their
    scales and biases ("affine"), or both.
    """

    frozen_stages: int = -1
    norm_eval: bool = False
    freeze_bn: FreezeBatchNorm = "none"

    def check(self, stages: int) -> None:
        """Raise UsageError when it cannot be meant for a net of so many stages."""
        number = self.frozen_stages
        if isinstance(number, bool) or not isinstance(number, int) or not -1 <= number <= stages:
            raise UsageError(
                f"frozen_stages is {number!r}",
                hint=f"-1 freezes nothing, 0 the stem, k the stem and k stages of {stages}",
            )
        if self.freeze_bn not in get_args(FreezeBatchNorm):
            raise UsageError(
                f"freeze_bn is {self.freeze_bn!r}",
                hint=f"choose from {', '.join(get_args(FreezeBatchNorm))}",
            )

    @property
    def statistics(self) -> bool:
        """Whether all batch norms keep their statistics."""
        return self.norm_eval or self.freeze_bn in ("stats", "both")

    @property
    def affine(self) -> bool:
        """Whether all batch norms keep their scales and biases."""
        return self.freeze_bn in ("affine", "both")


class FixedBatchNorm2d(nn.Module):
    """A batch norm that uses its statistics and never changes them; its affine part may learn.

    It takes over a batch norm's own parameters and buffers, so that keys stay and optimizers know
    them. It does not look at ``training``. And it is no subclass of torch's batch norms, because
    SyncBatchNorm's conversion and weight averaging's ``update_bn`` search for those, the one to
    replace them by norms that count, the other to set their statistics to nothing.
    """

    num_batches_tracked: Tensor | None

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        self.num_features = norm.num_features
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)

    def released(self) -> nn.BatchNorm2d:
        """Return a batch norm with the same parameters and buffers that does count."""
        norm = nn.BatchNorm2d(self.num_features, self.eps, self.momentum, device="meta")
        norm.weight, norm.bias = self.weight, self.bias
        for name, buffer in self.named_buffers():
            norm.register_buffer(name, buffer)
        return norm.train(self.training)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps:g}"


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters never change: all four are buffers."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        for name, value in values.items():
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        weight, bias = self.get_buffer("weight"), self.get_buffer("bias")
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=self.eps)


def fix_statistics(parent: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Make the batch norms in some parts of a module keep their statistics."""
    chosen = {m for part in parts for m in part.modules() if isinstance(m, _BatchNorm)}
    for module in list(parent.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and child in chosen:
                setattr(module, name, FixedBatchNorm2d(child).train(child.training))


def release_statistics(parent: nn.Module) -> None:
    """Undo ``fix_statistics``."""
    for module in list(parent.modules()):
        for name, child in module.named_children():
            if isinstance(child, FixedBatchNorm2d):
                setattr(module, name, child.released())


def affine_parameters(parent: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the scales and biases of the batch norms below a module."""
    for module in parent.modules():
        if isinstance(module, _BatchNorm | FixedBatchNorm2d):
            yield from module.parameters(recurse=False)


def without_graph(x: Tensor) -> AbstractContextManager[None]:
    """Return a context in which a frozen part reads ``x`` and keeps nothing for the backward pass.

    Unless ``x`` itself wants a gradient, as images that are learned or layers put before a frozen
    backbone do: the frozen part then passes it on.
    """
    return torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad)
