"""A path of Keras layers as steps that a residual network is made of.

Padding joins the layer that it pads for, layers that do nothing in evaluation disappear, and an
activation that is an argument of a convolution becomes a step of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from resnets.errors import CheckpointError
from resnets.weights.keras.graph import Node

CONVOLUTION, NORM, ACTIVATION, MAX_POOL, AVERAGE_POOL = "conv", "bn", "activation", "max", "average"
KINDS = {
    "Conv2D": CONVOLUTION,
    "Convolution2D": CONVOLUTION,
    "BatchNormalization": NORM,
    "SyncBatchNormalization": NORM,
    "MaxPooling2D": MAX_POOL,
    "AveragePooling2D": AVERAGE_POOL,
}
ADDITIONS = ("Add", "AddV2")
# Of tf.keras 2, where tensors are added with a plus sign.
ADDING_FUNCTIONS = ("math.add", "__operators__.add", "add")
INERT = (
    *("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
    *("ActivityRegularization", "Identity", "InputLayer"),
)
ACTIVATIONS = {"relu": "relu", "silu": "silu", "swish": "silu", "gelu": "gelu"}


@dataclass(frozen=True)
class Step:
    """One step: ``kind`` is one of the constants above."""

    kind: str
    node: Node
    padding: str = ""  # "", "same" or "symmetric", where it makes a difference
    zero_padded: bool = False  # a pooling
    activation: str = ""

    @property
    def filters(self) -> int:
        """Output channels of a convolution."""
        return _count(self.node, "filters")

    @property
    def size(self) -> int:
        """Side of a convolution's kernel or of a pooling's window."""
        name = "kernel_size" if self.kind == CONVOLUTION else "pool_size"
        return _square(self.node, name, 2)

    @property
    def stride(self) -> int:
        """How many pixels a convolution or a pooling steps."""
        return _square(self.node, "strides", 1 if self.kind == CONVOLUTION else self.size)

    @property
    def biased(self) -> bool:
        """Whether a convolution has a bias."""
        return bool(self.node.config.get("use_bias", True))


def is_addition(node: Node) -> bool:
    """Tell whether a layer adds its inputs."""
    function = node.config.get("function")
    return node.kind in ADDITIONS or (node.kind == "TFOpLambda" and function in ADDING_FUNCTIONS)


def steps(nodes: Iterable[Node]) -> list[Step]:
    """Return the steps that layers make one after the other.

    Raises CheckpointError, naming the layer, for what residual networks here do not have.
    """
    found: list[Step] = []
    pad = 0
    for node in nodes:
        if node.kind == "ZeroPadding2D":
            pad += _zero_padding(node)
            continue
        kind = KINDS.get(node.kind)
        if pad and kind not in (CONVOLUTION, MAX_POOL):
            raise unsupported(node, "directly after a ZeroPadding2D")
        if kind == CONVOLUTION:
            found.append(_convolution(node, pad))
            found += _activated(node)
        elif kind == MAX_POOL:
            found.append(_max_pool(node, pad))
        elif kind:
            found.append(Step(kind, node))
        elif node.kind not in INERT:
            found += _activation(node)
        pad = 0
    return found


def unsupported(node: Node, where: str = "") -> CheckpointError:
    """Return the error of a layer that has no place in a residual network."""
    return CheckpointError(
        f"{node}{' ' + where if where else ''}: residual networks here have no such layer",
        hint="`resnets models` lists what they are; other architectures are not read",
    )


def _convolution(node: Node, pad: int) -> Step:
    step = Step(CONVOLUTION, node)
    if _square(node, "dilation_rate", 1) != 1:
        raise unsupported(node, "with a dilation")
    same, size = node.config.get("padding", "valid") == "same", step.size
    if size % 2 == 0 or (same and pad) or (not same and pad != size // 2):
        raise unsupported(node, f"of size {size}, padded in an unusual way")
    if size == 1 or step.stride == 1:  # all ways of padding agree
        return step
    return Step(CONVOLUTION, node, padding="same" if same else "symmetric")


def _max_pool(node: Node, pad: int) -> Step:
    step = Step(MAX_POOL, node, zero_padded=pad > 0)
    same = node.config.get("padding", "valid") == "same"
    if pad and (same or (step.size, pad) != (3, 1)):
        raise unsupported(node, "padded in an unusual way")
    if same and step.size > 1:
        raise unsupported(node, 'with padding "same", which is lopsided at stride 2')
    return step


def _zero_padding(node: Node) -> int:
    padding = node.config.get("padding", 1)
    sides = {side for pair in _pairs(padding) for side in pair}
    if len(sides) != 1:
        raise unsupported(node, f"with different padding at different sides, {padding},")
    return int(sides.pop())


def _pairs(padding: Any) -> list[list[int]]:
    if isinstance(padding, int):
        return [[padding, padding]]
    return [[side, side] if isinstance(side, int) else list(side) for side in padding]


def _activated(node: Node) -> list[Step]:
    """Return the step that a layer's argument ``activation`` makes, if any."""
    name = activation_name(node.config.get("activation"))
    if name == "linear":
        return []
    if name not in ACTIVATIONS:
        raise unsupported(node, f"with activation {name}")
    return [Step(ACTIVATION, node, activation=ACTIVATIONS[name])]


def _activation(node: Node) -> list[Step]:
    if node.kind == "Activation":
        return _activated(node)
    slope = node.config.get("negative_slope", node.config.get("alpha", 0.3))
    if node.kind == "LeakyReLU" and abs(float(slope) - 0.01) < 1e-9:
        return [Step(ACTIVATION, node, activation="leaky_relu")]
    if node.kind == "ReLU":
        for name in ("max_value", "negative_slope", "threshold"):
            if node.config.get(name):
                raise unsupported(node, f"with {name} {node.config[name]}")
        return [Step(ACTIVATION, node, activation="relu")]
    raise unsupported(node)


def activation_name(value: Any) -> str:
    """Return an activation's name from a config, where it is a text or a serialised function."""
    if isinstance(value, dict):
        value = value.get("config", value.get("class_name"))
    return value if isinstance(value, str) else "linear" if value is None else "unknown"


def _count(node: Node, name: str) -> int:
    value = node.config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise unsupported(node, f"with {name} {value}")
    return value


def _square(node: Node, name: str, default: int) -> int:
    """Return an argument that is a number, or the same number for height and width."""
    value = node.config.get(name, default)
    values = set(value) if isinstance(value, list) else {default if value is None else value}
    if len(values) != 1 or not all(isinstance(n, int) and n > 0 for n in values):
        raise unsupported(node, f"with {name} {value}")
    return int(values.pop())
