"""A file -> plain tensors and metadata, whoever wrote it; nothing in it is ever run.

What a file is called does not matter: its first bytes say what it is.
"""

import dataclasses
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

from resnets.errors import CheckpointError, ResourceError
from resnets.readers.allowance import broken, truncated
from resnets.readers.archive import open_archive
from resnets.readers.content import Content
from resnets.readers.disguise import undisguise
from resnets.readers.flaxfile import FLAX_START, read_flax
from resnets.readers.hdf5.tree import SIGNATURE
from resnets.readers.keras_file import KERAS_MEMBERS, read_hdf5, read_keras_archive
from resnets.readers.mxnetfile import MXNET_START, read_mxnet
from resnets.readers.npzfile import NPY_START, is_npz, read_npy, read_npz
from resnets.readers.onnxfile import ONNX_START, read_onnx
from resnets.readers.paths import FOLDER_WEIGHTS, at
from resnets.readers.plain import Plain
from resnets.readers.safetensorsfile import is_safetensors, read_safetensors
from resnets.readers.torchfile import (
    LEGACY_START,
    read_legacy,
    read_pickle,
    read_script,
    read_zip,
)

_ZIP = b"PK\x03\x04"
# The start of a pickle: of protocols 2 to 5, then of 0 and 1.
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\((dp|lp|i\w|c\w)|\}(q|\.)|\](q|\.)|\(\}|\(\]|c[\w.]+\n")
_SUFFIXES = {
    *(".pt", ".pth", ".th", ".bin", ".ckpt", ".tar", ".pkl", ".safetensors", ".npz", ".h5"),
    *(".hdf5", ".keras", ".msgpack", ".npy", ".pdparams"),
}
_PADDLES = "StructuredToParameterName@@"  # a key beside its tensors
_LARGEST_CONFIG = 4 * 1024**2
_EXPORTED = ("archive_format", "serialized_exported_program.json")


def read(path: str | Path) -> Content:
    """Read a checkpoint, or the one in a run folder or a Hugging Face folder.

    Raises CheckpointError for a file that is missing, damaged, unsafe or no checkpoint.
    """
    path = Path(path)
    try:
        if "\0" in str(path):
            raise CheckpointError("no file's name holds a NUL", hint="check the name")
        return _read_folder(path) if path.is_dir() else _read_file(path)
    except CheckpointError as error:
        raise at(path, error) from None
    except ResourceError:
        raise
    except (OSError, MemoryError) as error:
        if not (refusal := _system_error(error)):
            raise _damaged(path, error) from error
        raise at(path, refusal) from None
    # A parser of damaged bytes may fail in any way; none of them is the user's business.
    except Exception as error:
        raise _damaged(path, error) from error


def _system_error(error: OSError | MemoryError) -> CheckpointError | None:
    """Return what the operating system says against a file, or None where it says nothing."""
    if isinstance(error, MemoryError):
        return CheckpointError("it needs more memory than there is", hint="close other programs")
    if isinstance(error, FileNotFoundError):
        return CheckpointError("no such file or folder", hint="check the name; nothing was read")
    if isinstance(error, PermissionError):
        return CheckpointError("it may not be read", hint="ask for the permission to read it")
    # Invalid is what the system calls a place before the start, to which a damaged file may lead.
    if error.errno in (None, errno.EINVAL):
        return None
    return CheckpointError(
        f"it cannot be read: {os.strerror(error.errno)}", hint="check the name and the disk"
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error) if isinstance(error, ValueError) and str(error).isprintable() else ""
    detail = f" ({reason[:100] or type(error).__name__})"
    return at(path, broken(f"the file is damaged{detail}"))


def _read_folder(folder: Path) -> Content:
    for name in FOLDER_WEIGHTS:
        file = folder / name
        if file.exists():
            config = _read_config(folder / "config.json")
            processor = _read_config(folder / "preprocessor_config.json") or {}
            content = dataclasses.replace(_read_file(file), processor=processor)
            return content if config is None else dataclasses.replace(content, config=config)
    others = sorted(file.name for file in folder.iterdir() if file.suffix in _SUFFIXES)
    raise CheckpointError(
        f"there is no {' or '.join(FOLDER_WEIGHTS)} in it",
        hint=f"give one of its files: {', '.join(others[:5])}"
        if others
        else "a run writes it when it finishes; resume it with `resnets train --resume`",
    )


def _read_config(path: Path) -> dict[str, Any] | None:
    """Return a config of a Hugging Face folder, or None where there is none."""
    if not path.is_file():
        return None
    if path.stat().st_size > _LARGEST_CONFIG:
        raise CheckpointError(f"{path}: larger than a config can be", hint="copy it again")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: not JSON", hint="copy it again, or remove it") from None
    return config if isinstance(config, dict) else None


def _read_file(path: Path) -> Content:
    if path.exists() and not path.is_file():
        raise CheckpointError("neither a file nor a folder", hint="give a file of weights")
    with path.open("rb") as file:
        start = file.read(2048)
    size = path.stat().st_size
    if start.startswith(_ZIP):
        return _read_archive(path, size)
    if start.startswith(SIGNATURE):
        return read_hdf5(path)
    if LEGACY_START.match(start):
        return _content(path, "PyTorch legacy", read_legacy(path))
    if is_safetensors(start):
        tensors, metadata = read_safetensors(path)
        return Content(path, "safetensors", tensors, metadata)
    if ONNX_START.match(start):
        return _content(path, "ONNX", read_onnx(path))
    if start.startswith(MXNET_START):
        return Content(path, "MXNet", read_mxnet(path))
    if NPY_START.match(start):
        return Content(path, "NumPy npy", read_npy(path))
    if FLAX_START.match(start):
        return Content(path, "flax msgpack", read_flax(path))
    if _PICKLE.match(start):
        plain = read_pickle(path)
        is_paddles = isinstance(plain.tree, dict) and _PADDLES in plain.tree
        return _content(path, "Paddle" if is_paddles else "pickle", plain)
    if start and any(magic.startswith(start) for magic in (_ZIP, SIGNATURE, b"\x80")):
        raise truncated(size)
    raise undisguise(start, size, path.name)


def _content(path: Path, words: str, plain: Plain) -> Content:
    return Content(path, words, plain.tree, layers=plain.layers)


def _read_archive(path: Path, size: int) -> Content:
    with open_archive(path) as archive:
        names = archive.namelist()
        if set(KERAS_MEMBERS) <= set(names):
            return read_keras_archive(archive, path, size)
        if is_npz(archive):
            return Content(path, "NumPy npz", read_npz(archive, size))
        if refusal := _program(names):
            raise refusal
        if any(re.match(r"[^/]+/(constants\.pkl$|code/)", name) for name in names):
            return _content(path, "TorchScript", read_script(archive, size))
        return _content(path, "PyTorch zip", read_zip(archive, size))


def _program(names: list[str]) -> CheckpointError | None:
    """Return the error for an archive that holds a program beside its weights, else None."""
    what = ""
    if any(name.rpartition("/")[2] in _EXPORTED for name in names):
        what = "an exported program (.pt2), which is not read at all"
    elif any("/.data/extern_modules" in name for name in names):
        what = "a torch.package with code in it, not only weights"
    hint = "save `model.state_dict()` of the model in it"
    return CheckpointError(f"this is {what}", hint=hint) if what else None
