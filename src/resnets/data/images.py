"""How an image becomes pixels: one way, for training, evaluation and prediction alike.

What a file is, its content says, never its extension. Every mode has one defined way to 8 bits:

| mode of the file           | becomes                                                          |
|----------------------------|------------------------------------------------------------------|
| L, RGB                     | itself                                                           |
| 1, P, CMYK, YCCK, HSV      | RGB (Pillow's conversion; 1-bit is 0 or 255)                     |
| LA, PA, RGBA, or with tRNS | composited on white                                              |
| 16 bits, grey or colours   | a range to 0..255; without one 0..65535                          |
| I (32 bits)                | as 16 bits; values beyond these need a range                     |
| F (floats)                 | a range to 0..255; without one 0..1, and values beyond need one  |

A range is the data set's, never one image's (`resnets.data.depth`). AVIF and PPM of more than 8
bits state their own, by which Pillow makes them 8. An animation or a file of several pages is its
first frame. Metadata other than the orientation change no pixel and are not looked at
(`resnets.data.streams`).
"""

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from resnets.data.decoders import Box, decode_jpeg, decoders
from resnets.data.depth import Deep, Extent, RangeError, Scale, load_deep, raw_16_bits
from resnets.data.quiet import QUIET, quieten_libtiff
from resnets.data.streams import JPEG, PNG, has_all_scans, jpeg_endings, jpeg_rests, png_pixels
from resnets.errors import DataError, UsageError
from resnets.formatting import printable as printable
from resnets.readers.paths import open_regular

# Only these: Pillow would also hand EPS files to Ghostscript, a program that runs what it reads.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 64_000_000

MODES = {1: "L", 3: "RGB"}
_MOST = 64 << 20  # bytes of a JPEG that are held in memory
_ORIENTATION = 0x0112  # EXIF 2.3, sec. 4.6.4
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)  # of these, by which width and height change places
_KINDS = (
    (b"\xff\xd8\xff", "is a JPEG with a damaged header"),
    (b"\x89PNG", "is a PNG with a damaged header"),
    (b"%PDF", "is a PDF document, not an image"),
    (b"<svg", "is an SVG drawing, not an image of pixels"),
    (b"%!PS", "is a PostScript program, not an image"),
    (b"PAR1", "is a Parquet file, which `resnets data unpack` makes a folder of images"),
)


class ImageError(DataError):
    """An image that cannot be decoded; ``reason`` is the message without the file's name."""

    def __init__(self, name: str, reason: str, *, hint: str) -> None:
        super().__init__(f"{name}: {reason}", hint=hint)
        self.reason = reason


class ImageTooLargeError(ImageError):
    """An image of more than MAX_PIXELS."""


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
    source: Path | Image.Image,
    channels: int,
    scale: Scale = "container",
    *,
    truncated: bool = False,
) -> Image.Image:
    """Return the upright image in mode "L" (1 channel) or "RGB" (3 channels).

    ``scale`` says which values of more than 8 bits become black and white: a range (low, high),
    beyond which they are clipped, or all that the file's kind of number holds. With ``truncated`` a
    JPEG or PNG that has lost its end is what is left of it, and grey or black. Raises ImageError,
    a DataError, for anything else that is not a whole image of at most MAX_PIXELS, and UsageError
    for another number of channels.
    """
    if channels not in MODES:
        raise UsageError(f"images have 1 or 3 channels, not {channels}")
    whole = read_image(source, all_bits=isinstance(scale, tuple), truncated=truncated)
    return whole.image(channels, scale)


def read_image(
    source: Path | Image.Image,
    *,
    all_bits: bool = True,
    truncated: bool = False,
    look: Callable[[BinaryIO], None] = lambda file: None,
) -> Decoded:
    """Return an image of any number of bits. Raises as `decode` does.

    Without ``all_bits`` colours of 16 bits are the upper 8 of them, which is faster. ``look`` sees
    an open file first, at its start.
    """
    if isinstance(source, Image.Image):
        name = printable(getattr(source, "filename", "")) or "the image"
        with told(name):
            return _loaded(source, name, all_bits)
    name = printable(source)
    with told(name), open_regular(source) as file:
        look(file)
        return read_file(file, name, all_bits=all_bits, truncated=truncated)


def read_file(
    file: BinaryIO, name: str, *, all_bits: bool = True, truncated: bool = False
) -> Decoded:
    """Return the image in an open file, as `read_image` does; ``name`` is for messages."""
    with told(name):
        file.seek(0)
        start = file.read(len(PNG))
        if start == PNG:
            return _loaded(_identified(png_pixels(file, truncated=truncated), name), name, all_bits)
        try:
            return _loaded(_identified(file, name), name, all_bits, _bytes_of(file, start))
        except Exception:
            if not start.startswith(JPEG):
                raise
            found = _beginning(file, name) if truncated else _without_end_mark(file, name)
            if found is None:
                raise
            return found


def upright_size(file: BinaryIO, name: str) -> tuple[int, int]:
    """Return the (width, height) that an image has when it is decoded; only its header is read.

    Raises ImageError.
    """
    with told(name):
        image = _identified(file, name)
        width, height = image.size
        return (height, width) if _orientation(image) in _TURNED else (width, height)


def _without_end_mark(file: BinaryIO, name: str) -> Decoded | None:
    """Return the image of a JPEG of which only the end mark is missing; None of others."""
    if not has_all_scans(file):
        return None
    with suppress(Exception):
        found = [_loaded(_identified(part, name), name, False) for part in jpeg_endings(file)]
        first, *others = (np.asarray(image.pixels) for image in found)
        if all(np.array_equal(first, other) for other in others):
            return found[0]
    return None


def _beginning(file: BinaryIO, name: str) -> Decoded | None:
    """Return what there is of a JPEG that has lost its end; None where that is no image."""
    for part in jpeg_rests(file):
        with suppress(Exception):
            return _loaded(_identified(part, name), name, False)
    return None


def is_image(source: Path | Callable[[], BinaryIO]) -> bool:
    """Tell by content whether a file is in a known image format; its pixels are not looked at.

    What is no path opens it. A file that cannot be opened may be one, so it counts as one.
    """
    try:
        with open_regular(source) if isinstance(source, Path) else source() as file, QUIET:
            if file.read(len(PNG)) == PNG:
                return file.read(8)[4:] == b"IHDR"
            _identified(file, "")
    except ImageTooLargeError:
        return True
    except OSError as error:
        return error.errno is not None
    except Exception:  # as in decode()
        return False
    return True


def jpeg_part(data: bytes, name: str, box: Box, channels: int) -> Image.Image | None:
    """Return what `decode` gives in a box of a JPEG, of which no more is decoded than has to be.

    None where the whole has to be, by Pillow. Raises ImageError.
    """
    if not decoders():
        return None
    with told(name):
        image = _identified(io.BytesIO(data), name)
        _check_size(image, name)
        orientation = _orientation(image)
        found = decode_jpeg(image, data, _as_stored(box, orientation, *image.size))
    return None if found is None else Decoded(name, from_pixels(found), orientation).image(channels)


def _as_stored(box: Box, orientation: int, width: int, height: int) -> Box:
    """Return where a box of the upright image lies in what is stored, width x height."""
    left, top, right, bottom = box
    if orientation in _TURNED:
        left, top, right, bottom = top, left, bottom, right
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


def is_deep(file: BinaryIO, name: str) -> bool:
    """Whether the image in an open file has more than 8 bits, as its header says.

    Raises ImageError.
    """
    with told(name):
        image = _identified(file, name)
        return image.mode == "F" or image.mode.startswith("I") or bool(raw_16_bits(image))


def frames(file: BinaryIO) -> int:
    """Return how many images an open file holds, of which the first is taken."""
    try:
        with QUIET:
            return int(getattr(_identified(file, ""), "n_frames", 1))
    except Exception:  # as in decode(), which will say what is wrong
        return 1


def from_pixels(values: NDArray[np.uint8]) -> Image.Image:
    """Return pixels, uint8 (H, W, 1 or 3), as an image in mode "L" or "RGB"."""
    return Image.fromarray(values.squeeze(2) if values.shape[2] == 1 else values)


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an image in mode "L" or "RGB" as uint8 (H, W, C)."""
    values = np.asarray(image, dtype=np.uint8)
    return values.reshape(image.height, image.width, -1)


def _identified(file: BinaryIO, name: str) -> Image.Image:
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    if not head:
        raise ImageError(name, "is empty (0 bytes)", hint="fetch it again or remove it")
    Image.init()
    try:
        # AVIF is an option of Pillow.
        return Image.open(file, formats=[f for f in FORMATS if f in Image.OPEN])
    except UnidentifiedImageError:
        raise ImageError(
            name, _kind(head), hint=f"convert it to one of {', '.join(FORMATS)}, or remove it"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, "far more") from None


def _kind(head: bytes) -> str:
    for start, kind in _KINDS:
        if head.startswith(start):
            return kind
    if head[257:262] == b"ustar":
        return "is a tar, which `resnets data unpack` makes a folder of images"
    if head[4:12] == b"ftypavif":
        return "is an AVIF that is damaged, or that this Pillow cannot read"
    if head[4:8] == b"ftyp":
        return "is a HEIC image or a video, which cannot be read here"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return "is not an image in a known format"
    return "is not an image in a known format" if b"\0" in head else "is text, not an image"


def _too_large(name: str, count: str) -> ImageTooLargeError:
    return ImageTooLargeError(
        name,
        f"has {count} pixels than the limit of {MAX_PIXELS // 1_000_000} megapixels",
        hint="make it smaller; nothing of it was decoded",
    )


def _loaded(
    image: Image.Image, name: str, all_bits: bool, data: bytes | memoryview | None = None
) -> Decoded:
    """Decode the pixels, after a look at the size that the header states.

    ``data`` are the bytes of a JPEG, which others may decode to Pillow's pixels.
    """
    _check_size(image, name)
    if data is not None and (decoded := decode_jpeg(image, data)) is not None:
        return Decoded(name, from_pixels(decoded), _orientation(image))
    if image.format == "TIFF":
        quieten_libtiff()
    deep = load_deep(image, all_bits=all_bits)
    image.load()
    # The orientation after load(), which turns TIFF files by itself.
    return Decoded(name, image if deep is None else deep, _orientation(image))


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f"{image.width} x {image.height}, more")


def _bytes_of(file: BinaryIO, start: bytes) -> bytes | memoryview | None:
    """Return all bytes of a JPEG that is not too large to be held twice; None of other files."""
    if not start.startswith(JPEG) or not decoders():
        return None
    if isinstance(file, io.BytesIO):
        return file.getbuffer()
    file.seek(0)
    data = file.read(_MOST + 1)
    return data if len(data) <= _MOST else None


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata: the pixels are still good
        return 1


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)  # which would copy


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turn whatever goes wrong with an image into a ImageError, and keep Pillow from talking."""
    try:
        with QUIET:
            yield
    except (ImageError, MemoryError):
        raise
    except RangeError as error:
        hint = f"train with a range, which is kept with the weights: {error.setting}"
        raise ImageError(name, str(error), hint=hint) from None
    except Exception as error:  # damaged data leads Pillow's decoders into almost any exception
        if isinstance(error, OSError) and error.errno:
            reason, hint = f"cannot be read: {error.strerror}", "check that it is there and yours"
            if error.errno == errno.EINVAL:  # a pipe and its like, as `open_regular` says
                hint = "only ordinary files are read: remove it, or save what it holds to a file"
        else:
            reason = f"cannot be decoded: {printable(str(error) or type(error).__name__)}"
            hint = "fetch it again from where it came, or remove it"
        raise ImageError(name, reason, hint=hint) from error
