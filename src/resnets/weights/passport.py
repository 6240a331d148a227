"""What our own files carry beside the weights: spec, preprocessing, class names, how it was made.

A file is safetensors: plain tensors under torchvision's keys, and one JSON text in the metadata.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from resnets.errors import CheckpointError
from resnets.files import json_text
from resnets.spec import Spec
from resnets.weights.metadata import (
    read_assumed,
    read_classes,
    read_outputs,
    read_preprocess,
    read_spec,
)
from resnets.weights.tensors import damaged, retied, write_tensors

SCHEMA_VERSION = 1
KEY = "resnets"


@dataclass(frozen=True)
class Passport:
    """The metadata of a weights file; ``preprocess`` and ``made`` hold JSON-able values."""

    spec: Spec
    preprocess: dict[str, Any] | None = None
    classes: list[str] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)  # recipe, data, versions, results
    outputs: str | None = None  # "softmax", "sigmoid" or "regression"; None where nobody has said
    assumed: list[str] = field(default_factory=list)  # of the spec, what nothing has shown


def save(path: Path, tensors: dict[str, Tensor], passport: Passport) -> None:
    """Write weights and passport to ``path``, whole or not at all. Raises ResourceError."""
    values = {"schema_version": SCHEMA_VERSION, **vars(passport), "spec": passport.spec.to_dict()}
    write_tensors(path, tensors, {KEY: json_text(values)})


def verified(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Passport:
    """Return the passport in a file's metadata.

    Raises CheckpointError when a digest does not hold, naming the tensor, and when the passport is
    damaged or of a newer version; ``path`` is for messages only.
    """
    if wrong := damaged(tensors, metadata):
        count = f", {len(wrong)} in all" if len(wrong) > 1 else ""
        raise CheckpointError(
            f"{path}: damaged: {wrong[0]} does not have its SHA-256{count}",
            hint="copy it again from where it came from",
        )
    try:
        values = json.loads(metadata[KEY])
        version = values.pop("schema_version")
        if version <= SCHEMA_VERSION:
            return of_members(values, retied(tensors, metadata))
    except CheckpointError as error:
        raise _damaged(path, error.message) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    raise CheckpointError(
        f"{path}: its passport has version {version}, this program knows {SCHEMA_VERSION}",
        hint="upgrade resnets",
    )


def of_members(values: dict[str, Any], tensors: Mapping[str, Tensor]) -> Passport:
    """Return the passport with these members, checked against the tensors that it is of.

    Raises CheckpointError, TypeError and KeyError.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    spec = read_spec(values["spec"], shapes)
    outputs = read_outputs(values, spec.num_classes)
    read_preprocess(values.get("preprocess"), spec.in_channels)
    checked: dict[str, Any] = {
        "spec": spec,
        "classes": list(read_classes(values.get("classes", []), spec.num_classes, outputs)),
        "outputs": outputs,
        "assumed": list(read_assumed(values.get("assumed", []))),
    }
    passport = Passport(**{**values, **checked})
    if not isinstance(passport.made, dict):
        raise CheckpointError("how it was made is no record")
    return passport


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: its passport is damaged: {reason}",
        hint="copy it again from where it came from",
    )
