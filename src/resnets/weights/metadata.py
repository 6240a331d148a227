"""What files say about themselves, checked for type and size before anything is made of it.

A stranger's metadata may ask for a network of a billion blocks or for pictures of a million pixels
a side. Whatever is read here is refused where it cannot be meant, at once and in little memory.
"""

import re
from collections import Counter
from collections.abc import Mapping
from math import isfinite
from reprlib import Repr
from typing import Any

from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError
from resnets.spec import Spec
from resnets.weights.outputs import STATED, fits

BLOCKS = 10_000  # of a network; the papers' deepest has 600
CHANNELS = 2**16  # of any layer
CLASSES = 10_000_000
SIDE = 8192  # pixels
UNSEEN_CLASSIFIER = 2**28  # weights of a classifier that is not in the file
_BLOCK = re.compile(r"layer(\d{1,5})\.(\d{1,5})\.conv(\d)\.weight")
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_BRIEFLY = Repr()
_BRIEFLY.maxlevel, _BRIEFLY.maxlist, _BRIEFLY.maxdict, _BRIEFLY.maxtuple = 2, 4, 4, 4
Shapes = Mapping[str, tuple[int, ...]]


class _Wrong(ValueError):
    """What cannot be meant; the message says why."""


def read_spec(values: Any, shapes: Shapes | None = None) -> Spec:
    """Return the spec in metadata, if it is one that can be built.

    ``shapes`` are those of the file's tensors, which say what a network may cost: the spec has to
    be theirs. Raises CheckpointError.
    """
    try:
        if not isinstance(values, dict):
            raise _Wrong(f"its spec is {_short(values)}")
        spec = Spec.from_dict(values)
        _check_sizes(spec)
        if shapes is not None:
            _check_shapes(spec, shapes)
    except _MALFORMED as error:  # a SpecError is a ValueError
        raise CheckpointError(getattr(error, "message", str(error))) from None
    return spec


def read_preprocess(values: Any, channels: int) -> Preprocess | None:
    """Return the preprocessing in metadata for pictures of so many channels; None where it is None.

    Raises CheckpointError.
    """
    if values is None:
        return None
    try:
        _check_preprocess(values, channels)
        return Preprocess.from_dict(values)
    except CheckpointError:
        raise
    except _MALFORMED as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"its preprocessing is damaged: {reason}") from None


def read_outputs(values: Mapping[str, Any], count: int) -> str | None:
    """Return what metadata say that outputs mean. Raises CheckpointError.

    Older files do not say it. Those of runs are of a softmax.
    """
    if "outputs" not in values:
        made = values.get("made")
        return "softmax" if isinstance(made, dict) and "recipe" in made and count > 1 else None
    outputs = values["outputs"]
    if outputs is not None and (not isinstance(outputs, str) or outputs not in STATED):
        raise CheckpointError(f"its outputs are {_short(outputs)}")
    return outputs


def read_classes(values: Any, count: int, outputs: str | None) -> tuple[str, ...]:
    """Return the class names in metadata, for so many outputs. Raises CheckpointError."""
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise CheckpointError(f"its classes are no names: {_short(values)}")
    if not fits(values, count, outputs):
        raise CheckpointError(f"it names {len(values):,} classes for {count:,} outputs")
    if len(set(values)) < len(values):
        twice = Counter(values).most_common(1)[0][0]
        raise CheckpointError(f"it names a class twice: {_short(twice)}")
    return tuple(values)


def read_assumed(values: Any) -> tuple[str, ...]:
    """Return the names of what was only assumed of a network. Raises CheckpointError."""
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise CheckpointError(f"what it calls assumed is {_short(values)}")
    return tuple(values)


def read_number(value: Any, name: str) -> int:
    """Return a count of pictures or pixels in metadata. Raises CheckpointError."""
    if not _is_whole(value) or not 0 < value <= CHANNELS:
        raise CheckpointError(f"its {name} is {_short(value)}")
    return int(value)


def _check_sizes(spec: Spec) -> None:
    bounds = {
        "blocks": (sum(spec.depths), BLOCKS),
        "classes": (spec.num_classes, CLASSES),
        "image_size": (spec.image_size, SIDE),
        "groups": (spec.groups, CHANNELS),
        "width_per_group": (spec.width_per_group, CHANNELS),
        "channels": (
            max(*spec.channels, *spec.widths, spec.stem_width, spec.in_channels),
            CHANNELS,
        ),
    }
    for name, (value, most) in bounds.items():
        if value > most:
            raise _Wrong(f"its spec asks for {name} {_short(value)}, and at most {most:,} is meant")
    inner = max(spec.inner_width(stage) for stage in range(len(spec.depths)))
    if inner > CHANNELS * 4:
        raise _Wrong(f"its spec asks for blocks of {inner:,} channels")


def _check_shapes(spec: Spec, shapes: Shapes) -> None:
    """Refuse a spec that asks for other tensors than there are."""
    found = {tuple(map(int, match.groups())) for key in shapes if (match := _BLOCK.fullmatch(key))}
    depths = Counter(stage for stage, _, number in found if number == 1)
    for stage, depth in enumerate(spec.depths, start=1):
        if depths[stage] != depth:
            raise _Wrong(
                f"its spec asks for {depth:,} blocks in stage {stage}, it holds {depths[stage]:,}"
            )
        place = f"layer{stage}.0.conv"
        last = 3 if spec.block == "bottleneck" else 2
        _check_channels(f"{place}{last}.weight", spec.channels[stage - 1], shapes)
        if spec.block == "bottleneck":
            _check_channels(f"{place}2.weight", spec.inner_width(stage - 1), shapes)
    stem = "conv1.6.weight" if spec.stem.startswith("deep") else "conv1.weight"
    _check_channels(stem, spec.stem_width, shapes)
    first = shapes["conv1.0.weight" if spec.stem.startswith("deep") else "conv1.weight"]
    if len(first) != 4 or first[1] != spec.in_channels:
        raise _Wrong(f"its spec asks for {spec.in_channels:,} input channels, it holds {first}")
    if "fc.weight" in shapes:
        _check_channels("fc.weight", spec.num_classes, shapes)
    elif spec.num_classes * spec.channels[-1] > UNSEEN_CLASSIFIER:
        raise _Wrong(f"its spec asks for {spec.num_classes:,} classes, and it has no classifier")


def _check_channels(key: str, wanted: int, shapes: Shapes) -> None:
    if key not in shapes or not shapes[key] or shapes[key][0] != wanted:
        there = str(shapes[key]) if key in shapes else "no such tensor"
        raise _Wrong(f"its spec asks for {wanted:,} channels of {key}, it holds {there}")


def _check_preprocess(values: Any, channels: int) -> None:
    if not isinstance(values, dict):
        raise _Wrong(_short(values))
    sizes = {name: values[name] for name in ("channels", "size", "resize")}
    for name, value in sizes.items():
        if not _is_whole(value) or not 0 < value <= SIDE:
            raise _Wrong(f"{name} is {_short(value)}")
    if sizes["channels"] != channels:
        raise _Wrong(f"it has {sizes['channels']} channels, the network {channels}")
    mean, std = values["mean"], values["std"]
    for name, numbers in (("mean", mean), ("std", std)):
        if not isinstance(numbers, list | tuple) or not all(map(_is_number, numbers)):
            raise _Wrong(f"{name} is {_short(numbers)}")
    if len(mean) not in (channels, channels * sizes["size"] ** 2):
        raise _Wrong(f"its mean has {len(mean):,} numbers for {channels} channels")
    if len(std) != channels or not all(number > 0 for number in std):
        raise _Wrong(f"std is {_short(std)}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _short(value: Any) -> str:
    """Return the beginning of a value, however long or deep it is."""
    return "a number of many digits" if _is_long(value) else _BRIEFLY.repr(value)


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > 100
