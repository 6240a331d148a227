"""Files of images of more than 8 bits, as Pillow does not write them."""

import struct
import zlib

import numpy as np

ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values: np.ndarray, *, interlaced: bool = False) -> bytes:
    """A PNG of uint16 (H, W, C): grey, grey and alpha, RGB or RGBA."""
    height, width, channels = values.shape
    rows = b""
    for left, top, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = values[top::down, left::across]
        rows += b"".join(b"\0" + row.astype(">u2").tobytes() for row in part if row.size)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, int(interlaced))
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def tiff16(
    values: np.ndarray, order: str = "<", *, compressed: bool = False, planes: bool = False
) -> bytes:
    """A TIFF of uint16 (H, W, C): RGB or RGBA, its numbers in an order of bytes ("<" or ">")."""
    height, width, channels = values.shape
    parts = list(values.transpose(2, 0, 1)) if planes else [values]
    strips = [part.astype(f"{order}u2").tobytes() for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if compressed else strips
    tags = 11 if channels == 4 else 10
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    at = 8 + 2 + 12 * tags + 4
    tables = at + len(bits)
    first = tables + (8 * len(strips) if planes else 0)
    offsets = [first + sum(map(len, strips[:i])) for i in range(len(strips))]

    def short(tag: int, value: int) -> bytes:
        return struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)

    def longs(tag: int, found: list[int], place: int) -> bytes:
        return struct.pack(f"{order}HHII", tag, 4, len(found), place if planes else found[0])

    file = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, tags)
    file += (
        short(256, width) + short(257, height) + struct.pack(f"{order}HHII", 258, 3, channels, at)
    )
    file += short(259, 8 if compressed else 1) + short(262, 2) + longs(273, offsets, tables)
    file += short(277, channels) + short(278, height)
    file += longs(279, list(map(len, strips)), tables + 4 * len(strips))
    file += short(284, 2 if planes else 1) + (short(338, 2) if channels == 4 else b"")
    file += struct.pack(f"{order}I", 0) + bits
    if planes:
        file += struct.pack(f"{order}{2 * len(strips)}I", *offsets, *map(len, strips))
    return file + b"".join(strips)


def tiff12(values: np.ndarray) -> bytes:
    """A TIFF of grey values (H, W) below 4096: two of them in three bytes."""
    height, width = values.shape
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(height, width, 2), axis=2)
    strip = np.packbits(bits[:, :, 4:].reshape(height, -1), axis=1).tobytes()
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8 + 2 + 9 * 12 + 4}
    tags |= {277: 1, 278: height, 279: len(strip)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + strip
