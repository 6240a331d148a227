"""What an exported file says about itself: the weights' passport, and the form of its input."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError
from resnets.weights.metadata import (
    read_classes,
    read_number,
    read_outputs,
    read_preprocess,
    read_spec,
)

KEY = "resnets"
SCHEMA_VERSION = 1  # that of resnets.weights.passport, which would bring torch
INPUTS = ("normalized", "pixels", "pictures")
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_AGAIN = "export it again, or copy it again from where it came from"


@dataclass(frozen=True)
class Passport:
    """The passport of an exported file, and the member ``export`` that other weights have not."""

    spec: dict[str, Any]
    preprocess: Preprocess | None
    classes: tuple[str, ...]
    made: dict[str, Any]
    input: str  # what its input ``images`` holds, one of INPUTS
    batch: int | None  # how many pictures at once; None for any number
    size: tuple[int, int] | None  # height and width of its pictures; None for any
    outputs: str | None = "softmax"  # what they mean; None where nobody has said


def read_passport(path: Path, text: str | None) -> Passport:
    """Return the passport with this text; ``path`` is for messages only.

    Raises CheckpointError where there is none, and for one that is damaged, of a newer version, or
    whose preprocessing makes pictures of another size than the network takes.
    """
    if not text:
        raise CheckpointError(
            f"{path}: is no export of resnets: nothing in it says what its classes are and how "
            "pictures are prepared",
            hint="resnets export RUN makes files that do",
        )
    newer = False
    try:
        values = json.loads(text)
        version = values["schema_version"]
        if newer := version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: its passport has version {version}, this program knows {SCHEMA_VERSION}",
                hint="upgrade resnets",
            )
        passport = _read(values)
    except CheckpointError as error:
        raise CheckpointError(
            error.message if newer else f"{path}: its passport is damaged: {error.message}",
            hint=error.hint or _AGAIN,
        ) from None
    except _MALFORMED as error:
        raise CheckpointError(f"{path}: its passport is damaged: {error}", hint=_AGAIN) from None
    _check_size(path, passport)
    return passport


def _read(values: dict[str, Any]) -> Passport:
    """Return the passport with these members, each checked for what it may be."""
    spec, export = read_spec(values["spec"]), values["export"]
    outputs = read_outputs(values, spec.num_classes) if "outputs" in values else "softmax"
    if not isinstance(values["made"], dict):
        raise CheckpointError("how it was made is no record")
    if export["input"] not in INPUTS:
        raise CheckpointError(f"its input is {export['input']!r}")
    batch, size = export["batch"], export["size"]
    return Passport(
        values["spec"],
        read_preprocess(values["preprocess"], spec.in_channels),
        read_classes(values["classes"], spec.num_classes, outputs),
        values["made"],
        export["input"],
        None if batch == "dynamic" else read_number(batch, "batch"),
        None
        if size == "dynamic"
        else (read_number(size[0], "height"), read_number(size[1], "width")),
        outputs,
    )


def _check_size(path: Path, passport: Passport) -> None:
    """Refuse a network whose preprocessing, done outside of it, makes pictures of another size."""
    preprocess, size = passport.preprocess, passport.size
    if passport.input == "pictures" or preprocess is None or size is None:
        return
    if size != (preprocess.size, preprocess.size):
        raise CheckpointError(
            f"{path}: takes pictures of {size[0]} x {size[1]}, its preprocessing makes "
            f"{preprocess.size} x {preprocess.size}",
            hint="export it without --size, or prepare the pictures yourself",
        )
