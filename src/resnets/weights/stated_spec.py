"""The spec that a file states, refused where it is too large or not its tensors'.

A stranger's may ask for a network of a billion blocks: it is checked before anything is built.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from reprlib import Repr
from typing import Any

from resnets.errors import CheckpointError
from resnets.spec import CONVOLUTIONS, Spec

BLOCKS = 10_000  # of a network; the papers' deepest has 600
CHANNELS = 2**16  # of any layer
CLASSES = 10_000_000
SIDE = 8192  # pixels
UNSEEN_CLASSIFIER = 2**28  # weights of a classifier that is not in the file
# What plain data that are not as they were written make of the code that reads them
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_CONVOLUTION = re.compile(r"layer(\d{1,5})\.(\d{1,5})\.conv(\d)\.weight")
_BRIEFLY = Repr()
_BRIEFLY.maxlevel, _BRIEFLY.maxlist, _BRIEFLY.maxdict, _BRIEFLY.maxtuple = 2, 4, 4, 4
Shapes = Mapping[str, tuple[int, ...]]


def read_spec(values: Any, shapes: Shapes | None = None) -> Spec:
    """Return the spec in metadata, if it is one that can be built.

    ``shapes`` are those of the file's tensors, which say what a network may cost: the spec has to
    be theirs. Raises CheckpointError.
    """
    try:
        if not isinstance(values, dict):
            raise CheckpointError(f"its spec is {short(values)}")
        spec = Spec.from_dict(values)
        _check_sizes(spec)
        if shapes is not None:
            _check_shapes(spec, shapes)
    except MALFORMED as error:  # a SpecError is a ValueError
        raise CheckpointError(getattr(error, "message", str(error))) from None
    return spec


def convolutions(keys: Iterable[str]) -> dict[tuple[int, int, int], str]:
    """Return the weights of blocks' convolutions, by stage (from 1), block and number (from 1)."""
    matches = filter(None, map(_CONVOLUTION.fullmatch, keys))
    return {(int(found[1]), int(found[2]), int(found[3])): found[0] for found in matches}


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
            raise _asks(f"{name} {short(value)}, and at most {most:,} is meant")
    inner = max(spec.inner_width(stage) for stage in range(len(spec.depths)))
    if inner > CHANNELS * 4:
        raise _asks(f"blocks of {inner:,} channels")


def _check_shapes(spec: Spec, shapes: Shapes) -> None:
    """Refuse a spec that asks for other tensors than there are."""
    depths = Counter(stage for stage, _, number in convolutions(shapes) if number == 1)
    for stage, depth in enumerate(spec.depths, start=1):
        if depths[stage] != depth:
            raise _asks(f"{depth:,} blocks in stage {stage}, it holds {depths[stage]:,}")
        place = f"layer{stage}.0.conv"
        last = CONVOLUTIONS[spec.block]
        _check_channels(f"{place}{last}.weight", spec.channels[stage - 1], shapes)
        if spec.block == "bottleneck":
            _check_channels(f"{place}2.weight", spec.inner_width(stage - 1), shapes)
    stem = "conv1.6.weight" if spec.stem.startswith("deep") else "conv1.weight"
    _check_channels(stem, spec.stem_width, shapes)
    first = shapes["conv1.0.weight" if spec.stem.startswith("deep") else "conv1.weight"]
    if len(first) != 4 or first[1] != spec.in_channels:
        raise _asks(f"{spec.in_channels:,} input channels, it holds {first}")
    if "fc.weight" in shapes:
        _check_channels("fc.weight", spec.num_classes, shapes)
    elif spec.num_classes * spec.channels[-1] > UNSEEN_CLASSIFIER:
        raise _asks(f"{spec.num_classes:,} classes, and it has no classifier")


def _check_channels(key: str, wanted: int, shapes: Shapes) -> None:
    if key not in shapes or not shapes[key] or shapes[key][0] != wanted:
        there = str(shapes[key]) if key in shapes else "no such tensor"
        raise _asks(f"{wanted:,} channels of {key}, it holds {there}")


def _asks(what: str) -> CheckpointError:
    return CheckpointError(f"its spec asks for {what}")


def short(value: Any) -> str:
    """Return the beginning of a value, however long or deep it is."""
    is_long = isinstance(value, int) and value.bit_length() > 100
    return "a number of many digits" if is_long else _BRIEFLY.repr(value)
