"""Which square of an image a network sees: the middle, the whole beside black, or squashed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.errors import UsageError, check_name

INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FITS = ("crop", "pad", "squash")
LOSES = 1 / 3  # of its area, from where an image's crop is told

_STRIP = {1: 64, 2: 8}  # cuts: a side beyond this many times the other is cut before it is scaled


@dataclass(frozen=True)
class Frame:
    """How an image becomes a square of ``side`` pixels, as data sets store it.

    - "crop": the shorter side is scaled to ``side``, and the square is cut so that its own middle
      ``size`` x ``size`` are the pixels of torchvision's Resize(side) and CenterCrop(size);
    - "pad": the longer side is scaled to ``side``, with as much black on either side of the other;
    - "squash": both sides are scaled to ``side``.

    Scaling is antialiased; an image that has the right size is not resampled.
    """

    side: int
    size: int
    fit: str = "crop"
    interpolation: str = "bilinear"  # or "bicubic"
    cuts: int = 1  # 2: the middle of the image, then the middle of that, rounded each time

    def __post_init__(self) -> None:
        for word, words, what in (
            (self.interpolation, tuple(INTERPOLATION), "interpolation"),
            (self.fit, FITS, "fit"),
        ):
            check_name(what, word, words)
        if self.size > self.side:
            raise UsageError(
                f"a crop of {self.size} does not fit in images of {self.side}",
                hint="resize must be at least size",
            )
        if self.fit != "crop" and self.size != self.side:
            raise UsageError(
                f"{self.fit} shows whole images, and the middle {self.size} of {self.side} is less",
                hint="resize and size must be equal, or fit be crop",
            )

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the square, ``side`` x ``side``, of an image."""
        return self.cut(self.scaled(image))

    def scaled(self, image: Image.Image) -> Image.Image:
        """Return an image scaled, of which `cut` returns the square; whole, if it is no strip."""
        if self.fit == "squash":
            return self._in_turn(image, self.side, self.side)
        if self.fit == "pad":
            return self._padded(image)
        # Only the middle stays, so the ends of a strip are cut before they are scaled: 65500 x 1
        # would otherwise pass through an image of 256 rows of 17 million pixels.
        image = _middle(image, self.strip * min(image.size))
        return self._scaled(image, self.scaled_size(*image.size))

    def scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) of what `scaled` makes of an image."""
        if self.fit != "crop":
            return self.side, self.side
        shorter = min(width, height)
        width, height = (min(n, self.strip * shorter) for n in (width, height))
        return self.side * width // shorter, self.side * height // shorter

    def cut(self, image: Image.Image) -> Image.Image:
        """Return the square of an image that is scaled."""
        if self.fit != "crop":
            return image
        left, top = self._start(image.width), self._start(image.height)
        return image.crop((left, top, left + self.side, top + self.side))

    @property
    def strip(self) -> int:
        """How many times the shorter side the longer may be before its ends are cut first."""
        return _STRIP[self.cuts]

    @property
    def middle(self) -> slice:
        """The rows, and the columns, of a square that a network sees."""
        start = half(self.side - self.size)
        return slice(start, start + self.size)

    def resamples(self, width: int, height: int) -> bool:
        """Whether an image of this size has to be scaled."""
        shown = {"crop": {min(width, height)}, "pad": {max(width, height)}}
        return shown.get(self.fit, {width, height}) != {self.side}

    def seen(self, width: int, height: int) -> float:
        """Return the part of an image's area that a network sees."""
        if self.fit != "crop":
            return 1.0
        return min(width, height) / max(width, height) * (self.size / self.side) ** 2

    def _start(self, length: int) -> int:
        """Return where the square begins in a scaled side of ``length`` pixels."""
        if self.cuts == 2:
            return half(length - self.side)
        return half(length - self.size) - half(self.side - self.size)

    def _padded(self, image: Image.Image) -> Image.Image:
        longer = max(image.size)
        width, height = (max(1, (2 * self.side * n + longer) // (2 * longer)) for n in image.size)
        image = self._in_turn(image, width, height)
        if image.size == (self.side, self.side):
            return image
        square = Image.new(image.mode, (self.side, self.side))
        square.paste(image, ((self.side - width) // 2, (self.side - height) // 2))
        return square

    def _in_turn(self, image: Image.Image, width: int, height: int) -> Image.Image:
        """Return an image scaled, each row first: Pillow's order depends on its version."""
        return self._scaled(self._scaled(image, (width, image.height)), (width, height))

    def _scaled(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        if size == image.size:
            return image
        return image.resize(size, INTERPOLATION[self.interpolation])


def count_cropped(sizes: NDArray[np.int64]) -> int:
    """Return how many images, by their sides (N, 2), lose more than LOSES to their middle."""
    return int((sizes.min(1) < (1 - LOSES) * sizes.max(1)).sum())


def half(length: int) -> int:
    """Return half of a length, rounded to even as Python does, and torchvision's CenterCrop."""
    return round(length / 2)


def _middle(image: Image.Image, side: int) -> Image.Image:
    """Return the centre of an image, no side longer than ``side``."""
    width, height = (min(side, n) for n in image.size)
    if (width, height) == image.size:
        return image
    left, top = half(image.width - width), half(image.height - height)
    return image.crop((left, top, left + width, top + height))
