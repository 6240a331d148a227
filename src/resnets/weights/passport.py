"""What our own files carry beside the weights: spec, preprocessing, class names, how it was made.

A file is safetensors: plain tensors under torchvision's keys, and one JSON text in the metadata.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.spec import Spec
from resnets.weights.tensors import is_intact, read_tensors, write_tensors

SCHEMA_VERSION = 1
_KEY = "resnets"


@dataclass(frozen=True)
class Passport:
    """The metadata of a weights file; ``preprocess`` and ``made`` hold JSON-able values."""

    spec: Spec
    preprocess: dict[str, Any] | None = None
    classes: list[str] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)  # recipe, data, versions, results


def save(path: Path, tensors: dict[str, Tensor], passport: Passport) -> None:
    """Write weights and passport to ``path``, whole or not at all. Raises ResourceError."""
    values = {"schema_version": SCHEMA_VERSION, **vars(passport), "spec": passport.spec.to_dict()}
    write_tensors(path, tensors, {_KEY: json.dumps(values, ensure_ascii=False)})


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
        tensors, metadata = read_tensors(path)
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
    if not is_intact(tensors, metadata):
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
