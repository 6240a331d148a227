"""Reading a run folder: what is there, checked; what is missing, said."""

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from resnets.errors import CheckpointError
from resnets.readers import strict_yaml
from resnets.readers.documents import LARGEST, lines_of, loads, read_json, read_text
from resnets.readers.fields import Count, Real, check

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Stage:
    """One row of the architecture's table; ``output`` is (C, H, W) or (classes,)."""

    name: str = ""
    output: tuple[Count, ...] = ()
    layers: str = ""  # one block's layers, "; " or " / " between them
    blocks: Count = 1
    parameters: Count | None = None
    macs: Count | None = None
    receptive_field: Count | None = None


@dataclass(frozen=True)
class Model:
    """What was trained, with its exact cost."""

    name: str = "unknown model"
    description: str = ""
    parameters: Count | None = None
    macs: Count | None = None
    receptive_field: Count | None = None
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class Data:
    """What it was trained on; counts are samples."""

    name: str = "unknown data"
    fingerprint: str = ""
    classes: tuple[str, ...] = ()
    image_shape: tuple[Count, ...] = ()
    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None
    skipped: Count = 0
    notes: tuple[str, ...] = ()  # what was assumed of the pictures
    warnings: tuple[str, ...] = ()  # what makes a result on them wrong, such as copies


@dataclass(frozen=True)
class Progress:
    """How far the run came; ``epoch`` is fractional when it was stopped within one."""

    step: Count | None = None
    steps: Count | None = None
    epoch: Real | None = None
    epochs: Real | None = None
    seconds: Real | None = None


@dataclass(frozen=True)
class Sitting:
    """One of the times that a run was worked on, as ISO times."""

    started: str = ""
    ended: str = ""


@dataclass(frozen=True)
class Score:
    """The result on one part of the data; ``confusion[i][j]``: class i that was taken for j."""

    samples: Count | None = None
    loss: Real | None = None
    accuracy: Real | None = None  # a fraction
    top5_accuracy: Real | None = None
    confusion: tuple[tuple[Count, ...], ...] = ()

    def __post_init__(self) -> None:
        for value in (self.accuracy, self.top5_accuracy):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"an accuracy is {value:g}, not a fraction from 0 to 1")
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("the confusion matrix is not a square of counts")


@dataclass(frozen=True)
class Training:
    """What is measured on the way."""

    images_per_second: Real | None = None


@dataclass(frozen=True)
class Results:
    """How it went, for each part of the data."""

    train: Training = Training()
    validation: Score | None = None
    test: Score | None = None


@dataclass(frozen=True)
class Epoch:
    """One line of metrics.jsonl; ``seconds`` count from the start of the run."""

    epoch: Real
    step: Count
    lr: Real | None = None
    train_loss: Real | None = None
    train_accuracy: Real | None = None
    validation_loss: Real | None = None
    validation_accuracy: Real | None = None
    images_per_second: Real | None = None
    seconds: Real | None = None


@dataclass(frozen=True)
class Mistake:
    """A sample that was taken for another class; ``picture`` is a data address or empty."""

    sample: Count | str
    label: str
    predicted: str
    confidence: Real
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
    seed: Count | None = None
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
        recipe_text = _text(path / "recipe.yaml", strict_yaml.LARGEST)
        settings = dict(_flatten(_yaml(path / "recipe.yaml")))
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
    lines = _whole_lines(file)
    note = "" if lines else "No epoch is finished yet, so there are no curves."
    for number, (where, line) in enumerate(lines, start=1):
        try:
            row = loads(line, where, lenient=True)
        except CheckpointError as error:
            if number == len(lines):  # the run was cut off while writing
                note = "The last line of metrics.jsonl is half-written and left out."
                break
            error.hint = "delete that line; the other epochs are still good"
            raise
        epoch = _check(where, Epoch, row)
        # A run resumed from an older state writes some epochs again; the later ones count.
        while epochs and epochs[-1].step >= epoch.step:
            epochs.pop()
        epochs.append(epoch)
    return tuple(epochs), note


def _flatten(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(name, value)] if name else []
    return [
        pair
        for key, inner in value.items()
        for pair in _flatten(inner, f"{name}.{key}" if name else str(key))
    ]


def _text(file: Path, largest: int = LARGEST) -> str:
    with _readable(file):
        return read_text(file, largest)


def _json(file: Path) -> Any:
    with _readable(file):
        return read_json(file, lenient=True)


def _yaml(file: Path) -> Any:
    with _readable(file):
        return strict_yaml.read(file)


def _whole_lines(file: Path) -> list[tuple[str, str]]:
    with _readable(file):
        return list(lines_of(file))


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error


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


def _check(where: str | Path, kind: type[T], value: Any) -> T:
    return check(kind, _present(value), where)
