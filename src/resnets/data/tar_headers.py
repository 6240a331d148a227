"""The headers of a tar, one after the other, whoever wrote it; nothing in it is believed.

POSIX's ustar and pax, GNU's and the old form. tarfile would read all this too, but keeps a record
of every member, reads headers of any length, and takes twice as long.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from resnets.errors import DataError
from resnets.formatting import printable

BLOCK = 512

_LONGEST = 1 << 20  # bytes of a name, or of what else is said about a member
_KINDS = {
    **{b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a named pipe"},
    b"S": "a sparse file",
}
UNENDED = "without the mark of an end"
_FOLDER = b"5"
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")
_FILES = (b"0", b"\0", b"7")
_COMPRESSED = {
    b"\x1f\x8b": "gzip -d",
    b"BZh": "bzip2 -d",
    b"\xfd7zXZ\0": "xz -d",
    b"\x28\xb5\x2f\xfd": "zstd -d",
}


@dataclass(frozen=True, slots=True)
class Member:
    """What a tar says of one of its members."""

    name: str  # as it stands there; bytes that are no UTF-8 are surrogates
    offset: int  # of its content
    size: int
    kind: str  # "": a file; "a folder", "a link" and so on


def is_tar(start: bytes) -> bool:
    """Whether a file's first 512 bytes are those of a tar."""
    return _sums_up(start[:BLOCK])


def unpacked_by(start: bytes, path: Path) -> str:
    """Return the command that unpacks a file which starts so; "" for one that is not compressed."""
    name = shlex.quote(printable(path))
    if start.startswith(b"PK\3\4") and path.suffix.lower() == ".zip":  # so do checkpoints start
        return f"python -m zipfile -e {name} {shlex.quote(printable(path.with_suffix('')))}"
    return next((f"{how} {name}" for by, how in _COMPRESSED.items() if start.startswith(by)), "")


def _check_is_tar(start: bytes, path: Path) -> None:
    if _sums_up(start):
        return
    if how := unpacked_by(start, path):
        raise DataError(
            f"{printable(path)}: is compressed, and images are read as they lie in a file",
            hint=f"unpack it: {how}; images hardly grow by that",
        )
    raise DataError(f"{printable(path)}: is no tar", hint="give a tar, a pack or a folder")


def members(
    file: BinaryIO, path: Path, start: int = 0, length: int | None = None
) -> Iterator[Member]:
    """Yield the members of a tar. Raises DataError where it is none, or damaged, and OSError.

    It lies from ``start`` to ``length`` in the file; ``path`` is for messages. A tar within a tar
    stands for its members, as in a folder of its name. Where the empty block is missing that ends a
    tar, the last one is of the kind UNENDED.
    """
    length = file.seek(0, 2) if length is None else length
    file.seek(start)
    _check_is_tar(file.read(min(BLOCK, length - start)), path)
    everywhere: dict[bytes, bytes] = {}  # pax records that hold for all that follow
    said: dict[bytes, bytes] = {}  # for the next one
    at = start
    while at < length:
        file.seek(at)
        block = file.read(BLOCK)
        if not block.strip(b"\0") and len(block) == BLOCK:
            return
        if not _sums_up(block):
            raise _damaged(path, f"has no header at byte {at:,}")
        kind, size = block[156:157], _number(block[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            if size > _LONGEST or size > length - at - BLOCK:
                raise _damaged(path, f"has an impossible header at byte {at:,}")
            content = file.read(size)
            if kind == b"L":
                said[b"path"] = content.split(b"\0")[0]
            elif kind != b"K":  # where a link leads is nobody's business
                (said if kind == b"x" else everywhere).update(_records(content, path, at))
            at += BLOCK + -(-size // BLOCK) * BLOCK
            continue
        known = everywhere | said
        said = {}
        at += BLOCK
        if kind == b"S":  # GNU's own: a table of holes may go on in further blocks
            more = block[482:483]
            while more.strip(b"\0"):
                more = file.read(BLOCK)[504:505]
                at += BLOCK
        if b"size" in known:
            size = _decimal(known[b"size"], path)
        if kind in _WITHOUT_CONTENT:
            size = 0
        name = _text(known.get(b"path") or _name(block))
        if size > length - at:
            raise _damaged(path, f"ends before {printable(name)} does")
        if kind == _FOLDER or (kind == b"\0" and name.endswith("/")):
            what = "a folder"
        elif kind in _FILES:
            sparse = any(key.startswith(b"GNU.sparse.") for key in known)
            what = "a sparse file" if sparse else ""
        else:
            what = _KINDS.get(kind, "of a kind that is not known")
        if not what and not start and name.lower().endswith(".tar"):
            for inner in members(file, path, at, at + size):
                yield replace(inner, name=f"{name[:-4]}/{inner.name}")
        else:
            yield Member(name, at, size, what)
        at += -(-size // BLOCK) * BLOCK
    if not start:  # as those of careless programs do, and any that is cut between two members
        yield Member("", at, 0, UNENDED)


def _sums_up(block: bytes) -> bool:
    """Whether a block's checksum is right: of its bytes, its own being spaces."""
    if len(block) < BLOCK:
        return False
    stated = block[148:156].strip(b" \0")
    total = sum(block) - sum(block[148:156]) + 8 * 32
    if not stated or stated.strip(b"01234567"):
        return False
    if int(stated, 8) == total:
        return True
    # Some old programs summed up signed bytes.
    others = block[:148] + block[156:]
    return int(stated, 8) == total - 256 * sum(byte > 127 for byte in others)


def _number(field: bytes) -> int:
    """Return a number: octal digits, or, as GNU has large ones, bytes. A negative one is huge."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0")[0].strip(b" ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else 0


def _decimal(value: bytes, path: Path) -> int:
    if not value or len(value) > 18 or value.strip(b"0123456789"):
        raise _damaged(path, f"says that a size is {printable(_text(value[:40]))}")
    return int(value)


def _name(block: bytes) -> bytes:
    """Return the name in a header; POSIX has the folders of a long one in a place of their own."""
    name, prefix = (part.split(b"\0")[0] for part in (block[:100], block[345:500]))
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _records(content: bytes, path: Path, at: int) -> dict[bytes, bytes]:
    """Return the records of a pax header: length, key and value of each."""
    found, start = {}, 0
    while start < len(content.rstrip(b"\0")):
        digits, space, _ = content[start : start + 20].partition(b" ")
        end = start + int(digits) if space and digits.isdigit() else 0
        key, equals, value = content[start + len(digits) + 1 : end].partition(b"=")
        if not start < end <= len(content) or not equals or not value.endswith(b"\n"):
            raise _damaged(path, f"has a damaged header at byte {at:,}")
        found[key] = value[:-1]
        start = end
    return found


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{printable(path)}: {what}: it is damaged", hint="fetch or copy it again")
