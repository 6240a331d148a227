"""Decoders of JPEG that are faster than Pillow's and give its pixels, to the bit.

Pillow opens every file all the same, which takes a fiftieth of the time, and so decides what is an
image. What a decoder here does not know, or decodes with a warning, it leaves to Pillow.
"""

import ctypes
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom: as Pillow's `crop` has it
Data = bytes | memoryview

_CHANNELS = {"L": 1, "RGB": 3}


@dataclass(frozen=True)
class Decoder:
    """A library that decodes JPEG; ``window`` gives a box of the opened image as (H, W, C)."""

    name: str
    window: Callable[[Image.Image, Data, Box], NDArray[np.uint8] | None]


def decode_jpeg(
    image: Image.Image, data: Data, box: Box | None = None, *, by: Decoder | None = None
) -> NDArray[np.uint8] | None:
    """Return the pixels of a JPEG, or of a box of it, as uint8 (H, W, C); None: Pillow decides.

    ``image`` is what Pillow opened ``data`` as, not upright. It is decoded into memory of its size,
    so the caller has refused it if that is too large. Pixels are grey where they are stored so.
    Threads decode at once.
    """
    left, top, right, bottom = box = box or (0, 0, *image.size)
    by = by or next(iter(decoders()), None)
    if by is None or image.format not in ("JPEG", "MPO") or image.mode not in _CHANNELS:
        return None
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        return None
    return by.window(image, data, box)


@cache
def decoders() -> tuple[Decoder, ...]:
    """Return what is installed beside Pillow, fastest first.

    Each has decoded a few images as this Pillow does: there are builds of libjpeg, under either,
    that compute other pixels.
    """
    return tuple(
        found for find in (_turbojpeg, _simplejpeg) if (found := find()) and _agrees(found)
    )


def _simplejpeg() -> Decoder | None:
    try:
        import simplejpeg
    except ImportError:
        return None

    def window(image: Image.Image, data: Data, box: Box) -> NDArray[np.uint8] | None:
        left, top, right, bottom = box
        whole = np.empty((image.height, image.width, _CHANNELS[image.mode]), np.uint8)
        colorspace = "GRAY" if image.mode == "L" else "RGB"
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace, buffer=whole)
        except ValueError:  # for warnings too
            return None
        return pixels[top:bottom, left:right] if pixels.shape == whole.shape else None

    return Decoder(f"simplejpeg {simplejpeg.__version__}", window)


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "width", "height")]


# Of turbojpeg.h, libjpeg-turbo 3.0.
_DECOMPRESS = 1
_STOP_ON_WARNING, _SUBSAMPLING, _WIDTH, _HEIGHT, _PROGRESSIVE = 0, 4, 5, 6, 12
_MCU_WIDTHS = (8, 16, 16, 8, 8, 32, 8)  # by subsampling
_PIXEL_FORMATS = {"RGB": 0, "L": 6}
# Columns decoded beside a window: chroma is interpolated from its neighbours, and not in images of
# one or two columns of chroma. Rows need none.
_MARGIN = 8
_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xdb-\xfe](..)", re.DOTALL)  # of a header
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # but for those of restarts, which scans hold


def _turbojpeg() -> Decoder | None:
    """Return the decoder of libjpeg-turbo 3, which can leave out pixels, if its library is there.

    Of Python packages only NVIDIA's nvImageCodec passes that on: 79 MB, which print lines of their
    own on the terminal and keep libjpeg's warnings for themselves.
    """
    library = _library()
    if library is None:
        return None

    def window(image: Image.Image, data: Data, box: Box) -> NDArray[np.uint8] | None:
        left, top, right, bottom = box
        encoded = np.frombuffer(data, np.uint8)
        source = encoded.ctypes.data, encoded.size
        handle = library.tj3Init(_DECOMPRESS)
        if not handle:
            return None
        try:
            library.tj3Set(handle, _STOP_ON_WARNING, 1)
            if library.tj3DecompressHeader(handle, *source):
                return None
            if (library.tj3Get(handle, _WIDTH), library.tj3Get(handle, _HEIGHT)) != image.size:
                return None
            subsampling = library.tj3Get(handle, _SUBSAMPLING)
            if not 0 <= subsampling < len(_MCU_WIDTHS):
                return None
            mcu = _MCU_WIDTHS[subsampling]
            start = max(0, left - _MARGIN) // mcu * mcu
            width = min(image.width, right + _MARGIN) - start
            # Below a window nothing is read of a single scan, and so no damage seen.
            end = image.height
            if bottom < end and (library.tj3Get(handle, _PROGRESSIVE) or _is_one_scan(data)):
                end = bottom
            height = end - top
            if library.tj3SetCroppingRegion(handle, _Region(start, top, width, height)):
                return None
            pixels = np.empty((height, width, _CHANNELS[image.mode]), np.uint8)
            to = pixels.ctypes.data, 0, _PIXEL_FORMATS[image.mode]
            if library.tj3Decompress8(handle, *source, *to):
                return None
            return pixels[: bottom - top, left - start : right - start]
        finally:
            library.tj3Destroy(handle)

    return Decoder("libjpeg-turbo 3", window)


def _is_one_scan(data: Data) -> bool:
    """Tell whether one scan and the end mark follow a JPEG's header.

    Then nothing in the scan keeps Pillow from decoding it: what is damaged are pixels.
    """
    position = len(b"\xff\xd8")
    while segment := _SEGMENT.match(data, position):
        position += 2 + int.from_bytes(segment[1], "big")
    if data[position : position + 2] != b"\xff\xda":
        return False
    behind = _MARKER.search(data, position + 2)
    return behind is not None and behind[0] == b"\xff\xd9"


def _library() -> Any:
    names = {"darwin": "libturbojpeg.0.dylib", "win32": "turbojpeg.dll"}
    name = names.get(sys.platform, "libturbojpeg.so.0")
    # conda's, the system's, Homebrew's, the project's own packages
    folders = f"{sys.base_prefix}/lib/", "", "/opt/homebrew/lib/", "/opt/libjpeg-turbo/lib64/"
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for folder in folders:
        try:
            library = ctypes.CDLL(folder + name)
            library.tj3Init.restype = pointer
            library.tj3Init.argtypes = [number]
            library.tj3Destroy.restype = None
            library.tj3Destroy.argtypes = [pointer]
            library.tj3Set.argtypes = [pointer, number, number]
            library.tj3Get.argtypes = [pointer, number]
            library.tj3DecompressHeader.argtypes = [pointer, pointer, size]
            library.tj3SetCroppingRegion.argtypes = [pointer, _Region]
            library.tj3Decompress8.argtypes = [pointer, pointer, size, pointer, number, number]
        except (OSError, AttributeError):  # not there, or version 2
            continue
        return library
    return None


def _agrees(decoder: Decoder) -> bool:
    """Tell whether a decoder gives Pillow's pixels of a few images."""
    for data in _trials():
        whole = Image.open(io.BytesIO(data))
        expected = np.asarray(whole).reshape(whole.height, whole.width, -1)
        for left, top, right, bottom in ((0, 0, *whole.size), (17, 19, 35, 41)):
            pixels = decode_jpeg(whole, data, (left, top, right, bottom), by=decoder)
            if pixels is None or not np.array_equal(pixels, expected[top:bottom, left:right]):
                return False
    return True


def _trials() -> Iterator[bytes]:
    y, x = np.mgrid[:45, :53]
    colours = Image.fromarray(np.stack([5 * x, 5 * y, x * y], -1).astype(np.uint8))
    options = product(("L", "RGB"), ("4:4:4", "4:2:2", "4:2:0"), (False, True))
    for mode, subsampling, progressive in options:
        file = io.BytesIO()
        colours.convert(mode).save(
            file, "JPEG", quality=90, subsampling=subsampling, progressive=progressive
        )
        yield file.getvalue()
