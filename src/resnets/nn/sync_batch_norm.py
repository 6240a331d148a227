"""Batch norm over the batches of all processes, on any device.

Ioffe & Szegedy 2015, whose batch is spread over processes; torch's SyncBatchNorm needs a GPU.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_ALL_BUT_CHANNELS = (0, 2, 3)


class SynchronousBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that, in training, normalises by the statistics of all processes' batches.

    Their sizes may differ, and some may be empty. Outputs, running statistics and the gradients of
    inputs are those of ``nn.BatchNorm2d`` on the whole batch; the gradients of scale and bias are
    this process's share of the sum. Every process must come by here, and in training only; in
    evaluation, or with one process, this is ``nn.BatchNorm2d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised, (N, C, H, W); raises ValueError for one value per channel."""
        if not (self.training and _several()):
            return super().forward(x)
        self._check_input_dim(x)
        count, mean, var = _statistics(x.detach())
        # One's own two values are enough to know, without waiting for a GPU.
        total = int(count[0]) if x.numel() < 2 * x.shape[1] else 2
        if total == 1:
            raise ValueError("batch norm needs 2 values per channel to train, not 1")
        if total:  # else nobody has any
            self._count(count, mean, var)
        arguments = (x, self.weight, self.bias, count, mean, var, self.eps)
        return _Normalised.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]

    def _count(self, count: Tensor, mean: Tensor, var: Tensor) -> None:
        """Let the running statistics follow a batch's, the variance as an unbiased one."""
        if not self.track_running_stats:
            return
        batches = self.get_buffer("num_batches_tracked").add_(1)
        share = self.momentum if self.momentum is not None else 1 / int(batches)
        unbiased = var * (count / (count - 1))
        for name, seen in (("running_mean", mean), ("running_var", unbiased)):
            running = self.get_buffer(name)
            running.lerp_(seen.to(running.dtype), share)


def synchronize(model: nn.Module) -> None:
    """Turn every plain ``nn.BatchNorm2d`` of a model into one that counts over all processes.

    The modules stay the same objects, so that parameters, buffers, keys, modes and hooks stay too.
    Norms that keep their statistics (``freezing``) are no batch norms of torch's, and are left
    alone.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronousBatchNorm2d


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many values all processes have, their mean and variance, each float64 (C,).

    Each process sends its count, mean and sum of squared deviations, which are joined as in
    Chan, Golub & LeVeque 1979: no difference of large squares is taken.
    """
    count, channels = x.numel() // x.shape[1], x.shape[1]
    own = torch.zeros(3, channels, dtype=torch.float64, device=x.device)
    if count:
        x = x.to(_computing(x))
        var, mean = torch.var_mean(x, dim=_ALL_BUT_CHANNELS, correction=0)
        own[0], own[1], own[2] = count, mean, var.double() * count
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    counts, means, squares = torch.stack(parts, dim=1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    squares = squares.sum(0) + (counts * (means - mean).square()).sum(0)
    return total, mean, squares / total


def _computing(x: Tensor) -> torch.dtype:
    """Return what to compute in: float64 for float64, else float32."""
    return torch.promote_types(x.dtype, torch.float32)


class _Normalised(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var depend on every process."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        count: Tensor,
        mean: Tensor,
        var: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, count, mean, (var + eps).rsqrt())
        dtype = _computing(x) if weight is None else weight.dtype
        mean, var = mean.to(dtype), var.to(dtype)
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Ioffe & Szegedy 2015, sec. 3, with the sums over the batch taken over all processes."""
        x, weight, count, mean, inverse_std = ctx.saved_tensors
        dtype = _computing(x)
        gradient, mean, inverse_std = gradient.to(dtype), mean.to(dtype), inverse_std.to(dtype)
        normal = (x.to(dtype) - mean[:, None, None]) * inverse_std[:, None, None]
        by_bias = gradient.sum(_ALL_BUT_CHANNELS)
        by_weight = (gradient * normal).sum(_ALL_BUT_CHANNELS)
        by_x = None
        if ctx.needs_input_grad[0]:
            sums = torch.stack([by_bias, by_weight]).double()
            dist.all_reduce(sums)
            shift, slope = (sums / count).to(dtype)[..., None, None]
            scale = inverse_std if weight is None else inverse_std * weight.to(dtype)
            by_x = scale[:, None, None] * (gradient - shift - normal * slope)
            by_x = by_x.to(x.dtype)
        if weight is None:
            return by_x, None, None, None, None, None, None
        return by_x, by_weight.to(weight.dtype), by_bias.to(weight.dtype), None, None, None, None
