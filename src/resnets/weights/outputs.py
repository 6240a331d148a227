"""What a network's outputs mean, and the probabilities that follow from its logits."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resnets.errors import CheckpointError, UsageError

# softmax: one of all classes; sigmoid: each stands alone. A file may also say regression: numbers.
Outputs = Literal["softmax", "sigmoid"]
CHOICES: tuple[Outputs, ...] = ("softmax", "sigmoid")
STATED = (*CHOICES, "regression")

ASSUMED = "nothing says what its outputs mean; taken as softmax: one of all classes"


def checked(outputs: str | None) -> str | None:
    """Return what a model says that its outputs mean. Raises UsageError where that is no word."""
    return outputs if outputs == "regression" else given(outputs)


def given(word: str | None) -> str | None:
    """Return the meaning that somebody names, or None. Raises UsageError for what is none."""
    if word is not None and word not in CHOICES:
        raise UsageError(
            f'no meaning of outputs is called "{word}"', hint=f"choose from {', '.join(CHOICES)}"
        )
    return word


def meaning(outputs: str | None, count: int) -> Outputs:
    """Return how so many outputs are read: several of which nothing is known as a softmax.

    Raises CheckpointError for one of which nothing is known, which is no softmax in any case, and
    for numbers that are no probabilities.
    """
    if outputs == "regression":
        raise CheckpointError(
            "its outputs are numbers (regression), not probabilities of classes",
            hint="the logits are the numbers: in Python call the model itself",
        )
    if outputs == "sigmoid":
        return "sigmoid"
    if count == 1:
        raise CheckpointError(
            "it has one output, and "
            + ("a softmax of one is always 1" if outputs else "nothing says what it means"),
            hint='--outputs sigmoid if it is a probability; in Python model.outputs = "sigmoid"',
        )
    return "softmax"


def answers(classes: Sequence[str], count: int, outputs: str | None) -> tuple[str, ...]:
    """Return the names of a network's answers: its classes', or the numbers of its outputs.

    One sigmoid has an answer of its own, or two where both classes have a name.
    """
    if classes:
        return tuple(classes)
    if count == 1 and outputs == "sigmoid":
        return ("output 0",)  # not "0", which a class of that number would be
    return tuple(map(str, range(count)))


def alternatives(
    classes: Sequence[str], count: int, outputs: str | None
) -> tuple[tuple[str, ...], int]:
    """Return the names, where there are any, and the number of the classes that are told apart.

    One sigmoid tells two: that of 0 and that of 1.
    """
    if (count, outputs) != (1, "sigmoid"):
        return tuple(classes), count
    names = (f"not {classes[0]}", classes[0]) if len(classes) == 1 else tuple(classes)
    return names, 2


def of_alternatives(logits: NDArray[np.floating], outputs: str | None) -> NDArray[np.floating]:
    """Return logits (N, alternatives): a sigmoid is a softmax of its logit and zero."""
    if (logits.shape[1], outputs) != (1, "sigmoid"):
        return logits
    return np.concatenate([np.zeros_like(logits), logits], 1)


def above(logits: NDArray[np.floating], thresholds: Sequence[float]) -> NDArray[np.float32]:
    """Return by how much logits (N, classes) are above those of thresholds of probabilities."""
    levels = np.clip(np.array(thresholds), 1e-12, 1 - 1e-12)  # of 0 and 1 they would be infinite
    found: NDArray[np.float32] = logits - np.log(levels / (1 - levels)).astype(np.float32)
    return found


def fits(classes: Sequence[str], count: int, outputs: str | None) -> bool:
    """Tell whether so many outputs can have these classes: one each, or two of one sigmoid."""
    return len(classes) in (0, count) or (
        (len(classes), count) == (2, 1) and outputs in ("sigmoid", None)
    )


def probabilities(
    logits: NDArray[np.floating], outputs: str | None, names: int | None = None
) -> NDArray[np.float64]:
    """Return the probabilities (N, answers) of logits (N, outputs), in double precision.

    ``names`` is how many answers have a name: a sigmoid of two is that of the second class, and
    what is left that of the first. Raises what `meaning` raises.
    """
    values = logits.astype(np.float64)
    if meaning(outputs, values.shape[1]) == "sigmoid":
        if (values.shape[1], names) == (1, 2):
            values = np.concatenate([-values, values], 1)
        small = np.exp(-np.abs(values))  # which cannot overflow
        single: NDArray[np.float64] = np.where(values < 0, small, 1.0) / (1 + small)
        return single
    found: NDArray[np.float64] = np.exp(values - values.max(1, keepdims=True))
    found /= found.sum(1, keepdims=True)
    return found
