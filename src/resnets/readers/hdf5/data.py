"""The elements of an HDF5 dataset: where they lie, and how they are put together."""

import itertools
import zlib
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.hdf5.header import (
    DATASPACE,
    DATATYPE,
    EXTERNAL,
    FILTERS,
    LAYOUT,
    UNDEFINED,
    Message,
    Source,
    Type,
    element_type,
    index,
    shape,
)

Values = np.ndarray[Any, np.dtype[Any]]
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
NEEDED = (DATASPACE, DATATYPE, LAYOUT, FILTERS)
MOST_CHUNKS = 100_000


@dataclass(frozen=True)
class Dataset:
    """An array in the file; nothing of it is in memory before ``read``."""

    source: Source
    name: str
    shape: tuple[int, ...]
    type: Type
    layout: int  # where the layout message lies
    filters: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes that its elements take in memory."""
        return prod(self.shape) * self.type.size

    def read(self) -> Tensor:
        """Return its elements as a tensor of its own dtype. Raises CheckpointError."""
        if not self.size:
            raise self.source.refused(f'"{self.name}" without elements')
        if not self.type.is_float:
            raise self.source.refused(f'"{self.name}" made of {self.type.name} elements')
        name = "uint16" if self.type.name == "bfloat16" else self.type.name
        dtype = np.dtype(name).newbyteorder(">" if self.type.big_endian else "<")
        values = self._values(dtype).astype(dtype.newbyteorder("="), copy=False)
        if self.type.name == "bfloat16":
            return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(values)

    def _values(self, dtype: np.dtype[Any]) -> Values:
        place = storage(self.source, self)
        if isinstance(place, tuple):
            return _assemble(self, *place, dtype)
        data = self.source.take(place, self.size)
        return np.frombuffer(data, dtype).reshape(self.shape).copy()


# Chunked storage: where its B-tree lies, and the sizes of one chunk
Chunks = tuple[int, tuple[int, ...]]


def dataset(
    source: Source, name: str, header: list[Message], attributes: dict[str, list[str]]
) -> Dataset:
    """Return the dataset of an object header. Raises CheckpointError for what is unsafe.

    That is elements in other files, virtual datasets, references, filters beyond gzip, shuffle and
    fletcher32, and sizes that the file cannot hold.
    """
    found = {message.kind: message for message in header}
    if EXTERNAL in found:
        raise source.refused(f'external storage ("{name}" lies in another file)')
    missing = {DATASPACE, DATATYPE, LAYOUT} - found.keys()
    if missing or any(message.shared for message in header if message.kind in NEEDED):
        raise source.refused(f'"{name}" without a shape, type and place of its own')
    kind = element_type(source, found[DATATYPE].at)
    if kind.name in ("reference", "text", "variable length"):
        raise source.refused(f'"{name}" made of {kind.name} elements')
    if (kind.name, kind.size) == ("opaque", 2) and attributes.get("dtype") == ["bfloat16"]:
        kind = Type("bfloat16", 2, is_float=True)  # as Keras writes it
    filters = _filters(source, name, found.get(FILTERS))
    array = Dataset(
        source, name, shape(source, found[DATASPACE].at), kind, found[LAYOUT].at, filters
    )
    source.declare(array.size, f'"{name}" of shape {array.shape}')
    storage(source, array)
    return array


def _filters(source: Source, name: str, message: Message | None) -> tuple[int, ...]:
    """Return the numbers of the filters that chunks went through, in that order."""
    if message is None:
        return ()
    version, count = source.uint(message.at, 1), source.uint(message.at + 1, 1)
    at = message.at + (8 if version == 1 else 2)
    numbers = []
    for _ in range(count):
        number = source.uint(at, 2)
        if number not in (DEFLATE, SHUFFLE, FLETCHER32):
            raise source.refused(f'filter {number} ("{name}" went through it)')
        # Versions 1 has the length of a name here also where the filter is a registered one.
        named = source.uint(at + 2, 2) if version == 1 else 0
        at += 4 if version == 1 else 2
        values = source.uint(at + 2, 2)
        at += 4 + named + 4 * values + (4 if version == 1 and values % 2 else 0)
        numbers.append(number)
    return tuple(numbers)


def storage(source: Source, array: Dataset) -> int | Chunks:
    """Return where the elements begin, or the chunks that hold them. Raises CheckpointError."""
    at, version = array.layout, source.uint(array.layout, 1)
    if version in (1, 2):
        rank, kind, at = source.uint(at + 1, 1), source.uint(at + 2, 1), at + 8
        if kind == 0:
            return _within(array, at + 4 * rank + 4, source.uint(at + 4 * rank, 4))
        address, at = source.uint(at, 8), at + 8
        if kind == 1:
            return _within(array, address, array.size)
        return _chunks(array, address, at, rank - 1)
    kind = source.uint(at + 1, 1)
    if version not in (3, 4, 5) or kind > 3:
        raise source.damaged(f'"{array.name}" has a layout of version {version}, class {kind}')
    if kind == 3:
        raise source.refused(f'a virtual dataset ("{array.name}" is made of others)')
    if kind == 0:
        return _within(array, at + 4, source.uint(at + 2, 2))
    if kind == 1:
        return _within(array, source.uint(at + 2, 8), source.uint(at + 10, 8))
    if version > 3:
        raise source.refused(f'a chunk index of HDF5 1.10 or later ("{array.name}")')
    return _chunks(array, source.uint(at + 3, 8), at + 11, source.uint(at + 2, 1) - 1)


def _not_stored(array: Dataset) -> CheckpointError:
    return array.source.damaged(
        f'"{array.name}" declares {array.size:,} bytes and does not store them'
    )


def _within(array: Dataset, address: int, size: int) -> int:
    source = array.source
    if array.size == 0:
        return 0
    if address == UNDEFINED or size < array.size:
        raise _not_stored(array)
    source.take(address, array.size)
    return address


def _chunks(array: Dataset, tree: int, at: int, rank: int) -> Chunks:
    source = array.source
    sizes = tuple(source.uint(at + 4 * axis, 4) for axis in range(rank))
    if rank != len(array.shape) or not all(sizes):
        raise source.damaged(f'"{array.name}" of shape {array.shape} in chunks of {sizes}')
    if prod(sizes) * array.type.size > source.limit:
        raise source.refused(f'chunks of {prod(sizes) * array.type.size:,} bytes ("{array.name}")')
    count = prod(-(-n // size) for n, size in zip(array.shape, sizes, strict=True))
    if count > MOST_CHUNKS:
        raise source.refused(f'{count:,} chunks ("{array.name}")')
    if tree == UNDEFINED and array.size:
        raise _not_stored(array)
    return tree, sizes


def _assemble(array: Dataset, tree: int, chunk: tuple[int, ...], dtype: np.dtype[Any]) -> Values:
    values = np.empty(array.shape, dtype)
    if not array.size:
        return values
    source, rank = array.source, len(array.shape)
    grid = [range(0, n, size) for n, size in zip(array.shape, chunk, strict=True)]
    missing = set(itertools.product(*grid))
    for key, address in index(source, tree, b"\1", 8 + 8 * (rank + 1)):
        origin = tuple(source.uint(key + 8 + 8 * axis, 8) for axis in range(rank))
        if origin not in missing:
            raise source.damaged(f'"{array.name}" has a chunk at {origin} twice or outside')
        missing.remove(origin)
        stored = bytes(source.take(address, source.uint(key, 4)))
        skipped = source.uint(key + 4, 4)  # one bit for each filter that it did not go through
        data = _unfiltered(array, stored, skipped, prod(chunk) * dtype.itemsize)
        piece = np.frombuffer(data, dtype).reshape(chunk)
        place = tuple(
            slice(start, min(start + size, n))
            for start, size, n in zip(origin, chunk, array.shape, strict=True)
        )
        values[place] = piece[tuple(slice(s.stop - s.start) for s in place)]
    if missing:
        raise _not_stored(array)
    return values


def _unfiltered(array: Dataset, data: bytes, skipped: int, size: int) -> bytes:
    """Return a chunk's bytes as they were before the filters."""
    source = array.source
    for position, number in reversed(list(enumerate(array.filters))):
        if skipped >> position & 1:
            continue
        if number == FLETCHER32:
            data, checksum = data[:-4], data[-4:]
            if _fletcher32(data) != checksum:
                raise source.damaged(f'"{array.name}" does not have its checksum')
        elif number == DEFLATE:
            try:
                # With room for the checksum of a filter that came before.
                data = zlib.decompressobj().decompress(data, size + 5)
            except zlib.error as error:
                raise source.damaged(f'"{array.name}": {error}') from None
        else:
            width = array.type.size
            whole = len(data) // width * width
            planes = np.frombuffer(data[:whole], np.uint8).reshape(width, -1)
            data = planes.T.tobytes() + data[whole:]
    if len(data) != size:
        raise source.damaged(f'"{array.name}" has a chunk of {len(data):,} bytes for {size:,}')
    return data


def _fletcher32(data: bytes) -> bytes:
    """Return HDF5's checksum: sums of big-endian 16-bit words, an odd byte as a high half."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.int64)
    weights = np.arange(len(words), 0, -1, dtype=np.int64) % 65535
    first = int(words.sum()) % 65535
    second = int((words * weights % 65535).sum()) % 65535
    return (second << 16 | first).to_bytes(4, "little")
