"""A data set that is in the caller's hands: arrays, tensors, or anything indexable of pairs."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnets.data.classes import sides
from resnets.data.copies import originals
from resnets.data.dataset import Dataset, MemoryImages, whole
from resnets.errors import DataError, UsageError

Label = int | tuple[bool, ...]  # a class, or whether each class is true of an image
GIVEN = "given in Python"  # the source of such data, in records; a folder's is a whole path


def as_dataset(data: Any) -> Dataset:
    """Return what is given as a data set whose samples are all there to be trained on.

    It is a `Dataset` already, a pair (images, labels) of arrays or tensors, or sized and indexable
    by (image, label), as torch's data sets are. Images are uint8 squares of one size: tensors
    (C, H, W), arrays (H, W, C) or (H, W), PIL images; labels are whole numbers from 0 on, of which
    ``data.classes`` are the names, where it has them; or, where an image may have several classes,
    a 0 or 1 for each of them. Each is read once, and all are kept in memory; the fingerprint covers
    pixels, labels and names.

    Raises UsageError for what is no data set, and DataError for images or labels that are not such.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple) and len(data) == 2 and all(hasattr(x, "shape") for x in data):
        pairs: Iterable[Any] = zip(*_of_one_length(*data), strict=True)
    elif hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, dict):
        pairs = (data[i] for i in range(len(data)))
    else:
        raise UsageError(
            f"data is a {type(data).__name__}: no name, no folder and not indexable",
            hint="give its data set: loader.dataset"
            if hasattr(data, "dataset")
            else "give a folder, (images, labels), or what has a length and (image, label) at [i]",
        )
    images: list[NDArray[np.uint8]] = []
    labels: list[Label] = []
    for i, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"sample {i} is a {type(pair).__name__}, not (image, label)")
        images.append(_pixels(pair[0], i))
        labels.append(_label(pair[1], i))
        if _form(labels[i]) != _form(labels[0]):
            raise DataError(
                f"label {i} is {_form(labels[i])}, and label 0 is {_form(labels[0])}",
                hint="give one class to each image, or a 0 or 1 for each class to each",
            )
        height, width, _ = shape = images[i].shape
        if shape != images[0].shape or height != width:
            size, first = (" x ".join(map(str, image.shape)) for image in (images[i], images[0]))
            raise DataError(
                f"image {i} is {size} (height x width x channels)"
                + (f", and image 0 is {first}" if i else ""),
                hint="give squares of one size, tensors as (C, H, W) and arrays as (H, W, C); or a "
                "folder of images, which training scales",
            )
    if not images:
        raise DataError("the data set is empty")
    table = torch.tensor(labels)
    count = table.shape[1] if table.ndim == 2 else int(table.max()) + 1
    classes = _classes(getattr(data, "classes", None), count, exact=table.ndim == 2)
    if len(set(labels)) < 2:
        raise DataError(
            f"all labels are {str(labels[0])[:40]}", hint="there is nothing to tell apart"
        )
    digests = [hashlib.sha256(image).digest() for image in images]  # type: ignore[arg-type]
    fingerprint = hashlib.sha256(repr((images[0].shape, labels, classes)).encode())
    fingerprint.update(b"".join(digests))
    rows = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)
    return Dataset(
        name="tensors" if isinstance(data, tuple) else type(data).__name__,
        classes=classes,
        train=whole(MemoryImages(torch.from_numpy(np.stack(images))), table),
        validation=None,
        test=None,
        fingerprint=fingerprint.hexdigest(),
        mirror=sides(classes) is None,
        originals=torch.from_numpy(originals(rows)),
    )


def _of_one_length(images: Any, labels: Any) -> tuple[Any, Any]:
    if not images.shape or not labels.shape or len(images) != len(labels):
        shapes = tuple(images.shape), tuple(labels.shape)
        raise DataError("images {} and labels {} differ in number".format(*shapes))
    return images, labels


def _pixels(image: Any, number: int) -> NDArray[np.uint8]:
    """Return an image as uint8 (H, W, C)."""
    if isinstance(image, Image.Image):
        array = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    elif isinstance(image, Tensor):
        array = image.detach().cpu().movedim(0, -1).numpy() if image.ndim == 3 else image.numpy()
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise DataError(
            f"image {number} is a {type(image).__name__}",
            hint="give PIL images, uint8 tensors (C, H, W) or uint8 arrays (H, W, C)",
        )
    if array.ndim == 2 and not isinstance(image, Tensor):
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 3 or not array.size:
        shape = tuple(getattr(image, "shape", array.shape))
        raise DataError(
            f"image {number} is {array.dtype} {shape}, not uint8 with height, width and channels",
            hint="give pixels from 0 to 255 as they are: training scales and normalises them",
        )
    return np.ascontiguousarray(array)


def _label(label: Any, number: int) -> Label:
    value = label.tolist() if hasattr(label, "tolist") else label
    if isinstance(value, list | tuple) and len(value) > 1 and all(each in (0, 1) for each in value):
        return tuple(map(bool, value))
    if not isinstance(value, int) or value < 0:
        raise DataError(
            f"label {number} is {str(label)[:40]}",
            hint="labels are whole numbers from 0 on; or a 0 or 1 for each of two classes or more",
        )
    return int(value)


def _form(label: Label) -> str:
    return f"a vector of {len(label)}" if isinstance(label, tuple) else "one class"


def _classes(names: Any, count: int, *, exact: bool) -> tuple[str, ...]:
    """Return the names of the classes: those that the data set has, or numbers."""
    if names is None:
        return tuple(map(str, range(count)))
    classes = tuple(map(str, names))
    if exact and len(classes) != count:
        raise DataError(f"it names {len(classes)} classes, and a label is a vector of {count}")
    if len(classes) < count:
        raise DataError(f"it names {len(classes)} classes, and a label is {count - 1}")
    return classes
