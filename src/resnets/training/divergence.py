"""Whether a run goes the wrong way: a training loss that stays above its start."""

from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE = 2  # epochs that a run may spend above its start
CHANCE = 1.5  # times the loss of equal probabilities: more than that is no start


@dataclass(frozen=True)
class Divergence:
    """The epochs, counted from 1, in which the training loss was above its start."""

    start: float
    first: int
    last: int

    def __str__(self) -> str:
        return (
            f"the training loss was above its start, {self.start:.2f}, from epoch {self.first} "
            f"to {self.last}: its learning rate is probably too high"
        )


def find_divergence(losses: Sequence[float], ignorant: float) -> Divergence | None:
    """Return the first stretch of more than PATIENCE epochs above the start, if there is one.

    ``losses`` are those of the epochs. The start is the first of them, or what a network that
    knows nothing has, ``ignorant``, where the first epoch went wrong already.
    """
    if not losses:
        return None
    start = min(losses[0], CHANCE * ignorant)
    first = 1
    for epoch, loss in enumerate([*losses, start], start=1):
        if loss > start:
            continue
        if epoch - first > PATIENCE:
            return Divergence(start, first, epoch - 1)
        first = epoch + 1
    return None
