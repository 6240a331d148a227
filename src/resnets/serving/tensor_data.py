"""Tensors of the Open Inference Protocol: JSON values or bytes to arrays, and back.

What a stranger's tensor states is compared with what it is before memory is taken for it.
"""

import base64
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.errors import UsageError

NUMBERS = {  # as bytes: little-endian, without gaps
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_LENGTH = struct.Struct("<I")  # before each element of BYTES


@dataclass(frozen=True)
class Form:
    """A tensor's name, datatype and shape, which has -1 where any number is meant."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.datatype} {list(self.shape)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the record that the protocol has of it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Tensor:
    """A tensor as it was sent: ``data`` are JSON values, flat or nested, or bytes."""

    form: Form
    data: list[Any] | memoryview


def check_form(found: Form, wanted: Form, most: int) -> None:
    """Raise UsageError for a tensor of another form, without images, or with more than ``most``."""
    fits = len(found.shape) == len(wanted.shape) and all(
        size == known or known == -1 for size, known in zip(found.shape, wanted.shape, strict=True)
    )
    if found.datatype != wanted.datatype or not fits:
        raise UsageError(
            f'input "{wanted.name}" is {wanted}, not {found}', hint="-1 stands for any number"
        )
    if not 0 < found.shape[0] <= most:
        raise UsageError(
            f'input "{wanted.name}" has {found.shape[0]} images; a request may have 1 to {most}',
            hint="send several requests",
        )


def numbers(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor of numbers, one of bytes as a view of these.

    Raises UsageError for data that are not what its form says, and for NaN and infinite values,
    which would spoil the answers of all that is computed with it.
    """
    form, kind = tensor.form, NUMBERS[tensor.form.datatype]
    if isinstance(tensor.data, memoryview):
        size = math.prod(form.shape) * kind.itemsize
        if tensor.data.nbytes != size:
            raise _refused(form, f"takes {size} bytes, not {tensor.data.nbytes}")
        values = np.frombuffer(tensor.data, kind)
    else:
        found = _flat(form, tensor.data)
        if not set(map(type, found)) <= {int, float}:  # numpy makes numbers of true and "1" too
            raise _refused(form, "its data are no numbers")
        exact = np.array(found, np.float64)
        if kind.kind == "u" and (exact != np.clip(np.rint(exact), 0, 255)).any():
            raise _refused(form, "its data are no whole numbers from 0 to 255")
        with np.errstate(over="ignore"):  # which is infinite then
            values = exact.astype(kind)
    if kind.kind == "f" and not np.isfinite(values).all():
        raise _refused(form, "has values that are NaN or infinite")
    return values.reshape(form.shape)


def texts(tensor: Tensor) -> list[bytes]:
    """Return the elements of a tensor of BYTES, which in JSON are base64.

    Raises UsageError for data that are not what its form says.
    """
    form, count = tensor.form, math.prod(tensor.form.shape)
    if isinstance(tensor.data, memoryview):
        elements = [bytes(part) for part in islice(_elements(form, tensor.data), count + 1)]
        if len(elements) != count:
            found = len(elements) if len(elements) < count else "more"
            raise _refused(form, f"takes {count} elements, and has {found}")
        return elements
    encoded = _flat(form, tensor.data)
    try:
        return [base64.b64decode(text, validate=True) for text in encoded]
    except (TypeError, ValueError):
        raise _refused(
            form, "its elements are no base64", "so JSON has them; or send binary data"
        ) from None


def _elements(form: Form, data: memoryview) -> Iterator[memoryview]:
    start = 0
    while start < len(data):
        if len(data) - start < _LENGTH.size:
            raise _refused(form, f"{len(data) - start} bytes follow its last element")
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if length > len(data) - start:
            raise _refused(form, f"an element has {length} bytes, and {len(data) - start} follow")
        yield data[start : start + length]
        start += length


def _flat(form: Form, values: list[Any]) -> list[Any]:
    """Return the elements of JSON values, which are flat or nested as the shape says."""
    nested = bool(values) and isinstance(values[0], list)
    level, sizes = [values], form.shape if nested else (math.prod(form.shape),)
    for size in sizes:
        for inner in level:
            if not isinstance(inner, list) or len(inner) != size:
                found = len(inner) if isinstance(inner, list) else "none"
                raise _refused(form, f"takes {size} values where it has {found}")
        level = [*chain.from_iterable(level)]
    return level


def _refused(form: Form, reason: str, hint: str = "") -> UsageError:
    return UsageError(f'input "{form.name}", {form}: {reason}', hint=hint)


def data_of(values: NDArray[Any], *, binary: bool) -> bytes | list[Any]:
    """Return the data of a tensor of numbers or, as objects, of texts: as bytes or JSON values."""
    if not binary:
        return values.ravel().tolist()
    if values.dtype != object:
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    encoded = [text.encode("utf-8", "backslashreplace") for text in values.flat]
    return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))


def datatype(values: NDArray[Any]) -> str:
    """Return the protocol's word for the kind of an array's elements."""
    return next((name for name, kind in NUMBERS.items() if kind == values.dtype), "BYTES")
