"""Object headers of an HDF5 file: what an object says about itself, read byte by byte.

The format's own C library crashes or hangs on about one damaged file in a thousand, so files that
anyone may send are read here, in Python, where every access is checked. What is read is what Keras
writes: the HDF5 File Format Specification 1.0 to 3.0, without dense groups and external data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from resnets.errors import CheckpointError
from resnets.readers.allowance import broken

UNDEFINED = 0xFFFF_FFFF_FFFF_FFFF  # the address of what is not there
LARGEST_OBJECT_COUNT = 200_000  # a thousand layers with their optimizer have 20,000
DEEPEST_GROUP = 64


class Source:
    """The bytes of a file, with every access checked, and a limit on how much they may declare."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        # What it holds uncompressed; Keras does not compress, and weights hardly can be.
        self.remaining = self.limit = max(64 << 20, 2 * len(data))
        self.objects = 0
        self.heaps: dict[int, dict[int, tuple[int, int]]] = {}  # of texts: place and size of each

    def take(self, at: int, length: int) -> memoryview:
        """Return ``length`` bytes from ``at``. Raises CheckpointError beyond the file's end."""
        if at + length > len(self.data):
            raise self.damaged(f"it points to byte {at + length:,} of {len(self.data):,}")
        return self.data[at : at + length]

    def uint(self, at: int, size: int) -> int:
        """Return the unsigned number of ``size`` bytes at ``at``."""
        return int.from_bytes(self.take(at, size), "little")

    def starts(self, at: int, signature: bytes) -> bool:
        """Tell whether ``signature`` stands at ``at``."""
        return bytes(self.take(at, len(signature))) == signature

    def expect(self, at: int, signature: bytes) -> None:
        """Raise CheckpointError unless ``signature`` stands at ``at``."""
        if not self.starts(at, signature):
            raise self.damaged(f"no {signature.decode('latin-1')} at byte {at:,}")

    def declare(self, count: int, what: str) -> None:
        """Count ``count`` bytes that ``what`` will take in memory; raises CheckpointError."""
        if count > self.remaining:
            raise CheckpointError(
                f"{what} declares {count:,} bytes in a file of {len(self.data):,}",
                hint="no weights are stored like that; get the file from its author again",
            )
        self.remaining -= count

    def count_object(self) -> None:
        """Raise CheckpointError when there are more objects than any network has."""
        self.objects += 1
        if self.objects > LARGEST_OBJECT_COUNT:
            raise self.refused(f"more than {LARGEST_OBJECT_COUNT:,} objects")

    def damaged(self, what: str) -> CheckpointError:
        """Return the error of a file that contradicts itself."""
        return broken(f"damaged HDF5 file: {what}")

    def refused(self, what: str) -> CheckpointError:
        """Return the error of a file that holds what weights do not need."""
        return CheckpointError(
            f"HDF5 file with {what}, which is not read",
            hint="load the model in Keras and save it again: model.save_weights(...)",
        )


@dataclass(frozen=True)
class Message:
    """One entry of an object header: ``size`` bytes at ``at``."""

    kind: int
    at: int
    size: int
    shared: bool


# Kinds of messages (specification, section IV.A.2).
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0x0B, 0x0C, 0x10, 0x11, 0x15


def messages(source: Source, address: int) -> list[Message]:
    """Return the messages of the object header at ``address``, of either version."""
    source.count_object()
    most = len(source.data)
    if source.starts(address, b"OHDR"):
        flags, wide = source.uint(address + 5, 1), 1  # bytes of a message's kind
        at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        head, width = (6 if flags & 4 else 4), 1 << (flags & 3)
        blocks = [(at + width, source.uint(at, width))]
    elif source.uint(address, 1) == 1:
        head, wide, most = 8, 2, source.uint(address + 2, 2)
        blocks = [(address + 16, source.uint(address + 8, 4))]
    else:
        raise source.damaged(f"no object header at byte {address:,}")
    found: list[Message] = []
    seen = set()
    while blocks and len(found) < most:
        at, length = blocks.pop(0)
        if at in seen:
            raise source.damaged("an object header continues in itself")
        seen.add(at)
        end = at + length
        while at + head <= end and len(found) < most:
            kind, size = source.uint(at, wide), source.uint(at + wide, 2)
            shared = bool(source.uint(at + wide + 2, 1) & 2)
            at += head
            source.take(at, size)
            found.append(Message(kind, at, size, shared))
            if kind == CONTINUATION:
                block, length = source.uint(at, 8), source.uint(at + 8, 8)
                if wide == 1:  # it stands between a signature and a checksum
                    source.expect(block, b"OCHK")
                    block, length = block + 4, length - 8
                blocks.append((block, length))
            at += size
    return found


def index(
    source: Source, node: int, kind: bytes, key: int, above: int = 64
) -> Iterator[tuple[int, int]]:
    """Yield the keys, of ``key`` bytes, and the children at the bottom of a version 1 B-tree.

    ``above`` is the level of the node's parent.
    """
    source.count_object()
    source.expect(node, b"TREE" + kind)
    level = source.uint(node + 5, 1)
    if level >= above:
        raise source.damaged("an index contains itself")
    for entry in range(source.uint(node + 6, 2)):
        at = node + 24 + entry * (key + 8)
        child = source.uint(at + key, 8)
        if level:
            yield from index(source, child, kind, key, level)
        else:
            yield at, child


def shape(source: Source, at: int) -> tuple[int, ...]:
    """Return the sizes that the dataspace at ``at`` gives; a scalar has none."""
    version, rank = source.uint(at, 1), source.uint(at + 1, 1)
    if version not in (1, 2) or rank > 32:
        raise source.damaged(f"a dataspace of version {version} and rank {rank}")
    if version == 2 and source.uint(at + 3, 1) == 2:  # a null dataspace: no elements
        return (0,)
    first = at + (8 if version == 1 else 4)
    return tuple(source.uint(first + 8 * axis, 8) for axis in range(rank))


@dataclass(frozen=True)
class Type:
    """The type of elements: ``name`` is NumPy's for floats, and a word for what is not read."""

    name: str
    size: int  # bytes of an element
    is_float: bool = False
    big_endian: bool = False


CLASSES = (
    *("integer", "float", "time", "string", "bit field", "opaque", "compound", "reference"),
    *("enumeration", "variable length", "array"),
)
# Bytes, bits of exponent and of mantissa, and the exponent's bias.
FLOATS = {
    (2, 5, 10, 15): "float16",
    (2, 8, 7, 127): "bfloat16",
    (4, 8, 23, 127): "float32",
    (8, 11, 52, 1023): "float64",
}


def element_type(source: Source, at: int) -> Type:
    """Return the type that the datatype message at ``at`` describes."""
    number, bits, size = source.uint(at, 1) & 15, source.uint(at + 1, 3), source.uint(at + 4, 4)
    if number >= len(CLASSES):
        raise source.damaged(f"a datatype of class {number}")
    if CLASSES[number] == "variable length":
        return Type("text" if bits & 15 == 1 else "variable length", size)
    if CLASSES[number] != "float":
        return Type(CLASSES[number], size)
    parts = (size, source.uint(at + 13, 1), source.uint(at + 15, 1), source.uint(at + 16, 4))
    if parts not in FLOATS or bits & 0x40:
        return Type(f"{8 * size}-bit float of an unknown kind", size)
    return Type(FLOATS[parts], size, is_float=True, big_endian=bool(bits & 1))


def attribute(source: Source, message: Message) -> tuple[str, list[str] | None]:
    """Return an attribute's name and its texts; None where it is something else."""
    at, version = message.at, source.uint(message.at, 1)
    if version not in (1, 2, 3):
        raise source.damaged(f"an attribute of version {version}")
    sizes = [source.uint(at + 2 + 2 * i, 2) for i in range(3)]
    padded = [-(-size // 8) * 8 for size in sizes] if version == 1 else sizes
    name_at = at + (9 if version == 3 else 8)
    type_at = name_at + padded[0]
    space_at = type_at + padded[1]
    value_at = space_at + padded[2]
    name = _text(source, bytes(source.take(name_at, sizes[0])))
    if source.uint(at + 1, 1) & 3 and version > 1:  # its type or space lies elsewhere
        return name, None
    kind = element_type(source, type_at)
    if (kind.name, kind.size) != ("text", 16) and (kind.name != "string" or not kind.size):
        return name, None
    count = prod(shape(source, space_at))
    if value_at + count * kind.size > message.at + message.size:
        raise source.damaged(f'attribute "{name}" is longer than its message')
    places = [value_at + i * kind.size for i in range(count)]
    if kind.name == "string":
        return name, [_text(source, bytes(source.take(at, kind.size))) for at in places]
    return name, [_heap_text(source, at) for at in places]


def _heap_text(source: Source, at: int) -> str:
    """Return the text that a reference at ``at`` into a global heap means."""
    length, heap, index = source.uint(at, 4), source.uint(at + 4, 8), source.uint(at + 12, 4)
    if not length:
        return ""
    if heap not in source.heaps:
        source.heaps[heap] = _heap(source, heap)
    place, size = source.heaps[heap].get(index, (0, 0))
    if length > size:
        raise source.damaged("a text is not in the heap")
    source.declare(length, "a text")
    return _text(source, bytes(source.take(place, length)))


def _heap(source: Source, heap: int) -> dict[int, tuple[int, int]]:
    """Return where each object of a global heap begins, and its size."""
    source.expect(heap, b"GCOL")
    places: dict[int, tuple[int, int]] = {}
    end, at = heap + source.uint(heap + 8, 8), heap + 16
    while at + 16 <= end:
        source.count_object()
        number, size = source.uint(at, 2), source.uint(at + 8, 8)
        if number == 0:  # free space, to the end
            break
        places.setdefault(number, (at + 16, size))
        at += 16 + -(-size // 8) * 8
    return places


def _text(source: Source, data: bytes) -> str:
    try:
        return data.split(b"\0", 1)[0].decode("utf-8")
    except UnicodeDecodeError:
        raise source.damaged("a text is not UTF-8") from None
