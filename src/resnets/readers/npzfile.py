"""Numpy's archives of arrays, without the pickles that they may hold."""

import io
import math
import warnings
import zipfile
from typing import Any

import numpy
from numpy.lib import format as npy

from resnets.errors import CheckpointError
from resnets.readers.allowance import Allowance
from resnets.readers.archive import MEMBER_BYTES, read_packed
from resnets.readers.plain import is_plausible_size, to_tensor

_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def is_npz(archive: zipfile.ZipFile) -> bool:
    """Tell whether an archive is numpy's: it holds arrays only."""
    names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_npz(archive: zipfile.ZipFile, file_size: int) -> dict[str, Any]:
    """Return the arrays of an archive as tensors; arrays of objects are refused."""
    allowance = Allowance(file_size)
    allowance.take(MEMBER_BYTES * len(archive.infolist()))
    return {
        member.filename.removesuffix(".npy"): _array(
            read_packed(archive, member, allowance), allowance
        )
        for member in archive.infolist()
    }


def _array(data: bytes, allowance: Allowance) -> Any:
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in _READ_HEADER:
        raise CheckpointError("it holds arrays with named fields, which are no weights")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers that Python 2 wrote
        shape, fortran, dtype = _READ_HEADER[version](stream)
    if dtype.hasobject:
        raise CheckpointError(
            "it holds arrays of Python objects, which are pickles and could run code",
            hint="save arrays of numbers only",
        )
    if not is_plausible_size(shape) or (
        math.prod(shape) * dtype.itemsize != len(data) - stream.tell()
    ):
        raise ValueError("an array whose bytes do not fill its shape")
    flat = numpy.frombuffer(data, dtype, offset=stream.tell())
    return to_tensor(flat.reshape(shape, order="F" if fortran else "C"), allowance)
