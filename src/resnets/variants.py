"""v1 or v1.5? Two nets of the same shapes: which of them do given weights belong to."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from resnets.create import from_checkpoint
from resnets.errors import CheckpointError
from resnets.prediction import predict
from resnets.weights.checkpoint import Checkpoint

STRIDES = {"1x1": "v1", "3x3": "v1.5"}


@dataclass(frozen=True)
class Confidence:
    """How sure a variant is of its answers: the mean probability of the most probable class."""

    variant: str
    mean: float
    pictures: int


def compare_variants(checkpoint: Checkpoint, images: Iterable[Path]) -> list[Confidence]:
    """Return how confident v1 and v1.5 are with these weights, the more confident first.

    The variant that weights were trained as is markedly surer of pictures like those it was trained
    on. Raises CheckpointError when the network has no variants or no classifier.
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
    images = list(images)
    found = []
    for stride, name in STRIDES.items():
        variant = replace(spec, bottleneck_stride=stride)  # type: ignore[arg-type]
        network, _ = from_checkpoint(checkpoint, variant, check_variant=False)
        sure = [p.probabilities[0] for p in predict(network, images, top=1) if p.error is None]
        if not sure:
            raise CheckpointError("none of the pictures can be read", hint="give other pictures")
        found.append(Confidence(name, sum(sure) / len(sure), len(sure)))
    return sorted(found, key=lambda confidence: -confidence.mean)
