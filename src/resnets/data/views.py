"""Random crops of whole photographs: a window of the original, scaled once, mirrored, changed.

Where a window lies is `resnets.data.augment`'s function of (seed, epoch, id) and of the image's
sides; what it becomes is Pillow's arithmetic.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnets.data import counter
from resnets.data.augment import Augment
from resnets.data.decoders import Box
from resnets.data.framing import INTERPOLATION
from resnets.data.images import from_pixels, pixels
from resnets.data.operations import Drawn

# What a crop is cut from: `part` returns the pixels in a box. An image may be decoded for that.
Part = Callable[[Box], Image.Image]
Cut = Callable[[Part], Image.Image]

_REACH = {"bilinear": 1, "bicubic": 2}  # pixels, of the larger scale, on each side of a sample


@dataclass(frozen=True)
class Crops:
    """The random crops of an epoch, all of one size.

    Padded ones are cut from images whose shorter side is scaled already; ``area`` and ``scale`` of
    the augmentation choose windows of images as they are. Equal to torchvision's Resize, Pad and
    RandomCrop of PIL images, or its RandomResizedCrop, to the bit.
    """

    augment: Augment
    epoch: int
    size: int
    interpolation: str = "bilinear"  # or "bicubic", or either at "random"

    def of(self, ids: Tensor, height: Tensor, width: Tensor) -> list[Cut]:
        """Return what cuts each of some images with these ids and sides, all int64 (N,)."""
        augment = self.augment
        ways = [self.interpolation] * len(ids)
        if self.interpolation == "random":
            chosen = counter.integers(2, augment.seed, "interpolation", self.epoch, ids)
            ways = [("bilinear", "bicubic")[number] for number in chosen.tolist()]
        if windows := augment.windows((height, width), ids, self.epoch):
            rows = zip(_rows(*windows, height, width), ways, strict=True)
            cuts: list[Cut] = [self._window(way, *row) for row, way in rows]
        else:
            padding = 2 * augment.padding
            corners = augment.corner((height + padding, width + padding), ids, self.epoch)
            rows = zip(_rows(*corners, height, width), ways, strict=True)
            cuts = [self._padded(way, *row) for row, way in rows]
        flipped = augment.flipped(ids, self.epoch).tolist()
        drawn: Sequence[Drawn] = [()] * len(ids)
        if augment.policy:
            drawn = augment.policy.draw(ids, self.epoch, self.size)
        return [partial(self._changed, *each) for each in zip(cuts, flipped, drawn, strict=True)]

    def _changed(self, cut: Cut, mirrored: bool, drawn: Drawn, part: Part) -> Image.Image:
        """Return what is cut, mirrored and after the operations drawn for it."""
        found = cut(part)
        if mirrored:
            found = found.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if drawn and self.augment.policy:
            found = self.augment.policy.apply(found, drawn)
        return found

    def _window(
        self,
        interpolation: str,
        top: float,
        left: float,
        high: float,
        wide: float,
        height: int,
        width: int,
    ) -> Cut:
        size, resample = (self.size, self.size), INTERPOLATION[interpolation]
        right, bottom = min(left + wide, width), min(top + high, height)
        if self.augment.area:  # whole pixels, and nothing beyond them is looked at
            box = (int(left), int(top), int(right), int(bottom))

            def cut(part: Part) -> Image.Image:
                window = part(box)
                return window if window.size == size else window.resize(size, resample)

            return cut
        reach = _REACH[interpolation] * max(1.0, high / self.size, wide / self.size) + 1
        around = (
            max(0, floor(left - reach)),
            max(0, floor(top - reach)),
            min(width, ceil(right + reach)),
            min(height, ceil(bottom + reach)),
        )
        inside = (left - around[0], top - around[1], right - around[0], bottom - around[1])
        return lambda part: part(around).resize(size, resample, box=inside)

    def _padded(self, interpolation: str, top: int, left: int, height: int, width: int) -> Cut:
        augment = self.augment
        rows, columns = (self._indices(*at) for at in ((top, height), (left, width)))
        seen = [n[n >= 0] for n in (rows, columns)]
        if not all(map(len, seen)):  # padding alone
            seen = [np.arange(1), np.arange(1)]
        (y, bottom), (x, right) = ((n.min(), n.max() + 1) for n in seen)

        def cut(part: Part) -> Image.Image:
            found = pixels(part((int(x), int(y), int(right), int(bottom))))
            if found.shape[:2] != (augment.size, augment.size):
                there = (rows >= 0)[:, None, None] & (columns >= 0)[:, None]
                mirrored = found[np.clip(rows - y, 0, None)[:, None], np.clip(columns - x, 0, None)]
                found = np.where(there, mirrored, np.array(augment.fill, np.uint8))
            image, size = from_pixels(found), (self.size, self.size)
            return image if image.size == size else image.resize(size, INTERPOLATION[interpolation])

        return cut

    def _indices(self, start: int, length: int) -> NDArray[np.int64]:
        """Return which pixels of a side a padded crop shows; -1 where it shows the fill."""
        index = np.arange(start, start + self.augment.size) - self.augment.padding
        if self.augment.reflect:
            index = np.abs(index)
            return np.where(index < length, index, 2 * (length - 1) - index)
        return np.where((index >= 0) & (index < length), index, -1)


def _rows(*columns: Tensor) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.tolist() for column in columns), strict=True)
