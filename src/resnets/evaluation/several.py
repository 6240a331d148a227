"""Metrics where an image may have several classes: each is answered by itself, from a threshold on.

Means over classes are of those that some image has: of another there is nothing to find.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.evaluation.metrics import f1
from resnets.run_folder.record import UNDECIDED
from resnets.weights.outputs import probabilities


@dataclass(frozen=True)
class Several:
    """What a model answered on each class of each image, and the metrics that follow."""

    targets: NDArray[np.bool_]  # (N, classes), what is true
    probabilities: NDArray[np.float64]  # (N, classes)
    thresholds: NDArray[np.float64]  # (classes,), from where on a class is an answer

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """Whether each class is an answer, (N, classes)."""
        return self.probabilities >= self.thresholds

    @property
    def exact(self) -> float:
        """The fraction of images whose classes are all answered, and no others."""
        return int((self.answered == self.targets).all(1).sum()) / len(self.targets)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Of each class: images that have it, answers, and answers that are right, (3, classes)."""
        right = self.answered & self.targets
        return np.stack([each.sum(0) for each in (self.targets, self.answered, right)])

    @cached_property
    def average_precisions(self) -> list[float | None]:
        """That of each class; None where no image has it."""
        columns = zip(self.targets.T, self.probabilities.T, strict=True)
        return [average_precision(true, p) if true.any() else None for true, p in columns]

    @property
    def f1(self) -> NDArray[np.float64]:
        """The F1 of each class, (classes,): 0 where there is nothing to find and no answer."""
        found: NDArray[np.float64] = f1(*self.counts)
        return found

    @property
    def f1_micro(self) -> float:
        """The F1 of all answers together."""
        return float(f1(*self.counts.sum(1)))

    @property
    def f1_macro(self) -> float:
        """The mean of the classes' F1."""
        there = self.counts[0] > 0
        return float(self.f1[there].mean()) if there.any() else 0.0

    @property
    def map(self) -> float:
        """The mean of the classes' average precisions."""
        known = [each for each in self.average_precisions if each is not None]
        return sum(known) / len(known) if known else 0.0

    def with_best_thresholds(self) -> "Several":
        """Return the same at the thresholds of the best F1; UNDECIDED where nothing shows one."""
        columns = zip(self.targets.T, self.probabilities.T, strict=True)
        best = [best_threshold(true, p) for true, p in columns]
        return replace(self, thresholds=np.array([UNDECIDED if t is None else t for t in best]))

    def mistakes(self, count: int) -> list[tuple[int, int]]:
        """Return the most confident wrong answers, worst first: an image and a class each.

        By how far they are from the class's threshold, of as far as they might be.
        """
        rows, classes = np.nonzero(self.answered != self.targets)
        p, t = self.probabilities[rows, classes], self.thresholds[classes]
        beyond = np.abs(p - t) / np.maximum(np.where(p >= t, 1 - t, t), 1e-9)
        order = np.argsort(-beyond, kind="stable")[:count]
        return list(zip(rows[order].tolist(), classes[order].tolist(), strict=True))

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of what is answered on each class, that it is there or is not."""
        return np.where(self.answered, self.probabilities, 1 - self.probabilities)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON-able values, with those of each class."""
        columns = (*self.counts, self.f1, self.thresholds)
        return {
            "map": self.map,
            "f1_micro": self.f1_micro,
            "f1_macro": self.f1_macro,
            "classes": [
                {
                    "samples": samples,
                    "right": right,
                    "predicted": predicted,
                    "average_precision": precision,
                    "f1": f1,
                    "threshold": threshold,
                }
                for (samples, predicted, right, f1, threshold), precision in zip(
                    zip(*(column.tolist() for column in columns), strict=True),
                    self.average_precisions,
                    strict=True,
                )
            ],
        }


def scored(
    targets: NDArray[np.bool_], logits: NDArray[np.floating], thresholds: Sequence[float]
) -> Several:
    """Return the scores of logits (N, classes); without ``thresholds`` each is UNDECIDED."""
    levels = np.array(thresholds or [UNDECIDED] * targets.shape[1])
    return Several(targets, probabilities(logits, "sigmoid"), levels)


def average_precision(true: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the mean, over what is true, of the precision down to its score; 0 without any.

    Scores that are equal are taken together: no order among them is a merit.
    """
    hits, taken, _ = _ranked(true, scores)
    if not hits[-1]:
        return 0.0
    return float(np.diff(hits, prepend=0) @ (hits / taken) / hits[-1])


def best_threshold(true: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    """Return from where on F1 is best; None where all or nothing is true, which shows none.

    It lies half way to the next lower score; of several that are as good it is the highest.
    """
    positives = int(true.sum())
    if positives in (0, len(true)):
        return None
    hits, taken, levels = _ranked(true, scores)
    best = int(f1(positives, taken, hits).argmax())
    lowest, below = levels[best], levels[best + 1] if best + 1 < len(levels) else 0.0
    middle = (lowest + below) / 2
    return float(middle if below < middle else lowest)  # of neighbours there is none between


def _ranked(
    true: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]:
    """Return, for each score from the highest down, how many are true and how many there are."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of equal scores
    return np.cumsum(true[order], dtype=np.int64)[last], last + 1, ranked[last]
