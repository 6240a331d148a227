"""How readers of HDF5 bear damage and malice: crashes, hangs, memory, silently wrong tensors.

usage: python benchmarks/damaged_hdf5.py [--readers ours pyfive h5py] [--count 6000] [--seed 0]
       (pyfive is not installed with the package: pip install pyfive==1.3.0)

Three files of at most 300 KB that were made to do harm come first. Then six small files as Keras
writes them (both of its layouts, old and new groups; plain, and in chunks, compressed, shuffled,
with checksums) are damaged in turn: bytes flipped, ranges overwritten, zeroed, or copied over each
other, numbers set to what lengths and addresses fear, files cut short. A reader works in a process
of its own, with 1 GiB more address space than it begins with, and the same limits on objects and
declared bytes around every reader. It is ended when a file takes 10 seconds; a new one goes on
behind that file. Half of the damage spares the elements of arrays: what is read must be the whole
file's.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

HANG = 10.0  # seconds
ADDRESS_SPACE = 1 << 30  # bytes beyond what the process has when it begins
MEMORY = 128 << 20  # a file that takes more is counted
DECLARED, OBJECTS, DEPTH = 64 << 20, 200_000, 64  # our reader's limits for a small file
UNDEFINED = 2**64 - 1
Tensors = dict[str, list[Any]]  # shape, dtype, digest
Read = Callable[[Path], Tensors]


# Files that were made to do harm.


def header_in_itself() -> bytes:
    """Return an object header whose continuation is continued by itself."""
    block = 48 + 7 + 20 + 4
    again = struct.pack("<BHBQQ", 0x10, 16, 0, block, 28)
    signature = b"\x89HDF\r\n\x1a\n"
    start = signature + struct.pack("<4BQQQQI", 2, 8, 8, 0, 0, UNDEFINED, block + 28, 48, 0)
    return start + b"OHDR\x02\x00\x14" + again + bytes(4) + b"OCHK" + again + bytes(4)


def index_of_shared_nodes(levels: int = 40) -> bytes:
    """Return a group whose index has two ways from every node to the same next one."""
    header, node = 96, 64
    tree = header + 48
    heap = tree + levels * node
    start = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
    start += struct.pack("<QQQQ", 0, UNDEFINED, heap + 96, UNDEFINED)
    start += struct.pack("<QQII16s", 0, header, 0, 0, b"")
    start += struct.pack("<BBHIII", 1, 0, 1, 1, 24, 0)
    start += struct.pack("<HHIQQ", 0x11, 16, 0, tree, heap).ljust(tree - header - 16, b"\0")
    for level in reversed(range(levels)):
        tree += node
        start += b"TREE" + struct.pack("<BBHQQ", 0, level, 2 if level else 0, UNDEFINED, UNDEFINED)
        start += struct.pack("<QQQQQ", 0, tree, 0, tree, 0)
    return start + b"HEAP" + struct.pack("<IQQQ", 0, 64, UNDEFINED, heap + 32) + bytes(64)


def chunk_that_unpacks() -> bytes:
    """Return an array whose one chunk of 4 KB unpacks to 256 MB."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        array = file.create_dataset("w", (1024,), "f4", chunks=(1024,), compression="gzip")
        array.id.write_direct_chunk((0,), zlib.compress(bytes(256 << 20), 9))
    return buffer.getvalue()


MADE = [header_in_itself, index_of_shared_nodes, chunk_that_unpacks]


# Files as Keras writes them, and their damage.


def _values(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(shape)).normal(size=shape).astype("f4")


def _by_layers(file: h5py.File, **storage: Any) -> None:
    for layer, shapes in {"conv2d": [(3, 3, 2, 4), (4,)], "dense": [(4, 5), (5,)]}.items():
        for number, shape in enumerate(shapes):
            path = f"layers/{layer}/vars/{number}"
            file.create_dataset(path, data=_values(*shape), **storage)
        file[f"layers/{layer}/vars"].attrs["name"] = layer
    file["optimizer/vars/0"] = 7


def _by_names(file: h5py.File) -> None:
    file.attrs["keras_version"], file.attrs["backend"] = b"2.15.0", b"tensorflow"
    file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": {"layers": []}})
    weights = file.create_group("model_weights")
    weights.attrs["layer_names"] = [b"conv1", b"bn1"]
    for layer, names in {"conv1": ["kernel:0", "bias:0"], "bn1": ["gamma:0", "beta:0"]}.items():
        group = weights.create_group(layer)
        group.attrs["weight_names"] = [f"{layer}/{name}".encode() for name in names]
        for name in names:
            group[f"{layer}/{name}"] = _values(*((3, 3, 2, 4) if name == "kernel:0" else (4,)))


def _many(file: h5py.File) -> None:
    for number in range(60):
        file[f"layers/{number}"] = _values(3)


PACKED = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True}
FILES: list[tuple[Callable[[h5py.File], None], dict[str, Any]]] = [
    (_by_layers, {}),
    (_by_names, {}),
    (partial(_by_layers, **PACKED), {}),
    (_by_layers, {"libver": "v108"}),
    (_by_names, {"libver": "latest"}),
    (_many, {}),
]


@cache
def whole(which: int) -> tuple[bytes, list[range]]:
    """Return a file's bytes, and where the elements of its arrays lie."""
    write, options = FILES[which]
    buffer, elements = io.BytesIO(), []
    with h5py.File(buffer, "w", **options) as file:
        write(file)

    def note(_: str, item: Any) -> None:
        if isinstance(item, h5py.Group):
            return
        pieces = [(item.id.get_offset(), item.nbytes)] if item.chunks is None else []
        for number in range(item.id.get_num_chunks() if item.chunks else 0):
            chunk = item.id.get_chunk_info(number)
            pieces.append((chunk.byte_offset, chunk.size))
        elements.extend(range(at, at + size) for at, size in pieces)

    with h5py.File(buffer, "r") as file:
        file.visititems(note)
    return buffer.getvalue(), elements


@cache
def _places(which: int, spare: bool) -> tuple[list[int], list[int]]:
    """Return where damage may begin, and where of these something stands: padding is most."""
    data, elements = whole(which)
    spared = {at for span in elements for at in span} if spare else set()
    places = [at for at in range(len(data)) if at not in spared]
    return places, [at for at in places if data[at]]


def is_spared(number: int) -> bool:
    """Return whether the elements of arrays stay as they are."""
    return number // len(FILES) % 2 == 0


def damaged(number: int, seed: int) -> bytes:
    """Return the bytes of one damaged file."""
    which, spare = number % len(FILES), is_spared(number)
    data, elements = whole(which)
    places, full = _places(which, spare)
    random, changed = Random(f"{seed} {number}"), bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        _damage(changed, random.choice(full if random.random() < 0.8 else places), random)
    if spare:
        for span in elements:
            changed[span.start : span.stop] = data[span.start : span.stop]
    elif random.random() < 0.15:
        del changed[random.randrange(8, len(data)) :]
    return bytes(changed)


def _damage(data: bytearray, at: int, random: Random) -> None:
    length = random.choice([1, 1, 2, 4, 8, 16, 64, 256])
    match random.randrange(6):
        case 0:
            piece = bytes([data[at] ^ 1 << random.randrange(8)])
        case 1:
            piece = bytes([random.choice([0, 1, 2, 0x7F, 0x80, 0xFF, random.randrange(256)])])
        case 2:
            piece = random.randbytes(length)
        case 3:
            piece = bytes(length)
        case 4:
            start = random.randrange(len(data))
            piece = bytes(data[start : start + length])
        case _:
            width = random.choice([2, 4, 8])
            feared = [0, 1, 2**31 - 1, 2**32 - 1, 2 ** (8 * width) - 1, len(data), at, at - 8]
            value = random.choice([*feared, random.randrange(len(data))]) % 2 ** (8 * width)
            at, piece = at // 8 * 8, value.to_bytes(width, "little")
    piece = piece[: len(data) - at]
    data[at : at + len(piece)] = piece


# The readers.


def _described(array: Any) -> list[Any]:
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return [list(array.shape), array.dtype.name, digest[:16]]


def ours() -> Read:
    from resnets.readers.hdf5.tree import Group, read_tree

    def walk(group: Group, prefix: str) -> Tensors:
        found: Tensors = {}
        for name, child in group.children.items():
            if isinstance(child, Group):
                found |= walk(child, f"{prefix}{name}/")
            elif child.type.name != "integer":
                found[prefix + name] = _described(child.read().numpy())
        return found

    return lambda path: walk(read_tree(path.read_bytes()), "")


def _as_h5py(opened: Callable[[Path], Any], groups: type, arrays: type) -> Read:
    """Return a reader through h5py's interface, with our reader's limits around it."""

    def walk(group: Any, prefix: str, depth: int, left: dict[str, int]) -> Tensors:
        found: Tensors = {}
        dict(group.attrs)
        for name in group:
            left["objects"] -= 1
            if depth > DEPTH or left["objects"] < 0:
                raise ValueError("refused: too many objects")
            child = getattr(group, "get_lazy_view", group.__getitem__)(name)
            if isinstance(child, groups):
                found |= walk(child, f"{prefix}{name}/", depth + 1, left)
            elif not isinstance(child, arrays) or child.dtype.kind not in "iuf":
                raise ValueError("refused: no array of numbers")
            elif child.dtype.kind == "f":
                size = child.dtype.itemsize
                for length in (*child.shape, *(child.chunks or ())):
                    size *= max(1, int(length))
                left["bytes"] -= size
                if left["bytes"] < 0:
                    raise ValueError("refused: too many bytes")
                found[prefix + name] = _described(child[()])
        return found

    return lambda path: walk(opened(path), "", 0, {"objects": OBJECTS, "bytes": DECLARED})


def with_pyfive() -> Read:
    import pyfive

    def opened(path: Path) -> Any:
        return pyfive.File(io.BytesIO(path.read_bytes()))

    return _as_h5py(opened, pyfive.Group, pyfive.Dataset)


def with_h5py() -> Read:
    return _as_h5py(lambda path: h5py.File(path, "r"), h5py.Group, h5py.Dataset)


READERS = {"ours": ours, "pyfive": with_pyfive, "h5py": with_h5py}


# A process that reads, and the one that watches it.


def work(options: argparse.Namespace) -> None:
    """Read the files from a number on: a line when one begins, and its result when it ends."""
    read, path = READERS[options.work](), options.folder / "damaged.h5"
    warnings.simplefilter("ignore")
    path.write_bytes(whole(0)[0])
    read(path)  # everything is loaded now
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ADDRESS_SPACE, now + ADDRESS_SPACE))
    for number in range(options.first, options.count):
        path.write_bytes(MADE[number]() if number < 0 else damaged(number, options.seed))
        Path("/proc/self/clear_refs").write_text("5")  # the highest memory begins again here
        print("begin", flush=True)
        before = _highest()
        result: dict[str, Any]
        try:
            result = {"read": read(path)}
        except Exception as error:
            result = {"error": type(error).__name__}
        print(json.dumps({**result, "memory": _highest() - before}), flush=True)


def _highest() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) << 10


def supervise(reader: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what became of every file; a process that ended is begun again behind its file."""
    results: list[dict[str, Any]] = []
    while (first := len(results) - len(MADE)) < options.count:
        command = [sys.executable, __file__, "--work", reader, "--folder", str(options.folder)]
        for name in ("count", "seed"):
            command += [f"--{name}", str(getattr(options, name))]
        with subprocess.Popen(
            [*command, f"--first={first}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            results += _watched(process)
    return results


def _watched(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    assert process.stdout is not None
    results, begun, pending = [], False, b""
    while True:
        if not select.select([process.stdout], [], [], HANG if begun else None)[0]:
            process.kill()
            return [*results, {"hang": True}]
        if not (piece := os.read(process.stdout.fileno(), 1 << 20)):
            break
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            begun = line == b"begin"
            if not begun:
                results.append(json.loads(line))
    code = process.wait()
    if not begun and code:
        raise RuntimeError(f"{process.args} ended with {code} between two files")
    if begun:
        results.append({"crash": signal.Signals(-code).name if code < 0 else code})
    return results


def became(number: int, result: dict[str, Any], right: list[Tensors]) -> list[str]:
    """Return words for what became of a file."""
    kinds = [kind for kind in ("crash", "hang", "error", "read") if kind in result]
    if result.get("memory", 0) > MEMORY:
        kinds.append(f"more than {MEMORY >> 20} MiB")
    if number >= 0 and is_spared(number) and "read" in result:
        expected = right[number % len(FILES)]
        if result["read"].keys() != expected.keys():
            kinds.append("silently other names")
        elif result["read"] != expected:
            kinds.append("silently other values")
    return kinds


def compare(options: argparse.Namespace) -> None:
    """Print what became of the files with every reader."""
    right = []
    for which in range(len(FILES)):
        path = options.folder / "whole.h5"
        path.write_bytes(whole(which)[0])
        right.append(with_h5py()(path))
    for reader in options.readers:
        results = supervise(reader, options)
        for made, result in zip(MADE, results, strict=False):
            print(f"{reader}, {made.__name__}: {', '.join(became(-1, result, right))}")
        counts: Counter[str] = Counter()
        for number, result in enumerate(results[len(MADE) :]):
            counts.update(became(number, result, right))
        most = max(result.get("memory", 0) for result in results[len(MADE) :]) >> 20
        print(f"{reader}, damaged files: {dict(counts)}, at most {most} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", nargs="+", default=["ours"], choices=READERS)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    for hidden, kind in {"--work": str, "--first": int, "--folder": Path}.items():
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        compare(options)


if __name__ == "__main__":
    main()
