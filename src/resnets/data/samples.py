"""Images taken out of a data set: as Pillow has them, as files, or as text in a page."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from resnets.data.dataset import Dataset, Split
from resnets.data.photographs import Photographs
from resnets.files import write_bytes

_SMALL, _THUMBNAIL = 96, 256  # pixels of the longer side


def as_images(images: Tensor) -> list[Image.Image]:
    """Return a batch of pixels, uint8 (N, C, H, W), as images: of more channels the first three.

    Of two it is the first: what else they are nothing says.
    """
    shown = images[:, : 3 if images.shape[1] >= 3 else 1]
    return [Image.fromarray(one.squeeze(2).numpy()) for one in shown.permute(0, 2, 3, 1)]


def _at(split: Split, position: int) -> Image.Image:
    return as_images(split.batch(torch.tensor([position]))[0])[0]


def png(split: Split, position: int) -> bytes:
    """Return the image at a position of a split as a PNG file."""
    buffer = io.BytesIO()
    _at(split, position).save(buffer, "PNG")
    return buffer.getvalue()


def url_of(image: Image.Image, kind: str, **options: Any) -> str:
    """Return an image as the ``data:`` address of a file of a kind that Pillow writes so."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}"


def data_url(split: Split, position: int) -> str:
    """Return the image at a position of a split as a ``data:`` address of a PNG."""
    return url_of(_at(split, position), "PNG")


def thumbnail_url(split: Split, position: int) -> str:
    """Return the whole image no larger than a page shows it, as a JPEG; small ones as `data_url`.

    Of a file it is what people see, and not the few pixels that a network does.
    """
    images = split.images
    if isinstance(images, Photographs):
        number = int(images.numbers[int(split.ids[position])])
        with images.listing.open(number) as file:
            image = images.store.read(file, images.listing.names[number]).image(
                images.store.channels
            )
    else:
        image = _at(split, position)
    if max(image.size) <= _SMALL:
        return data_url(split, position)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return url_of(image, "JPEG", quality=85)


def write_samples(dataset: Dataset, part: str, count: int, folder: Path) -> list[Path]:
    """Write ``count`` images, evenly spread over a part, as CLASS-ID.png; return their paths.

    Raises UsageError for an unknown part, DataError for one that the data set does not have, and
    ResourceError when the folder cannot be written.
    """
    split = dataset.part(part)
    count = min(count, len(split))
    paths = []
    for position in (i * len(split) // count for i in range(count)):
        name = re.sub(r"[^\w.-]", "_", dataset.classes[int(split.labels[position])])
        paths.append(folder / f"{name}-{int(split.ids[position])}.png")
        write_bytes(paths[-1], png(split, position))
    return paths
