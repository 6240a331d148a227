"""The loss around a net's weights, in random directions as long as its filters (Li et al. 2018)."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum, inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from resnets.files import json_text, write_text
from resnets.nn import ResNet
from resnets.training.precise_bn import measure_statistics

BATCH = 128
Point = tuple[float, float]


def directions(model: ResNet, seed: int, *, ignore: str = "biasbn") -> list[list[Tensor]]:
    """Return two random directions, each with a tensor for each parameter of the net.

    Every filter of a convolution and every row of the classifier has the norm of the net's own.
    What has one dimension, biases and batch norms, does not move with ``ignore`` "biasbn", and with
    "nothing" along itself, as in the code of Li et al. Nets of equal shapes are given the same
    draws.
    """
    generator = torch.Generator().manual_seed(seed)
    return [
        [_direction(parameter.detach(), generator, ignore) for parameter in model.parameters()]
        for _ in range(2)
    ]


def _direction(weight: Tensor, generator: torch.Generator, ignore: str) -> Tensor:
    if weight.ndim < 2:
        return torch.zeros_like(weight) if ignore == "biasbn" else weight.clone()
    drawn = torch.randn(weight.shape, generator=generator).double().to(weight.device)
    scale = _row_norms(weight.double()) / _row_norms(drawn)
    return (drawn * scale.view(-1, *[1] * (weight.ndim - 1))).to(weight.dtype)


def _row_norms(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).norm(dim=1)  # type: ignore[no-any-return]


class Surface:
    """The mean loss of a net on a batch of images, with weights moved along two directions.

    ``inputs`` are (N, C, H, W) as the net takes them. ``norms`` are "running", batch norm's
    statistics as the run left them, or "precise", measured anew at each point over the same images.
    At (0, 0) with the run's statistics the loss is what `resnets.evaluation` says of these images,
    bit for bit.
    """

    def __init__(
        self,
        model: ResNet,
        inputs: Tensor,
        labels: Tensor,
        seed: int,
        *,
        ignore: str = "biasbn",
        norms: str = "running",
    ) -> None:
        self._model, self._seed, self._norms = model, seed, norms
        self._labels = labels
        self._inputs = inputs.split(BATCH)  # type: ignore[no-untyped-call]
        self._weights = [parameter.detach().clone() for parameter in model.parameters()]
        self._directions = directions(model, seed, ignore=ignore)

    @torch.no_grad()
    def at(self, a: float, b: float) -> float | None:
        """Return the loss at a point; None where it is no number. The net is left as it was."""
        buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        try:
            for parameter, weight, first, second in zip(
                self._model.parameters(), self._weights, *self._directions, strict=True
            ):
                # Always from the run's own weights, so that no point depends on another.
                parameter.copy_(weight + a * first + b * second)
            if self._norms == "precise":
                self._measure_statistics()
            return self._loss()
        finally:
            for parameter, weight in zip(self._model.parameters(), self._weights, strict=True):
                parameter.copy_(weight)
            for buffer, before in buffers:
                buffer.copy_(before)

    def _measure_statistics(self) -> None:
        with torch.random.fork_rng(devices=[]):  # where layers are dropped at random in training
            torch.manual_seed(self._seed)
            measure_statistics(self._model, self._inputs)

    def _loss(self) -> float | None:
        logits = torch.cat([self._model(batch).float() for batch in self._inputs])
        losses = F.cross_entropy(logits, self._labels, reduction="none")
        loss = fsum(losses.tolist()) / len(losses) if losses.isfinite().all() else inf
        return loss if isfinite(loss) else None


def grid(steps: int, span: float = 1.0, *, line: bool = False) -> list[Point]:
    """Return steps x steps points from -span to span, or those with b = 0; (0, 0) is one of them.

    ``steps`` is odd.
    """
    half = steps // 2
    along = [span * place / half for place in range(-half, half + 1)]
    return [(a, b) for b in ([0.0] if line else along) for a in along]


class Kept:
    """Points that are computed, in a file of their own for each thing that they depend on.

    A line for each is written when it is known: a kill loses the one that was being computed.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        text = json_text(identity)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.path = folder / f"points-{digest[:16]}.jsonl"
        self._known: dict[Point, float | None] = {}
        lines = self.path.read_text("utf-8", "replace").splitlines() if self.path.exists() else []
        for line in lines[1:]:
            try:
                a, b, loss = json.loads(line)
                self._known[float(a), float(b)] = None if loss is None else float(loss)
            except (ValueError, TypeError):  # cut off by a kill
                break
        rows = [json.dumps([*point, loss]) for point, loss in self._known.items()]
        write_text(self.path, "".join(f"{row}\n" for row in (text, *rows)))

    def losses(
        self,
        points: Sequence[Point],
        compute: Callable[[float, float], float | None],
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> list[float | None]:
        """Return the loss at each point; those that are not known are computed, and kept.

        ``on_progress`` is told how many are done.
        """
        with self.path.open("a", encoding="utf-8") as file:
            for done, point in enumerate(points):
                if point not in self._known:
                    self._known[point] = compute(*point)
                    file.write(json.dumps([*point, self._known[point]]) + "\n")
                    file.flush()
                on_progress(done + 1)
        return [self._known[point] for point in points]


@dataclass(frozen=True)
class Shape:
    """What a surface is like around the net, in figures."""

    centre: float  # the loss of the net itself
    highest: float | None  # None: it is no number somewhere
    below_guessing: float  # the share of the points where the loss is less than that of guessing
    # The second derivative at the net, on average over the directions; None: a loss beside it is no
    # number.
    curvature: float | None
    convex: float  # the share of inner points at which the surface bends upward in all directions


def shape(losses: NDArray[np.float64], span: float, classes: int) -> Shape:
    """Return the figures of a surface (steps, steps), or of a line (1, steps); NaN is no number.

    Derivatives are differences between neighbours. Guessing costs the logarithm of the number of
    classes.
    """
    step = 2 * span / (losses.shape[1] - 1)
    across = _second(losses, 1, step)
    middle = losses.shape[0] // 2, losses.shape[1] // 2
    if len(losses) == 1:
        curvature, convex = across[0, middle[1] - 1], across >= 0
    else:
        across, down = across[1:-1], _second(losses, 0, step)[:, 1:-1]
        mixed = (losses[2:, 2:] - losses[2:, :-2] - losses[:-2, 2:] + losses[:-2, :-2]) / (
            4 * step**2
        )
        at = middle[0] - 1, middle[1] - 1
        curvature = (across[at] + down[at]) / 2
        convex = (across + down >= 0) & (across * down >= mixed**2)
    highest = float(losses.max())
    return Shape(
        centre=float(losses[middle]),
        highest=highest if np.isfinite(highest) else None,
        below_guessing=float((losses < np.log(classes)).mean()),
        curvature=float(curvature) if np.isfinite(curvature) else None,
        convex=float(convex.mean()),
    )


def _second(values: NDArray[np.float64], axis: int, step: float) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.diff(values, 2, axis) / step**2
    return found
