"""What files of ours say beside their weights: spec, preprocessing, classes, how they were made.

One JSON text, alike in weights, run folders and exports. A stranger's may ask for a network of a
billion blocks or for images of a million pixels a side: whatever is read here is checked for type
and size, and refused at once and in little memory where it cannot be meant.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError
from resnets.files import json_text
from resnets.spec import Spec
from resnets.weights.calibration import Calibration
from resnets.weights.contract import contract
from resnets.weights.outputs import STATED, checked, fits
from resnets.weights.stated_spec import CHANNELS, MALFORMED, SIDE, Shapes, read_spec, short

if TYPE_CHECKING:  # which would load torch
    from resnets.nn import ResNet

KEY = "resnets"  # of the text, in whatever a format has for metadata
SCHEMA_VERSION = 1
FORMS = ("normalized", "pixels", "pictures")
_MEMBERS = {
    *("spec", "preprocess", "classes", "made", "outputs", "assumed"),
    *("thresholds", "calibration"),
}

# What is read again of how weights were made, and of which type it is where a file says it.
_MADE: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("data", "recipe", "recipe.data"), dict),
    **dict.fromkeys(("data.name", "data.source", "data.fingerprint"), str),
    "data.root": (str, NoneType),
    **dict.fromkeys(("data.train", "data.validation", "data.test"), (int, NoneType)),
    "data.skipped": (int, NoneType),
    "recipe.data.holdout": (int, float),
    "recipe.data.split_seed": int,
    "recipe.data.broken": str,
    "recipe.data.broken_limit": (int, float),
    "recipe.data.classes": (dict, NoneType),
}


@dataclass(frozen=True)
class Input:
    """What the input ``images`` of an exported file holds."""

    form: str  # one of FORMS
    batch: int | None  # how many images at once; None for any number
    size: tuple[int, int] | None  # height and width of its images; None for any
    precision: str = "float32"  # of the file; or "int8"
    folded: bool = True  # whether norms are folded into convolutions

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        return {
            "input": self.form,
            "precision": self.precision,
            "batch": "dynamic" if self.batch is None else self.batch,
            "size": "dynamic" if self.size is None else list(self.size),
            "folded": self.folded,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from `to_dict`'s values. Raises CheckpointError, and others that mean damage."""
        form, batch, size = values["input"], values["batch"], values["size"]
        if form not in FORMS:
            raise CheckpointError(f"its input is {form!r}")
        precision, folded = values.get("precision", "float32"), values.get("folded", True)
        if precision not in ("float32", "int8") or not isinstance(folded, bool):
            raise CheckpointError(f"its precision is {precision!r}, folded {folded!r}")
        count = None if batch == "dynamic" else _number(batch, "batch")
        if size == "dynamic":
            return cls(form, count, None, precision, folded)
        sides = _number(size[0], "height"), _number(size[1], "width")
        return cls(form, count, sides, precision, folded)


@dataclass(frozen=True)
class Metadata:
    """What a file of ours says; what nobody has said is in it as unknown."""

    spec: Spec
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] = ()
    made: dict[str, Any] = field(default_factory=dict)  # recipe, data, versions, results
    outputs: str | None = None  # "softmax", "sigmoid" or "regression"
    assumed: tuple[str, ...] = ()  # of the spec, what nothing has shown
    input: Input | None = None  # of an export
    thresholds: tuple[float, ...] = ()  # of probabilities, from which on each class is an answer
    calibration: Calibration | None = None

    @classmethod
    def of(
        cls,
        model: "ResNet",
        made: dict[str, Any],
        preprocess: Preprocess | None,
        input: Input | None = None,
    ) -> Self:
        """Return what a network knows of itself, and how it was ``made``.

        Raises UsageError where what it says that its outputs mean is no word.
        """
        return cls(
            model.spec,
            preprocess,
            model.classes,
            made,
            checked(model.outputs),
            model.assumed,
            input,
            model.thresholds,
            model.calibration,
        )

    def to_text(self) -> str:
        """Return the JSON text that `read_metadata` reads."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "spec": self.spec.to_dict(),
            "preprocess": self.preprocess.to_dict() if self.preprocess else None,
            "classes": list(self.classes),
            "made": self.made,
            "outputs": self.outputs,
            "assumed": list(self.assumed),
        }
        if self.thresholds:  # where an image may have several classes
            values["thresholds"] = list(self.thresholds)
        if self.calibration:
            values["calibration"] = self.calibration.to_dict()
        if self.input:
            told = contract(self.preprocess, self.input.form) if self.preprocess else None
            values |= {"export": self.input.to_dict(), "pictures": told}
        return json_text(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any], shapes: Shapes | None = None) -> Self:
        """Build from JSON's values, each checked for what it may be.

        ``shapes`` are those of the file's tensors, of which they must be true; an export has none,
        but an input. Raises CheckpointError, and others that mean damage.
        """
        exported = shapes is None
        spec = read_spec(values["spec"], shapes)
        if unknown := values.keys() - _MEMBERS - ({"export", "pictures"} if exported else set()):
            raise CheckpointError(f"it says something unknown: {short(min(unknown))}")
        made = check_made(values.get("made", {}))
        # Older files do not say it. Exports, and weights of runs, are of a softmax.
        softmax = exported or ("recipe" in made and spec.num_classes > 1)
        outputs = values.get("outputs", "softmax" if softmax else None)
        if outputs is not None and (not isinstance(outputs, str) or outputs not in STATED):
            raise CheckpointError(f"its outputs are {short(outputs)}")
        return cls(
            spec,
            _built("preprocessing", _preprocess, values.get("preprocess"), spec.in_channels),
            _classes(values.get("classes", []), spec.num_classes, outputs),
            made,
            outputs,
            _names(values.get("assumed", []), "what it calls assumed is"),
            Input.from_dict(values["export"]) if exported else None,
            _thresholds(values.get("thresholds", []), spec.num_classes, outputs),
            _built(
                "calibration", Calibration.from_dict, values.get("calibration"), spec.num_classes
            ),
        )


def read_metadata(path: Path, text: str, shapes: Shapes | None = None) -> Metadata:
    """Return the metadata with this text; ``path`` is for messages only, ``shapes`` as above.

    Raises CheckpointError where they are damaged or of a newer version.
    """
    try:
        values = json.loads(text)
        version = values.pop("schema_version")
        if version <= SCHEMA_VERSION:
            return Metadata.from_dict(values, shapes)
    except (CheckpointError, *MALFORMED) as error:
        reason = getattr(error, "message", str(error))
        again = "export it again, or " if shapes is None else ""
        raise CheckpointError(
            f"{path}: its metadata is damaged: {reason}",
            hint=f"{again}copy it again from where it came from",
        ) from None
    raise CheckpointError(
        f"{path}: its metadata has version {version}, this program knows {SCHEMA_VERSION}",
        hint="upgrade resnets",
    )


def check_made(values: Any) -> dict[str, Any]:
    """Return how weights were made. Raises CheckpointError where it is not what is read of it."""
    if not isinstance(values, dict):
        raise CheckpointError("how it was made is no record")
    for place, kinds in _MADE.items():
        *records, name = place.split(".")
        found = values
        for record in records:  # each has its own row before
            found = found.get(record, {})
        if name in found and not isinstance(found[name], kinds):
            raise CheckpointError(f"of how it was made, {place} is {short(found[name])}")
    return values


def _built(what: str, build: Callable[..., Any], values: Any, *arguments: Any) -> Any:
    """Return what is built of values, None of None. Raises CheckpointError, naming ``what``."""
    try:
        return None if values is None else build(values, *arguments)
    except (CheckpointError, *MALFORMED) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        reason = getattr(error, "message", reason)
        raise CheckpointError(f"its {what} is damaged: {reason}") from None


def _classes(values: Any, count: int, outputs: str | None) -> tuple[str, ...]:
    names = _names(values, "its classes are no names:")
    if not fits(names, count, outputs):
        raise CheckpointError(f"it names {len(names):,} classes for {count:,} outputs")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise CheckpointError(f"it names a class twice: {short(twice)}")
    return names


def _thresholds(values: Any, count: int, outputs: str | None) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(_is_number(v) and 0 <= v <= 1 for v in values):
        raise CheckpointError(f"its thresholds are {short(values)}")
    if values and (len(values), outputs) != (count, "sigmoid"):
        raise CheckpointError(f"it has {len(values):,} thresholds for {count:,} outputs: {outputs}")
    return tuple(values)


def _names(values: Any, what: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise CheckpointError(f"{what} {short(values)}")
    return tuple(values)


def _number(value: Any, name: str) -> int:
    if not _is_whole(value) or not 0 < value <= CHANNELS:
        raise CheckpointError(f"its {name} is {short(value)}")
    return int(value)


def _preprocess(values: Any, channels: int) -> Preprocess:
    if not isinstance(values, dict):
        raise ValueError(short(values))
    sizes = {name: values[name] for name in ("channels", "size", "resize")}
    for name, value in sizes.items():
        if not _is_whole(value) or not 0 < value <= SIDE:
            raise ValueError(f"{name} is {short(value)}")
    if sizes["channels"] != channels:
        raise ValueError(f"it has {sizes['channels']} channels, the network {channels}")
    mean, std = values["mean"], values["std"]
    for name, numbers in (("mean", mean), ("std", std)):
        if not isinstance(numbers, list | tuple) or not all(map(_is_number, numbers)):
            raise ValueError(f"{name} is {short(numbers)}")
    if len(mean) not in (channels, channels * sizes["size"] ** 2):
        raise ValueError(f"its mean has {len(mean):,} numbers for {channels} channels")
    if len(std) != channels or not all(number > 0 for number in std):
        raise ValueError(f"std is {short(std)}")
    return Preprocess.from_dict(values)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
