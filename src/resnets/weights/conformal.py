"""Label sets: so many of the most probable classes that an image's own is among them.

Split conformal prediction (Vovk, Gammerman and Shafer 2005). A method scores how little each class
suits an image; a set has the classes whose score is at most a quantile of those that the true
classes of n held-out images had. With the ceil((n + 1) c)-th smallest of them, an image that is
drawn like the held-out ones has its class in its set with probability c at least, whatever the
network is worth: on average over images, not for each class.

Three methods, of an image's calibrated probabilities p and the order that they give its classes:
"lac" scores a class 1 - p (Sadinle, Lei and Wasserman 2019), "aps" the sum of what comes before it
(Romano, Sesia and Candes 2020), "raps" that and a penalty for each rank behind the first few
(Angelopoulos et al. 2021). Nothing is drawn by lot: equal images get equal sets. In all three the
most probable class scores 0, so that no set is empty and sets grow by rank; scores and sets being
of one rule, what is covered is still no more than asked for, unless the most probable class alone
is correct more often than that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from resnets.errors import UsageError, check_name

Method = Literal["lac", "aps", "raps"]
METHODS: tuple[Method, ...] = get_args(Method)
DEFAULT: Method = "lac"  # of the smallest sets on photographs (docs/trust.md)
PERCENTS = range(50, 100)  # of images that may be asked for
PENALTY, FREE = 0.01, 5  # of RAPS: added for each rank behind the first FREE; stated, not fitted


@dataclass(frozen=True)
class Conformal:
    """Of each method, the quantiles for 50 %, 51 % and so on, as far as held-out images allow."""

    lac: tuple[float, ...]
    aps: tuple[float, ...]
    raps: tuple[float, ...]

    @classmethod
    def fitted(cls, probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> Self:
        """Return the quantiles of held-out images: probabilities (N, C) and labels (N,)."""
        ranked, rank = _ranked(probabilities), ranks(probabilities, labels)
        count = len(labels)
        places = [-(-(count + 1) * percent // 100) - 1 for percent in PERCENTS]
        places = [place for place in places if place < count]
        quantiles = {}
        for method in METHODS:
            own = np.sort(_scores(ranked, method)[np.arange(count), rank])
            quantiles[method] = tuple(own[places].tolist())
        return cls(**quantiles)

    @property
    def most(self) -> float:
        """The highest coverage that can be asked for."""
        return PERCENTS[len(self.lac) - 1] / 100

    def sizes(
        self, probabilities: NDArray[np.floating], coverage: float, method: str = DEFAULT
    ) -> NDArray[np.int64]:
        """Return how many of the most probable classes are each image's set, (N,).

        Raises what `quantile` raises.
        """
        inside = _scores(_ranked(probabilities), method) <= self.quantile(coverage, method)
        sizes: NDArray[np.int64] = inside.sum(1)
        return sizes

    def quantile(self, coverage: float, method: str = DEFAULT) -> float:
        """Return the highest score in sets that cover a share of images; the next whole percent.

        Raises UsageError for shares and methods that there are not.
        """
        check_name("kind of label sets", method, METHODS)
        least, most = PERCENTS[0], PERCENTS[-1]
        if not least <= 100 * coverage <= most:
            raise UsageError(
                f"coverage is {coverage:g}",
                hint=f"a share of images from {least / 100:g} to {most / 100:g}, such as 0.9",
            )
        quantiles: tuple[float, ...] = getattr(self, method)
        percent = ceil(100 * coverage - 1e-9)
        if percent - least < len(quantiles):
            return quantiles[percent - least]
        needed = -(-percent // (100 - percent))
        raise UsageError(
            f"label sets for a coverage of {coverage:g} take {needed} held-out images, and these "
            "were fitted on fewer",
            hint=f"--coverage {self.most:g}, or train with a larger data.holdout",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the quantiles as JSON-able values."""
        return {method: list(getattr(self, method)) for method in METHODS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from `to_dict`'s values. Raises ValueError for what cannot be meant."""
        for method in METHODS:
            found = values.get(method)
            if not isinstance(found, list) or not all(type(each) in (int, float) for each in found):
                raise ValueError(f"its quantiles of {method} are no numbers")
            if not all(map(isfinite, found)) or found != sorted(found):
                raise ValueError(f"its quantiles of {method} do not rise")
        lengths = {len(found) for found in values.values()}
        if values.keys() != {*METHODS} or len(lengths) > 1 or not 0 < max(lengths) <= len(PERCENTS):
            raise ValueError("its label sets are of other coverages")
        return cls(**{method: tuple(found) for method, found in values.items()})


def ranks(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return how many classes are more probable than each image's own, (N,).

    Of equal ones the first is taken for the more probable.
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    found: NDArray[np.int64] = ((probabilities > own) | ((probabilities == own) & earlier)).sum(1)
    return found


def _ranked(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    return -np.sort(-probabilities.astype(np.float64), axis=1)


def _scores(ranked: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    """Return the scores (N, C) of classes by rank, rising, of their probabilities."""
    scores = np.zeros_like(ranked)  # as it is for the first
    if method == "lac":
        scores[:, 1:] = 1 - ranked[:, 1:]
        return scores
    np.cumsum(ranked[:, :-1], axis=1, out=scores[:, 1:])
    if method == "raps":
        scores += PENALTY * np.maximum(np.arange(1, ranked.shape[1] + 1) - FREE, 0)
    return scores
