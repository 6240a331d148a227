"""Images of more than 8 bits: what their values span, and how they become 8 bits.

The same value is the same grey in every image of a data set, so the range that becomes 0..255
belongs to the data set. It is given or measured once, never taken from a single image.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from resnets.formatting import plural

Range = tuple[float, float]  # the values that become black and white
# "container": all that the file's kind of number holds, 0..65535, 0..4095 of 12 bits, or 0..1 of
# floats. "own": as
# earlier versions did, where the values exceed that, the image's own range. "unknown": nobody has
# looked which values there are, and none is shown.
Scale = Range | Literal["container", "own", "unknown"]

_ROWS = 64  # that are scaled at a time: doubles of a whole image would be a gigabyte
_BITS = (8, 10, 12, 14, 16)
# Pillow unpacks the upper byte of each 16 bits of a colour. Under the name of the other order of
# bytes it unpacks the lower one.
_OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_COLOURS = ("RGB", "RGBX", "RGBA", "CMYK")
_GREY_WITH_ALPHA = "LA;16B"  # in a PNG; 4 bytes that are the bands of "RGBA" one by one
_BITS_PER_SAMPLE, _PLANES, _APART = 258, 284, 2  # TIFF 6.0, sec. 8: PlanarConfiguration 2


@dataclass(frozen=True)
class Extent:
    """The smallest and the largest value of an image of more than 8 bits, or of several."""

    low: float
    high: float
    bits: int  # of the numbers in the file: 12, 16 or 32; 0 where they are floats

    def __or__(self, other: "Extent") -> "Extent":
        """Return the extent of both."""
        bits = max(self.bits, other.bits) if self.bits and other.bits else 0
        return Extent(min(self.low, other.low), max(self.high, other.high), bits)

    @property
    def used(self) -> int | None:
        """The fewest of 8, 10, 12, 14 and 16 bits that hold all values; None where these do not."""
        if not self.bits or self.low < 0:
            return None
        return next((bits for bits in _BITS if self.high < 2**bits), None)

    @property
    def range(self) -> Range:
        """What becomes black and white: all that ``used`` bits hold, floats in 0..1, or itself."""
        if self.used:
            return 0.0, 2.0**self.used - 1
        if not self.bits and self.low >= 0 and self.high <= 1:
            return 0.0, 1.0
        return self.low, self.high if self.high > self.low else self.low + 1

    def exceeds(self, range: Range) -> bool:
        """Whether values lie beyond a range, which are then clipped."""
        return self.low < range[0] or self.high > range[1]

    def __str__(self) -> str:
        values = f"{self.low:g} to {self.high:g}"
        if self.used:
            return f"{self.used} of {self.bits} bits used ({values})"
        return f"{f'{self.bits}-bit numbers' if self.bits else 'floats'} from {values}"


class RangeError(ValueError):
    """Values that exceed what their kind of number stands for, without a range for them."""

    def __init__(self, message: str, extent: Extent) -> None:
        super().__init__(message)
        low, high = extent.range
        self.setting = f'--set "data.range=[{low:.10g},{high:.10g}]"'  # one that holds them


def union(extents: Iterable[Extent]) -> Extent | None:
    """Return the extent of several images; None of none."""
    found = [*extents]
    return reduce(or_, found) if found else None


def together(extents: Iterable[Extent]) -> Extent | None:
    """Return the extent of several images that are to have one range; None of none.

    Raises RangeError where some hold floats in 0..1 and others whole numbers beyond: they have no
    range in common.
    """
    found = list(extents)
    whole = union(extent for extent in found if extent.bits)
    floats = union(extent for extent in found if not extent.bits)
    if whole is None or floats is None:
        return whole or floats
    if floats.range == (0.0, 1.0) and whole.high > 1:
        raise RangeError(
            f"some hold floats from {floats.low:g} to {floats.high:g}, others whole numbers from "
            f"{whole.low:g} to {whole.high:g}",
            whole,
        )
    return whole | floats


@dataclass(frozen=True)
class Deep:
    """The values of an image of more than 8 bits."""

    values: NDArray[Any]  # (H, W), or (H, W, C) of the colours of ``mode``
    mode: str  # "L", "RGB" or "CMYK": of the values
    bits: int  # as in Extent
    alpha: NDArray[np.uint8] | None = None  # (H, W), of 0..255

    @property
    def extent(self) -> Extent:
        """The smallest and the largest value; raises ValueError for NaN and infinity."""
        low, high = float(self.values.min()), float(self.values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("it holds pixels that are not a number or infinite")
        return Extent(low, high, self.bits)

    def to_8_bits(self, scale: Scale) -> Image.Image:
        """Return the image with its values scaled to 0..255, clipped and rounded.

        Raises ValueError for NaN and infinity, and RangeError where the values exceed the container
        and no range is given.
        """
        extent = self.extent
        low, high = scale if isinstance(scale, tuple) else _known(extent, scale)
        height, width = self.values.shape[:2]
        levels = np.empty(self.values.shape, np.uint8)
        for top in range(0, height, _ROWS):
            part = self.values[top : top + _ROWS].astype(np.float64)
            scaled = (part - low) * 255 / ((high - low) or 1)
            levels[top : top + _ROWS] = np.rint(scaled).clip(0, 255)
        image = Image.frombytes(self.mode, (width, height), levels.tobytes())
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image


def _known(extent: Extent, scale: Scale) -> Range:
    top = 65535.0 if extent.bits else 1.0
    if extent.bits == 12 and scale == "container":  # earlier versions took them for 16
        top = 4095.0
    if scale != "unknown" and extent.low >= 0 and extent.high <= top:
        return 0.0, top
    if scale == "own":
        return extent.low, extent.high
    raise RangeError(
        f"its values go from {extent.low:g} to {extent.high:g}, and nothing says which of them is "
        "black and which white",
        extent,
    )


@dataclass(frozen=True)
class Depth:
    """The images of more than 8 bits in a data set."""

    pictures: int
    extent: Extent  # of all of them
    scale: Scale  # which of their values become black and white
    clipped: int  # images with values beyond

    def __str__(self) -> str:
        words = f"{plural(self.pictures, 'image')} of more than 8 bits: {self.extent}"
        if isinstance(self.scale, tuple):
            words += f"; {self.scale[0]:g} becomes black, {self.scale[1]:g} white"
        if self.clipped:
            words += f"; in {plural(self.clipped, 'image')} values beyond are clipped"
        return words


def raw_16_bits(image: Image.Image) -> str | None:
    """Return how the pixels of a file that is open are packed, where colours have 16 bits each."""
    for tile in getattr(image, "tile", ()):
        packed = tile[3] if isinstance(tile[3], str) else str(tile[3][0]) if tile[3] else ""
        if image.mode in _COLOURS and packed.partition(";")[2].startswith("16"):
            return packed
    return None


def load_deep(image: Image.Image, *, all_bits: bool = True) -> Deep | None:
    """Load an image with all of its bits; None where it has 8, and is not loaded then.

    Without ``all_bits`` only grey ones, which need no second look at the file. Raises ValueError
    where a colour's 16 bits cannot be had.
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F" or image.mode.startswith("I"):
        bits = 0 if image.mode == "F" else 16 if image.mode.startswith("I;16") else 32
        if tags.get(_BITS_PER_SAMPLE) == (12,):
            bits = 12
        image.load()
        return Deep(np.asarray(image), "L", bits)
    apart = tags.get(_PLANES) == _APART and 16 in tags.get(_BITS_PER_SAMPLE, ())
    if apart and image.tile[0][0] == "raw":  # type: ignore[attr-defined]
        raise ValueError("colours of 16 bits, in planes and not compressed, cannot be read")
    packed = raw_16_bits(image) if all_bits else None
    if packed is None:
        return None
    if packed == _GREY_WITH_ALPHA:
        grey, lower, alpha, _ = _bands(_reopened(image, packed, "RGBA"))
        return Deep(_joined(grey, lower), "L", 16, alpha)
    colours, byte_order = packed.partition(";")[0], packed[-1]
    if colours not in _COLOURS or byte_order not in _OTHER or apart:
        raise ValueError(f"only 8 of the 16 bits of its colours can be read ({packed})")
    low = _bands(_reopened(image, packed, f"{colours};16{_OTHER[byte_order]}"))
    image.load()
    values = [_joined(*pair) for pair in zip(_bands(image), low, strict=True)]
    mode = "CMYK" if image.mode == "CMYK" else "RGB"
    opaque = None if image.mode != "RGBA" else _bands(image)[3]
    return Deep(np.stack(values[: len(mode)], 2), mode, 16, opaque)


def _reopened(image: Image.Image, packed: str, other: str) -> Image.Image:
    """Return the image of a file that is open, loaded as if its pixels were packed otherwise."""
    file = image.fp  # type: ignore[attr-defined]
    file.seek(0)
    again = Image.open(file, formats=[str(image.format)])
    assert isinstance(again, ImageFile.ImageFile)
    again.tile = [_repacked(tile, packed, other) for tile in again.tile]
    again.load()
    return again


def _repacked(tile: Any, packed: str, other: str) -> Any:
    arguments = other if tile[3] == packed else (other, *tile[3][1:])
    return tile._replace(args=arguments)


def _bands(image: Image.Image) -> list[NDArray[np.uint8]]:
    return [np.asarray(band) for band in image.split()]


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return high.astype(np.uint16) << np.uint16(8) | low.astype(np.uint16)
