"""Named tensors in one safetensors file with digests: what weights and run states are kept in.

The metadata's ``sha256`` is a JSON object: for each tensor the SHA-256 of its bytes as they lie in
the file, and for each other entry of the metadata, under ``@`` and its key, that of its text. A
flipped bit anywhere is found and can be named. The first files of ours had one SHA-256 of all
tensors in its place. Names of one and the same tensor are kept once; the
metadata's ``tied`` is a JSON object of the others.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.files import write_bytes
from resnets.readers.paths import open_regular, spelled

_DIGESTS, _TIED = "sha256", "tied"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, metadata and digests to ``path``, whole or not at all. Raises ResourceError.

    A tensor that has several names is written once. Views of one memory become tensors of their
    own.
    """
    first: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and first.setdefault(place, name) != name:
            tied[name] = first[place]
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items() if name not in tied}
    memory = [tensor.untyped_storage().data_ptr() for tensor in tensors.values()]
    tensors = {
        name: tensor.clone() if memory.count(place) > 1 else tensor
        for (name, tensor), place in zip(tensors.items(), memory, strict=True)
    }
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if tied:
        metadata = {**metadata, _TIED: json.dumps(tied)}
    digests = json.dumps(_digests(tensors, metadata))
    write_bytes(path, save(tensors, {**metadata, _DIGESTS: digests}))


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 of names, types, shapes and values, whatever file they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file; raises SafetensorError and OSError."""
    open_regular(path).close()  # the library would wait for the other end of a pipe
    with spelled(path) as name, safe_open(name, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def retied(tensors: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, Tensor]:
    """Return the tensors with those that have several names under each of them."""
    names = json.loads(metadata.get(_TIED, "{}"))
    return tensors | {name: tensors[first] for name, first in names.items()}


def damaged(tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[str]:
    """Return the names of tensors, and ``@`` keys of metadata, without the digest they should have.

    Those that are missing, or that nobody signed, count too.
    """
    if re.fullmatch("[0-9a-f]{64}", metadata.get(_DIGESTS, "")):
        return [] if metadata[_DIGESTS] == _digest_of_all(tensors) else ["one of the tensors"]
    try:
        stated = dict(json.loads(metadata[_DIGESTS]))
    except (KeyError, ValueError, TypeError):
        return [f"@{_DIGESTS}"]
    others = {key: text for key, text in metadata.items() if key != _DIGESTS}
    found = _digests(tensors, others)
    return [name for name in stated | found if stated.get(name) != found.get(name)]


def check_digests(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Raise CheckpointError where `damaged` finds any in the file at ``path``, naming the first."""
    if wrong := damaged(tensors, metadata):
        count = f", {len(wrong)} in all" if len(wrong) > 1 else ""
        raise CheckpointError(
            f"{path}: damaged: {wrong[0]} does not have its SHA-256{count}",
            hint="copy it again from where it came from",
        )


def _digests(tensors: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, str]:
    of_texts = {f"@{key}": hashlib.sha256(text.encode()) for key, text in metadata.items()}
    of_tensors = {
        name: hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().data)
        for name, tensor in tensors.items()
    }
    return {name: sha256.hexdigest() for name, sha256 in (of_texts | of_tensors).items()}


def _digest_of_all(tensors: dict[str, Tensor]) -> str:
    """Return the one SHA-256 over names and bytes that the first files of ours had."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        sha256.update(name.encode())
        sha256.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def name_of(dtype: torch.dtype) -> str:
    """Return what a type of numbers is called, such as "float32"."""
    return str(dtype).removeprefix("torch.")


def is_finite(tensor: Tensor) -> bool:
    """Tell whether a tensor has no value that is NaN or infinite; a hollow one has none."""
    if not tensor.is_floating_point() or tensor.is_meta or tensor.layout != torch.strided:
        return True
    if tensor.element_size() == 1:  # 8-bit floats, which torch does not ask
        tensor = tensor.float()
    return bool(tensor.isfinite().all())


def is_below_zero(name: str, tensor: Tensor) -> bool:
    """Tell whether a tensor of our name has variances below 0, of which there is no square root."""
    return name.endswith(".running_var") and not tensor.is_meta and bool((tensor < 0).any())


def some(names: Sequence[str]) -> str:
    """Return the first of many names, for people."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
