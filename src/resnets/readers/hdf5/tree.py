"""An HDF5 file as a tree of groups and datasets, with nothing in it that leads elsewhere.

Links to other files, links by name, and objects that are reachable twice are refused before any
dataset is read. Raises CheckpointError, and nothing else, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from resnets.readers.hdf5.data import Dataset, dataset
from resnets.readers.hdf5.header import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DATASPACE,
    DEEPEST_GROUP,
    LAYOUT,
    LINK,
    LINK_INFO,
    SYMBOL_TABLE,
    UNDEFINED,
    Message,
    Source,
    attribute,
    index,
    messages,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Group:
    """A group: what it contains, by name, and its attributes that are texts."""

    name: str
    children: dict[str, Group | Dataset] = field(default_factory=dict)
    attributes: dict[str, list[str]] = field(default_factory=dict)


def read_tree(data: bytes) -> Group:
    """Return the root group of an HDF5 file's bytes."""
    source = Source(data)
    if data[: len(SIGNATURE)] != SIGNATURE:
        raise source.damaged("it does not begin like one")
    root = _root(source)
    return _group(source, "", messages(source, root), {root}, 0)


def _root(source: Source) -> int:
    """Return the address of the root group's object header, from the superblock."""
    version = source.uint(8, 1)
    if version in (0, 1):
        widths, base, end, root = (13, 14), *(at + 4 * version for at in (24, 40, 64))
    elif version in (2, 3):
        widths, base, end, root = (9, 10), 12, 28, 36
    else:
        raise source.damaged(f"a superblock of version {version}")
    if [source.uint(at, 1) for at in widths] != [8, 8] or source.uint(base, 8):
        raise source.refused("addresses of another size or origin")
    if (size := source.uint(end, 8)) > len(source.data):
        raise source.damaged(f"it is truncated ({len(source.data):,} of {size:,} bytes)")
    return source.uint(root, 8)


def _group(source: Source, name: str, header: list[Message], seen: set[int], depth: int) -> Group:
    if depth > DEEPEST_GROUP:
        raise source.refused(f"more than {DEEPEST_GROUP} groups within each other")
    group = Group(name, attributes=_attributes(source, header))
    for link, address in _links(source, name, header):
        inner = f"{name}/{link}" if name else link
        if address in seen:
            raise source.refused(f'an object that has two names ("{inner}")')
        seen.add(address)
        below = messages(source, address)
        if any(message.kind in (LAYOUT, DATASPACE) for message in below):
            group.children[link] = dataset(source, inner, below, _attributes(source, below))
        else:
            group.children[link] = _group(source, inner, below, seen, depth + 1)
    return group


def _attributes(source: Source, header: list[Message]) -> dict[str, list[str]]:
    found = {}
    for message in header:
        if message.kind == ATTRIBUTE and not message.shared:
            name, texts = attribute(source, message)
            if texts is not None:
                found[name] = texts
        elif message.kind == ATTRIBUTE_INFO:
            heap = message.at + (4 if source.uint(message.at + 1, 1) & 1 else 2)
            if source.uint(heap, 8) != UNDEFINED:
                raise source.refused("densely stored attributes")
    return found


def _links(source: Source, name: str, header: list[Message]) -> list[tuple[str, int]]:
    """Return the names in a group and the addresses that they stand for."""
    links: list[tuple[str, int]] = []
    for message in header:
        if message.kind == SYMBOL_TABLE:
            heap = source.uint(message.at + 8, 8)
            source.expect(heap, b"HEAP")
            names = (source.uint(heap + 24, 8), source.uint(heap + 8, 8))
            links += _symbols(source, name, source.uint(message.at, 8), names)
        elif message.kind == LINK:
            links.append(_link(source, name, message))
        elif message.kind == LINK_INFO:
            flags = source.uint(message.at + 1, 1)
            if source.uint(message.at + (10 if flags & 1 else 2), 8) != UNDEFINED:
                raise source.refused("densely stored groups, of HDF5 1.8 or later,")
    if len({link for link, _ in links}) < len(links):
        raise source.damaged(f'a name is twice in group "{name}"')
    return links


def _symbols(
    source: Source, group: str, node: int, names: tuple[int, int]
) -> Iterator[tuple[str, int]]:
    """Yield the links in a group's version 1 B-tree."""
    for _, table in index(source, node, b"\0", 8):
        source.count_object()
        source.expect(table, b"SNOD")
        for i in range(source.uint(table + 6, 2)):
            yield _symbol(source, group, table + 8 + 40 * i, names)


def _symbol(source: Source, group: str, at: int, names: tuple[int, int]) -> tuple[str, int]:
    offset, cached = source.uint(at, 8), source.uint(at + 16, 4)
    start, size = names
    if offset >= size:
        raise source.damaged(f'a name in group "{group}" lies outside of its heap')
    text = bytes(source.take(start + offset, min(size - offset, 4096))).split(b"\0", 1)[0]
    name = _name(source, group, text)
    address = source.uint(at + 8, 8)
    if cached == 2 or address == UNDEFINED:
        raise source.refused(f'a soft link ("{group}/{name}")')
    return name, address


def _link(source: Source, group: str, message: Message) -> tuple[str, int]:
    """Return the name and the address of a link message; only hard links have one."""
    flags, at = source.uint(message.at + 1, 1), message.at + 2
    kind = 0
    if flags & 8:
        kind, at = source.uint(at, 1), at + 1
    at += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    width = 1 << (flags & 3)
    length, at = source.uint(at, width), at + width
    if length > message.size:
        raise source.damaged(f'a name in group "{group}" is longer than its message')
    name = _name(source, group, bytes(source.take(at, length)))
    if kind:
        word = {1: "a soft", 64: "an external"}.get(kind, "an unknown")
        raise source.refused(f'{word} link ("{group}/{name}")')
    return name, source.uint(at + length, 8)


def _name(source: Source, group: str, text: bytes) -> str:
    try:
        name = text.decode("utf-8")
    except UnicodeDecodeError:
        raise source.damaged(f'a name in group "{group}" is not UTF-8') from None
    if not name or "/" in name or name in (".", ".."):
        raise source.damaged(f'"{name}" is a name in group "{group}"')
    return name
