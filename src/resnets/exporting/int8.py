"""An 8-bit export that answers as well as the float32 one, with as few layers in float as needed.

Judged by correct answers, not by differences of logits, which are a hundred times those of float32.
Layers are chosen on training images that the ranges were not; the test split only has the last
word.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, comb, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnets.data.dataset import Split
from resnets.errors import ExportError
from resnets.exporting.quantizers import Quantizer
from resnets.exporting.sampling import Samples

LIMIT = 0.003  # of the images, whose answer may become wrong on balance
BY_CHANCE = 0.01  # of the images, where so many may become wrong by chance as well
SIGNIFICANT = 0.05
AGREEMENT = 0.9  # of the images at least have the same answer
FEW = 128  # images to find out by how sensitive a layer is

# A file's logits (N, classes) on all of a split; above their thresholds, where it has some.
Answers = Callable[[Path, Split], Tensor]


@dataclass(frozen=True)
class Accuracy:
    """Right answers of the float32 file and of the 8-bit one on the same images."""

    before: int
    after: int
    agree: int  # images with the same answer, right or wrong
    of: int
    gained: int = 0  # answers that were wrong and are right
    limit: float | None = None  # in points, where somebody has set it

    @property
    def fewer(self) -> int:
        """How many answers are lost on balance."""
        return self.before - self.after

    @property
    def within(self) -> bool:
        """Whether no more is lost than may be.

        That is a limit that was set; else LIMIT, or an image where that is less than one, or what
        chance explains up to BY_CHANCE.
        """
        if self.limit is not None:
            return self.fewer <= self.limit * self.of / 100
        within = self.fewer <= max(1, int(LIMIT * self.of))
        return within or (self.is_chance and self.fewer <= BY_CHANCE * self.of)

    @property
    def is_chance(self) -> bool:
        """Whether as many answers may well be lost where losing and gaining are as likely.

        The sign test on those that changed (Dixon and Mood 1946), one-sided.
        """
        lost = self.fewer + self.gained
        changed = lost + self.gained
        if changed > 1000:  # where the normal distribution says the same
            return self.fewer - 1 <= 1.645 * sqrt(changed)
        share = sum(comb(changed, n) for n in range(lost, changed + 1)) / (1 << changed)
        return share > SIGNIFICANT

    @property
    def needed(self) -> float:
        """The least limit in points, to a tenth, that lets this much be lost."""
        return ceil(1000 * self.fewer / self.of) / 10

    def sentence(self) -> str:
        """Say how many answers are lost, and why that is allowed."""
        if self.fewer <= 0:
            return "no fewer correct"
        if self.limit is not None:
            why = f"within --max-loss {self.limit:g}"
        else:
            why = "within chance" if self.is_chance else f"within {100 * LIMIT:g} points"
        return f"{self.fewer:,} of {self.of:,} fewer correct, {why}"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return {
            "of": self.of,
            "accuracy_before": self.before / self.of,
            "accuracy_after": self.after / self.of,
            "points_lost": round(100 * self.fewer / self.of, 6),
            "within_chance": self.is_chance,
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
            "limit_points": 100 * LIMIT if self.test.limit is None else self.test.limit,
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
    max_loss: float | None = None,
) -> Quantized:
    """Write an 8-bit file to ``path`` that is as good as ``whole``, in float32; return how good.

    ``max_loss`` is how many points of accuracy may be lost, where somebody has said it. Raises
    ExportError when it is not as good, whatever stays in float.
    """
    exact = answers(whole, samples.search)

    def judged() -> Accuracy:
        return compare(exact, answers(path, samples.search), samples.search.truth, max_loss)

    kept: list[str] = []
    quantizer.write(path, kept)
    search = judged()
    if not search.within:
        lost = f"{search.fewer:,} of {search.of:,}"
        report(f"{lost} answers are lost: looking for the layers that cause it")
        order = _by_damage(quantizer, path, exact[:FEW], samples, answers)
        while not search.within and len(kept) < len(order):
            kept = order[: max(1, 2 * len(kept))]
            quantizer.write(path, kept)
            search = judged()
    report(f"comparing {len(samples.test):,} answers on the {samples.part} split")
    labels = samples.test.truth
    test = compare(answers(whole, samples.test), answers(path, samples.test), labels, max_loss)
    for accuracy, part in ((search, "training images"), (test, f"the {samples.part} split")):
        agrees = accuracy.agree >= AGREEMENT * accuracy.of
        if not accuracy.within or not agrees:
            least = max(search.needed, test.needed)
            raise ExportError(
                f"the 8-bit file is not the network: on {part} {accuracy.after:,} of its "
                f"{accuracy.of:,} answers are right, in float32 {accuracy.before:,}, and "
                f"{accuracy.agree:,} are the same",
                hint="it was not kept; leave --int8 out"
                + (f", or let it lose more: --max-loss {least:g}" if agrees else ""),
            )
    return Quantized(quantizer.method, samples, search, test, len(quantizer.layers), tuple(kept))


def compare(before: Tensor, after: Tensor, labels: Tensor, limit: float | None = None) -> Accuracy:
    """Return how the answers to the same images changed, logits (N, classes) of both files.

    ``labels`` are (N,), or bool (N, classes) where an image may have several classes: then those
    of a logit from 0 on are its answer, and right with all of them and no others.
    """

    def same(one: Tensor, other: Tensor) -> Tensor:
        return one == other if labels.ndim == 1 else (one == other).all(1)

    first, second = (t.argmax(1) if labels.ndim == 1 else t >= 0 for t in (before, after))
    was, now = same(first, labels), same(second, labels)
    gained, agree = int((now & ~was).sum()), int(same(first, second).sum())
    return Accuracy(int(was.sum()), int(now.sum()), agree, len(labels), gained, limit)


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
