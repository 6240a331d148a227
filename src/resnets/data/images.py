"""How an image becomes pixels: one way, for training, evaluation and prediction alike.

What a file is, its content says, never its extension. Every mode has one defined way to 8 bits:

| mode of the file           | becomes                                                          |
|----------------------------|------------------------------------------------------------------|
| L, RGB                     | itself                                                           |
| 1, P, CMYK, YCCK, HSV      | RGB (Pillow's conversion; 1-bit is 0 or 255)                     |
| LA, PA, RGBA, or with tRNS | composited on white                                              |
| 16 bits, grey or colours   | a range to 0..255; without one 0..65535                          |
| 12 bits, grey              | a range to 0..255; without one 0..4095                           |
| I (32 bits)                | as 16 bits; values beyond these need a range                     |
| F (floats)                 | a range to 0..255; without one 0..1, and values beyond need one  |

A range is the data set's, never one image's (`resnets.data.depth`). AVIF and PPM of more than 8
bits state their own, by which Pillow makes them 8. An animation or a file of several pages is its
first frame. Metadata other than the orientation change no pixel and are not looked at
(`resnets.data.streams`).
"""

import io
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from PIL import Image

from resnets.data.decoders import Box, decode_jpeg, decoders
from resnets.data.depth import Deep, Extent, Range, Scale, load_deep
from resnets.data.headers import TURNED, Header, check_size, identified, orientation_of, told
from resnets.data.quiet import quieten_libtiff
from resnets.data.streams import JPEG, PNG, has_all_scans, jpeg_endings, jpeg_rests, png_pixels
from resnets.errors import UsageError
from resnets.formatting import printable as printable
from resnets.readers.paths import open_regular

MODES = {1: "L", 3: "RGB"}
_MOST = 64 << 20  # bytes of a JPEG that are held in memory
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Stored:
    """An image that is no file of its own, but lies in a pack, a tar or Parquet."""

    source: str  # the archive, or several, as they were named
    name: str  # as in a folder of the images
    open: Callable[[], BinaryIO]  # raises OSError
    size: int
    stamp: int  # another number when the content may be another

    def __str__(self) -> str:
        return f"{self.source}/{self.name}"


@dataclass(frozen=True)
class Decoded:
    """A whole image, before its pixels become 8 bits in a number of channels."""

    name: str
    pixels: Image.Image | Deep
    orientation: int  # as EXIF has it

    @property
    def extent(self) -> Extent | None:
        """What the values of an image of more than 8 bits span; None of 8 bits.

        Raises ImageError for NaN and infinity.
        """
        with told(self.name):
            return self.pixels.extent if isinstance(self.pixels, Deep) else None

    def image(self, channels: int, scale: Scale = "container") -> Image.Image:
        """Return the upright image in mode "L" (1 channel) or "RGB" (3 channels).

        ``scale`` says which values of more than 8 bits become black and white. Raises ImageError
        where nothing does.
        """
        with told(self.name):
            image = self.pixels.to_8_bits(scale) if isinstance(self.pixels, Deep) else self.pixels
            if self.orientation in _UPRIGHT:
                image = image.transpose(_UPRIGHT[self.orientation])
            return _convert(image, MODES[channels])


def decode(
    source: Path | Stored | Image.Image,
    channels: int,
    scale: Scale = "container",
    *,
    truncated: bool = False,
) -> Image.Image:
    """Return the upright image in mode "L" (1 channel) or "RGB" (3 channels).

    ``scale`` says which values of more than 8 bits become black and white: a range (low, high),
    beyond which they are clipped, as a UserWarning says once, or all that the file's kind of number
    holds. With ``truncated`` a JPEG or PNG that has lost its end is what is left of it, and grey or
    black. Raises ImageError, a DataError, for anything else that is not a whole image of at most
    MAX_PIXELS, and UsageError for another number of channels.
    """
    if channels not in MODES:
        raise UsageError(f"images have 1 or 3 channels, not {channels}")
    whole = read_image(source, all_bits=isinstance(scale, tuple), truncated=truncated)
    if isinstance(scale, tuple) and (extent := whole.extent) and extent.exceeds(scale):
        _warn_of_clipping(scale)
    return whole.image(channels, scale)


@cache
def _warn_of_clipping(scale: Range) -> None:
    """Say it once, whatever the filters of warnings: decoding resets what these remember."""
    low, high = scale
    warnings.warn(
        f"there are images with values beyond {low:g} to {high:g}, the range of the model's "
        "images, which are clipped",
        stacklevel=2,
    )


def read_image(
    source: Path | Stored | Image.Image,
    *,
    all_bits: bool = True,
    truncated: bool = False,
) -> Decoded:
    """Return an image of any number of bits. Raises as `decode` does.

    Without ``all_bits`` colours of 16 bits are the upper 8 of them, which is faster.
    """
    if isinstance(source, Image.Image):
        name = printable(getattr(source, "filename", "")) or "the image"
        with told(name):
            return _loaded(source, name, all_bits)
    name = printable(str(source))
    with told(name), opened(source) as file:
        return read_file(file, name, all_bits=all_bits, truncated=truncated)


def opened(source: Path | Stored) -> BinaryIO:
    """Return an image's encoded bytes as an open file. Raises OSError."""
    return source.open() if isinstance(source, Stored) else open_regular(source)


def read_file(
    file: BinaryIO, name: str, *, all_bits: bool = True, truncated: bool = False
) -> Decoded:
    """Return the image in an open file, as `read_image` does; ``name`` is for messages."""
    with told(name):
        file.seek(0)
        start = file.read(len(PNG))
        if start == PNG:
            return _loaded(identified(png_pixels(file, truncated=truncated), name), name, all_bits)
        try:
            return _loaded(identified(file, name), name, all_bits, _bytes_of(file, start))
        except Exception:
            if not start.startswith(JPEG):
                raise
            found = _beginning(file, name) if truncated else _without_end_mark(file, name)
            if found is None:
                raise
            return found


def _without_end_mark(file: BinaryIO, name: str) -> Decoded | None:
    """Return the image of a JPEG of which only the end mark is missing; None of others."""
    if not has_all_scans(file):
        return None
    with suppress(Exception):
        found = [_loaded(identified(part, name), name, False) for part in jpeg_endings(file)]
        first, *others = (np.asarray(image.pixels) for image in found)
        if all(np.array_equal(first, other) for other in others):
            return found[0]
    return None


def _beginning(file: BinaryIO, name: str) -> Decoded | None:
    """Return what there is of a JPEG that has lost its end; None where that is no image."""
    for part in jpeg_rests(file):
        with suppress(Exception):
            return _loaded(identified(part, name), name, False)
    return None


def jpeg_part(
    header: Header, data: bytes, name: str, box: Box, channels: int
) -> Image.Image | None:
    """Return what `decode` gives in a box of a JPEG, of which no more is decoded than has to be.

    ``header`` is that of ``data``. None where the whole has to be, by Pillow. Raises ImageError.
    """
    turned, image = header.orientation, header.image
    with told(name):
        found = decode_jpeg(image, data, _as_stored(box, turned, *image.size))
    return None if found is None else Decoded(name, from_pixels(found), turned).image(channels)


def _as_stored(box: Box, orientation: int, width: int, height: int) -> Box:
    """Return where a box of the upright image lies in what is stored, width x height."""
    left, top, right, bottom = box
    if orientation in TURNED:
        left, top, right, bottom = top, left, bottom, right
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


def from_pixels(values: NDArray[np.uint8]) -> Image.Image:
    """Return pixels, uint8 (H, W, 1 or 3), as an image in mode "L" or "RGB"."""
    height, width, channels = values.shape
    row, *inner = values.strides
    if not values.size or row < 0 or inner != [channels, 1]:
        return Image.fromarray(values.squeeze(2) if channels == 1 else values)
    # Pillow skips what lies beside a window by itself, for which `fromarray` would copy it first.
    flat = as_strided(values, ((height - 1) * row + width * channels,), (1,), writeable=False)
    mode = MODES[channels]
    return Image.frombytes(mode, (width, height), flat, "raw", mode, row)


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an image in mode "L" or "RGB" as uint8 (H, W, C)."""
    values = np.asarray(image, dtype=np.uint8)
    return values.reshape(image.height, image.width, -1)


def _loaded(
    image: Image.Image, name: str, all_bits: bool, data: bytes | memoryview | None = None
) -> Decoded:
    """Decode the pixels, after a look at the size that the header states.

    ``data`` are the bytes of a JPEG, which others may decode to Pillow's pixels.
    """
    check_size(image, name)
    if data is not None and (decoded := decode_jpeg(image, data)) is not None:
        return Decoded(name, from_pixels(decoded), orientation_of(image))
    if image.format == "TIFF":
        quieten_libtiff()
    deep = load_deep(image, all_bits=all_bits)
    image.load()
    # The orientation after load(), which turns TIFF files by itself.
    return Decoded(name, image if deep is None else deep, orientation_of(image))


def _bytes_of(file: BinaryIO, start: bytes) -> bytes | memoryview | None:
    """Return all bytes of a JPEG that is not too large to be held twice; None of other files."""
    if not start.startswith(JPEG) or not decoders():
        return None
    if isinstance(file, io.BytesIO):
        return file.getbuffer()
    file.seek(0)
    data = file.read(_MOST + 1)
    return data if len(data) <= _MOST else None


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image if image.mode == "RGBA" else image.convert("RGBA")  # which would copy
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)  # which would copy
