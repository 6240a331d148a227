"""What is measured of gradients: along a straight line through input space, and by depth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.analysis.responses import trial
from resnets.errors import CheckpointError, NonFiniteError
from resnets.nn import ResNet
from resnets.nn.blocks import Block
from resnets.spec import Spec
from resnets.studies.subjects import Images
from resnets.training.precise_bn import measure_statistics

AT_ONCE = 64  # places of a line, so that many points take no more memory than a few
NEAR = 1 / 16  # of the line, where places are as many times closer
Curve = list[tuple[float, float]]  # distance and correlation


def norms_by_depth(
    model: ResNet, images: Tensor, labels: Tensor
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the norms of the loss's gradient over each 3x3 convolution and each block's output.

    The loss is the mean cross-entropy of ``images``, float (N, C, H, W), in training mode, so that
    batch norm uses this batch. The model is left as it was.
    """
    weights = {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
    }
    outputs: dict[str, Tensor] = {}
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, Block)}

    def listen(name: str) -> Any:
        return lambda module, inputs, output: outputs.__setitem__(name, output)

    handles = [block.register_forward_hook(listen(name)) for name, block in blocks.items()]
    try:
        with trial(model):
            loss = F.cross_entropy(model(images), labels)
            gradients = torch.autograd.grad(loss, [*weights.values(), *outputs.values()])
    finally:
        for handle in handles:
            handle.remove()
    found = [gradient.double().norm().item() for gradient in gradients]
    return (
        dict(zip(weights, found, strict=False)),
        dict(zip(outputs, found[len(weights) :], strict=True)),
    )


def line_gradients(
    network: nn.Module, first: Tensor, last: Tensor, points: int, output: int
) -> Tensor:
    """Return the gradient of one output at so many places of a straight line, (points, C * H * W).

    ``first`` and ``last`` are inputs (C, H, W), the ends of the line; the network is in evaluation
    mode, so that the gradient at a place is that place's own.
    """
    found = []
    shares = torch.linspace(0, 1, points, dtype=first.dtype, device=first.device)
    for share in shares.split(AT_ONCE):  # type: ignore[no-untyped-call]
        share = share[:, None, None, None]
        inputs = ((1 - share) * first + share * last).requires_grad_()
        found += torch.autograd.grad(network(inputs)[:, output].sum(), inputs)
    return torch.cat(found).flatten(1)


def autocorrelation(gradients: Tensor) -> list[float]:
    """Return the mean cosine between gradients (points, D) that are 0, 1, 2, ... places apart."""
    if not gradients.isfinite().all():
        raise NonFiniteError("a gradient is NaN or infinite", hint="the weights have diverged")
    directions = F.normalize(gradients.double(), dim=1)
    cosines = directions @ directions.T
    return [cosines.diagonal(lag).mean().item() for lag in range(len(gradients))]


def correlation_between(
    network: nn.Module, first: Tensor, last: Tensor, points: int, output: int
) -> Curve:
    """Return how alike gradients are by their distance, as a share of the line between two inputs.

    Of so many places on the whole line, and for short distances on its first NEAR.
    """
    whole = autocorrelation(line_gradients(network, first, last, points, output))
    near = first + NEAR * (last - first)
    close = autocorrelation(line_gradients(network, first, near, points, output))
    steps = points - 1
    fine = [(NEAR * lag / steps, value) for lag, value in enumerate(close[: points // 2 + 1])]
    coarse = [(lag / steps, value) for lag, value in enumerate(whole)]
    return fine + [each for each in coarse if each[0] > fine[-1][0]]


def half_length(curve: Curve) -> float:
    """Return at which share of the line half of the correlation is lost; 1 if it never is.

    It is never less than the first step, which is all that is seen.
    """
    for (before, high), (after, low) in pairwise(curve):
        if low < 0.5 >= high:  # gradients of 0, which are like nothing, themselves included
            return curve[1][0]
        if low < 0.5:
            crossed = before + (high - 0.5) / (high - low) * (after - before)
            return max(curve[1][0], crossed)
    return 1.0


def noises(points: int, size: int, seed: int) -> dict[str, Curve]:
    """Return the autocorrelation of white noise, and of brown noise, its running sum."""

    def curve(values: Tensor) -> Curve:
        return [(lag / (points - 1), found) for lag, found in enumerate(autocorrelation(values))]

    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(points, size, generator=generator, dtype=torch.float64)
    return {
        "white noise": curve(white),
        "brown noise": curve(white.cumsum(0)),
    }


@dataclass(frozen=True)
class Measured:
    """What the gradients of a net are like, its draws averaged."""

    name: str
    model: str
    condition: str
    plain: bool
    depth: int
    residual_scale: float
    correlation: Curve
    weights: dict[str, float]  # norms
    outputs: dict[str, float]

    @property
    def half(self) -> float:
        """At which share of the line half of the correlation is lost."""
        return half_length(self.correlation)

    @property
    def ratio(self) -> float:
        """The gradient's norm at the first block's output over that at the last but one's.

        Of one block alone it is 1.
        """
        values = list(self.outputs.values())
        return values[0] / values[-2:][0]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-able values."""
        return {**vars(self), "half_length": self.half, "first_to_last": self.ratio}


def measure(
    name: str, condition: str, networks: Sequence[ResNet], images: Images, points: int
) -> Measured:
    """Average over networks of one spec, each on a pair of images of its own."""
    correlations, weights, outputs = [], [], []
    for draw, network in enumerate(networks):
        one, other = 2 * draw, 2 * draw + 1
        ends = images.inputs[one], images.inputs[other]
        label = int(images.labels[one])
        correlations.append(correlation_between(network, *ends, points, label))
        of_weights, of_outputs = norms_by_depth(network, images.inputs, images.labels)
        if not all(map(isfinite, of_outputs.values())):
            raise NonFiniteError(
                f"{name}, {condition}: a gradient is NaN or infinite",
                hint="give a net less deep, or one that has not diverged",
            )
        if not all(of_outputs.values()):
            raise CheckpointError(
                f"{name}: no gradient comes back through its blocks: it answers all images alike",
                hint="give a net that has learnt something",
            )
        weights.append(of_weights)
        outputs.append(of_outputs)
    spec = networks[0].spec
    return Measured(
        name=name,
        model=spec.name,
        condition=condition,
        plain=spec.shortcut == "none",
        depth=spec.depth,
        residual_scale=spec.residual_scale,
        correlation=[
            (each[0][0], fmean(value for _, value in each))
            for each in zip(*correlations, strict=True)
        ],
        weights=_averaged(weights),
        outputs=_averaged(outputs),
    )


def fresh(spec: Spec, images: Tensor, seeds: Sequence[int]) -> list[ResNet]:
    """Return nets with fresh weights, their batch norms with the statistics of some images."""
    networks = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = ResNet(spec).to(images.device)
        measure_statistics(network, [images])
        networks.append(network.eval())
    return networks


def _averaged(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(row[name] for row in rows) for name in rows[0]}
