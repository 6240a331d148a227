"""What residual network a Keras model's config describes, and which of its layers is which of ours.

Every Add joins a block's two branches; the one with more convolutions is the residual. Sizes and
strides are read off the layers (sizes.py); the order of norms and activations is found by
comparison with what our own blocks do, so that layers and modules pair up one to one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from resnets.errors import CheckpointError, SpecError
from resnets.spec import ActivationOrder, Spec
from resnets.weights.keras.front import Front, read_front
from resnets.weights.keras.graph import build_graph
from resnets.weights.keras.head import Head, find_head
from resnets.weights.keras.keras_blocks import BlockSteps, find_body
from resnets.weights.keras.modules import OurStep, our_steps
from resnets.weights.keras.sizes import is_channels_first, map_side, read_sizes
from resnets.weights.keras.steps import Step
from resnets.weights.stated_spec import MALFORMED


@dataclass(frozen=True)
class Topology:
    """A Keras model read as one of our networks."""

    spec: Spec
    names: dict[str, str]  # layer -> module of ours, for every layer with weights that has one
    front: Front  # what is in front of the network, such as Rescaling
    outputs: str | None  # what they mean: "softmax", "sigmoid", or None for logits


def read_topology(config: dict[str, Any], tensors: Mapping[str, Tensor] | None = None) -> Topology:
    """Return the network that a model's config describes.

    ``tensors`` are those of its file, under ``LAYER/VARIABLE``: what it measured of images may be
    among them. Raises CheckpointError, naming the layer, where it is no residual network of our
    kind.
    """
    try:
        return _read(config, tensors or {})
    except SpecError as error:
        message = f"its layers make no network that is known here: {error.message}"
        raise CheckpointError(message, hint=error.hint) from None
    except MALFORMED as error:
        raise CheckpointError(
            f"its model config is damaged: {error!r}", hint="save the model in Keras again"
        ) from None


def _read(config: dict[str, Any], tensors: Mapping[str, Tensor]) -> Topology:
    graph = build_graph(config)
    body = find_body(graph)
    head = find_head(graph, body.last, map_side(body))
    furthest = 0
    for spec in _orders(read_sizes(body, head)):
        pairs = _pairs(spec, body.blocks, head)
        alike = _alike(pairs)
        if alike == len(pairs):
            names = _names(pairs, head)
            front = read_front(
                *(graph, body.entry, spec.in_channels, tensors),
                channels_first=is_channels_first(body),
            )
            return Topology(spec, names, front, head.outputs)
        furthest = max(furthest, alike)
    odd = body.blocks[min(furthest // 3, len(body.blocks) - 1)].convolutions[0].node
    raise CheckpointError(
        f"norms and activations run in an order that no residual network here has; the block of "
        f"{odd} is the first that fits none",
        hint="known are the orders of He et al. 2016, Fig. 4",
    )


ORDERS: tuple[ActivationOrder, ...] = (
    *("original", "preactivation", "relu_only_preactivation"),
    *("relu_before_addition", "bn_after_addition"),
)
Input = Literal["activated", "raw"]
# Whether the stem activates itself, and what projections and the first shortcut read. Without
# pooling a stem's own activation and a first block's that both branches share are one function:
# the earlier line is what such networks are called here.
PREACTIVATED: tuple[tuple[bool, Input, Input], ...] = (
    (False, "activated", "activated"),  # He et al. 2016, appendix
    (True, "raw", "activated"),  # the Keras example
    (True, "activated", "activated"),
    (False, "raw", "activated"),
    (False, "activated", "raw"),
    (False, "raw", "raw"),
)


def _orders(spec: Spec) -> Iterator[Spec]:
    """Yield the specs of these sizes with each order of norms and activations."""
    for order in ORDERS:
        ordered = replace(spec, activation_order=order)
        if not ordered.preactivated:
            yield ordered
            continue
        for stem, projection, first in PREACTIVATED:
            yield replace(
                ordered,
                projection_norm=True,  # of no meaning here
                stem_activation=stem,
                projection_input=projection,
                first_shortcut_input=first,
            )


Pair = tuple[list[OurStep], list[Step]]  # our steps on a stretch of the network, and theirs


def _pairs(spec: Spec, blocks: list[BlockSteps], head: Head) -> list[Pair]:
    """Return the stretches of a network, three for each block and the last one."""
    ours, tail = our_steps(spec)
    pairs: list[Pair] = []
    for mine, theirs in zip(ours, blocks, strict=True):
        pairs += zip(mine, theirs.paths, strict=True)
    return [*pairs, (tail, head.after)]


def _alike(pairs: list[Pair]) -> int:
    """Return how many stretches from the first on make the same steps."""
    count = 0
    for mine, theirs in pairs:
        if [own.kind for own in mine] != [step.kind for step in theirs]:
            break
        count += 1
    return count


def _names(pairs: list[Pair], head: Head) -> dict[str, str]:
    """Return which layer is which module of ours."""
    names = {
        step.node.name: own.module
        for mine, theirs in pairs
        for own, step in zip(mine, theirs, strict=True)
        if own.module
    }
    return names | ({head.classifier.name: "fc"} if head.classifier else {})
