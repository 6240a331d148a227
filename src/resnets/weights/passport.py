"""What our own files carry beside the weights: spec, preprocessing, class names, how it was made.

A file is safetensors: plain tensors under torchvision's keys, and one JSON text in the metadata.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.files import write_bytes
from resnets.spec import Spec

SCHEMA_VERSION = 1
_KEY = "resnets"


@dataclass(frozen=True)
class Passport:
    """The metadata of a weights file; ``preprocess`` and ``made`` hold JSON-able values."""

    spec: Spec
    preprocess: dict[str, Any] | None = None
    classes: list[str] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)  # recipe, data, versions, results


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names and bytes, in name order."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        sha256.update(name.encode())
        sha256.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def save(path: Path, tensors: dict[str, Tensor], passport: Passport) -> None:
    """Write weights and passport to ``path``, whole or not at all. Raises ResourceError."""
    values = {"schema_version": SCHEMA_VERSION, **vars(passport), "spec": passport.spec.to_dict()}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {_KEY: json.dumps(values, ensure_ascii=False), "sha256": digest(tensors)}
    write_bytes(path, to_safetensors(tensors, metadata))


def load(path: Path) -> tuple[dict[str, Tensor], Passport]:
    """Return the tensors and the passport of a file, or of the run folder that holds one.

    Raises CheckpointError when there is no such file or it is damaged or not ours.
    """
    if path.is_dir():
        path = path / "model.safetensors"
        if not path.exists():
            raise CheckpointError(
                f"{path.parent}: there is no model.safetensors in it",
                hint="a run writes it when it finishes; go on with `resnets train --resume`",
            )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file or run folder") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file: {error}",
            hint="give a run folder or its model.safetensors; a damaged file must be copied again",
        ) from None
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path}: it has no passport, so its architecture is unknown",
            hint="only files written by resnets can be opened without naming a model",
        )
    if metadata.get("sha256") != digest(tensors):
        raise CheckpointError(
            f"{path}: damaged: its tensors do not have their digest", hint="copy it again"
        )
    try:
        values = json.loads(metadata[_KEY])
        version = values.pop("schema_version")
        if version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: its passport has version {version}, this program knows {SCHEMA_VERSION}",
                hint="upgrade resnets",
            )
        return tensors, Passport(**{**values, "spec": Spec.from_dict(values["spec"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: its passport is damaged: {error}") from None
