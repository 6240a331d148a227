"""What rounds of measurements say, and what they do not."""

import statistics
from collections.abc import Iterable, Sequence
from math import comb

from resnets.training.throughput import spread

CONFIDENCE = 0.95
# The same code differs by so much from one start to the next, by where its memory comes to lie.
FLOOR = 0.02
SAME = 0.05  # what counts as no difference


def paired_ratios(values: Sequence[float], first: Sequence[float]) -> list[float]:
    """Return, round by round, ``values`` over ``first``, which were measured side by side."""
    return [value / other for value, other in zip(values, first, strict=True)]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return bounds of the true median with 95 % confidence; None for fewer than 6 values.

    They are two of the values themselves, those that the sign test leaves, whatever the
    distribution: the smallest and the largest of 6, the second of either side of 9.
    """
    count, left, tail = len(values), -1, 0.0
    while (tail := tail + comb(count, left + 1) / 2**count) <= (1 - CONFIDENCE) / 2:
        left += 1
    ordered = sorted(values)
    return (ordered[left], ordered[count - 1 - left]) if left >= 0 else None


def unrest(yardsticks: Iterable[Sequence[float]]) -> float:
    """Return by how much the same work differed within a round, typically.

    ``yardsticks`` holds, for each round, the rates of the work that is repeated in it. Their
    quartiles lie so far apart, relative to their median: a range would grow with the cases of a
    round.
    """
    found = [spread(rates) for rates in yardsticks]
    return statistics.median((each.high - each.low) / each.median for each in found)


def margin(unrest: float, taken: float | None) -> float:
    """Return below which relative difference this machine, at this time, could not tell.

    ``taken`` is the part of the processors' time that went to others, where that is known.
    """
    return max(FLOOR, unrest, taken or 0.0)


def verdict(ratios: Sequence[float], margin: float) -> str:
    """Return in words what paired ratios of rates say, and no more than their spread bears.

    A difference is one only where the whole `interval` lies beyond ``margin``, and sameness only
    where all of it, and ``margin``, lie within 5 %.
    """
    bounds = interval(ratios)
    if bounds is None:
        return "too few rounds to tell"
    low, high = bounds
    if low > 1 + margin:
        return "faster"
    if high < 1 / (1 + margin):
        return "slower"
    if margin <= SAME and low >= 1 / (1 + SAME) and high <= 1 + SAME:
        return f"the same within {100 * SAME:.0f} %"
    return "too noisy to tell"
