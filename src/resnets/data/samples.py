"""Single pictures taken out of a data set, as files or as text in a page."""

import base64
import io
import re
from pathlib import Path

import torch
from PIL import Image

from resnets.data.dataset import Dataset, Split
from resnets.errors import DataError, ResourceError, UsageError


def png(split: Split, position: int) -> bytes:
    """Return the picture at a position of a split as a PNG file."""
    images, _ = split.batch(torch.tensor([position]))
    array = images[0].permute(1, 2, 0).squeeze(2).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(split: Split, position: int) -> str:
    """Return the picture at a position of a split as a ``data:`` address of a PNG."""
    return "data:image/png;base64," + base64.b64encode(png(split, position)).decode()


def write_samples(dataset: Dataset, part: str, count: int, folder: Path) -> list[Path]:
    """Write ``count`` pictures, evenly spread over a split, as CLASS-ID.png; return their paths.

    Raises UsageError for an unknown split, DataError for one that the data set does not have, and
    ResourceError when the folder cannot be written.
    """
    _, split = choose_split(dataset, part)
    positions = [i * len(split) // count for i in range(min(count, len(split)))]
    paths = []
    for position in positions:
        name = re.sub(r"[^\w.-]", "_", dataset.classes[int(split.labels[position])])
        paths.append(folder / f"{name}-{int(split.ids[position])}.png")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            paths[-1].write_bytes(png(split, position))
        except OSError as error:
            raise ResourceError(
                f"{paths[-1]}: cannot be written: {error.strerror}", hint="choose another --out"
            ) from None
    return paths


def choose_split(dataset: Dataset, part: str | None = None) -> tuple[str, Split]:
    """Return the name and samples of a part; None means the last part that the data set has.

    Raises UsageError for another word and DataError for a split that is not there.
    """
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    if part is not None and part not in splits:
        raise UsageError(f'there is no split "{part}"', hint=f"choose from {', '.join(splits)}")
    there = {name: split for name, split in splits.items() if split is not None}
    part = part or list(there)[-1]
    if part not in there:
        raise DataError(f"{dataset.name} has no {part} part", hint=f"it has {', '.join(there)}")
    return part, there[part]
