"""What makes a model's answers trustworthy: probabilities that hold, and when not to answer.

It is fitted on held-out images once a network is trained (`resnets.evaluation.temperature`) and
travels with the weights; applying it takes NumPy alone, so that exported files do without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from resnets.weights.conformal import Conformal

if TYPE_CHECKING:
    from torch import Tensor

SCORES = ("energy", "max_logit")  # results/strangers.txt has what they are worth


def fewest(false_alarms: float) -> int:
    """Return how many held-out images show a threshold of so many false alarms."""
    return ceil(1 / false_alarms - 1e-6) - 1


@dataclass(frozen=True)
class Unknown:
    """From which score on an image is of none of the classes; scores are of raw logits.

    "energy" is less the logarithm of the sum of the logits' exponentials (Liu et al. 2020),
    "max_logit" less the highest of them (Hendrycks et al. 2022).
    """

    score: str  # one of SCORES; higher is stranger
    threshold: float  # unknown above it
    false_alarms: float  # the share of known images that may be above it, as it was asked for

    @classmethod
    def fitted(cls, logits: NDArray[np.floating], false_alarms: float) -> Self | None:
        """Return the threshold that held-out images (N, outputs) show; None where they are too few.

        An image that is drawn like them is above it with a probability of at most ``false_alarms``:
        it is the score that so many of N + 1 images are not above (as of label sets).
        """
        above = int((len(logits) + 1) * false_alarms + 1e-9)
        if not above:
            return None
        scores = np.sort(cls("energy", 0.0, false_alarms).of(logits))
        return cls("energy", float(scores[-above]), false_alarms)

    def of(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how strange images are, (N,), of their raw logits (N, outputs)."""
        values = logits.astype(np.float64)
        highest: NDArray[np.float64] = values.max(1)
        if self.score == "energy":  # np.logaddexp takes ten times as long
            highest = highest + np.log(np.exp(values - highest[:, None]).sum(1))
        return -highest

    def flags(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which images are of none of the classes, (N,)."""
        found: NDArray[np.bool_] = self.of(logits) > self.threshold
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from `to_dict`'s values. Raises ValueError for what cannot be meant."""
        found = cls(**values)
        if found.score not in SCORES:
            raise ValueError(f"its unknown score is {str(found.score)[:40]!r}")
        _numbers([found.threshold, found.false_alarms], "unknown threshold")
        if not 0 <= found.false_alarms <= 1:
            raise ValueError(f"its false alarms are {found.false_alarms:g}")
        return found


@dataclass(frozen=True)
class Calibration:
    """Logits times ``scale``, plus ``bias``: temperature scaling (Guo 2017), or a class's own."""

    samples: int  # held-out images that it was fitted on
    scale: tuple[float, ...] = (1.0,)  # 1 / temperature; or one for each output
    bias: tuple[float, ...] = ()  # one for each output, or none
    unknown: Unknown | None = None
    conformal: Conformal | None = None

    @property
    def changes(self) -> bool:
        """Whether it makes other probabilities than the logits as they are."""
        return self.scale != (1.0,) or bool(self.bias)

    @property
    def temperature(self) -> float | None:
        """What logits are divided by; None where each class has its own scale."""
        return 1 / self.scale[0] if len(self.scale) == 1 and not self.bias else None

    def __call__(self, logits: "NDArray[np.floating] | Tensor") -> NDArray[np.float64]:
        """Return calibrated logits (N, outputs) in double precision; a tensor's too, as an array.

        What they are is no part of a graph: nothing learns through them.
        """
        if not isinstance(logits, np.ndarray):
            logits = logits.detach().double().cpu().numpy()
        scaled = logits.astype(np.float64) * np.array(self.scale)
        if self.bias:
            scaled += np.array(self.bias)
        found: NDArray[np.float64] = scaled
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what is known, as JSON-able values."""
        values: dict[str, Any] = {"samples": self.samples, "scale": list(self.scale)}
        if self.bias:
            values["bias"] = list(self.bias)
        if self.unknown:
            values["unknown"] = self.unknown.to_dict()
        if self.conformal:
            values["conformal"] = self.conformal.to_dict()
        return values

    def summary(self) -> dict[str, Any]:
        """Return the same with the temperature, and of label sets how far they go."""
        values = {**self.to_dict(), "temperature": self.temperature}
        if values.pop("conformal", None) and self.conformal:
            values["label_sets_to"] = self.conformal.most
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], outputs: int) -> Self:
        """Build from `to_dict`'s values, for so many outputs.

        Raises ValueError, TypeError or KeyError for what cannot be meant.
        """
        samples, scale, bias = values["samples"], values["scale"], values.get("bias", [])
        if unknown := values.keys() - {"samples", "scale", "bias", "unknown", "conformal"}:
            raise ValueError(f"it says something unknown: {str(min(unknown))[:40]!r}")
        if not isinstance(samples, int) or samples < 0:
            raise ValueError(f"it was fitted on {str(samples)[:40]} images")
        if len(scale) not in (1, outputs) or len(bias) not in (0, outputs):
            raise ValueError(
                f"it has {len(scale):,} scales and {len(bias):,} biases for {outputs:,} outputs"
            )
        if min(_numbers(scale, "scale")) <= 0:
            raise ValueError("a scale is not positive")
        stranger, sets = values.get("unknown"), values.get("conformal")
        return cls(
            samples,
            tuple(scale),
            tuple(_numbers(bias, "bias")),
            None if stranger is None else Unknown.from_dict(stranger),
            None if sets is None else Conformal.from_dict(sets),
        )


def calibrated(
    logits: NDArray[np.floating], calibration: Calibration | None
) -> NDArray[np.floating]:
    """Return logits (N, outputs) as a model's calibration has them; as they are without one."""
    return logits if calibration is None else calibration(logits)


def _numbers(values: list[Any], what: str) -> list[float]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"its {what} is {str(value)[:40]!r}")
    return values
