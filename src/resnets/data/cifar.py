"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from their official files, binary or pickled.

Where they are looked for: in the folder that is asked for; else in $RESNETS_DATA; else in ``data``
in $RESNETS_CACHE or the user's cache, ~/.cache/resnets. That folder either holds the layout folder
(``cifar-10-batches-bin`` and so on) or is it.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnets.data.dataset import Dataset, MemoryImages, Split, whole
from resnets.data.images import printable
from resnets.data.scan import readable
from resnets.errors import CheckpointError, DataError, UsageError
from resnets.machine.downloads import cache_folder
from resnets.readers.reader import read

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
PIXELS = 3 * 32 * 32  # red, green and blue planes of 32x32, row by row


@dataclass(frozen=True)
class Layout:
    """One official layout: its folder, its files and how many records each of them holds."""

    folder: str
    train: tuple[str, ...]
    test: str
    records: tuple[int, int]  # in each training file, in the test file
    names: str | None  # the file of class names; None: CIFAR-10's are well known
    label_bytes: int = 1  # before the pixels of a binary record; the last one counts
    labels: str | None = None  # the key of a pickled file; None: the files are binary


LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "cifar10": (
        Layout(
            folder="cifar-10-batches-bin",
            train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            test="test_batch.bin",
            records=(10_000, 10_000),
            names=None,
        ),
        Layout(
            folder="cifar-10-batches-py",
            train=tuple(f"data_batch_{i}" for i in range(1, 6)),
            test="test_batch",
            records=(10_000, 10_000),
            names=None,
            labels="labels",
        ),
    ),
    "cifar100": (
        Layout(
            folder="cifar-100-binary",
            train=("train.bin",),
            test="test.bin",
            records=(50_000, 10_000),
            names="fine_label_names.txt",
            label_bytes=2,  # coarse, fine
        ),
        Layout(
            folder="cifar-100-python",
            train=("train",),
            test="test",
            records=(50_000, 10_000),
            names="meta",
            labels="fine_labels",
        ),
    ),
}


def data_root(root: Path | None = None) -> Path:
    """Return the folder to look in: ``root``, else $RESNETS_DATA, else the user's cache."""
    if root is not None:
        return root
    if named := os.environ.get("RESNETS_DATA"):
        return Path(named).expanduser()
    return cache_folder("data")


def open_cifar(
    name: str, root: Path | None = None, *, layouts: Sequence[Layout] | None = None
) -> Dataset:
    """Open "cifar10" or "cifar100" as uint8 (3, 32, 32): 50000 to train on, 10000 to test on.

    The fingerprint covers images and labels in order, so it is the same for both layouts.
    Raises DataError when no layout is found, or a file is missing, damaged or not plain data;
    UsageError for another name.
    """
    if name not in LAYOUTS:
        raise UsageError(f'no CIFAR data set is called "{name}"', hint="cifar10 or cifar100")
    layout, folder = _find(name, data_root(root), layouts or LAYOUTS[name])
    classes = _classes(name, layout, folder)
    train = [_read(name, folder / file, layout, layout.records[0]) for file in layout.train]
    parts = {
        "train": (np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train])),
        "test": _read(name, folder / layout.test, layout, layout.records[1]),
    }
    digest = hashlib.sha256()
    splits: dict[str, Split] = {}
    for part, (images, labels) in parts.items():
        if labels.max(initial=0) >= len(classes):
            raise _damaged(
                name, folder, f"label {labels.max()}, but there are {len(classes)} classes"
            )
        digest.update(images.data)
        digest.update(labels.data)
        splits[part] = whole(MemoryImages(torch.from_numpy(images)), torch.from_numpy(labels))
    return Dataset(
        name=name,
        classes=classes,
        train=splits["train"],
        validation=None,
        test=splits["test"],
        fingerprint=digest.hexdigest(),
        mirror=True,
    )


def _find(name: str, root: Path, layouts: Sequence[Layout]) -> tuple[Layout, Path]:
    for layout in layouts:
        if (root / layout.folder).is_dir():
            return layout, root / layout.folder
        if root.resolve().name == layout.folder and root.is_dir():
            return layout, root
    raise DataError(
        f"{name} is not in {printable(root)}: no folder "
        f"{' or '.join(layout.folder for layout in layouts)}",
        hint=f"`resnets data get {name}` downloads it; --root or RESNETS_DATA says where it is",
    )


def _damaged(name: str, path: Path, what: str) -> DataError:
    return DataError(f"{printable(path)}: {what}", hint=f"`resnets data get {name}` fetches it")


def _bytes(name: str, path: Path) -> bytes:
    with readable(path):
        if not path.exists():
            raise _damaged(name, path, "is missing")
        return path.read_bytes()


def _classes(name: str, layout: Layout, folder: Path) -> tuple[str, ...]:
    if layout.names is None:
        return CIFAR10_CLASSES
    path = folder / layout.names
    if layout.labels is None:
        found: object = _bytes(name, path).decode("utf-8", "replace").split()
    else:
        found = _plain(name, path).get("fine_label_names")
    if not isinstance(found, list) or len(set(map(str, found))) != 100:
        raise _damaged(name, path, "does not hold 100 class names")
    return tuple(map(str, found))


def _read(
    name: str, path: Path, layout: Layout, records: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images uint8 (N, 32, 32, 3) and labels uint8 (N,) of one file."""
    if layout.labels is not None:
        planes, labels = _pickled(name, path, layout.labels, records)
    else:
        data = _bytes(name, path)
        size = records * (layout.label_bytes + PIXELS)
        if len(data) != size:
            raise _damaged(name, path, f"has {len(data):,} bytes, not {size:,}")
        table = np.frombuffer(data, np.uint8).reshape(records, -1)
        planes, labels = table[:, layout.label_bytes :], table[:, layout.label_bytes - 1].copy()
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def _pickled(
    name: str, path: Path, key: str, records: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    content = _plain(name, path)
    planes, labels = content.get("data"), content.get(key)
    if not isinstance(planes, Tensor) or planes.dtype != torch.uint8:
        raise _damaged(name, path, 'holds no uint8 array "data"')
    if planes.shape != (records, PIXELS):
        raise _damaged(name, path, f"data is {tuple(planes.shape)}, not {(records, PIXELS)}")
    if isinstance(labels, Tensor):
        labels = labels.tolist()
    if not isinstance(labels, list) or len(labels) != records:
        raise _damaged(name, path, f'holds no list "{key}" of {records:,} labels')
    if not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise _damaged(name, path, f'"{key}" holds something that is no label')
    return planes.numpy(), np.array(labels, np.uint8)


def _plain(name: str, path: Path) -> dict[str, Any]:
    """Return the dictionary of a pickled file, keys as text, without running anything in it."""
    if not path.exists():
        raise _damaged(name, path, "is missing")
    try:
        tree = read(path).tree
    except CheckpointError as error:
        raise DataError(error.message, hint=f"`resnets data get {name}` fetches it") from None
    if not isinstance(tree, dict):
        raise _damaged(name, path, "does not hold a dictionary")
    return tree
