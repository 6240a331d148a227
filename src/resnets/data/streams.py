"""What of an image's file its decoder is given: the pixels, without metadata that may be damaged.

A wrong checksum in a comment, a colour profile of any size and a missing end mark are no damage to
pixels. Of a file that has really lost pixels, what is left can be asked for.
"""

import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, BinaryIO

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

_BLOCK = 1 << 20  # bytes read at a time
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_SMALL = 1 << 16  # bytes of metadata that may hold an orientation; inflated 16 times as many
_ORIENTED = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
_HEADER = 8  # bytes before a chunk's data: length and kind
_SUM = 4  # and behind it
_END = b"\xff\xd9"  # of a JPEG
# What may follow a JPEG that has lost its end. If all its bits are there, any of them leads to the
# same pixels.
_TAILS = (_END, b"\x55" * 64 + _END, b"\xaa" * 64 + _END)
_ADAM7 = (  # left, top, across, down (PNG, third edition, sec. 8.2)
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # a PNG's colour type: numbers in a pixel


class TruncatedError(ValueError):
    """A file that ends before its pixels do."""


class Excerpt(io.RawIOBase):
    """Parts of a file (from, to) one after the other as one file, and bytes after them."""

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]], tail: bytes = b"") -> None:
        self._file, self._parts, self._tail = file, parts, tail
        lengths = (stop - start for start, stop in parts)
        self._starts = list(accumulate(lengths, initial=0))
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        end = self._starts[-1] + len(self._tail)
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: end}[whence]
        )
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read some bytes of one part into a buffer and return how many; 0 at the end."""
        number = bisect_right(self._starts, self._position) - 1
        if number < len(self._parts):
            start, stop = self._parts[number]
            start += self._position - self._starts[number]
            self._file.seek(start)
            found = self._file.read(min(len(buffer), stop - start))
        else:
            start = self._position - self._starts[-1]
            found = self._tail[start : start + len(buffer)]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)


def png_pixels(file: BinaryIO, *, truncated: bool = False) -> BinaryIO:
    """Return what of a PNG file matters to its pixels and their orientation, as a file.

    Every checksum is looked at. Raises ValueError where one that matters is wrong, and
    TruncatedError where the file ends too early; ``truncated`` has what is missing be black.
    """
    size = file.seek(0, io.SEEK_END)
    parts: list[tuple[int, int]] = [(0, len(PNG))]
    data: list[tuple[int, int]] = []  # the compressed pixels
    left_out = False
    for kind, position, stop in _png_chunks(file, size):
        if stop > size:
            if kind == b"IDAT":
                data.append((position + _HEADER, min(size, stop - _SUM)))
            break
        if kind == b"IDAT":
            data.append((position + _HEADER, stop - _SUM))
        if _matters(file, kind, stop - _SUM - position - _HEADER):
            if parts[-1][1] == position:
                parts[-1] = (parts[-1][0], stop)
            else:
                parts.append((position, stop))
        else:
            left_out = True
        if kind == b"IEND":
            file.seek(0)
            return Excerpt(file, parts) if left_out else file  # type: ignore[return-value]
    return _without_end(file, parts, data, truncated)


def png_of_metadata(file: BinaryIO) -> bytes:
    """Return a PNG of one pixel with that metadata of a file which `png_pixels` keeps; or b"".

    Nothing else of the file is read: of metadata behind the pixels Pillow tells after these alone.
    """
    size, found = file.seek(0, io.SEEK_END), b""
    for kind, position, stop in _png_chunks(file, size):
        whole = stop <= size and not _is_needed(kind)
        if whole and _matters(file, kind, stop - _SUM - position - _HEADER):
            file.seek(position)
            found += file.read(stop - position)
    if not found:
        return b""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixel = _chunk(b"IDAT", zlib.compress(bytes(2)))
    return PNG + _chunk(b"IHDR", header) + found + pixel + _chunk(b"IEND", b"")


def _png_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, beginning and end of each chunk, while the file is at its data.

    The last is that of the end, or one that ends beyond the file's ``size``.
    """
    position = len(PNG)
    while position < size:
        file.seek(position)
        header = file.read(_HEADER)
        kind, stop = header[4:], position + _HEADER + int.from_bytes(header[:4], "big") + _SUM
        yield kind, position, stop
        if stop > size or kind == b"IEND":
            return
        position = stop


def _is_needed(kind: bytes) -> bool:
    return kind in _NEEDED or kind[:1].isupper()


def _matters(file: BinaryIO, kind: bytes, length: int) -> bool:
    """Whether a chunk, whose data the file is at, matters; raises ValueError for a wrong checksum.

    Of the metadata only what may hold an orientation does, if it is sound and small.
    """
    needed = _is_needed(kind)
    if not needed and (kind not in (b"eXIf", b"iTXt", b"tEXt", b"zTXt") or length > _SMALL):
        return False
    digest, content = zlib.crc32(kind), b""
    for start in range(0, length, _BLOCK):
        content = file.read(min(_BLOCK, length - start))
        digest = zlib.crc32(content, digest)
    sound = file.read(_SUM) == digest.to_bytes(_SUM, "big")
    if needed and not sound:
        raise ValueError(f"the checksum of its {kind.decode('latin-1')} is wrong")
    return sound and (needed or kind == b"eXIf" or _holds_orientation(kind, content))


def _holds_orientation(kind: bytes, content: bytes) -> bool:
    if not content.startswith(_ORIENTED):
        return False
    rest = content.partition(b"\0")[2]
    if kind == b"tEXt":
        return True
    if kind == b"iTXt":
        if rest[:1] != b"\1":  # not compressed
            return True
        packed = rest[2:].split(b"\0", 2)[-1]
    else:
        packed = rest[1:]
    try:
        inflate = zlib.decompressobj()
        inflate.decompress(packed, 16 * _SMALL)
    except zlib.error:
        return False
    return not inflate.unconsumed_tail


def _without_end(
    file: BinaryIO, parts: list[tuple[int, int]], data: list[tuple[int, int]], truncated: bool
) -> BinaryIO:
    """Return a PNG that ends too early: whole where all pixels are there, else filled up."""
    end = _chunk(b"IEND", b"")
    known = [part for part in parts if not data or part[0] < data[0][0]]
    if known and data:  # what comes before the pixels, in which a part may go on
        start, stop = known[-1]
        known[-1] = start, min(stop, data[0][0] - _HEADER)
    inflate = zlib.decompressobj()
    try:
        for piece in _pieces(file, data):
            left = piece
            while left and not inflate.eof:
                inflate.decompress(left, _BLOCK)
                left = inflate.unconsumed_tail
        inflate.flush()
    except zlib.error:
        pass
    if inflate.eof and not truncated:
        content = b"".join(_pieces(file, data))
        return Excerpt(file, known, _chunk(b"IDAT", content) + end)  # type: ignore[return-value]
    if not truncated or not data:
        raise TruncatedError("it is truncated")
    rows = _rows(file, data)
    return Excerpt(file, known, _chunk(b"IDAT", zlib.compress(rows, 1)) + end)  # type: ignore[return-value]


def _rows(file: BinaryIO, data: list[tuple[int, int]]) -> bytes:
    """Return the filtered rows of a PNG, with rows of black for those that are not there."""
    file.seek(len(PNG) + _HEADER)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", file.read(13))
    bits = depth * _SAMPLES.get(colour, 4)
    whole = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-max(0, width - left) // across), -(-max(0, height - top) // down)
        whole += rows * (1 + -(-columns * bits // 8)) if columns else 0
    inflate, found = zlib.decompressobj(), bytearray()
    try:
        for piece in _pieces(file, data):
            found += inflate.decompress(piece, max(1, whole - len(found)))
            if len(found) >= whole:
                break
    except zlib.error:
        pass
    return bytes(found[:whole].ljust(whole, b"\0"))


def _pieces(file: BinaryIO, parts: list[tuple[int, int]]) -> Iterator[bytes]:
    for start, stop in parts:
        for place in range(start, stop, _BLOCK):
            file.seek(place)
            yield file.read(min(_BLOCK, stop - place))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return (
        len(data).to_bytes(4, "big")
        + kind
        + data
        + zlib.crc32(data, zlib.crc32(kind)).to_bytes(4, "big")
    )


def jpeg_endings(file: BinaryIO) -> list[BinaryIO]:
    """Return a JPEG that may have lost its end, with several things put there instead.

    Where all that is lost is the end mark, all of them show the same image, if `has_all_scans`.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read(1) == _END[:1]:  # half an end mark
        size -= 1
    return [Excerpt(file, [(0, size)], tail) for tail in _TAILS]  # type: ignore[misc]


def jpeg_rests(file: BinaryIO) -> list[BinaryIO]:
    """Return what is left of a JPEG that has lost its end: all, and all but the last segment."""
    file.seek(0)
    *_, (_, last, _) = [(0, 0, b""), *_segments(file.read())]
    return [jpeg_endings(file)[0], Excerpt(file, [(0, last)], _END)]  # type: ignore[list-item]


def has_all_scans(file: BinaryIO) -> bool:
    """Whether a JPEG has begun the last scan of every coefficient of every component.

    A progressive one may end between two scans, with an image that is whole but coarse.
    """
    file.seek(0)
    missing: dict[int, set[int]] = {}  # component: coefficients without their last bit
    try:
        for kind, _, segment in _segments(file.read()):
            if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
                missing = {segment[6 + 3 * i]: set(range(64)) for i in range(segment[5])}
            elif kind == 0xDA:
                count = segment[0]
                first, last, bits = segment[1 + 2 * count : 4 + 2 * count]
                for component in segment[1 : 1 + 2 * count : 2] if bits & 15 == 0 else b"":
                    missing.get(component, set()).difference_update(range(first, last + 1))
    except (IndexError, ValueError):
        return False
    return bool(missing) and not any(missing.values())


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the kind, the place and the content of each of a JPEG's segments."""
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        kind = data[position + 1]
        if kind in (0x00, 0x01, 0xFF) or 0xD0 <= kind <= 0xD9:  # no segment
            position += 1 if kind == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield kind, position, data[position + 4 : position + 2 + length]
        position += 2 + length
