"""Which labels are likely wrong, by probabilities of models that have not learnt them.

Northcutt, Jiang & Chuang 2021, *Confident Learning: Estimating Uncertainty in Dataset Labels*.
"""

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.floating]  # (N, C), rows of sum 1, none from a model that saw the image
_ROUNDING = 1e-6  # by which a probability may miss a mean of others


def thresholds(probabilities: Probabilities, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean probability of each class where it is the label, (C,); eq. 2.

    Infinite for a class that is no label: nothing shows how probable it is where it is true.
    """
    count = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    sizes = np.bincount(labels, minlength=count)
    means = np.full(count, np.inf)
    np.divide(np.bincount(labels, own, count), sizes, out=means, where=sizes > 0)
    return means


def confident_class(probabilities: Probabilities, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class that each image is confidently of, (N,); -1 where it is of none.

    It is the most probable of those that reach their threshold: the column of the confident joint
    in which the image counts; eq. 1.
    """
    reached = probabilities >= thresholds(probabilities, labels) - _ROUNDING
    best = np.where(reached, probabilities, -1).argmax(1)
    return np.where(reached.any(1), best, -1)


def self_confidence(probabilities: Probabilities, labels: NDArray[np.int64]) -> Probabilities:
    """Return the probability of each label, (N,): the lower, the likelier it is wrong."""
    return probabilities[np.arange(len(labels)), labels]


def likely_wrong(probabilities: Probabilities, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of the images whose labels are likely wrong, the surest first.

    They are as many as the confident joint has off its diagonal, of the lowest self-confidence.
    """
    found = confident_class(probabilities, labels)
    count = int(((found >= 0) & (found != labels)).sum())
    order = np.argsort(self_confidence(probabilities, labels), kind="stable")
    return np.asarray(order[:count])


def suggestions(probabilities: Probabilities, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the most probable class but the label, (N,)."""
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    return np.asarray(others.argmax(1))
