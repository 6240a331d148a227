"""What a run is known by: its accuracy, how sure that is, and where it goes wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import atan, cos, pi, sin, sqrt
from statistics import fmean, stdev

from resnets.run_folder.reading import RunRecord
from resnets.run_folder.record import Score


@dataclass(frozen=True)
class Headline:
    """The accuracy to name first, or of several classes the mAP; ``part`` says of which samples."""

    part: str  # "test" or "held-out"
    score: Score
    accuracy: float

    @property
    def figure(self) -> float:
        """What is named first: mAP where an image may have several classes, else accuracy."""
        return self.accuracy if self.score.map is None else self.score.map

    @property
    def name(self) -> str:
        """What that is called."""
        return "accuracy" if self.score.map is None else "mAP"


def headline(run: RunRecord) -> Headline | None:
    """Return the test accuracy, else the held-out one, else the last epoch's; None without any."""
    for part, score in (("test", run.results.test), ("held-out", run.results.validation)):
        if score is not None and score.accuracy is not None:
            return Headline(part, score, score.accuracy)
    for epoch in reversed(run.epochs):
        if (accuracy := epoch.validation_accuracy) is not None and 0 <= accuracy <= 1:
            map_ = epoch.validation_map
            score = Score(run.data.validation, epoch.validation_loss, accuracy, map=map_)
            return Headline("held-out", score, accuracy)
    return None


def interval(accuracy: float, samples: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy (Wilson 1927): how far chance in the samples goes."""
    z = 1.96
    middle = accuracy + z * z / (2 * samples)
    spread = z * sqrt(accuracy * (1 - accuracy) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


@dataclass(frozen=True)
class ClassScore:
    """How one class fared; ``taken_for`` is the wrong class it was given most often."""

    name: str
    samples: int
    right: int
    called: int  # predictions of this class, right or wrong
    taken_for: str
    taken_for_times: int

    @property
    def recall(self) -> float:
        """The fraction of the class's samples that were recognised."""
        return self.right / self.samples

    @property
    def precision(self) -> float | None:
        """The fraction of the predictions of this class that were right; None without any."""
        return self.right / self.called if self.called else None


def class_names(classes: Sequence[str], count: int) -> list[str]:
    """Return the names of ``count`` classes; numbers where there are no names for them."""
    return list(classes) if len(classes) == count else [str(i) for i in range(count)]


def class_scores(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[ClassScore]:
    """Return how each class that has samples fared, the weakest first."""
    names = class_names(classes, len(confusion))
    scores = []
    for i, row in enumerate(confusion):
        if not sum(row):
            continue
        wrong = [0 if j == i else n for j, n in enumerate(row)]
        times = max(wrong)
        scores.append(
            ClassScore(
                name=names[i],
                samples=sum(row),
                right=row[i],
                called=sum(other[i] for other in confusion),
                taken_for=names[wrong.index(times)] if times else "",
                taken_for_times=times,
            )
        )
    return sorted(scores, key=lambda s: s.recall)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean that values are drawn around (Student's t, n - 1)."""
    middle = fmean(values)
    spread = student(len(values) - 1) * stdev(values) / sqrt(len(values))
    return middle - spread, middle + spread


@cache
def student(freedom: int) -> float:
    """Return what Student's t exceeds with a probability of 2.5 %, for whole degrees of freedom.

    By halving, from the closed form of its distribution (Abramowitz and Stegun 1964, 26.7.3 and 4).
    """
    low, high = 1.9, 13.0  # the normal distribution's, and that of a single degree of freedom
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Return the probability that Student's t is between -t and t."""
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term = total = cos(angle) if odd else 1.0
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= (k - 1) / k * cos(angle) ** 2
        total += term
    if freedom == 1:
        total = 0.0
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
