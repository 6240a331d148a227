"""What an .onnx file says of data outside of it, read before any runtime opens the file.

Runtimes differ in what they take for the place of a tensor's values: one reads a file beside the
model, another an address in memory, which a stranger's file must not name. Files of resnets hold
all of their values, so that any such place is refused. Nothing but the protocol buffer's structure
is read here; the package onnx is not needed.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from resnets.errors import CheckpointError

DEEPEST = 64  # graphs within graphs; ours have none
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Of each kind of message, the fields that lead on to tensors, and to which kind (onnx.proto).
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}
_EXTERNAL, _LOCATION = 13, 14  # of a tensor: entries about the place, and that there is one


def refuse_data_elsewhere(path: Path) -> None:
    """Raise CheckpointError for an .onnx file whose values are not all in it, or a damaged one."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            elsewhere = _points_elsewhere(data)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise CheckpointError(
            f"{path}: is damaged or no ONNX model: {error}",
            hint="export it again, or copy it again from where it came from",
        ) from None
    if elsewhere:
        raise CheckpointError(
            f"{path}: it wants values from outside of the file, which is refused",
            hint="export it again: resnets export writes all values into the file",
        )


def _points_elsewhere(data: mmap.mmap) -> bool:
    """Tell whether a tensor of the model has its values elsewhere. Raises ValueError."""
    left = [("model", 0, len(data), 0)]
    while left:
        kind, start, end, depth = left.pop()
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        for number, wire, begin, stop in _fields(data, start, end):
            if kind == "tensor" and number == _EXTERNAL and wire == _BYTES:
                return True
            if kind == "tensor" and number == _LOCATION and data[begin:stop] != b"\0":
                return True
            if wire == _BYTES and (inner := _FIELDS[kind].get(number)):
                left.append((inner, begin, stop, depth + (inner == "graph")))
    return False


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the number, wire type and place of each field of a message. Raises ValueError."""
    while at < end:
        tag, at = _varint(data, at, end)
        wire, begin = tag & 7, at
        if wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire == _BYTES:
            length, begin = _varint(data, at, end)
            at = begin + length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("its structure is broken")
        if at > end:
            raise ValueError("it ends too early")
        yield tag >> 3, wire, begin, at


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends. Raises ValueError."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("it ends too early")
        byte = data[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise ValueError("its structure is broken")
