"""An 8-bit export that answers as well as the float32 one, with as few layers in float as needed.

Judged by right answers, not by differences of logits, which are a hundred times those of float32.
Layers are chosen on training pictures that the ranges were not; the test part only has the last
word.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnets.data.dataset import Split
from resnets.errors import ExportError
from resnets.exporting.quantizers import Quantizer
from resnets.exporting.samples import Samples

LIMIT = 0.003  # of the pictures, whose answer may become wrong on balance
AGREEMENT = 0.9  # of the pictures at least have the same answer
FEW = 128  # pictures to find out by how sensitive a layer is

Answers = Callable[[Path, Split], Tensor]  # a file's logits (N, classes) on all of a split


@dataclass(frozen=True)
class Accuracy:
    """Right answers of the float32 file and of the 8-bit one on the same pictures."""

    before: int
    after: int
    agree: int  # pictures with the same answer, right or wrong
    of: int

    @property
    def within(self) -> bool:
        """Whether no more is lost than may be: a picture, where the limit is less than one."""
        return self.before - self.after <= max(1, int(LIMIT * self.of))

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return {
            "of": self.of,
            "accuracy_before": self.before / self.of,
            "accuracy_after": self.after / self.of,
            "points_lost": round(100 * (self.before - self.after) / self.of, 6),
            "top1": {"agree": self.agree, "of": self.of},
        }


@dataclass(frozen=True)
class Quantized:
    """What became of an 8-bit export."""

    method: str
    samples: Samples
    search: Accuracy
    test: Accuracy
    layers: int
    float_layers: tuple[str, ...]  # that stay in float32

    def to_dict(self) -> dict[str, Any]:
        """Return the account of it as JSON-able values."""
        return {
            "method": self.method,
            "samples": self.samples.to_dict(),
            "limit_points": 100 * LIMIT,
            "test": self.test.to_dict(),
            "search": self.search.to_dict(),
            "layers": self.layers,
            "float_layers": list(self.float_layers),
        }


def quantize(
    quantizer: Quantizer,
    path: Path,
    whole: Path,
    samples: Samples,
    answers: Answers,
    report: Callable[[str], None],
) -> Quantized:
    """Write an 8-bit file to ``path`` that is as good as ``whole``, in float32; return how good.

    Raises ExportError when it is not, whatever stays in float.
    """
    exact = answers(whole, samples.search)

    def judged() -> Accuracy:
        return compare(exact, answers(path, samples.search), samples.search.labels)

    kept: list[str] = []
    quantizer.write(path, kept)
    search = judged()
    if not search.within:
        lost = search.before - search.after
        report(f"{lost} of {search.of:,} answers are lost: looking for the layers that cause it")
        order = _by_damage(quantizer, path, exact[:FEW], samples, answers)
        while not search.within and len(kept) < len(order):
            kept = order[: max(1, 2 * len(kept))]
            quantizer.write(path, kept)
            search = judged()
    report(f"comparing {len(samples.test):,} answers on the {samples.part} part")
    labels = samples.test.labels
    test = compare(answers(whole, samples.test), answers(path, samples.test), labels)
    for accuracy, part in ((search, "training pictures"), (test, f"the {samples.part} part")):
        if not accuracy.within or accuracy.agree < AGREEMENT * accuracy.of:
            raise ExportError(
                f"the 8-bit file is not the network: on {part} {accuracy.after:,} of its "
                f"{accuracy.of:,} answers are right, in float32 {accuracy.before:,}, and "
                f"{accuracy.agree:,} are the same",
                hint="it was not kept; leave --int8 out",
            )
    return Quantized(quantizer.method, samples, search, test, len(quantizer.layers), tuple(kept))


def compare(before: Tensor, after: Tensor, labels: Tensor) -> Accuracy:
    """Return how the answers to the same pictures changed, logits (N, classes) of both files."""
    first, second = before.argmax(1), after.argmax(1)
    pairs = ((first, labels), (second, labels), (first, second))
    right, still_right, agree = (int((one == other).sum()) for one, other in pairs)
    return Accuracy(right, still_right, agree, len(labels))


def _by_damage(
    quantizer: Quantizer, path: Path, exact: Tensor, samples: Samples, answers: Answers
) -> list[str]:
    """Return the layers, first that which alone in 8 bits changes the logits most."""
    few = samples.search.subset(torch.arange(len(exact)))
    damage = {}
    for layer in quantizer.layers:
        quantizer.write(path, [other for other in quantizer.layers if other != layer])
        damage[layer] = float((answers(path, few) - exact).square().mean())
    return sorted(damage, key=lambda layer: -damage[layer])
