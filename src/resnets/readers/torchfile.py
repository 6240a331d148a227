"""Files of torch.save: the zip layout of today and the row of pickles from before version 1.6."""

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.allowance import Allowance, truncated
from resnets.readers.archive import MEMBER_BYTES, read_stored
from resnets.readers.pickled import Storage
from resnets.readers.plain import Plain, StorageLoader, plain_tree
from resnets.readers.unpickle import Unpickled, unpickle

# A pickled magic number, by protocol 2 or 3, or by 4 or 5 in a frame of 13 bytes
LEGACY_START = re.compile(
    rb"\x80([\x02\x03]|[\x04\x05]\x95\x0d\x00{7})\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\."
)
_LEGACY_VERSION = 1001


class Window:
    """A binary file that never allocates for more bytes than are left in it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self.left = size - file.tell()
        self.ended = False  # whether more was asked for than there is

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes."""
        if count > self.left:
            self.ended, count = True, self.left
        self.left -= count
        return self.file.read(count)

    def readline(self) -> bytes:
        """Return bytes up to and with the next line end."""
        line = self.file.readline()
        self.left -= len(line)
        self.ended |= not line.endswith(b"\n")
        return line

    def unpickle(self, allowance: Allowance) -> Unpickled:
        """Return what the pickle that starts here holds."""
        try:
            return unpickle(self, allowance)
        except CheckpointError:
            raise
        except Exception:
            if self.ended:
                raise truncated(self.size) from None
            raise


def read_zip(archive: zipfile.ZipFile, file_size: int, name: str = "data") -> Plain:
    """Return the tree of a zip archive as torch.save writes it since version 1.6.

    ``name`` is that of the pickle and of the folder with its storages.
    """
    allowance = Allowance(file_size)
    allowance.take(MEMBER_BYTES * len(archive.infolist()))
    members = {member.filename: member for member in archive.infolist()}
    pickles = [path for path in members if path.count("/") == 1 and path.endswith(f"/{name}.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(
            f"an archive without {name}.pkl, which is neither PyTorch's, numpy's nor Keras's",
            hint="unpack it; the checkpoint may be a file inside",
        )
    root = pickles[0].removesuffix(f"{name}.pkl")
    order = members.get(f"{root}byteorder")
    if order and read_stored(archive, order, allowance).numpy().tobytes() != b"little":
        raise _big_endian()
    # The pickle outlives the storages' reading, so it is bytes and not a part of the file.
    pickle = read_stored(archive, members[pickles[0]], allowance).numpy().tobytes()
    value = Window(io.BytesIO(pickle), len(pickle)).unpickle(allowance).value

    def load(storage: Storage) -> tuple[Tensor, torch.dtype]:
        member = members.get(f"{root}{name}/{storage.key}")
        if member is None:
            raise ValueError("a tensor without its data")
        dtype, count = _declared(storage)
        if count > member.file_size:
            raise ValueError("a storage that is larger than its data")
        return read_stored(archive, member, allowance), dtype

    return _tree(value, load, allowance)


def read_script(archive: zipfile.ZipFile, file_size: int) -> Plain:
    """Return the parameters and buffers of a TorchScript archive; its code is not looked at.

    Those of a frozen program are numbered: only the code knows what they were.
    """
    plain = read_zip(archive, file_size)
    if plain.tree:
        return plain
    constants = read_zip(archive, file_size, "constants").tree
    tensors = {f"c{i}": value for i, value in enumerate(constants) if isinstance(value, Tensor)}
    return Plain(tensors, {})


def read_pickle(path: Path) -> Plain:
    """Return the tree of a plain pickle, such as detectron2's model zoo has."""
    size = path.stat().st_size
    with path.open("rb") as file:
        return read_objects(file, size, Allowance(size))


def read_objects(file: BinaryIO, size: int, allowance: Allowance) -> Plain:
    """Return the tree of the pickle that begins where a file of ``size`` bytes is open."""
    return _tree(Window(file, size).unpickle(allowance).value, _without_data, allowance)


def _without_data(storage: Storage) -> tuple[Tensor, torch.dtype]:
    raise ValueError("a tensor without its data")


def read_legacy(path: Path) -> Plain:
    """Return the tree of a file as torch.save wrote it before version 1.6."""
    size = path.stat().st_size
    allowance = Allowance(size)
    with path.open("rb") as file:
        return _tree(*_open_legacy(file, size, allowance), allowance)


def _tree(value: Any, load: StorageLoader, allowance: Allowance) -> Plain:
    """Return the tree of an object whose storages ``load`` finds, unless they are in the pickle."""

    def load_any(storage: Storage) -> tuple[Tensor, torch.dtype]:
        return load(storage) if storage.data is None else _load_embedded(storage.data, allowance)

    return plain_tree(value, load_any, allowance)


def _open_legacy(file: BinaryIO, size: int, allowance: Allowance) -> tuple[Any, StorageLoader]:
    """Return the object of a legacy file, and what loads its storages.

    The file is five pickles (magic number, version, system, object, keys of the storages), and
    then for each key the number of elements in 8 bytes and the elements.
    """
    window = Window(file, size)
    window.unpickle(allowance)
    if window.unpickle(allowance).value != _LEGACY_VERSION:
        raise ValueError("an unknown version of PyTorch's old format")
    system = window.unpickle(allowance).value
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _big_endian()
    value, storages = window.unpickle(allowance)
    keys = window.unpickle(allowance).value
    places: dict[str, int] = {}
    position = file.tell()
    for key in keys:
        if not isinstance(key, str):  # to hash it may take the interpreter's whole stack
            raise ValueError("a storage without a name")
        places[key] = position
        position += 8 + _declared(storages[key])[1]
    if position > size:
        raise truncated(size, position)

    def load(storage: Storage) -> tuple[Tensor, torch.dtype]:
        dtype, count = _declared(storage)
        file.seek(places[storage.key])
        (elements,) = struct.unpack("<q", file.read(8))
        if elements * dtype.itemsize != count:
            raise ValueError("a storage of another size than its tensors say")
        allowance.take(count)
        data = torch.empty(count, dtype=torch.uint8)
        if file.readinto(data.numpy().data) != count:  # type: ignore[attr-defined]
            raise truncated(size)
        return data, dtype

    return value, load


def _load_embedded(data: bytes, allowance: Allowance) -> tuple[Tensor, torch.dtype]:
    """Load a storage that lies in a pickle as a file of its own, as pickle.dump writes tensors."""
    value, load = _open_legacy(io.BytesIO(data), len(data), allowance)
    if not isinstance(value, Storage) or value.data is not None:
        raise ValueError("a storage that is none")
    return load(value)


def _declared(storage: Storage) -> tuple[torch.dtype, int]:
    """Return the dtype of a storage and how many bytes it says it has."""
    if type(storage.count) is not int or storage.count < 0 or storage.dtype is None:
        raise ValueError("a storage of an impossible size")
    dtype: torch.dtype = getattr(torch, storage.dtype)
    return dtype, storage.count * dtype.itemsize


def _big_endian() -> CheckpointError:
    return CheckpointError(
        "it was written on a big-endian machine", hint="save it again as safetensors there"
    )
