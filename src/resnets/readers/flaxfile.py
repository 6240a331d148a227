"""Files of flax.serialization: MessagePack, with arrays in values of its own (ext types 1 to 3)."""

import re
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnets.readers.allowance import Allowance, Cursor, read_whole
from resnets.readers.plain import DEEPEST, LONGEST_KEY, from_bytes, is_plausible_size

# A map of one to fifteen entries, or of more, whose first key is a text
FLAX_START = re.compile(rb"([\x81-\x8f]|\xde..)([\xa1-\xbf]|\xd9.)[ -~]", re.DOTALL)
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"  # above 1 GiB
_VALUE_BYTES = 200  # of memory that a value and its place in a map or a list take
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {0xCA + i: f">{letter}" for i, letter in enumerate("fdBHIQbhiq")}
# Where a length of 1, 2 or 4 bytes follows
_SIZED = {
    **{0xC4 + i: ("bin", 1 << i) for i in range(3)},
    **{0xC7 + i: ("ext", 1 << i) for i in range(3)},
    **{0xD9 + i: ("str", 1 << i) for i in range(3)},
    **{0xDC + i: ("array", 2 << i) for i in range(2)},
    **{0xDE + i: ("map", 2 << i) for i in range(2)},
}


def read_flax(path: Path) -> Any:
    """Return the tree of a file of ``flax.serialization.to_bytes``."""
    data, allowance = read_whole(path)
    reader = _Reader(data, allowance)
    tree = reader.value(0)
    if reader.at != len(data):
        raise ValueError("bytes follow its end")
    return _plain(tree, allowance)


class _Reader(Cursor):
    """Values of MessagePack, one after the other; those of "bin" are views of the file."""

    def value(self, depth: int) -> Any:
        self.allowance.take(_VALUE_BYTES)
        if depth > DEEPEST:
            raise ValueError("maps within maps without end")
        code = self.take(1)[0]
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            kind = _NUMBERS[code]
            return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 0x100
        if code < 0xC0:
            kind = "map" if code < 0x90 else "array" if code < 0xA0 else "str"
            return self.sized(kind, code & (0x1F if kind == "str" else 0x0F), depth)
        if 0xD4 <= code <= 0xD8:
            return self.sized("ext", 1 << (code - 0xD4), depth)
        kind, width = _SIZED[code]
        return self.sized(kind, int.from_bytes(self.take(width), "big"), depth)

    def sized(self, kind: str, size: int, depth: int) -> Any:
        if kind == "map":
            return self.map(size, depth)
        if kind == "array":
            return [self.value(depth + 1) for _ in range(size)]
        code = self.take(1)[0] if kind == "ext" else 0
        data = self.take(size)
        if kind == "ext":
            return _special(code, _Reader(data, self.allowance).value(depth + 1), self.allowance)
        self.allowance.take(4 * size if kind == "str" else 0)
        return str(data, "utf-8") if kind == "str" else data

    def map(self, size: int, depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if not isinstance(key, str | int) or len(str(key)) > LONGEST_KEY:
                raise ValueError("a key that is no name")
            if str(key) in entries:
                raise ValueError("two values under one key")
            entries[str(key)] = self.value(depth + 1)
        return entries


def _special(code: int, value: Any, allowance: Allowance) -> Any:
    if code == _COMPLEX:
        return complex(*value)
    if code not in (_ARRAY, _SCALAR):
        raise ValueError("a value of a kind that flax does not write")
    shape, name, data = value
    name = str(name, "latin-1") if isinstance(name, memoryview) else name
    if not re.fullmatch(r"bool|bfloat16|(u?int|float|complex)\d{1,3}", name):
        raise ValueError("an array of an unknown type")
    tensor = from_bytes(data, name, shape, allowance)
    return tensor.item() if code == _SCALAR else tensor


def _plain(value: Any, allowance: Allowance) -> Any:
    """Return a tree with arrays in place of their chunks, and words in place of bytes."""
    if isinstance(value, memoryview):
        return f"({len(value)} bytes)"
    if isinstance(value, list):
        return [_plain(item, allowance) for item in value]
    if not isinstance(value, dict):
        return value
    if _CHUNKED not in value:
        return {key: _plain(item, allowance) for key, item in value.items()}
    chunks, shape = list(value["chunks"].values()), list(value["shape"].values())
    if not all(isinstance(chunk, Tensor) for chunk in chunks) or not is_plausible_size(shape):
        raise ValueError("an array without its chunks")
    allowance.take(sum(chunk.nbytes for chunk in chunks))
    return torch.cat([chunk.flatten() for chunk in chunks]).reshape(shape)
