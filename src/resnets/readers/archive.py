"""Zip archives as checkpoints use them: the directory is judged before anything is read."""

import struct
import zipfile
import zlib
from pathlib import Path

import torch
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.allowance import Allowance, broken

_END = struct.Struct("<4s4H2LH")  # the record that ends a zip file
_LARGE_END = struct.Struct("<4sQ2H2L4Q")  # its 64-bit form, which a locator points at
_LOCATOR = struct.Struct("<4sLQL")
_LOCAL = struct.Struct("<4s5H3L2H")  # before each member
_MOST_DIRECTORY_BYTES = 8 * 1024**2  # 80,000 members
MEMBER_BYTES = 1000  # of memory that each takes when the archive is open


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip file whose directory is whole, of a sane size and names nothing twice.

    Raises CheckpointError, and BadZipFile for a directory that is damaged.
    """
    size = path.stat().st_size
    if _directory_size(path, size) > _MOST_DIRECTORY_BYTES:
        raise CheckpointError(
            "its directory lists far more files than a checkpoint has",
            hint="it is damaged or made to exhaust memory",
        )
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    if len(set(names)) != len(names):
        archive.close()
        raise CheckpointError("it holds two files of one name", hint="save it again")
    return archive


def _directory_size(path: Path, size: int) -> int:
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size))
        end = file.read(_END.size)
        if len(end) < _END.size or end[:4] != b"PK\x05\x06" or end[-2:] != b"\0\0":
            raise broken(
                f"the file is truncated: it stops after {size:,} bytes, "
                "without the directory that ends an archive"
            )
        directory_size = int(_END.unpack(end)[5])
        file.seek(max(0, size - _END.size - _LOCATOR.size))
        locator = file.read(_LOCATOR.size)
        if locator[:4] == b"PK\x06\x07":
            file.seek(_LOCATOR.unpack(locator)[2])
            large = file.read(_LARGE_END.size)
            if len(large) == _LARGE_END.size:
                directory_size = max(int(_LARGE_END.unpack(large)[8]), directory_size % 0xFFFFFFFF)
        return directory_size


def read_stored(archive: zipfile.ZipFile, member: zipfile.ZipInfo, allowance: Allowance) -> Tensor:
    """Return the bytes of a member that is not compressed, as a flat uint8 tensor.

    They are read once, straight into the tensor's memory, and their checksum is verified.
    """
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise CheckpointError(
            f"{member.filename} in it is compressed or encrypted, which PyTorch never does",
            hint="unpack it with the program that packed it",
        )
    file = archive.fp
    assert file is not None  # it is open
    file.seek(member.header_offset)
    header = _LOCAL.unpack(file.read(_LOCAL.size))
    start = member.header_offset + _LOCAL.size + header[9] + header[10]
    file.seek(0, 2)
    if header[0] != b"PK\x03\x04" or start + member.file_size > file.tell():
        raise zipfile.BadZipFile(f"{member.filename} is not where the directory says")
    allowance.take(member.file_size)
    data = torch.empty(member.file_size, dtype=torch.uint8)
    file.seek(start)
    view = data.numpy().data
    if file.readinto(view) != member.file_size:  # type: ignore[attr-defined]
        raise zipfile.BadZipFile(f"{member.filename} is cut off")
    # PyTorch writes 0 where it was told to skip checksums.
    if member.CRC not in (0, zlib.crc32(view)):
        raise broken(f"damaged: the bytes of {member.filename} do not have their checksum")
    return data


def read_packed(archive: zipfile.ZipFile, member: zipfile.ZipInfo, allowance: Allowance) -> bytes:
    """Return the bytes of a member that may be deflated; its checksum is verified."""
    packings = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if member.compress_type not in packings or member.flag_bits & 1:
        raise CheckpointError(
            f"{member.filename} in it is encrypted, or compressed as numpy and Keras never do",
            hint="save it again with the library that wrote it",
        )
    allowance.take(member.file_size)
    return archive.read(member)
