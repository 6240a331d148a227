"""Two models on the same images: how far apart they are, and whether chance could do that."""

from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Paired:
    """What a model is right about and the first is not, and the other way round, of N images."""

    samples: int
    only_this: int
    only_first: int

    @property
    def difference(self) -> float:
        """The accuracy of this model less that of the first."""
        return (self.only_this - self.only_first) / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference (Bonett and Price 2012), around one drawn to 0.

        As if there were an image more of either kind: without any it has a width too.
        """
        z, n = 1.96, self.samples + 2
        more, less = (self.only_this + 1) / n, (self.only_first + 1) / n
        middle = more - less
        spread = z * sqrt((more + less - middle**2) / n)
        return max(-1.0, middle - spread), min(1.0, middle + spread)

    @property
    def p_value(self) -> float:
        """How often equally good models would be at least so far apart (McNemar's exact test).

        Of the images that only one is right about, as many as not would be this one's.
        """
        n, fewer = self.only_this + self.only_first, min(self.only_this, self.only_first)
        term = total = 1  # n over k, summed up to `fewer`; whole numbers, for n of any size
        for k in range(fewer):
            term = term * (n - k) // (k + 1)
            total += term
        return min(1.0, float(2 * total / 2**n))

    def to_dict(self) -> dict[str, Any]:
        """Return counts and what follows from them as JSON-able values."""
        return {
            **asdict(self),
            "difference": self.difference,
            "interval": list(self.interval),
            "p_value": self.p_value,
        }


def paired(right: NDArray[np.bool_], first: NDArray[np.bool_]) -> Paired:
    """Return how a model that is ``right`` about these images, (N,), compares with the first."""
    return Paired(len(right), int((right & ~first).sum()), int((first & ~right).sum()))
