"""What an exported file says about itself: the weights' passport, and the form of its input."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError

KEY = "resnets"
SCHEMA_VERSION = 1  # that of resnets.weights.passport, which would bring torch
INPUTS = ("normalized", "pixels", "pictures")


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
    try:
        values = json.loads(text)
        version = values["schema_version"]
        if version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: its passport has version {version}, this program knows {SCHEMA_VERSION}",
                hint="upgrade resnets",
            )
        export, prepared = values["export"], values["preprocess"]
        passport = Passport(
            values["spec"],
            None if prepared is None else Preprocess.from_dict(prepared),
            tuple(map(str, values["classes"])),
            values["made"],
            export["input"],
            None if export["batch"] == "dynamic" else int(export["batch"]),
            None if export["size"] == "dynamic" else (export["size"][0], export["size"][1]),
        )
        known = passport.input in INPUTS and (passport.batch is None or passport.batch > 0)
        numbers = (passport.spec["num_classes"], passport.spec["in_channels"])
        if not known or not all(isinstance(number, int) for number in numbers):
            raise ValueError("it makes no sense")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{path}: its passport is damaged: {error}") from None
    _check_size(path, passport)
    return passport


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
