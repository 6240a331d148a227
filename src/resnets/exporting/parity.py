"""Whether an exported file computes what its network does: both answer the same images.

The bound. A runtime adds the same products in another order, and folding rounds each weight once
more: both are float32's rounding, as is what torch itself does. How much that is in one network is
measured, on the same images, as torch's own distance from the network in float64. A file may be
FACTOR times as far from float64. What is computed in half precision, with another epsilon or
padding, is thousands of times as far.

Where a file itself resizes, a pixel in thousands is rounded to the next grey level. There the bound
is what one level more or less in every pixel, at random, changes in the network's answers.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnets.errors import CheckpointError, ExportError
from resnets.exporting.examples import Examples, generated
from resnets.exporting.plan import ExportPlan, Size
from resnets.exporting.raw_pixels import Feed, Pixels
from resnets.nn import ResNet
from resnets.weights.calibration import calibrated
from resnets.weights.outputs import above

FACTOR = 16.0
UNIT = 2.0**-24  # float32 rounds by at most this, relatively
BATCHES = (1, 3)  # where a file takes any number
FEW = 4  # real images, of other sizes than the first
_AT_ONCE = 2**19  # pixels of a batch

Answer = Callable[[NDArray[Any]], NDArray[np.float32]]  # a batch to its logits (N, classes)


@dataclass(frozen=True)
class Case:
    """One batch of images, and how far apart the answers are."""

    pictures: str  # "real" or "generated"
    batch: int
    size: Size
    resized: bool  # in the file itself
    max_absolute: float  # between the file and torch, both in float32
    max_relative: float  # the same over the image's largest logit
    error: float  # of the file, from float64
    torch_error: float  # of torch, from float64
    largest: float  # logit
    agree: int  # images with the same most probable class, or of several the same classes
    bound: float  # of the file's error

    @property
    def passed(self) -> bool:
        """Whether the file is close enough; not where anything is NaN."""
        return self.error <= self.bound


@dataclass(frozen=True)
class Comparison:
    """All batches of a check, and where the real images were from."""

    source: str
    cases: tuple[Case, ...]

    def largest(self, *, resized: bool = False) -> tuple[float, float]:
        """Return the largest difference between file and torch, and that over the largest logit.

        Of the batches that the file did not resize, or of those that it did; 0 where there is none.
        """
        chosen = [case for case in self.cases if case.resized is resized]
        absolute = max((case.max_absolute for case in chosen), default=0.0)
        return absolute, max((case.max_relative for case in chosen), default=0.0)

    @property
    def used(self) -> float:
        """The largest share of its bound that an error takes."""
        return max(case.error / case.bound if case.bound else 0.0 for case in self.cases)

    @property
    def top1(self) -> tuple[int, int]:
        """Images on whose class both agree, of how many: the real ones, if there are any."""
        real = [case for case in self.cases if case.pictures == "real"]
        return sum(c.agree for c in real or self.cases), sum(c.batch for c in real or self.cases)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-able values."""
        agree, of = self.top1
        absolute, relative = self.largest()
        resized = dict(zip(("absolute", "relative"), self.largest(resized=True), strict=True))
        return {
            "reference": "the network in torch, not folded: float32, and float64 for the error",
            "real_pictures": self.source or None,
            "max_absolute": absolute,
            "max_relative": relative,
            "max_where_resized": resized if any(case.resized for case in self.cases) else None,
            "top1": {"agree": agree, "of": of},
            "bound": f"{FACTOR:g} times torch's own float32 error, relative to the largest logit; "
            "where the file resizes, also what one grey level changes",
            "share_of_bound": self.used,
            "cases": [asdict(case) for case in self.cases],
        }


def compare(answer: Answer, feed: Feed, examples: Examples) -> Comparison:
    """Return how a file's answers differ from its network's, batch by batch.

    Raises ExportError when a difference exceeds its bound or an answer is not finite.
    """
    exact = copy.deepcopy(feed.network).double()
    found = [_compared(answer, exact, feed, *batch) for batch in _batches(feed, examples)]
    # One network has one float32 error: batches of few answers would tell it by luck.
    own = max(UNIT, *(case.torch_error / case.largest for case in found if case.largest))
    cases = tuple(replace(case, bound=FACTOR * own * case.largest + case.bound) for case in found)
    for case in cases:
        if not case.passed:
            raise ExportError(
                f"the exported file is not the network: on {case.pictures} images of "
                f"{case.size[0]} x {case.size[1]} its logits are {case.error:.3g} off, and may be "
                f"{case.bound:.3g}",
                hint="it was not kept; the runtime or the exporter is at fault, another may do: "
                "see --to",
            )
    return Comparison(examples.source, cases)


def _batches(feed: Feed, examples: Examples) -> Iterator[tuple[str, Size, Pixels]]:
    counts = BATCHES if feed.plan.batch is None else (feed.plan.batch,)
    for number, size in enumerate(_sizes(feed.plan)):
        for count in counts:
            yield "generated", size, generated(count, feed.channels, size)
        real = list(examples.images[:FEW] if number else examples.images)
        most = max(1, _AT_ONCE // (size[0] * size[1]))
        for start in range(0, len(real), most):
            yield "real", size, feed.scaled(real[start : start + most], size)


def _sizes(plan: ExportPlan) -> list[Size]:
    """Return the sizes to check: what the file takes, or several of what it may meet."""
    if plan.size is not None:
        return [plan.size]
    height, width = plan.side
    if plan.form != "pictures":
        return [plan.side, (height + 32, width + 13)]
    assert plan.preprocess is not None
    side = plan.preprocess.resize
    smaller, larger = (2 * side + 5, 3 * side - 4), (side - 3, 2 * side // 3)  # than these, after
    return [(side, side), (side, side + 27), smaller, larger]


def _compared(
    answer: Answer, exact: ResNet, feed: Feed, pictures: str, size: Size, images: Pixels
) -> Case:
    """Return a batch's differences; its bound is yet only what one grey level changes, if any."""
    prepared = feed.to_network(images)
    resized = feed.plan.form == "pictures" and feed.preprocess.frame.resamples(*size)
    with torch.no_grad():
        ours = feed.network(prepared)
        oracle = _in_float64(exact, prepared)
        grey = 0.0
        if resized:
            other = _in_float64(exact, feed.one_level_off(prepared))
            grey = float((other - oracle).abs().max())
    if ours.isinf().any():
        raise ExportError(
            "the exported file is not the network for certain, whose own answers to "
            f"{pictures} images are infinite",
            hint="its weights are damaged, or its training has diverged",
        )
    try:
        theirs = torch.from_numpy(answer(feed.to_file(images)))
    except CheckpointError as error:
        raise ExportError(error.message, hint="another size, or another --to, may do") from None
    difference = (theirs - ours).abs().amax(1)
    return Case(
        pictures=pictures,
        batch=len(images),
        size=size,
        resized=resized,
        max_absolute=float(difference.max()),
        max_relative=float((difference / ours.abs().amax(1).clamp(min=UNIT)).max()),
        error=float((theirs - oracle).abs().max()),
        torch_error=float((ours - oracle).abs().max()),
        largest=float(oracle.abs().max()),
        agree=_agreeing(theirs, ours, feed.network),
        bound=grey,
    )


def decisive(logits: NDArray[np.float32], network: ResNet) -> NDArray[np.floating]:
    """Return logits (N, classes) as a network decides by them: calibrated, above its thresholds."""
    known = calibrated(logits, network.calibration)
    return above(known, network.thresholds) if network.thresholds else known


def _agreeing(one: Tensor, other: Tensor, network: ResNet) -> int:
    """Return for how many images two logits (N, classes) are the same answer."""
    first, second = (decisive(logits.numpy(), network) for logits in (one, other))
    if not network.thresholds:
        return int((first.argmax(1) == second.argmax(1)).sum())
    return int(((first >= 0) == (second >= 0)).all(1).sum())


def _in_float64(exact: ResNet, prepared: Tensor) -> Tensor:
    count = max(1, _AT_ONCE // 2 // prepared[0].numel())
    return torch.cat([exact(part.double()) for part in torch.split(prepared, count)])
