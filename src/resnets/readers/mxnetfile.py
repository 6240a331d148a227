"""Files of MXNet's ``nd.save``, its ``.params``: arrays, then their names."""

import math
from pathlib import Path

import numpy
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.allowance import Cursor, read_whole
from resnets.readers.plain import LONGEST_KEY, from_bytes

MXNET_START = b"\x12\x01" + bytes(14)  # its magic number, and a word in reserve
_VERSION_1, _LATEST = 0xF993FAC8, (0xF993FAC9, 0xF993FACA)  # before each array
_TYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")
_ARRAY_BYTES = 200  # of memory that a name and an array without numbers take


def read_mxnet(path: Path) -> dict[str, Tensor]:
    """Return the arrays by their names, which may begin with "arg:" and "aux:"."""
    stream = _Stream(*read_whole(path))
    stream.take(len(MXNET_START))
    arrays = [stream.array() for _ in range(stream.count())]
    names = [stream.name() for _ in range(stream.count())]
    if len(set(names)) != len(arrays) or stream.at != len(stream.data):
        raise ValueError("as many names as arrays are due")
    return dict(zip(names, arrays, strict=True))


class _Stream(Cursor):
    def count(self) -> int:
        count = self.number(8)
        self.allowance.take(_ARRAY_BYTES * count)
        return count

    def name(self) -> str:
        length = self.number(8)
        if length > LONGEST_KEY:
            raise ValueError("a name that is longer than any is")
        return str(self.take(length), "utf-8")

    def array(self) -> Tensor:
        rank, width = self.number(4), 8
        if rank in _LATEST:
            if self.number(4):
                raise CheckpointError("it holds sparse arrays, which are no weights")
            rank = self.number(4)
        elif rank == _VERSION_1:
            rank = self.number(4)
        else:  # of MXNet before 0.12
            width = 4
        if not 0 < rank <= 16:
            raise ValueError("an array of an impossible shape")
        shape = [self.number(width) for _ in range(rank)]
        self.take(8)  # the device
        kind = self.number(4)
        if kind >= len(_TYPES):
            raise ValueError("an array of an unknown type")
        data = self.take(math.prod(shape) * numpy.dtype(_TYPES[kind]).itemsize)
        return from_bytes(data, _TYPES[kind], shape, self.allowance)
