"""v1 or v1.5? Two nets of the same shapes: which of them do given weights belong to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resnets.data.images import Stored
from resnets.data.preprocess import identity, imagenet
from resnets.errors import CheckpointError
from resnets.inference.prediction import predict
from resnets.models import from_checkpoint
from resnets.nn import ResNet
from resnets.weights.assumptions import STRIDES
from resnets.weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class Fit:
    """How a variant takes images: both figures tell the one that weights were trained as."""

    variant: str
    confidence: float  # mean probability of the most probable class; higher is better
    # Of every batch norm's mean input over the images from the mean that it has stored, in stored
    # standard deviations, averaged over channels and norms. Lower is better.
    deviation: float
    pictures: int


def compare_variants(checkpoint: Checkpoint, images: Sequence[Path | Stored]) -> list[Fit]:
    """Return how v1 and v1.5 with these weights take images, the one that fits better first.

    They are in the order of the deviation, which is the stronger sign of the two. Images are
    prepared as the checkpoint says, or else as ImageNet's usual constants do. Raises
    CheckpointError when the network has no variants or no classifier.
    """
    spec = checkpoint.spec
    if spec is None or spec.block != "bottleneck" or spec.preactivated:
        raise CheckpointError(
            f"{checkpoint.source}: {checkpoint.guess.words} has no variants v1 and v1.5",
            hint="they differ in where a bottleneck has its stride",
        )
    if "fc.weight" not in checkpoint.tensors:
        raise CheckpointError(
            f"{checkpoint.source}: without a classifier there is no confidence to compare",
            hint="give the file with the classifier in it",
        )
    found = []
    for stride, name in STRIDES.items():
        variant = replace(spec, bottleneck_stride=stride)  # type: ignore[arg-type]
        network, _ = from_checkpoint(checkpoint, variant, check_variant=False)
        if network.preprocess is None:
            usual = imagenet if spec.in_channels == 3 else identity
            network.preprocess = usual(spec.in_channels, spec.image_size)
        network.outputs = network.outputs or "softmax"
        with _means(network) as means:
            predictions = [p for p in predict(network, images, top=1) if p.error is None]
        if not predictions:
            raise CheckpointError("none of the images can be read", hint="give other images")
        sure = sum(p.probabilities[0] for p in predictions) / len(predictions)
        found.append(Fit(name, sure, _deviation(means, len(predictions)), len(predictions)))
    return sorted(found, key=lambda fit: fit.deviation)


@contextmanager
def _means(network: ResNet) -> Iterator[dict[nn.BatchNorm2d, Tensor]]:
    """Sum up the mean of every channel that enters a batch norm, over forward passes."""
    found: dict[nn.BatchNorm2d, Tensor] = {}

    def record(module: nn.BatchNorm2d, inputs: tuple[Tensor], output: Any) -> None:
        found[module] = found.get(module, 0) + inputs[0].mean((0, 2, 3))

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [norm.register_forward_hook(record) for norm in norms]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _deviation(means: dict[nn.BatchNorm2d, Tensor], count: int) -> float:
    apart = 0.0
    for norm, total in means.items():
        mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        apart += ((total / count - mean).abs() / (var + norm.eps).sqrt()).mean().item()
    return apart / max(len(means), 1)
