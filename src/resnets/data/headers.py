"""What the header of an image's file tells, and what is said of a file that holds none."""

import errno
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from resnets.data.depth import RangeError, raw_16_bits
from resnets.data.quiet import QUIET
from resnets.data.streams import PNG, png_of_metadata
from resnets.errors import DataError
from resnets.formatting import printable
from resnets.readers.paths import open_regular

# Only these: Pillow would also hand EPS files to Ghostscript, a program that runs what it reads.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 64_000_000

_WIDTH, _HEIGHT = 0x0100, 0x0101  # as stored (TIFF 6.0, sec. 8)
_ORIENTATION = 0x0112  # EXIF 2.3, sec. 4.6.4
_BARE = {n: re.compile(rb"P%d\n(\d{1,5}) (\d{1,5})\n255\n" % kind) for n, kind in ((1, 5), (3, 6))}
TURNED = (5, 6, 7, 8)  # orientations by which width and height change places
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
class Header:
    """An image whose pixels are not looked at: as Pillow opened it, and how it is shown."""

    image: Image.Image
    orientation: int  # as EXIF has it
    size: tuple[int, int]  # (width, height) when it is decoded, upright


def read_header(file: BinaryIO, name: str) -> Header:
    """Return what an open file's header tells. Raises ImageError."""
    with told(name):
        image = identified(file, name)
        check_size(image, name)
        width, height = image.size
        if image.format == "TIFF":  # whose size Pillow turns already, in later versions
            tags = image.tag_v2  # type: ignore[attr-defined]
            width, height = tags[_WIDTH], tags[_HEIGHT]
        if image.format == "PNG":  # for whose metadata Pillow would decode its pixels
            told_by = png_of_metadata(file)
            orientation = orientation_of(Image.open(io.BytesIO(told_by))) if told_by else 1
        else:
            orientation = orientation_of(image)
        turned = orientation in TURNED
        return Header(image, orientation, (height, width) if turned else (width, height))


def bare_pixels(data: bytes, channels: int) -> NDArray[np.uint8] | None:
    """Return the pixels, uint8 (H, W, C), that lie bare in a file, as those of raw packs do.

    None of other files than PPM or PGM of 8 bits, so many channels and the shortest header.
    """
    header = _BARE[channels].match(data)
    if header is None:
        return None
    width, height = int(header[1]), int(header[2])
    if not 0 < width * height * channels <= len(data) - header.end():
        return None
    values = np.frombuffer(data, np.uint8, width * height * channels, header.end())
    return values.reshape(height, width, channels)


def is_image(source: Path | Callable[[], BinaryIO]) -> bool:
    """Tell by content whether a file is in a known image format; its pixels are not looked at.

    What is no path opens it. A file that cannot be opened may be one, so it counts as one.
    """
    try:
        with open_regular(source) if isinstance(source, Path) else source() as file, QUIET:
            if file.read(len(PNG)) == PNG:
                return file.read(8)[4:] == b"IHDR"
            identified(file, "")
    except ImageTooLargeError:
        return True
    except OSError as error:
        return error.errno is not None
    except Exception:  # as in decode()
        return False
    return True


def is_deep(file: BinaryIO, name: str) -> bool:
    """Whether the image in an open file has more than 8 bits, as its header says.

    Raises ImageError.
    """
    with told(name):
        image = identified(file, name)
        return image.mode == "F" or image.mode.startswith("I") or bool(raw_16_bits(image))


def frames(file: BinaryIO) -> int:
    """Return how many images an open file holds, of which the first is taken."""
    try:
        with QUIET:
            return int(getattr(identified(file, ""), "n_frames", 1))
    except Exception:  # as in decode(), which will say what is wrong
        return 1


def identified(file: BinaryIO, name: str) -> Image.Image:
    """Return the image in an open file as Pillow opens it, its pixels not looked at.

    Raises ImageError for what is no image.
    """
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
        hint = f"convert it to one of {', '.join(FORMATS)}, or remove it"
        if name.lower().endswith((".csv", ".tsv", ".jsonl")):
            hint = "of a table, give the folder with the images that it names"
        raise ImageError(name, _kind(head), hint=hint) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, "far more") from None


def check_size(image: Image.Image, name: str) -> None:
    """Raise ImageTooLargeError for more than MAX_PIXELS."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f"{image.width} x {image.height}, more")


def orientation_of(image: Image.Image) -> int:
    """Return the orientation that EXIF states, 1 if none does."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata: the pixels are still good
        return 1


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
            if error.errno == errno.EISDIR:
                hint = "give one of the images in it"
            if error.errno == errno.EINVAL:  # a pipe and its like, as `open_regular` says
                hint = "only ordinary files are read: remove it, or save what it holds to a file"
        else:
            reason = f"cannot be decoded: {printable(str(error) or type(error).__name__)}"
            hint = "fetch it again from where it came, or remove it"
        raise ImageError(name, reason, hint=hint) from error
