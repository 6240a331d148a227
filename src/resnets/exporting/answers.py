"""What a file answers beside its logits: calibrated probabilities, and how strange an image is.

They are for whoever reads the file without resnets, whose own runtimes work them out of the logits.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnets.errors import ExportError
from resnets.exporting.examples import COUNT, Examples, generated
from resnets.exporting.inputs import Prepared
from resnets.exporting.raw_pixels import Feed
from resnets.nn import ResNet
from resnets.weights.calibration import Calibration
from resnets.weights.outputs import answers, meaning, probabilities

BOUND = 1e-5  # of how far a probability or a score may be off
ROUNDED = 2.0**-22  # what float32 rounds off of logits in four steps, relatively; then its bound


def output_names(network: ResNet) -> list[str]:
    """Return the names of what a network's file answers, in order; "logits" is the first."""
    if network.calibration is None:
        return ["logits"]
    return ["logits", "probabilities", *["unknown_score"] * bool(network.calibration.unknown)]


class Answering(Prepared):
    """A network that has a calibration, (N, ...) to the values of `output_names`."""

    def __init__(self, before: nn.Module, network: ResNet) -> None:
        super().__init__(before, network)
        calibration: Calibration = network.calibration
        count = network.spec.num_classes
        self.alone = meaning(network.outputs, count) == "sigmoid"
        self.both = len(answers(network.classes, count, network.outputs)) > count
        self.score = calibration.unknown and calibration.unknown.score
        self.register_buffer("scale", torch.tensor(calibration.scale))
        self.register_buffer("bias", torch.tensor(calibration.bias or (0.0,)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return them, each float32 with N rows."""
        logits = super().forward(images)
        calibrated = logits * self.get_buffer("scale") + self.get_buffer("bias")
        if self.both:
            calibrated = torch.cat([-calibrated, calibrated], 1)
        p = calibrated.sigmoid() if self.alone else calibrated.softmax(1)
        if self.score is None:
            return logits, p
        return logits, p, -(logits.logsumexp(1) if self.score == "energy" else logits.amax(1))


def check_answers(
    answer: Callable[[NDArray[Any]], Sequence[NDArray[np.float32]]], feed: Feed, examples: Examples
) -> dict[str, Any] | None:
    """Return how far a file's further answers are from what follows from its logits; None: no such.

    Those are worked out in double precision, on real images or else generated ones. How far they
    are from what the network in torch answers is told too, in which its logits' distance has a part
    that has a bound of its own. Raises ExportError where one is farther off than BOUND.
    """
    network, calibration = feed.network, feed.network.calibration
    if calibration is None:
        return None
    size = feed.plan.size or feed.plan.side
    real = list(examples.images)
    images = feed.scaled(real, size) if real else generated(COUNT, feed.channels, size)
    with torch.no_grad():
        in_torch = network(feed.to_network(images)).numpy()
    logits, *found = answer(feed.to_file(images))
    names = output_names(network)[1:]
    record: dict[str, Any] = {"images": len(images), "bound": BOUND, "off": {}, "off_torch": {}}
    exact, ours = (_further(network, values) for values in (logits, in_torch))
    for name, theirs, own, other in zip(names, found, exact, ours, strict=True):
        size_of = calibration(logits) if name == "probabilities" else own
        rounded = ROUNDED * float(np.abs(size_of).max())
        off = float(np.abs(theirs - own).max()) if theirs.shape == own.shape else inf
        if not off <= max(BOUND, rounded):
            raise ExportError(
                f"the exported file is not the network: its {name} are {off:.3g} off what follows "
                f"from its logits, and may be {BOUND:g}",
                hint="it was not kept; another --to may do, or resnets train --no-calibrate",
            )
        record["off"][name] = off
        record["off_torch"][name] = float(np.abs(theirs - other).max())
    return record


def _further(network: ResNet, logits: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """Return what follows from logits for the values of `output_names` behind them."""
    calibration, classes, outputs = network.calibration, network.classes, network.outputs
    names = answers(classes, network.spec.num_classes, outputs)
    p = probabilities(calibration(logits), outputs, len(names))
    return [p, *([calibration.unknown.of(logits)] if calibration.unknown else [])]
