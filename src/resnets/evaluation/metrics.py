"""How good probabilities are, and what is found of each class: functions of NumPy arrays alone.

Means over classes are of those that some image has: of another there is nothing to find. Those of
what a probability is off by are of all labels, for one that no image has should not be likely.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of equal width, as in Guo et al. 2017; one holds its lower end, the last both
BINNING = f"{BINS} bins of equal width"


@dataclass(frozen=True)
class Reliability:
    """How often what was so probable is so, by bins of the probability, each (BINS,)."""

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]  # the mean probability in the bin; 0 in an empty one
    accuracy: NDArray[np.float64]  # the share of it that is so

    @property
    def error(self) -> float:
        """The expected calibration error: by how much the two differ in a bin, in the mean."""
        return float(self.counts @ np.abs(self.accuracy - self.confidence) / self.counts.sum())

    def to_dict(self) -> dict[str, Any]:
        """Return the bins as JSON-able values, None for the figures of empty ones."""
        empty = self.counts == 0
        columns = (np.where(empty, np.nan, each) for each in (self.confidence, self.accuracy))
        confidence, accuracy = ([None if v != v else v for v in c.tolist()] for c in columns)
        return {"counts": self.counts.tolist(), "confidence": confidence, "accuracy": accuracy}


def reliability(probability: NDArray[np.floating], so: NDArray[np.bool_]) -> Reliability:
    """Return how often what has a probability, (N,), is so."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    place = np.searchsorted(edges, probability, side="right")
    counts = np.bincount(place, minlength=BINS)
    sums = (np.bincount(place, each, BINS) for each in (probability.astype(np.float64), so))
    confidence, accuracy = (each / np.maximum(counts, 1) for each in sums)
    return Reliability(counts, confidence, accuracy)


def brier(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the squared distance of each image's probabilities from the truth, (N,), 0 to 2.

    Its mean is the score of Brier 1950, the sum over classes.
    """
    right = probabilities[np.arange(len(labels)), labels]
    squares = np.einsum("nc,nc->n", probabilities, probabilities)
    found: NDArray[np.float64] = squares - 2 * right + 1
    return found


def surprise(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the negative logarithm of what was so; of 0 that of the smallest number, 708."""
    found: NDArray[np.float64] = -np.log(np.maximum(probability, np.finfo(np.float64).tiny))
    return found


def log_losses(logits: NDArray[np.float64], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cross-entropy of each sample (N,); of several classes the mean of theirs."""
    found: NDArray[np.float64]
    if truth.ndim == 2:
        found = np.logaddexp(0, np.where(truth, -logits, logits)).mean(1)
    else:
        found = np.logaddexp.reduce(logits, 1) - logits[np.arange(len(logits)), truth]
    return found


def of_one(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> dict[str, Any]:
    """Return log loss, Brier score and calibration error of (N, classes), an image having one."""
    rows = np.arange(len(labels))
    predicted = probabilities.argmax(1)
    bins = reliability(probabilities[rows, predicted], predicted == labels)
    return {
        "log_loss": float(surprise(probabilities[rows, labels]).mean()),
        "brier": float(brier(probabilities, labels).mean()),
        "ece": bins.error,
        "binning": f"{BINNING} of the highest probability",
        "reliability": bins.to_dict(),
    }


def of_several(probabilities: NDArray[np.floating], targets: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the same of labels that stand alone, (N, labels): each label's, and their means.

    The Brier score of a label is the squared distance of its probability, 0 to 1. ``reliability``
    is that of all labels' probabilities together.
    """
    each = [reliability(p, true).error for p, true in zip(probabilities.T, targets.T, strict=True)]
    squares = ((probabilities - targets) ** 2).mean(0)
    said = np.where(targets, probabilities, 1 - probabilities)
    return {
        "log_loss": float(surprise(said).mean()),
        "brier": float(squares.mean()),
        "ece": float(np.mean(each)),
        "binning": f"{BINNING} of a label's probability, the mean over labels",
        "reliability": reliability(probabilities.ravel(), targets.ravel()).to_dict(),
        "labels": {"brier": squares.tolist(), "ece": each},
    }


def f1(samples: Any, predicted: Any, right: Any) -> Any:
    """Return 2 right / (samples + predicted), the harmonic mean of recall and precision, or 0."""
    return 2 * right / np.maximum(samples + predicted, 1)


def of_classes(
    samples: NDArray[np.integer], predicted: NDArray[np.integer], right: NDArray[np.integer]
) -> dict[str, float]:
    """Return what follows from how many images classes have, and answers, and right ones."""
    there = samples > 0
    score = f1(samples, predicted, right)[there]
    return {
        "balanced_accuracy": float((right[there] / samples[there]).mean()),
        "f1_macro": float(score.mean()),
        "f1_weighted": float(score @ samples[there] / samples.sum()),
    }
