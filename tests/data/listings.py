"""What tests of packs, tars and Parquet files put into them and read out again."""

import io

import numpy as np
from PIL import Image


def image(seed: int, kind: str = "png") -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


def read(listing, index: int) -> bytes:
    with listing.open(index) as file:
        return file.read()


def content(listing) -> dict[str, tuple[str, str, bytes]]:
    """What a listing tells of each image, by name."""
    return {
        name: (listing.splits[part], listing.classes[label], read(listing, i))
        for i, (name, part, label) in enumerate(
            zip(listing.names, listing.parts, listing.labels, strict=True)
        )
    }
