"""What label sets cover of labelled images that they were not fitted on, over all and by class."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resnets.run_folder.record import LabelSets
from resnets.weights.conformal import DEFAULT, METHODS, Conformal, ranks

REPORTED = (0.8, 0.9, 0.95, 0.99)


def label_sets(
    conformal: Conformal, probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> tuple[LabelSets, ...]:
    """Return what each method's sets do with images' probabilities (N, C) and labels (N,).

    Of the coverages REPORTED that its held-out images allow, or else of the highest; of the default
    method by class too.
    """
    rank = ranks(probabilities, labels)
    found = []
    for coverage in [each for each in REPORTED if each <= conformal.most] or [conformal.most]:
        for method in METHODS:
            sizes = conformal.sizes(probabilities, coverage, method)
            inside = rank < sizes
            result = LabelSets(method, coverage, float(inside.mean()), float(sizes.mean()))
            if method == DEFAULT:
                of_classes = [
                    _by_class(each, labels, probabilities.shape[1]) for each in (inside, sizes)
                ]
                result = replace(result, class_covered=of_classes[0], class_size=of_classes[1])
            found.append(result)
    return tuple(found)


def _by_class(
    values: NDArray[np.generic], labels: NDArray[np.integer], classes: int
) -> tuple[float | None, ...]:
    """Return the mean of the values (N,) of each class's images; None where there are none."""
    counts = np.bincount(labels, minlength=classes).tolist()
    sums = np.bincount(labels, values.astype(np.float64), classes).tolist()
    return tuple(total / n if n else None for total, n in zip(sums, counts, strict=True))
