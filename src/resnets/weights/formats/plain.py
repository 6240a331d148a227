"""From the records of a pickle to a tree of plain data: dicts, lists, tensors, numbers, text, None.

Everything that a file only declares (a size, a shape, a stride) is checked here against the bytes
that are there, before memory is taken for it.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.weights.formats.pickled import Array, ArrayType, Global, Inert, Storage, StoredTensor

_DEEPEST = 64
_MOST_NODES = 500_000
_MOST_TEXTS = 100_000  # in an array of strings
_MOST_BITS = 128  # of an integer: the widest in use is a random generator's state
# The types of numbers that numpy and torch share
_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
_MIB = 1024**2

# Gives a storage's bytes as a flat uint8 tensor, and its dtype.
StorageLoader = Callable[[Storage], tuple[Tensor, torch.dtype]]


class Allowance:
    """How many bytes reading one file may take: three times the file, or 128 MiB."""

    def __init__(self, file_size: int) -> None:
        self.left = max(3 * file_size, 128 * _MIB)

    def take(self, count: int) -> None:
        """Count ``count`` bytes before they are allocated; raises CheckpointError."""
        self.left -= count
        if self.left < 0:
            raise CheckpointError(
                "it declares far more data than it holds",
                hint="no checkpoint does; it is damaged or made to exhaust memory",
            )


def plain_tree(value: Any, load_storage: StorageLoader, allowance: Allowance) -> Any:
    """Return ``value`` with its records turned into tensors and plain data.

    A tensor that is stored once and named twice is one object. Raises CheckpointError for a tree
    that is too deep or large (as when a container holds itself), ValueError for damaged records.
    """
    return _Grower(load_storage, allowance).plain(value, 0)


def to_tensor(array: numpy.ndarray, allowance: Allowance) -> Any:
    """Return a tensor with a copy of an array's numbers; arrays of text become lists."""
    if array.dtype.kind in "SU":
        if array.size > _MOST_TEXTS:
            raise CheckpointError(f"it holds an array of {array.size:,} texts, which is no weight")
        return array.astype("U").tolist()
    if array.dtype.str[1:] not in _NUMBERS:
        raise CheckpointError(
            f"it holds an array of the type {array.dtype}, which is no weight",
            hint="save arrays of numbers only",
        )
    allowance.take(array.nbytes)
    if array.dtype.kind == "b":
        # Any byte but 0 and 1 in a bool tensor is undefined behaviour.
        array = array.view(numpy.uint8) != 0
    native = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(native)


def is_plausible_size(size: Any) -> bool:
    """Tell whether ``size`` is a shape that a tensor can have."""
    return len(size) <= 16 and all(type(n) is int and 0 <= n < 2**48 for n in size)


class _Grower:
    def __init__(self, load_storage: StorageLoader, allowance: Allowance) -> None:
        self.load_storage = load_storage
        self.allowance = allowance
        self.nodes = 0
        self.storages: dict[str, tuple[Tensor, torch.dtype]] = {}
        self.tensors: dict[tuple[Any, ...], Tensor] = {}
        self.arrays: dict[int, Any] = {}

    def plain(self, value: Any, depth: int) -> Any:
        self.nodes += 1
        if depth > _DEEPEST or self.nodes > _MOST_NODES:
            raise CheckpointError(
                "it nests dicts and lists without end", hint="save only `model.state_dict()`"
            )
        if isinstance(value, dict):
            return {_name(key): self.plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item, depth + 1) for item in value]
        if isinstance(value, StoredTensor):
            return self.tensor(value)
        if isinstance(value, Storage):
            flat, dtype = self.storage(value)
            return flat[: flat.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
        if isinstance(value, Array):
            if id(value) not in self.arrays:
                self.arrays[id(value)] = self.array(value, depth)
            return self.arrays[id(value)]
        if isinstance(value, Inert):
            return self.plain(_remains(value), depth + 1)
        return _leaf(value)

    def storage(self, record: Storage) -> tuple[Tensor, torch.dtype]:
        if record.key not in self.storages:
            self.storages[record.key] = self.load_storage(record)
        return self.storages[record.key]

    def tensor(self, record: StoredTensor) -> Tensor:
        if not isinstance(record.storage, Storage):
            raise ValueError("a tensor without a storage")
        flat, dtype = self.storage(record.storage)
        dtype = _dtype(record.dtype) if record.dtype else dtype
        view = (record.offset, record.size, record.stride)
        key = (record.storage.key, dtype, *view)
        if not is_plausible_size((record.offset, *record.size)) or (
            not is_plausible_size(record.stride) or len(record.size) != len(record.stride)
        ):
            raise ValueError("a tensor of an impossible size")
        if key not in self.tensors:
            self.tensors[key] = self.cut(flat, dtype, *view)
        return self.tensors[key]

    def cut(
        self,
        flat: Tensor,
        dtype: torch.dtype,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
    ) -> Tensor:
        """Return a view of ``flat``, or a copy where it would keep a larger storage alive."""
        elements = flat.numel() // dtype.itemsize
        count = math.prod(size)
        if count == 0:
            return torch.empty(size, dtype=dtype)
        if offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= elements:
            raise ValueError("a tensor that reaches beyond its storage")
        typed = flat[: elements * dtype.itemsize].view(dtype)
        view = typed.as_strided(size, stride, offset)
        if dtype == torch.bool:  # as above
            self.allowance.take(count)
            return flat.as_strided(size, stride, offset) != 0
        if count == elements and len(flat) == elements * dtype.itemsize:
            return view
        self.allowance.take(count * dtype.itemsize)
        return view.clone()

    def array(self, record: Array, depth: int) -> Any:
        _version, shape, kind, fortran, data = record.state
        shape = shape if isinstance(shape, tuple) else (shape,)
        if isinstance(data, list):  # of Python objects, already records themselves
            return self.plain(data, depth + 1)
        if isinstance(data, str):  # Python 2's bytes
            self.allowance.take(len(data))
            data = data.encode("latin-1")
        if not isinstance(data, bytes | bytearray) or not is_plausible_size(shape):
            raise ValueError("an array without its bytes")
        dtype = _array_dtype(kind)
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError("an array whose bytes do not fill its shape")
        array = numpy.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
        if shape == () and dtype.kind in "biuf":
            return array.item()
        return to_tensor(array, self.allowance)


def _array_dtype(kind: Any) -> numpy.dtype[Any]:
    if not isinstance(kind, ArrayType) or not isinstance(kind.arguments[0], str):
        raise ValueError("an array of an unknown type")
    letters = kind.arguments[0]
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "="
    if order not in ("<", ">", "=", "|") or not re.fullmatch(r"[biufcSU][0-9]{1,6}", letters):
        raise CheckpointError(
            f"it holds an array of the type {letters[:50]!a}, which is no weight",
            hint="save arrays of numbers only",
        )
    return numpy.dtype(order + letters)


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError("a tensor of an unknown type")
    return dtype


def _name(key: Any) -> str | int | float | None:
    if isinstance(key, bytes):
        return key.decode("latin-1")
    plain: str | int | float | None = _leaf(key)
    return plain


def _remains(record: Inert) -> Any:
    """Return what is left of an object without its class: its entries, items or attributes."""
    if record.entries or record.items:
        return record.entries or record.items
    state = record.state
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        state = {**(state[0] or {}), **state[1]}  # attributes that lie in slots
    if isinstance(state, dict):
        return state
    first = record.arguments[0] if record.arguments else None
    if record.name.startswith("pathlib."):
        return str(Path(*(part for part in record.arguments if isinstance(part, str))))
    return first if isinstance(first, dict | list | tuple) else record.name


def _leaf(value: Any) -> Any:
    if value is None or isinstance(value, bool | float | complex):
        return value
    if isinstance(value, int):
        bits = value.bit_length()
        return value if bits <= _MOST_BITS else f"(an integer of {bits} bits)"
    if isinstance(value, str):
        # Halves of surrogate pairs would fail later, when the text is printed.
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bytes | bytearray):
        return f"({len(value)} bytes)"
    if isinstance(value, Global):
        return value.name
    raise ValueError(f"a {type(value).__name__} where a value is due")
