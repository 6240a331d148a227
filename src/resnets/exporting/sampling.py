"""Which images an 8-bit export is calibrated on, searched with and judged by: never the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from resnets.data import counter
from resnets.data.dataset import Dataset, Split
from resnets.data.holdout import divide
from resnets.errors import DataError, UsageError
from resnets.exporting.raw_pixels import Feed
from resnets.formatting import plural
from resnets.nn import ResNet

CALIBRATION = 512  # training images to choose 8-bit ranges by
SEARCH = 2048  # other training images, to decide by which layers stay in float
SEED = 0
_PIXELS = 2**16  # of a batch; what a network computes of them takes a thousand times their bytes


@dataclass(frozen=True)
class Samples:
    """Three sets of labelled images that share none, but where there are only two."""

    data: str  # the data set's name
    fingerprint: str
    calibration: Split
    search: Split
    test: Split
    part: str  # what the last are: "test", "validation", or, without these, "search"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able account of them."""
        return {
            "data": self.data,
            "fingerprint": self.fingerprint,
            "seed": SEED,
            "calibration": len(self.calibration),
            "search": len(self.search),
            "test_part": self.part,
            "test": len(self.test),
        }


def choose_samples(
    network: ResNet, dataset: Dataset, made: dict[str, Any], batch: int | None = None
) -> Samples:
    """Return samples of a data set; in the network's own, the parts are those of its training.

    Raises DataError when its classes are not the network's, and UsageError when they do not fill a
    ``batch``.
    """
    same = dataset.classes == network.classes or not network.classes
    if not same or len(dataset.classes) != network.spec.num_classes:
        theirs = ", ".join(network.classes[:8]) or f"{network.spec.num_classes} without names"
        raise DataError(
            f"{dataset.name}: its classes are {', '.join(dataset.classes[:8])}, the network's are "
            f"{theirs}",
            hint="give the data that it was trained on",
        )
    if own := dataset.known_as(made.get("data", {}).get("fingerprint", "")):
        how = made["recipe"]["data"]
        dataset = divide(own, how["holdout"], how["split_seed"])
    train = dataset.train
    order = torch.argsort(counter.bits(SEED, "calibration", 0, train.ids), stable=True)
    first = min(CALIBRATION, len(train) // 2)
    search = train.subset(order[first : first + SEARCH])
    held = [(name, dataset.parts[name]) for name in ("test", "validation") if name in dataset.parts]
    part, test = held[0] if held else ("search", search)
    calibration = train.subset(order[:first])
    if batch and batch > len(calibration):
        raise UsageError(
            f"a batch of {batch:,} is more than the {plural(len(calibration), 'image')} that "
            "8-bit ranges are chosen on",
            hint="give a smaller --batch",
        )
    return Samples(dataset.name, dataset.fingerprint, calibration, search, test, part)


def batches(split: Split, feed: Feed, count: int | None = None) -> Iterator[NDArray[Any]]:
    """Yield a split's images, not augmented, as a file takes them: ``count`` at once or fewer."""
    height, width = feed.plan.size or split.images.shape[1:]
    count = count or feed.plan.batch or max(1, _PIXELS // (height * width))
    for images, _ in split.batches(count):
        yield feed.to_file(feed.stored(images))


def whole_batches(split: Split, feed: Feed, count: int | None = None) -> Iterator[NDArray[Any]]:
    """Yield the same without a last batch that is smaller than a file may need."""
    for images in batches(split, feed, count):
        if len(images) == (feed.plan.batch or len(images)):
            yield images
