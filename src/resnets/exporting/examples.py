"""Images to check an export with: real ones, wherever some are at hand, and generated ones."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from resnets.data import NAMES, open_as_trained
from resnets.data.dataset import Dataset
from resnets.data.images import printable
from resnets.data.preprocess import Preprocess
from resnets.data.samples import as_images
from resnets.data.sources import images_in
from resnets.errors import DataError, ResnetsError, UsageError
from resnets.exporting.plan import Size
from resnets.exporting.raw_pixels import Pixels

COUNT = 32  # real images


@dataclass(frozen=True)
class Examples:
    """Real images, and in words where they are from; none where none are at hand."""

    source: str = ""
    images: tuple[Image.Image, ...] = ()


def find_data(
    preprocess: Preprocess,
    made: dict[str, Any],
    data: str | Path | None,
    root: Path | None,
    *,
    whole: bool,
) -> Dataset | Path | None:
    """Return the data set that is asked for, or else the one the network was trained on.

    None where that is not at hand. Opening a folder reads all of its images: without ``whole`` it
    is returned as it is. Raises what `open_as_trained` does when ``data`` is asked for.
    """
    own = made.get("data", {})
    source = data or own.get("source")
    if source is None:
        return None
    if data is None and root is None and own.get("root"):
        root = Path(own["root"])
    if not whole and source not in NAMES and Path(source).is_dir():
        return Path(source)
    try:
        return open_as_trained(
            source, root, made, channels=preprocess.channels, preprocess=preprocess
        )
    except ResnetsError:
        if data is not None:
            raise
        return None  # moved, or on another machine


def find_examples(preprocess: Preprocess, found: Dataset | Path | None, *, asked: bool) -> Examples:
    """Return real images of a folder or data set; photographs or none where there is neither.

    Raises DataError for a folder that is ``asked`` for and without any that can be read.
    """
    if isinstance(found, Path):
        try:
            return _of_folder(found, preprocess)
        except ResnetsError:
            if asked:
                raise
    elif found is not None:
        return _of_data(found)
    return _photographs() if preprocess.channels in (1, 3) else Examples()


def generated(count: int, channels: int, size: Size) -> Pixels:
    """Return images of waves, edges and noise, the same every time."""
    random = np.random.default_rng(0)
    height, width = size
    y, x = np.mgrid[:height, :width]
    shape = (count, channels, 1, 1)
    values = random.normal(0, 20, (count, channels, height, width))
    for _ in range(3):
        across, down = random.uniform(-0.5, 0.5, (2, *shape))
        values += 40 * np.sin(across * x + down * y + random.uniform(0, 6, shape))
    edges = (x > random.uniform(0, width, shape)) ^ (y > random.uniform(0, height, shape))
    values += 60 * edges + random.uniform(40, 140, shape)
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _of_folder(folder: Path, preprocess: Preprocess) -> Examples:
    if preprocess.channels not in (1, 3):
        raise UsageError(f"images have 1 or 3 channels, the network takes {preprocess.channels}")
    files = images_in(folder)
    count = min(COUNT, len(files))
    images = []
    for i in range(count):
        with suppress(DataError):  # a broken one more or less
            images.append(preprocess.decoded(files[i * len(files) // count]))
    if not images:
        raise DataError(
            f"{printable(folder)}: no image in it can be read, of {count} tried",
            hint="resnets predict DIR says what is wrong with each",
        )
    # Its path is nobody else's affair: a certificate travels.
    return Examples("a folder of images", tuple(images))


def _of_data(dataset: Dataset) -> Examples:
    part, split = list(dataset.parts.items())[-1]
    count = min(COUNT, len(split))
    images, _ = split.batch(torch.arange(count) * len(split) // count)
    return Examples(f"{dataset.name}, {part} split", tuple(as_images(images)))


def _photographs() -> Examples:
    """Return pieces of the two photographs that come with scikit-learn, if it is installed."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        return Examples()
    whole = [Image.fromarray(array) for array in load_sample_images().images]
    pieces = []
    for number in range(COUNT):
        left, top, side = 8 * number, 2 * number, 60 + 10 * number
        box = (left, top, left + side, min(top + side, whole[0].height))
        pieces.append(whole[number % len(whole)].crop(box))
    return Examples("pieces of scikit-learn's two photographs", tuple(pieces))
