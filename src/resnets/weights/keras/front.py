"""How a Keras model prepares its images itself, in front of its first convolution.

Rescaling, Normalization and the operations of ``preprocess_input`` are computed here for two small
images; what comes out shows that each channel is (x - mean) / std of one channel x of the image,
and with which constants, or that it is something else. Layers that only augment do nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from resnets.data.framing import INTERPOLATION
from resnets.weights.dialects import Input
from resnets.weights.keras.graph import Graph, Node, ancestors, arguments
from resnets.weights.keras.steps import INERT
from resnets.weights.normalisation import largest_pixel
from resnets.weights.stated_spec import MALFORMED, SIDE

Array = NDArray[np.float64]

# An image here has 6 pixels.
_MOST_NUMBERS = 4096  # of a constant, and of what is put together
_MOST_IN_ALL = 1_000_000
_MEASURED = ("mean", "variance")
_SMALLEST_STD = 1e-7  # that a Normalization divides by: keras.config.epsilon()
_AUGMENTATION = ("RandAugment", "AugMix", "MixUp", "CutMix")
# They choose or scale pixels, and leave their values.
_GEOMETRY = ("Resizing", "CenterCrop", "RandomCrop", "ZeroPadding2D", "Cropping2D")


@dataclass(frozen=True)
class Front:
    """What a network's first convolution gets of an image."""

    input: Input | None = None
    is_bgr: bool = False  # whether it gets blue first, which may be known without the constants
    used: tuple[str, ...] = ()  # layers whose weights are in the constants
    frame: dict[str, Any] = field(default_factory=dict)  # of a Preprocess, as a Resizing says it
    notes: tuple[str, ...] = ()


def read_front(
    graph: Graph,
    entry: str,
    channels: int,
    tensors: Mapping[str, Tensor],
    *,
    channels_first: bool = False,
) -> Front:
    """Return what the node ``entry`` makes of an image of so many channels.

    ``tensors`` are the file's, where a Normalization may have its constants. What is no constants
    of each channel is named in a note.
    """
    path = ancestors(graph, entry)
    layers = [node for node in path.values() if not _does_nothing(node)]
    sizes = [node for node in layers if node.kind in _GEOMETRY]
    pixels = np.random.default_rng(0).uniform(1, 255, (1, 2, 3, channels))
    axis = 1 if channels_first else 3
    images = [np.moveaxis(image, 3, axis) for image in (np.zeros_like(pixels), pixels)]
    try:
        with np.errstate(all="ignore"):  # whatever is not finite is seen at the end
            made = (_computed(path, entry, image, tensors, axis) for image in images)
            found = _constants(pixels, *(np.moveaxis(image, axis, 3) for image in made))
    except (StopIteration, *MALFORMED) as error:
        names = ", ".join(map(str, layers))
        why = f" ({error})" if isinstance(error, _UnreadError) else ""
        note = f"it prepares its images itself, in a way that is not understood{why}: {names}"
        return Front(notes=(*_about(sizes), f"{note}; set model.preprocess to what they do"))
    used = tuple(node.name for node in layers if node.kind == "Normalization")
    front = _concluded(found, layers)
    frame = _resized(sizes) if front.input else {}
    return replace(front, used=used, frame=frame, notes=(*_about(sizes, frame), *front.notes))


def _resized(sizes: list[Node]) -> dict[str, Any]:
    """Return what a Resizing to a square does as fields of a Preprocess; nothing for another."""
    if [node.kind for node in sizes] != ["Resizing"]:
        return {}
    said = sizes[0].config
    side, method = said.get("height"), said.get("interpolation", "bilinear")
    is_square = type(side) is int and 0 < side <= SIDE and said.get("width") == side
    if not is_square or method not in INTERPOLATION or said.get("pad_to_aspect_ratio"):
        return {}
    fit = "crop" if said.get("crop_to_aspect_ratio") else "squash"
    return {"resize": side, "size": side, "fit": fit, "interpolation": method}


def _about(sizes: list[Node], frame: Mapping[str, Any] | None = None) -> list[str]:
    what = "is not used: images are scaled and cropped as model.preprocess says"
    if frame:
        what = (
            "is what model.preprocess does ({size} x {size}, {fit}, {interpolation}), antialiased"
        )
        what = what.format(**frame)
    return [f"{node} in front of its first convolution {what}" for node in sizes]


class _UnreadError(ValueError):
    """A layer that is not computed here."""


def _does_nothing(node: Node) -> bool:
    """Tell whether a layer leaves images alone in evaluation."""
    is_random = node.kind.startswith("Random") and node.kind not in _GEOMETRY
    return is_random or node.kind in (*INERT, *_AUGMENTATION)


def _computed(
    path: Mapping[str, Node], entry: str, image: Array, tensors: Mapping[str, Tensor], axis: int
) -> Array:
    """Return what the nodes on a path make of an image (1, H, W, C) or (1, C, H, W)."""
    outputs: dict[str, Any] = {}
    left = _MOST_IN_ALL
    for key, node in path.items():
        given = [outputs[other] for other in node.inputs]
        outputs[key] = made = _output(node, given, tensors, axis) if given else image
        left -= _size(made)
        if left < 0:
            raise _UnreadError(str(node))
    return np.asarray(outputs[entry])


def _size(made: Any) -> int:
    """Return how many numbers there are in an array or in several."""
    return sum(map(np.size, made if isinstance(made, list) else [made]))


def _output(node: Node, given: list[Any], tensors: Mapping[str, Tensor], axis: int) -> Any:
    if _does_nothing(node) or node.kind in _GEOMETRY:
        return given[0]
    if node.kind == "Rescaling":
        return given[0] * _constant(node.config["scale"]) + _constant(node.config.get("offset", 0))
    if node.kind == "Normalization":
        return _normalised(node, given[0], tensors, axis)
    name = node.config.get("function") if node.kind in _FUNCTIONS else node.kind
    operation = _OPERATIONS.get(str(name).removeprefix("compat.v1."))
    if operation is None:
        raise _UnreadError(str(node))
    positional, named = arguments(node, given)
    return operation(*positional, **{**node.config, **named})


def _normalised(node: Node, image: Array, tensors: Mapping[str, Tensor], axis: int) -> Array:
    """Compute a Normalization, whose constants are in the config or were measured and stored."""
    mean, variance = (_own(node, name, number, tensors) for number, name in enumerate(_MEASURED))
    mean, std = _constant(mean), np.maximum(np.sqrt(_constant(variance)), _SMALLEST_STD)
    if axis == 1 and mean.size > 1:
        mean, std = (value.reshape(-1, 1, 1) for value in (mean, std))
    prepared: Array = image * std + mean if node.config.get("invert") else (image - mean) / std
    return prepared


def _own(node: Node, name: str, number: int, tensors: Mapping[str, Tensor]) -> Any:
    """Return a constant of a Normalization; a .keras file only numbers what was measured."""
    if node.config.get(name) is not None:
        return node.config[name]
    for key in (f"{node.name}/{name}", f"{node.name}/{number}"):
        if key in tensors:
            return tensors[key].double().numpy()
    raise _UnreadError(f"the file does not have its {name}")


def _constant(value: Any) -> Array:
    """Return numbers as they were written: 0.485, and not 0.48500001, the nearest float32."""
    array = np.asarray(value, dtype=np.float64)
    if array.size > _MOST_NUMBERS:
        raise _UnreadError(f"a constant of {array.size:,} numbers")
    single = array.astype(np.float32)
    shortest = [float(str(number)) for number in single.flat]
    return np.where(single == array, np.reshape(shortest, array.shape), array)


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Return an operation on two values, by whatever names Keras and TensorFlow give them."""

    def operation(*values: Any, **named: Any) -> Any:
        names = ("x", "x1", "y", "x2", "bias")
        operands = [*values, *(named[name] for name in names if name in named)]
        if str(named.get("data_format")).startswith(("NC", "channels_first")):
            raise _UnreadError("channels first")
        constants = (
            value if isinstance(value, np.ndarray) else _constant(value) for value in operands
        )
        first, second = constants
        return compute(first, second)

    return operation


def _index(image: Array, key: Any = None, *, slice_spec: Any = None, **_: Any) -> Any:
    index = key if key is not None else slice_spec
    parts = tuple(index) if isinstance(index, list) else (index,)
    if not all(part is ... or isinstance(part, slice | int) for part in parts):
        raise _UnreadError("an index")
    return image[parts]


def _cast(image: Array, *_: Any, dtype: Any, **__: Any) -> Array:
    if not str(dtype).startswith(("float", "bfloat", "half")):
        raise _UnreadError(f"a cast to {dtype}")
    return image


def _split(image: Array, sections: Any = None, *, axis: int, **named: Any) -> list[Array]:
    for name in ("indices_or_sections", "num_or_size_splits"):
        sections = named.get(name, sections)
    if not isinstance(sections, int):
        raise _UnreadError("a split into parts of different sizes")
    return np.split(image, sections, axis)


def _flip(image: Array, *_: Any, axis: Any, **__: Any) -> Array:
    return np.flip(image, tuple(axis) if isinstance(axis, list) else axis)


def _take(image: Array, indices: list[int], *, axis: int, **_: Any) -> Array:
    if np.size(indices) > image.shape[axis]:
        raise _UnreadError("channels that are taken several times")
    return np.take(image, indices, axis)


def _joining(join: Callable[[list[Array], int], Array]) -> Callable[..., Array]:
    """Return an operation that puts arrays together along an axis."""

    def operation(images: list[Array], *, axis: int, **_: Any) -> Array:
        if _size(images) > _MOST_NUMBERS:
            raise _UnreadError("very many channels")
        return join(images, axis)

    return operation


_FUNCTIONS = ("TFOpLambda", "SlicingOpLambda")  # of tf.keras 2
_ADD, _SUBTRACT = _arithmetic(np.add), _arithmetic(np.subtract)
_MULTIPLY, _DIVIDE = _arithmetic(np.multiply), _arithmetic(np.divide)
# Keras 3 has a class for each operation; tf.keras 2 has TensorFlow's names for its functions.
_OPERATIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("Add", "math.add", "__operators__.add", "nn.bias_add"), _ADD),
    **dict.fromkeys(("Subtract", "math.subtract", "__operators__.sub"), _SUBTRACT),
    **dict.fromkeys(("Multiply", "math.multiply", "__operators__.mul"), _MULTIPLY),
    **dict.fromkeys(("TrueDivide", "Divide", "math.truediv", "math.divide"), _DIVIDE),
    **dict.fromkeys(("realdiv", "__operators__.truediv"), _DIVIDE),
    **dict.fromkeys(("GetItem", "__operators__.getitem"), _index),
    **dict.fromkeys(("Stack", "stack"), _joining(np.stack)),
    **dict.fromkeys(("Concatenate", "concat"), _joining(np.concatenate)),
    **dict.fromkeys(("Split", "split"), _split),
    **dict.fromkeys(("Flip", "reverse"), _flip),
    **dict.fromkeys(("Take", "gather"), _take),
    **dict.fromkeys(("Cast", "cast"), _cast),
}


def _constants(pixels: Array, dark: Array, bright: Array) -> list[tuple[int, float, float]]:
    """Return for each channel of a result which channel it is of, its mean and its deviation.

    ``dark`` and ``bright`` are the results (1, H, W, C) of black pixels and of ``pixels``. Raises
    ValueError where they are not each (x - mean) / std of a channel x.
    """
    if not dark.shape == bright.shape == pixels.shape or not np.isfinite(bright - dark).all():
        raise _UnreadError("other than a mean and a deviation of each channel")
    found = []
    for offset, change in zip(
        np.moveaxis(dark, 3, 0), np.moveaxis(bright - dark, 3, 0), strict=True
    ):
        slopes = [float((change / pixels[..., n]).mean()) for n in range(pixels.shape[3])]
        fitting = [
            (n, slope)
            for n, slope in enumerate(slopes)
            if slope and np.allclose(change, slope * pixels[..., n], rtol=1e-9, atol=0)
        ]
        if len(fitting) != 1 or np.ptp(offset):
            raise _UnreadError("other than a mean and a deviation of each channel")
        (source, slope), *_ = fitting
        found.append((source, _tidy(-offset.flat[0] / slope), _tidy(1 / slope)))
    return found


def _tidy(value: float) -> float:
    """Return a number without what rounding has left of 0.224, 255 or 0."""
    return float(f"{value:.10g}") + 0.0


def _concluded(constants: list[tuple[int, float, float]], layers: list[Node]) -> Front:
    """Return what constants say of an image's own pixels."""
    sources, mean, std = zip(*constants, strict=True)
    names = ", ".join(map(str, layers))
    order = tuple(range(len(sources)))
    is_bgr = sources == order[::-1] and len(order) == 3
    if sources != order and not is_bgr:
        return Front(notes=(f"not used: {names}, which mix the channels of its images",))
    if set(mean) == {0.0} and set(std) == {1.0}:
        return Front(is_bgr=is_bgr)
    scale = largest_pixel(mean, std)
    if isinstance(scale, str):
        return Front(is_bgr=is_bgr, notes=(f"not used: {names}: {scale}",))
    step = -1 if is_bgr else 1
    mean, std = (tuple(_tidy(v / scale) for v in values[::step]) for values in (mean, std))
    return Front(Input(mean, std, is_bgr), is_bgr)
