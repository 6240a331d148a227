"""What the files of a run folder say, as records: training writes them, everything else reads them.

A field's name is its key in the file, but for those of IN_FILES, which keep the word that folders
of all versions have. What a version did not write has its default.
"""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from resnets.readers import fields as typed
from resnets.readers.fields import Count, Real

SCHEMA_VERSION = 1
UNDECIDED = 0.5  # from where on a class is an answer, where nothing has shown a better threshold
T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """One row of the architecture's table; ``output`` is (C, H, W) or (classes,)."""

    name: str = ""
    output: tuple[Count, ...] = ()
    layers: str = ""  # one block's layers, "; " or " / " between them
    blocks: Count = 1
    parameters: Count | None = None
    macs: Count | None = None
    activations: Count | None = None
    receptive_field: Count | None = None


@dataclass(frozen=True)
class Model:
    """What was trained, with its exact cost."""

    parameters: Count | None = None
    macs: Count | None = None
    receptive_field: Count | None = None
    stages: tuple[Stage, ...] = ()
    name: str = "unknown model"
    description: str = ""
    spec: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """What it was trained on; counts are samples."""

    name: str = "unknown data"
    source: str = ""  # a name, or the path of a folder
    root: str | None = None
    fingerprint: str = ""
    classes: tuple[str, ...] = ()
    several: bool = False  # whether an image may have several of them
    image_shape: tuple[Count, ...] = ()
    skipped: Count = 0
    copies: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()  # what was assumed of the images
    warnings: tuple[str, ...] = ()  # what makes a result on them wrong, such as copies
    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None
    train_classes: tuple[Count, ...] = ()  # of the training split, by class


@dataclass(frozen=True)
class Weights:
    """What training started from; ``digest`` is over the tensors, whatever file they came in."""

    source: str  # a name, or the path of a file or a run folder
    digest: str  # SHA-256
    reading: dict[str, Any] = field(default_factory=dict)  # what chose among a file's networks

    @property
    def options(self) -> list[str]:
        """The words that say it on the command line."""
        words = ["--weights", self.source]
        for name, value in self.reading.items():
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return words


@dataclass(frozen=True)
class Taught:
    """Whose answers a run learns; ``digest`` is over its tensors and how it sees the images."""

    source: str  # the path of a file or a run folder, or MODEL@WEIGHTS
    digest: str  # SHA-256
    model: str = ""
    accuracy: Real | None = None  # a fraction, on the held-out split; None: there is none

    @property
    def options(self) -> list[str]:
        """The words that say it on the command line."""
        return ["--teacher", self.source]


@dataclass(frozen=True)
class Ending:
    """What is fitted to the held-out split in the end; what an older record does not say."""

    calibrate: str = "temperature"  # or "vector", or "none"
    false_alarms: Real = 0.05  # the share of known images that may be called unknown

    @property
    def options(self) -> list[str]:
        """The words that say it on the command line, where it is not the usual."""
        usual = Ending()
        words = ["--no-calibrate"] if self.calibrate == "none" else []
        if self.calibrate not in ("none", usual.calibrate):
            words += ["--calibrate", self.calibrate]
        if self.false_alarms != usual.false_alarms:
            words += ["--false-alarms", f"{self.false_alarms:g}"]
        return words


@dataclass(frozen=True)
class Session:
    """One of the times that a run was worked on; one that was killed has no end."""

    started: str  # ISO times
    from_step: Count
    environment: dict[str, Any] = field(default_factory=dict)
    to_step: Count | None = None
    ended: str = ""
    status: str = ""


@dataclass(frozen=True)
class Change:
    """Settings that were changed on purpose when the run was resumed at a step."""

    step: Count
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """How fast it was trained, over all sessions."""

    images_per_second: Real | None = None
    seconds: Real | None = None
    data_seconds: Real | None = None  # of these, in making batches


@dataclass(frozen=True)
class ClassScore:
    """The result of one class, where an image may have several."""

    samples: Count = 0  # images that have it
    right: Count = 0  # of these, those for which it was answered
    predicted: Count = 0  # answers, right or wrong
    average_precision: Real | None = None  # None: no image has it
    f1: Real = 0.0
    threshold: Real = UNDECIDED  # the probability from which on it was answered


@dataclass(frozen=True)
class LabelSets:
    """What label sets cover that are to hold an image's class with a probability, the coverage."""

    method: str
    coverage: Real  # as asked for
    covered: Real  # the share of images whose class is in their set
    size: Real  # classes in a set, on average
    class_covered: tuple[Real | None, ...] = ()  # the share of each class's images; None: no image
    class_size: tuple[Real | None, ...] = ()  # classes in a set of theirs, on average


@dataclass(frozen=True)
class Score:
    """The result on one split; ``confusion[i][j]``: class i that was taken for j.

    Where an image may have several classes, its accuracy is the share of images for which all of
    them were answered, and no others; there is no confusion, but ``classes``.
    """

    samples: Count | None = None
    loss: Real | None = None
    accuracy: Real | None = None  # a fraction
    top5_accuracy: Real | None = None
    confusion: tuple[tuple[Count, ...], ...] = ()
    map: Real | None = None  # mean average precision
    f1_micro: Real | None = None
    f1_macro: Real | None = None
    classes: tuple[ClassScore, ...] = ()
    label_sets: tuple[LabelSets, ...] = ()  # of a test split, by method and coverage

    def __post_init__(self) -> None:
        for value in (self.accuracy, self.top5_accuracy, self.map, self.f1_micro, self.f1_macro):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"an accuracy is {value:g}, not a fraction from 0 to 1")
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("the confusion matrix is not a square of counts")


@dataclass(frozen=True)
class Bins:
    """How often what was so probable was so, by bins of equal width of the probability."""

    counts: tuple[Count, ...]
    confidence: tuple[Real | None, ...]  # the mean probability in the bin; None in an empty one
    accuracy: tuple[Real | None, ...]  # the share that was so

    def __post_init__(self) -> None:
        if not len(self.counts) == len(self.confidence) == len(self.accuracy):
            raise ValueError("its bins are not as many as their figures")


@dataclass(frozen=True)
class Trust:
    """How far probabilities can be taken at their word."""

    log_loss: Real
    brier: Real
    ece: Real  # expected calibration error
    reliability: Bins


@dataclass(frozen=True)
class Calibrated:
    """What calibration has changed on a split; ``after`` is None where it would not have held."""

    split: str  # "test" or "validation"
    before: Trust
    after: Trust | None = None
    kind: str = "temperature"
    samples: Count = 0  # held-out images that it was fitted on
    temperature: Real | None = None


@dataclass(frozen=True)
class CalledUnknown:
    """How many images of a split, all of known classes, a model takes for ones of none of them."""

    split: str  # "test" or "validation", on which it is as many as were asked for
    share: Real
    false_alarms: Real  # the share that was asked for
    samples: Count  # held-out images by which it decides


@dataclass(frozen=True)
class Results:
    """How it went, for each split."""

    train: Speed = Speed()
    validation: Score | None = None
    test: Score | None = None
    calibration: Calibrated | None = None
    unknown: CalledUnknown | None = None

    @property
    def summary(self) -> "Results":
        """The same without what there is of each class, which weights do not carry with them."""

        def short(score: Score | None) -> Score | None:
            return score and replace(score, confusion=(), classes=(), label_sets=())

        return replace(
            self,
            validation=short(self.validation),
            test=short(self.test),
            calibration=None,
            unknown=None,
        )


@dataclass(frozen=True)
class Progress:
    """How far the run came; ``epoch`` is fractional when it was stopped within one."""

    step: Count | None = None
    steps: Count | None = None
    epoch: Real | None = None
    epochs: Real | None = None
    seconds: Real | None = None


@dataclass(frozen=True)
class Record:
    """run.json."""

    name: str = ""
    command: str = ""
    status: str = "unknown"
    started: str = ""
    seed: Count | None = None
    model: Model = Model()
    data: Data = Data()
    recipe: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    weights: Weights | None = None  # None: fresh ones
    teacher: Taught | None = None
    ending: Ending = Ending()
    launch: str | None = None  # of the torchrun that has begun it
    sessions: tuple[Session, ...] = ()
    changes: tuple[Change, ...] = ()
    results: Results = Results()
    progress: Progress = Progress()
    warnings: tuple[str, ...] = field(default_factory=tuple)  # what went wrong while it ran

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        return self.status == "finished"

    @property
    def ended(self) -> str:
        """When it finished, stopped or failed; empty while it runs."""
        return self.sessions[-1].ended if self.sessions else ""


@dataclass(frozen=True)
class Epoch:
    """A line of metrics.jsonl; ``seconds`` count from the start of the run."""

    epoch: Real
    step: Count
    lr: Real | None = None
    train_loss: Real | None = None
    train_accuracy: Real | None = None
    validation_loss: Real | None = None
    validation_accuracy: Real | None = None
    validation_map: Real | None = None  # where an image may have several classes
    samples: Count | None = None
    train_seconds: Real | None = None
    data_seconds: Real | None = None
    images_per_second: Real | None = None
    seconds: Real | None = None

    @property
    def waiting(self) -> float | None:
        """The share of its training time in which it waited for images."""
        if not self.data_seconds or not self.train_seconds:
            return None
        return self.data_seconds / self.train_seconds


@dataclass(frozen=True)
class LedgerLine:
    """A line of ledger.jsonl: an epoch, and the last link of its chain of digests."""

    epoch: Count
    steps: Count
    samples: Count
    sha256: str


@dataclass(frozen=True)
class Mistake:
    """An entry of mistakes.json; ``image`` and ``heat`` are data URLs or empty."""

    sample: Count | str
    label: str
    predicted: str
    confidence: Real
    image: str = ""
    missed: bool = False  # of several classes: ``predicted`` is there and was not answered
    heat: str = ""  # a data URL to lay over the image: where the network finds ``predicted``


@dataclass(frozen=True)
class LeftOut:
    """A file that training left out, and why."""

    path: str
    reason: str = ""


@dataclass(frozen=True)
class Preparation:
    """data.json: what was left out of the data, and how images were prepared."""

    skipped: tuple[LeftOut, ...] = ()
    preprocess: dict[str, Any] | None = None


IN_FILES = {"sessions": "sittings", "image": "picture"}
_FIELDS = {key: name for name, key in IN_FILES.items()}
_FREE = {"spec", "environment", "copies", "preprocess", "settings"}  # not ours to look into
_SPARSE = (Record, Session, Score)  # without what is not known yet; elsewhere that is null
# Without these where there is nothing to say, as in folders of one class an image.
_SELDOM = {"several", "validation_map", "missed", "heat", "calibration", "unknown"}


def from_plain(kind: type[T], value: Any, where: str | Path) -> T:
    """Return the values of a file as a record of a ``kind``; null is as if it were missing.

    Raises CheckpointError, naming file and field, for a value of another type.
    """
    return typed.check(kind, _present(value), where)


def to_plain(value: Any) -> Any:
    """Return a record, or a list of them, as JSON-able values."""
    if is_dataclass(value):
        values = {each: getattr(value, each.name) for each in fields(value)}
        return {
            IN_FILES.get(each.name, each.name): to_plain(inner)
            for each, inner in values.items()
            if inner != each.default or not (isinstance(value, _SPARSE) or each.name in _SELDOM)
        }
    return [to_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            _FIELDS.get(key, key): inner if key in _FREE else _present(inner)
            for key, inner in value.items()
            if inner is not None
        }
    return [_present(inner) for inner in value] if isinstance(value, list) else value
