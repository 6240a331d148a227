"""What a model answered on labelled images, each counted once, and the metrics that follow."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from resnets.evaluation.several import Several, scored
from resnets.weights.calibration import Calibration
from resnets.weights.outputs import probabilities

MOST_CONFUSED = 5000  # classes of a matrix in a record, where it takes 50 MB


@dataclass(frozen=True)
class Evaluation:
    """What a model answered on each sample of a split, and the metrics that follow.

    Where an image may have ``several`` classes, which has all of them, its label is the first, and
    what is predicted the most probable one.
    """

    labels: NDArray[np.int64]  # (N,)
    predicted: NDArray[np.int64]  # (N,)
    confidence: NDArray[np.float32]  # (N,), the probability of the predicted class
    loss: float  # mean cross-entropy
    top5: int  # samples whose class is among the five most probable
    classes: int
    positions: NDArray[np.int64] | None = None  # (N,), in the split, of those that were counted
    several: Several | None = None
    logits: NDArray[np.float32] | None = None  # (N, outputs), raw, where they were asked for

    @classmethod
    def of_several(
        cls,
        several: Several,
        loss: float,
        positions: NDArray[np.int64] | None,
        logits: NDArray[np.float32],
    ) -> "Evaluation":
        """Return the evaluation of images that may have several classes."""
        p = several.probabilities
        return cls(
            labels=several.targets.argmax(1),
            predicted=p.argmax(1),
            confidence=p.max(1).astype(np.float32),
            loss=loss,
            top5=0,
            classes=p.shape[1],
            positions=positions,
            several=several,
            logits=logits,
        )

    def calibrated(self, calibration: Calibration) -> "Evaluation":
        """Return what is answered with a calibration; of an evaluation that has kept its logits."""
        assert self.logits is not None
        logits = calibration(self.logits)
        if self.several:
            several = scored(self.several.targets, logits, self.several.thresholds.tolist())
            return Evaluation.of_several(several, self.loss, self.positions, self.logits)
        return self.answering(probabilities(logits, "softmax"))

    def answering(self, p: NDArray[np.float64]) -> Self:
        """Return what is answered with probabilities (N, classes), of images of one class each."""
        rows, predicted = np.arange(len(p)), p.argmax(1)
        return replace(
            self,
            predicted=predicted,
            confidence=p[rows, predicted].astype(np.float32),
            top5=int(((p > p[rows, self.labels][:, None]).sum(1) < 5).sum()),
        )

    @property
    def accuracy(self) -> float:
        """The fraction of samples whose most probable class is right; of several, all classes."""
        if self.several:
            return self.several.exact
        return int((self.predicted == self.labels).sum()) / len(self.labels)

    @property
    def figure(self) -> float:
        """What the best weights have the highest of: accuracy; of several classes the mAP."""
        return self.several.map if self.several else self.accuracy

    @property
    def confusion(self) -> list[list[int]]:
        """Samples of true class i (row) predicted as j (column); empty with several classes."""
        if self.several:
            return []
        cells = np.bincount(self.labels * self.classes + self.predicted, minlength=self.classes**2)
        matrix: list[list[int]] = cells.reshape(self.classes, self.classes).tolist()
        return matrix

    def mistakes(self, count: int) -> list[int]:
        """Return which answers are the most confident wrong ones, worst first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        order = np.argsort(-self.confidence[wrong], kind="stable")
        positions: list[int] = wrong[order[:count]].tolist()
        return positions

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON-able values, of many thousand classes without confusion."""
        if self.several:
            figures = {"loss": self.loss, "accuracy": self.accuracy}
            return {"samples": len(self.labels), **figures, **self.several.to_dict()}
        confusion = {"confusion": self.confusion} if self.classes <= MOST_CONFUSED else {}
        return {
            "samples": len(self.labels),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "top5_accuracy": self.top5 / len(self.labels),
            **confusion,
        }
