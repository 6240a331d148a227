"""From the records of a pickle to a tree of plain data: dicts, lists, tensors, numbers, text, None.

Everything that a file only declares (a size, a shape, a stride) is checked here against the bytes
that are there, before memory is taken for it.
"""

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.allowance import Allowance
from resnets.readers.pickled import Array, ArrayType, Global, Inert, Storage, StoredTensor
from resnets.readers.whole_modules import Module, as_module

DEEPEST = 64
_MOST_NODES = 500_000
_MOST_TEXTS = 100_000  # in an array of strings
_MOST_BITS = 128  # of an integer: the widest in use is a random generator's state
# The types of numbers that numpy and torch share
_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
LONGEST_KEY = 500
_MOST_PARTS = 64  # of a path
# The most memory that an entry of the tree takes (a dict twice that), and a tensor without numbers
_NODE_BYTES = 150
_TENSOR_BYTES = 700
_SURROGATES = re.compile("[\ud800-\udfff]")

# Gives a storage's bytes as a flat uint8 tensor, and its dtype.
StorageLoader = Callable[[Storage], tuple[Tensor, torch.dtype]]


class Plain(NamedTuple):
    """A tree of plain data, and what whole modules in it say about their layers (see `Content`)."""

    tree: Any
    layers: dict[str, dict[str, Any]]


def plain_tree(value: Any, load_storage: StorageLoader, allowance: Allowance) -> Plain:
    """Return ``value`` with its records turned into tensors and plain data.

    A module becomes its state dict. A tensor that is stored once and named twice is one object, and
    so is any other object. Raises CheckpointError for a tree that is too deep or large (as when a
    container holds itself), ValueError for damaged records.
    """
    grower = _Grower(load_storage, allowance)
    return Plain(grower.plain(value, ()), grower.layers)


def to_tensor(array: numpy.ndarray, allowance: Allowance) -> Any:
    """Return a tensor with a copy of an array's numbers; arrays of text become lists."""
    if array.dtype.kind in "SU":
        if array.size > _MOST_TEXTS:
            raise CheckpointError(f"it holds an array of {array.size:,} texts, which is no weight")
        allowance.take(3 * array.nbytes + _NODE_BYTES * array.size)
        if array.dtype.kind == "U":
            return array.tolist()
        # Not numpy's cast, which takes seconds and hundreds of MB for long texts.
        texts = [text.decode("latin-1") for text in array.ravel().tolist()]
        return numpy.array(texts, dtype=object).reshape(array.shape).tolist()
    if array.dtype.str[1:] not in _NUMBERS:
        raise CheckpointError(
            f"it holds an array of the type {array.dtype}, which is no weight",
            hint="save arrays of numbers only",
        )
    allowance.take(_TENSOR_BYTES + array.nbytes)
    if array.dtype.kind == "b":
        # Any byte but 0 and 1 in a bool tensor is undefined behaviour.
        return torch.from_numpy(numpy.not_equal(array.view(numpy.uint8), 0, order="C"))
    native = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(native)


def from_bytes(data: Any, name: str, shape: Any, allowance: Allowance) -> Tensor:
    """Return a tensor with a copy of little-endian numbers; ``name`` is numpy's, or "bfloat16"."""
    dtype = numpy.dtype("int16" if name == "bfloat16" else name).newbyteorder("<")
    tensor: Tensor = to_tensor(as_array(data, dtype, shape), allowance)
    return tensor.view(torch.bfloat16) if name == "bfloat16" else tensor


def as_array(
    data: Any, dtype: numpy.dtype[Any], shape: Any, *, fortran: bool = False
) -> numpy.ndarray:
    """Return a view of bytes as an array. Raises ValueError where they do not fill its shape."""
    if not is_plausible_size(shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError("an array whose bytes do not fill its shape")
    return numpy.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def is_plausible_size(size: Any) -> bool:
    """Tell whether ``size`` is a shape that a tensor can have."""
    return len(size) <= 16 and all(type(n) is int and 0 <= n < 2**48 for n in size)


class _Grower:
    def __init__(self, load_storage: StorageLoader, allowance: Allowance) -> None:
        self.load_storage = load_storage
        self.allowance = allowance
        self.nodes = 0
        self.storages: dict[str, tuple[Tensor, torch.dtype]] = {}
        self.tensors: dict[str, Tensor] = {}
        self.objects: dict[int, Any] = {}
        self.modules: dict[int, Module | None] = {}
        self.layers: dict[str, dict[str, Any]] = {}
        # By their ids, with the originals, which thus stay alive
        self.texts: dict[int, tuple[str | bytes, str]] = {}

    def plain(self, value: Any, place: tuple[Any, ...]) -> Any:
        self.count(place, 2 * _NODE_BYTES if isinstance(value, dict) else _NODE_BYTES)
        if isinstance(value, dict):
            keys = ((self.key(key), item) for key, item in value.items())
            return {key: self.plain(item, (*place, key)) for key, item in keys}
        if isinstance(value, list | tuple):
            return [self.plain(item, (*place, index)) for index, item in enumerate(value)]
        if isinstance(value, StoredTensor):
            return self.tensor(value)
        if isinstance(value, Storage):
            flat, dtype = self.storage(value)
            self.allowance.take(_TENSOR_BYTES)
            return flat[: flat.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
        if isinstance(value, Inert):
            if id(value) not in self.objects:
                self.objects[id(value)] = value.name  # where it holds itself
                self.objects[id(value)] = self.object(value, place)
            return self.objects[id(value)]
        return self.text(value) if isinstance(value, str) else _leaf(value)

    def count(self, place: tuple[Any, ...], size: int) -> None:
        """Count an entry of the tree, and that it takes ``size`` bytes."""
        self.nodes += 1
        self.allowance.take(size)
        if len(place) > DEEPEST or self.nodes > _MOST_NODES:
            raise CheckpointError(
                "it nests dicts and lists without end", hint="save only `model.state_dict()`"
            )

    def object(self, record: Inert, place: tuple[Any, ...]) -> Any:
        if isinstance(record, Array):
            return self.array(record, place)
        if module := self.module(record):
            tensors: dict[str, Any] = {}
            self.flatten(module, place, "", tensors)
            return tensors
        return self.plain(_remains(record), place)

    def module(self, value: Any) -> Module | None:
        if isinstance(value, Inert) and id(value) not in self.modules:
            self.modules[id(value)] = as_module(value)
        return self.modules.get(id(value))

    def flatten(
        self, module: Module, place: tuple[Any, ...], prefix: str, tensors: dict[str, Any]
    ) -> None:
        """Put a module's tensors into ``tensors``, as its state dict has them; note its layers."""
        path = ".".join(map(str, place))
        entries = len(module.tensors) + len(module.children)
        self.count(place, 2 * _NODE_BYTES + 4 * len(path) + _NODE_BYTES * entries)
        self.layers[path] = {
            "class": module.kind,
            **{name: self.plain(value, (*place, name)) for name, value in module.attributes},
        }
        for name, value in module.tensors:
            key = f"{prefix}{self.key(name)}"
            self.allowance.take(4 * len(key))
            if isinstance(tensor := self.plain(value, (*place, key)), Tensor):
                tensors[key] = tensor
        for name, value in module.children:
            if child := self.module(value):
                word = self.key(name)
                self.flatten(child, (*place, word), f"{prefix}{word}.", tensors)

    def key(self, key: Any) -> str | int | float | None:
        if not isinstance(key, str | bytes):
            plain: str | int | float | None = _leaf(key)
            return plain
        if len(key) > LONGEST_KEY:
            return f"(a name of {len(key):,} letters)"
        return self.text(key)

    def text(self, value: str | bytes) -> str:
        """Return a text that can be printed; one object for all the places that it is in."""
        if isinstance(value, str) and value.isascii():
            return value
        if id(value) not in self.texts:
            self.allowance.take(sys.getsizeof(value))
            if isinstance(value, bytes):
                text = value.decode("latin-1")
            elif _SURROGATES.search(value):  # would fail later, when the text is printed
                text = value.encode("utf-8", "replace").decode("utf-8")
            else:
                text = value
            self.texts[id(value)] = value, text
        return self.texts[id(value)][1]

    def storage(self, record: Storage) -> tuple[Tensor, torch.dtype]:
        if record.key not in self.storages:
            self.storages[record.key] = self.load_storage(record)
        return self.storages[record.key]

    def tensor(self, record: StoredTensor) -> Tensor:
        if not isinstance(record.storage, Storage):
            raise ValueError("a tensor without a storage")
        flat, dtype = self.storage(record.storage)
        dtype = _dtype(record.dtype) if record.dtype else dtype
        offset, size, stride = view = record.offset, record.size, record.stride
        plausible = is_plausible_size((offset, *size)) and is_plausible_size(stride)
        if not plausible or len(size) != len(stride):
            raise ValueError("a tensor of an impossible size")
        # A text, as a file could hold many tuples of one hash.
        key = repr((record.storage.key, dtype, *view))
        if key not in self.tensors:
            self.allowance.take(_TENSOR_BYTES)
            self.tensors[key] = self.cut(flat, dtype, record)
        return self.tensors[key]

    def cut(self, flat: Tensor, dtype: torch.dtype, record: StoredTensor) -> Tensor:
        """Return a view of ``flat``, or a copy where it would keep a larger storage alive."""
        offset, size, stride = record.offset, record.size, record.stride
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

    def array(self, record: Array, place: tuple[Any, ...]) -> Any:
        _version, shape, kind, fortran, data = record.state
        shape = shape if isinstance(shape, tuple) else (shape,)
        if isinstance(data, list):  # of Python objects, already records themselves
            return self.plain(data, (*place, ""))
        if isinstance(data, str):  # Python 2's bytes
            self.allowance.take(len(data))
            data = data.encode("latin-1")
        if not isinstance(data, bytes | bytearray):
            raise ValueError("an array without its bytes")
        array = as_array(data, _array_dtype(kind), shape, fortran=bool(fortran))
        if shape == () and array.dtype.kind in "biuf":
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
        parts = record.arguments[:_MOST_PARTS]
        short = [part for part in parts if isinstance(part, str) and len(part) <= LONGEST_KEY]
        return str(Path(*short))
    kept = (dict, list, tuple, StoredTensor)  # the last in a parameter of PyTorch before 0.4
    return first if isinstance(first, kept) else record.name


def _leaf(value: Any) -> Any:
    if value is None or isinstance(value, bool | float | complex):
        return value
    if isinstance(value, int):
        bits = value.bit_length()
        return value if bits <= _MOST_BITS else f"(an integer of {bits} bits)"
    if isinstance(value, bytes | bytearray):
        return f"({len(value)} bytes)"
    if isinstance(value, Global):
        return value.name
    raise ValueError(f"a {type(value).__name__} where a value is due")
