"""Reading a run folder: what is there, checked; what is missing, said."""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from resnets.errors import CheckpointError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Stage:
    """One row of the architecture's table; ``output`` is (C, H, W) or (classes,)."""

    name: str = ""
    output: tuple[int, ...] = ()
    layers: str = ""  # one block's layers, "; " or " / " between them
    blocks: int = 1
    parameters: int | None = None
    macs: int | None = None
    receptive_field: int | None = None


@dataclass(frozen=True)
class Model:
    """What was trained, with its exact cost."""

    name: str = "unknown model"
    description: str = ""
    parameters: int | None = None
    macs: int | None = None
    receptive_field: int | None = None
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class Data:
    """What it was trained on; counts are samples."""

    name: str = "unknown data"
    fingerprint: str = ""
    classes: tuple[str, ...] = ()
    image_shape: tuple[int, ...] = ()
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    skipped: int = 0
    notes: tuple[str, ...] = ()  # what was assumed of the pictures
    warnings: tuple[str, ...] = ()  # what makes a result on them wrong, such as copies


@dataclass(frozen=True)
class Progress:
    """How far the run came; ``epoch`` is fractional when it was stopped within one."""

    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    epochs: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Sitting:
    """One of the times that a run was worked on, as ISO times."""

    started: str = ""
    ended: str = ""


@dataclass(frozen=True)
class Score:
    """The result on one part of the data; ``confusion[i][j]``: class i that was taken for j."""

    samples: int | None = None
    loss: float | None = None
    accuracy: float | None = None  # a fraction
    top5_accuracy: float | None = None
    confusion: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        for value in (self.accuracy, self.top5_accuracy):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"an accuracy is {value:g}, not a fraction from 0 to 1")
        if any(len(row) != len(self.confusion) or min(row) < 0 for row in self.confusion):
            raise ValueError("the confusion matrix is not a square of counts")


@dataclass(frozen=True)
class Training:
    """What is measured on the way."""

    images_per_second: float | None = None


@dataclass(frozen=True)
class Results:
    """How it went, for each part of the data."""

    train: Training = Training()
    validation: Score | None = None
    test: Score | None = None


@dataclass(frozen=True)
class Epoch:
    """One line of metrics.jsonl; ``seconds`` count from the start of the run."""

    epoch: float
    step: int
    lr: float | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    images_per_second: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Mistake:
    """A sample that was taken for another class; ``picture`` is a data address or empty."""

    sample: int | str
    label: str
    predicted: str
    confidence: float
    picture: str = ""


@dataclass(frozen=True)
class Skipped:
    """A file that training left out, and why."""

    path: str
    reason: str = ""


@dataclass(frozen=True)
class RunRecord:
    """Everything that a run folder says; ``notes`` are sentences about what it does not."""

    path: Path
    name: str = ""
    command: str = ""
    status: str = "unknown"
    started: str = ""
    seed: int | None = None
    model: Model = Model()
    data: Data = Data()
    recipe: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    progress: Progress = Progress()
    sittings: tuple[Sitting, ...] = ()
    warnings: tuple[str, ...] = ()  # what went wrong while it ran
    results: Results = Results()
    epochs: tuple[Epoch, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    drawing: str = ""  # a data URL
    recipe_text: str = ""
    settings: dict[str, Any] = field(default_factory=dict)  # the recipe, with dotted names
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ended(self) -> str:
        """When it finished, stopped or failed; empty while it runs."""
        return self.sittings[-1].ended if self.sittings else ""

    @property
    def mirrored(self) -> bool | None:
        """Whether pictures were seen from the other side too; None where it is not known."""
        mirror = self.settings.get("augment.mirror")
        return None if mirror in (None, "auto") else bool(mirror)


def read_run(path: Path | str) -> RunRecord:
    """Read a run folder; a part that a run had no time to write is a note, not an error.

    Raises CheckpointError when the folder is no run, a file is damaged, or a newer version of
    resnets wrote it.
    """
    path = Path(path)
    run = replace(_read_summary(path), path=path)
    notes = []

    epochs, note = _read_metrics(path / "metrics.jsonl")
    notes.append(note)

    mistakes: tuple[Mistake, ...] = ()
    if (path / "mistakes.json").exists():
        found = _check(path / "mistakes.json", tuple[Mistake, ...], _json(path / "mistakes.json"))
        mistakes = tuple(
            replace(m, picture=m.picture if is_picture(m.picture) else "") for m in found
        )
    else:
        notes.append("There is no mistakes.json, so no mistakes are shown.")

    recipe_text, settings = "", {}
    if (path / "recipe.yaml").exists():
        recipe_text = _text(path / "recipe.yaml")
        settings = _settings(path / "recipe.yaml", recipe_text)
    else:
        notes.append("There is no recipe.yaml, so the settings of the run are not known.")

    drawing = ""
    if (path / "architecture.svg").exists():
        # As an image, whatever the file holds can neither run nor fetch anything.
        encoded = base64.b64encode(_text(path / "architecture.svg").encode()).decode()
        drawing = f"data:image/svg+xml;base64,{encoded}"

    skipped: tuple[Skipped, ...] = ()
    if (path / "data.json").exists():
        entries = _json(path / "data.json")
        entries = entries.get("skipped", []) if isinstance(entries, dict) else entries
        skipped = _check(path / "data.json", tuple[Skipped, ...], entries)

    return replace(
        run,
        name=run.name or path.resolve().name,
        epochs=epochs,
        mistakes=mistakes,
        drawing=drawing,
        recipe_text=recipe_text,
        settings=settings,
        skipped=skipped,
        notes=tuple(note for note in notes if note),
    )


def is_picture(address: str) -> bool:
    """Say whether an address holds its picture itself, so that a page need not fetch anything."""
    match = re.fullmatch(r"data:image/(?:png|jpeg|webp);base64,([A-Za-z0-9+/]+={0,2})", address)
    if not match:
        return False
    try:
        return bool(base64.b64decode(match[1], validate=True))
    except binascii.Error:
        return False


def _read_summary(path: Path) -> RunRecord:
    file = path / "run.json"
    if not file.is_file():
        missing = "there is no run.json in it" if path.is_dir() else "there is no such folder"
        raise CheckpointError(
            f"{path} is not a run folder: {missing}",
            hint="give the folder that `resnets train` printed, such as runs/digits-resnet20",
        )
    summary = _json(file)
    version = summary.get("schema_version") if isinstance(summary, dict) else None
    if not isinstance(version, int):
        raise CheckpointError(
            f"{file} was not written by resnets: it has no schema_version",
            hint="give the folder that `resnets train` printed",
        )
    if version > SCHEMA_VERSION:
        raise CheckpointError(
            f"{file} has schema version {version}; this resnets reads up to {SCHEMA_VERSION}",
            hint="a newer resnets wrote it: update with `pip install -U resnets`",
        )
    # The other files' fields are not this file's to set.
    own = {"epochs", "mistakes", "drawing", "recipe_text", "settings", "skipped", "notes"}
    values = {key: value for key, value in summary.items() if key not in own}
    return _check(file, RunRecord, {**values, "path": path})


def _read_metrics(file: Path) -> tuple[tuple[Epoch, ...], str]:
    if not file.exists():
        return (), "There is no metrics.jsonl, so there are no curves."
    epochs: list[Epoch] = []
    lines = file.read_bytes().rstrip().splitlines()
    note = "" if lines else "No epoch is finished yet, so there are no curves."
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _loads(line.decode())
        except ValueError as error:
            if number == len(lines):  # the run was cut off while writing
                note = "The last line of metrics.jsonl is half-written and left out."
                break
            raise CheckpointError(
                f"{file}, line {number}: not JSON: {error}",
                hint="delete that line; the other epochs are still good",
            ) from None
        epoch = _check(file, Epoch, row, f", line {number}")
        # A run resumed from an older state writes some epochs again; the later ones count.
        while epochs and epochs[-1].step >= epoch.step:
            epochs.pop()
        epochs.append(epoch)
    return tuple(epochs), note


def _settings(file: Path, text: str) -> dict[str, Any]:
    try:
        return dict(_flatten(yaml.safe_load(text)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise CheckpointError(
            f"{file}{where}: not YAML", hint="restore it from a copy, or delete it"
        ) from None


def _flatten(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(name, value)] if name else []
    return [
        pair
        for key, inner in value.items()
        for pair in _flatten(inner, f"{name}.{key}" if name else str(key))
    ]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise CheckpointError(f"{file}: cannot be read: {reason}") from error


def _loads(text: str) -> Any:
    # NaN and Infinity are not JSON, and 1e999 is infinite too: such a figure counts as missing.
    return json.loads(text, parse_constant=lambda _: None, parse_float=_finite)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


def _json(file: Path) -> Any:
    try:
        return _loads(_text(file))
    except ValueError as error:
        raise CheckpointError(
            f"{file}: not JSON: {error}",
            hint="the file is damaged; restore the folder from a copy or train again",
        ) from None


def _present(value: Any) -> Any:
    """Leave out what is null, so that it is as if it were missing, and mend text.

    A file name that is not UTF-8 reaches us with lone surrogates, which no page can hold.
    """
    if isinstance(value, dict):
        return {_present(key): _present(v) for key, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_present(inner) for inner in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


T = TypeVar("T")


def _check(file: Path, kind: type[T], value: Any, where: str = "") -> T:
    try:
        return TypeAdapter(kind).validate_python(_present(value))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise CheckpointError(
            f"{file}{where}: {place + ': ' if place else ''}{reason}",
            hint="the file is damaged or was edited; restore the folder from a copy",
        ) from None
