"""Numpy's archives of arrays; the pickles that they may hold become plain data."""

import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from numpy.lib import format as npy

from resnets.errors import CheckpointError
from resnets.readers.allowance import Allowance, read_whole
from resnets.readers.archive import MEMBER_BYTES, read_packed
from resnets.readers.plain import as_array, to_tensor
from resnets.readers.torchfile import read_objects

# An array of objects, not of numbers
NPY_START = re.compile(rb"\x93NUMPY[\x01\x02]\0(..|....)\{'descr': '\|O", re.DOTALL)
_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def is_npz(archive: zipfile.ZipFile) -> bool:
    """Tell whether an archive is numpy's: it holds arrays only."""
    names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_npz(archive: zipfile.ZipFile, file_size: int) -> dict[str, Any]:
    """Return the arrays of an archive as tensors; arrays of objects as lists."""
    allowance = Allowance(file_size)
    allowance.take(MEMBER_BYTES * len(archive.infolist()))
    return {
        member.filename.removesuffix(".npy"): _array(
            read_packed(archive, member, allowance), allowance
        )
        for member in archive.infolist()
    }


def read_npy(path: Path) -> Any:
    """Return the object, such as a dict of arrays, in a file of numpy.save."""
    return _array(*read_whole(path))


def _array(data: bytes, allowance: Allowance) -> Any:
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in _READ_HEADER:
        raise CheckpointError("it holds arrays with named fields, which are no weights")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers that Python 2 wrote
        shape, fortran, dtype = _READ_HEADER[version](stream)
    if dtype.hasobject:
        objects = read_objects(stream, len(data), allowance).tree
        return objects if shape else objects[0]  # as numpy.save does with a dict
    values = memoryview(data)[stream.tell() :]
    return to_tensor(as_array(values, dtype, shape, fortran=fortran), allowance)
