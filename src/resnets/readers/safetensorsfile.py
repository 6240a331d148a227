"""Safetensors files: the header is judged before anything is allocated, then the library reads."""

import json
import math
import re
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from resnets.readers.allowance import broken, truncated
from resnets.readers.paths import open_regular, spelled
from resnets.readers.plain import is_plausible_size

# Parsed JSON takes up to 25 times its text; the largest headers (many classes) have about 1 MB.
_LONGEST_HEADER = 4 * 1024**2
_ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


def is_safetensors(start: bytes) -> bool:
    """Tell whether ``start``, the first bytes of a file, begin a header: its length, then JSON."""
    return re.match(rb".{8}\{(\s|[\"}]|$)", start, re.DOTALL) is not None


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata. Raises CheckpointError before anything is allocated."""
    _judge(path)
    with spelled(path) as name, safe_open(name, framework="pt") as file:
        # Cloned, because the library's tensors stay parts of the mapped file.
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        return tensors, dict(file.metadata() or {})


def _judge(path: Path) -> None:
    size = path.stat().st_size
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            raise broken(f"damaged: its header says to be {length:,} bytes long")
        if 8 + length > size:
            raise truncated(size, 8 + length)
        header = json.loads(file.read(length), object_pairs_hook=_without_twins)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise broken("damaged: its metadata are no texts")
    spans = sorted(_span(name, entry) for name, entry in header.items())
    end = 0
    for first, last, name in spans:
        if first != end:
            raise broken(f"damaged: {ascii(name)[:100]} overlaps its neighbour or leaves a gap")
        end = last
    expected = 8 + length + end
    if expected > size:
        raise truncated(size, expected)
    if expected < size:
        raise broken(f"damaged: {size - expected:,} bytes follow its last tensor")


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    """Return where a tensor's bytes start and end, from the header's end on."""
    first, last = entry["data_offsets"]
    shape, dtype = entry["shape"], entry["dtype"]
    if dtype not in _ITEM_SIZES:
        raise broken(f"damaged: {ascii(name)[:100]} has the unknown type {ascii(dtype)[:50]}")
    if not is_plausible_size([first, last]) or not is_plausible_size(shape):
        raise broken(f"damaged: {ascii(name)[:100]} has an impossible shape or place")
    if math.prod(shape) * _ITEM_SIZES[dtype] != last - first:
        raise broken(f"damaged: {ascii(name)[:100]} has not as many bytes as its shape needs")
    return first, last, name


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise broken("damaged: its header names something twice")
    return entries
