"""Optimizers that torch does not have: Caffe's momentum, LAMB, and Muon."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Momentum(torch.optim.Optimizer):
    """What optimizers with a velocity for each parameter share: decay, then a move of one's own."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        for group, parameters, gradients in _groups(self):
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            velocity = [self.state[p]["momentum_buffer"] for p in parameters]
            if group["weight_decay"]:
                decayed = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
                gradients = list(decayed)
            torch._foreach_mul_(velocity, group["momentum"])
            self._move(group, parameters, gradients, velocity)

    @abstractmethod
    def _move(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        velocity: list[Tensor],
    ) -> None:
        """Change ``velocity``, which is momentum v already, and the parameters."""


class CaffeSGD(Momentum):
    """Momentum as Caffe has it: v <- momentum v + lr (gradient + decay w); w <- w - v.

    The buffer is v itself, which contains the rates of its steps: where the rate drops, the steps
    already on their way stay as large as they were.
    """

    def __init__(self, params: Any, lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    def _move(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        velocity: list[Tensor],
    ) -> None:
        _add(velocity, gradients, group["lr"])
        torch._foreach_sub_(parameters, velocity)


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al. 2020), as timm has it, over a gradient that is clipped already.

    u = Adam's step + ``weight_decay`` w; w <- w - lr r u, where r = |w| / |u| for each tensor of a
    group that is decayed, 1 in others or where a norm is 0; with ``trust_clip`` r is 1 at most.
    """

    def __init__(
        self, params: Any, lr: float, betas: tuple[float, float], eps: float, *, trust_clip: bool
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "trust_clip": trust_clip}
        super().__init__(params, {**defaults, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        for group, parameters, gradients in _groups(self):
            for p in parameters:
                if not self.state[p]:
                    zeros = {key: torch.zeros_like(p) for key in ("exp_avg", "exp_avg_sq")}
                    # In float64, since beta^step is near 1, and on the device, as a graph demands.
                    count = torch.zeros((), dtype=torch.float64, device=p.device)
                    self.state[p] = {"step": count, **zeros}
            steps, means, squares = (
                [self.state[p][key] for p in parameters]
                for key in ("step", "exp_avg", "exp_avg_sq")
            )
            (first, second), decay = group["betas"], group["weight_decay"]
            torch._foreach_add_(steps, 1)
            torch._foreach_lerp_(means, gradients, 1 - first)
            torch._foreach_mul_(squares, second)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_div_(roots, (1 - second ** steps[0]).sqrt())
            torch._foreach_add_(roots, group["eps"])
            updates = list(torch._foreach_div(means, 1 - first ** steps[0]))
            torch._foreach_div_(updates, roots)
            if decay:
                torch._foreach_add_(updates, parameters, alpha=decay)
                torch._foreach_mul_(updates, _trust(parameters, updates, clip=group["trust_clip"]))
            _add(parameters, updates, -group["lr"])


def _groups(
    optimizer: torch.optim.Optimizer,
) -> Iterator[tuple[dict[str, Any], list[Tensor], list[Tensor]]]:
    """Yield each group with those of its parameters that have a gradient, and the gradients."""
    for group in optimizer.param_groups:
        pairs = [(p, p.grad) for p in group["params"] if p.grad is not None]
        if pairs:
            yield group, [p for p, _ in pairs], [gradient for _, gradient in pairs]


def _trust(weights: list[Tensor], updates: list[Tensor], *, clip: bool) -> list[Tensor]:
    """Return |w| / |u| of each pair, or 1 where a norm is 0; with ``clip`` at most 1."""
    ratios = []
    for w, u in zip(torch._foreach_norm(weights), torch._foreach_norm(updates), strict=True):
        ratio = torch.where((w > 0) & (u > 0), w / u, torch.ones_like(w))
        ratios.append(ratio.clamp(max=1) if clip else ratio)
    return ratios


class Muon(Momentum):
    """Muon for convolutions (Jordan et al. 2024), SGD with Nesterov momentum for what is not one.

    v <- momentum v + gradient; u = gradient + momentum v. A group whose ``orthogonal`` is true
    holds weights (C_out, C_in, k, k): each keeps its norm, sqrt(C_out), and moves by -lr times the
    orthogonal matrix next to u, seen as (C_out, C_in k k). The others move by -lr u, after
    ``weight_decay`` times the weight has been added to the gradient.
    """

    def __init__(self, params: Any, lr: float, momentum: float) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False}
        super().__init__(params, defaults)

    def _move(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        velocity: list[Tensor],
    ) -> None:
        torch._foreach_add_(velocity, gradients)
        updates = list(torch._foreach_add(gradients, velocity, alpha=group["momentum"]))
        if group["orthogonal"]:
            norms = torch._foreach_norm(parameters)
            scales = [len(p) ** 0.5 / norm for p, norm in zip(parameters, norms, strict=True)]
            torch._foreach_mul_(parameters, scales)
            updates = _orthogonal_kernels(updates)
        _add(parameters, updates, -group["lr"])


def _add(targets: list[Tensor], values: list[Tensor], rate: float | Tensor) -> None:
    """Add ``rate`` times the values; a rate on the device is never asked what it is."""
    if isinstance(rate, Tensor):
        torch._foreach_add_(targets, torch._foreach_mul(values, rate))
    else:
        torch._foreach_add_(targets, values, alpha=rate)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return nearly orthogonal matrices (N, rows, columns) next to those given.

    Five Newton-Schulz steps of the fifth order bring all singular values to 0.7 .. 1.2 and leave
    the singular vectors (Jordan et al. 2024).
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x: Tensor = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x if wide is matrices else x.mT


def _orthogonal_kernels(updates: list[Tensor]) -> list[Tensor]:
    """Return each (C_out, C_in, k, k) made orthogonal; those of one shape are computed together."""
    together = defaultdict(list)
    for number, update in enumerate(updates):
        together[update.shape].append(number)
    result = list(updates)
    for (rows, channels, *kernel), numbers in together.items():
        # Channels last, as they lie in memory; the order of a matrix's columns does not matter.
        stack = torch.stack([updates[n].permute(0, 2, 3, 1).reshape(rows, -1) for n in numbers])
        for n, matrix in zip(numbers, orthogonalize(stack), strict=True):
            result[n] = matrix.view(rows, *kernel, channels).permute(0, 3, 1, 2)
    return result
