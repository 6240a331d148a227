"""How a picture becomes pixels: one way, for training, evaluation and prediction alike.

What a file is, its content says, never its extension. Every mode has one defined way to 8 bits:

| mode of the file           | becomes                                                       |
|----------------------------|---------------------------------------------------------------|
| L, RGB                     | itself                                                        |
| 1, P, CMYK, YCCK, HSV      | RGB (Pillow's conversion; 1-bit is 0 or 255)                  |
| LA, PA, RGBA, or with tRNS | composited on white                                           |
| I;16                       | 0..65535 scaled to 0..255, never clipped                      |
| I                          | as I;16 where it fits, else the picture's own range to 0..255 |
| F                          | 0..1 to 0..255 where it fits, else the picture's own range    |

An animation or a file of several pages is its first frame.
"""

import unicodedata
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from resnets.errors import DataError, UsageError

# Only these: Pillow would also hand EPS files to Ghostscript, a program that runs what it reads.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 64_000_000

_MODES = {1: "L", 3: "RGB"}
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
_KINDS = (
    (b"\xff\xd8\xff", "is a JPEG with a damaged header"),
    (b"\x89PNG", "is a PNG with a damaged header"),
    (b"%PDF", "is a PDF document, not a picture"),
    (b"<svg", "is an SVG drawing, not a picture of pixels"),
    (b"%!PS", "is a PostScript program, not a picture"),
)


_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control, surrogate (a byte not UTF-8), line, paragraph


class PictureError(DataError):
    """A picture that cannot be decoded; ``reason`` is the message without the file's name."""

    def __init__(self, name: str, reason: str, *, hint: str) -> None:
        super().__init__(f"{name}: {reason}", hint=hint)
        self.reason = reason


class PictureTooLargeError(PictureError):
    """A picture of more than MAX_PIXELS."""


def decode(source: Path | Image.Image, channels: int) -> Image.Image:
    """Return the upright picture in mode "L" (1 channel) or "RGB" (3 channels).

    Raises PictureError, a DataError, for anything that is not a whole picture of at most
    MAX_PIXELS, and UsageError for another number of channels.
    """
    if channels not in _MODES:
        raise UsageError(f"pictures have 1 or 3 channels, not {channels}")
    if isinstance(source, Image.Image):
        name = printable(getattr(source, "filename", "")) or "the picture"
    else:
        name = printable(source)
    try:
        if isinstance(source, Image.Image):
            return _convert(_loaded(source, name), _MODES[channels])
        with source.open("rb") as file:
            image = _identified(file, name)
            if image.format == "PNG":  # Pillow does not look at the checksums when it decodes
                image.verify()
                file.seek(0)
                image = _identified(file, name)
            return _convert(_loaded(image, name), _MODES[channels])
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # damaged data leads Pillow's decoders into almost any exception
        if isinstance(error, OSError) and error.errno:
            reason, hint = f"cannot be read: {error.strerror}", "check that it is there and yours"
        else:
            reason = f"cannot be decoded: {printable(str(error) or type(error).__name__)}"
            hint = "fetch it again from where it came, or remove it"
        raise PictureError(name, reason, hint=hint) from error


def is_picture(path: Path) -> bool:
    """Tell by content whether a file is in a known picture format; its pixels are not looked at.

    A file that cannot be opened may be one, so it counts as one.
    """
    try:
        with path.open("rb") as file:
            _identified(file, printable(path))
    except PictureTooLargeError:
        return True
    except OSError as error:
        return error.errno is not None
    except Exception:  # as in decode()
        return False
    return True


INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def square(image: Image.Image, side: int, interpolation: str = "bilinear") -> Image.Image:
    """Return the middle of a picture: shorter side scaled to ``side``, then ``side`` x ``side``.

    With antialiasing, to the sizes and offsets that torchvision's Resize and CenterCrop
    choose. A picture whose shorter side is ``side`` already is not resampled.
    """
    # Only the middle stays, so the ends of a strip are cut before they are scaled: 65500 x 1
    # would otherwise pass through a picture of 256 rows of 17 million pixels.
    image = _middle(image, 8 * min(image.size))
    width, height = image.size
    size = side * width // min(width, height), side * height // min(width, height)
    if size != image.size:
        image = image.resize(size, INTERPOLATION[interpolation])
    return _middle(image, side)


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a picture in mode "L" or "RGB" as uint8 (H, W, C)."""
    values = np.asarray(image, dtype=np.uint8)
    return values.reshape(image.height, image.width, -1)


def printable(name: str | Path) -> str:
    """Return a name that fits on one line of UTF-8: control characters and stray bytes escaped."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNPRINTABLE else c
        for c in str(name)
    )


def _identified(file: BinaryIO, name: str) -> Image.Image:
    head = file.read(512)
    file.seek(0)
    if not head:
        raise PictureError(name, "is empty (0 bytes)", hint="fetch it again or remove it")
    Image.init()
    try:
        # AVIF is an option of Pillow.
        return Image.open(file, formats=[f for f in FORMATS if f in Image.OPEN])
    except UnidentifiedImageError:
        raise PictureError(
            name, _kind(head), hint=f"convert it to one of {', '.join(FORMATS)}, or remove it"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, "far more") from None


def _kind(head: bytes) -> str:
    for start, kind in _KINDS:
        if head.startswith(start):
            return kind
    if head[4:12] == b"ftypavif":
        return "is an AVIF that is damaged, or that this Pillow cannot read"
    if head[4:8] == b"ftyp":
        return "is a HEIC picture or a video, which cannot be read here"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return "is not a picture in a known format"
    return "is not a picture in a known format" if b"\0" in head else "is text, not a picture"


def _too_large(name: str, count: str) -> PictureTooLargeError:
    return PictureTooLargeError(
        name,
        f"has {count} pixels than the limit of {MAX_PIXELS // 1_000_000} megapixels",
        hint="make it smaller; nothing of it was decoded",
    )


def _loaded(image: Image.Image, name: str) -> Image.Image:
    """Decode the pixels, after a look at the size that the header states."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f"{image.width} x {image.height}, more")
    image.load()
    try:  # after load(), which turns TIFF files by itself
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata: the pixels are still good
        orientation = None
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        image = _scaled(image)
    elif image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return image.convert(mode)


def _scaled(image: Image.Image) -> Image.Image:
    """Return a picture of more than 8 bits in mode "L"; raises ValueError for NaN and infinity."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it holds pixels that are not a number or infinite")
    top = 1.0 if image.mode == "F" else 65535.0
    if low >= 0 and high <= top:
        low, high = 0.0, top
    scaled = (values - low) * 255 / ((high - low) or 1)  # of one value: black
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _middle(image: Image.Image, side: int) -> Image.Image:
    """Return the centre of a picture, no side longer than ``side``."""
    width, height = (min(side, n) for n in image.size)
    if (width, height) == image.size:
        return image
    # Python's rounding to even is what torchvision's CenterCrop does too.
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
