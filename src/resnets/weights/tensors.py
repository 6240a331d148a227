"""Named tensors in one safetensors file with a digest: what weights and run states are kept in."""

import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from resnets.files import write_bytes

_DIGEST = "sha256"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, metadata and digest to ``path``, whole or not at all. Raises ResourceError."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(tensors, {**metadata, _DIGEST: digest(tensors)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file; raises SafetensorError and OSError."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def is_intact(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bool:
    """Tell whether tensors have the digest that was written with them."""
    return metadata.get(_DIGEST) == digest(tensors)


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names and bytes, in name order."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        sha256.update(name.encode())
        sha256.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()
