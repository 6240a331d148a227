"""Near copies: the same photograph compressed again, scaled, mirrored, or taken twice from a spot.

Two images are compared by what changes from place to place in them, as differences between
neighbouring points of thumbnails, which backgrounds, brightness and contrast do not enter. All
pairs are compared, in blocks: memory grows with the number of images, time with its square.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.copies import originals
from resnets.data.listing import Listing

SIDE = 32  # of a thumbnail
# Of 300 photographs compressed again (JPEG 50 to 80), scaled (1/2, 3/4), mirrored, brightened, or
# several of these, the least alike came to 0.956 and 0.844. Of the 10 million pairs of TrashNet and
# the small clothing data set 36 lie above both bounds. Of nine groups that were looked at seven
# show the same object from the same place, one is unclear, one is wrong: pale papers in one shadow.
_COARSE = 0.85  # correlation of thumbnails of half the side
_FINE = 0.82  # of whole ones, where both images have the pixels for them
_FINE_FROM = 64  # pixels of the shorter side
_FLAT = 2.0  # grey levels: the standard deviation below which there is nothing to compare
_BLOCK = 2048  # images that are compared at a time with as many


@dataclass(frozen=True)
class Near:
    """Images that are near copies of each other, and the splits and classes they are in."""

    names: tuple[str, ...]
    splits: tuple[str, ...]
    classes: int

    @property
    def harmful(self) -> bool:
        """Whether they are in two splits or two classes, which makes a result wrong."""
        return len(self.splits) > 1 or self.classes > 1


def thumbnail(image: Image.Image, side: int = SIDE) -> NDArray[np.uint8]:
    """Return a whole image in grey as uint8 (side, side)."""
    return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BILINEAR), np.uint8)


def find_near(
    listing: Listing,
    numbers: NDArray[np.int64],
    thumbnails: NDArray[np.uint8],
    sizes: NDArray[np.int64],
    pixels: NDArray[np.uint8],
    also: Iterable[tuple[int, int]] = (),
) -> tuple[Near, ...]:
    """Return the groups of near copies among a listing's images ``numbers``, (N,).

    Equal ones alone are no such group.

    ``thumbnails`` is (N, SIDE, SIDE), ``sizes`` (N, 2) and ``pixels`` the digests (N, B) of their
    pixels; ``also`` are pairs that are known to be near copies.
    """
    first, parts, labels = originals(pixels), listing.parts[numbers], listing.labels[numbers]
    unique = np.unique(first)
    roots = {int(index): int(index) for index in unique}

    def root(index: int) -> int:
        while roots[index] != index:
            roots[index] = index = roots[roots[index]]
        return index

    pairs = _pairs(thumbnails[unique], sizes[unique].min(1))
    for a, b in chain(((unique[a], unique[b]) for a, b in pairs), also):
        a, b = root(int(first[a])), root(int(first[b]))
        roots[max(a, b)] = min(a, b)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index, original in enumerate(first.tolist()):
        groups[root(original)].append(index)
    return tuple(
        Near(
            tuple(listing.shown(number) for number in numbers[group].tolist()),
            tuple(dict.fromkeys(listing.splits[part] for part in parts[group])),
            len(np.unique(labels[group])),
        )
        for group in groups.values()
        if len({int(first[index]) for index in group}) > 1
    )


def _pairs(thumbnails: NDArray[np.uint8], shorter: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield pairs of near copies, the earlier first, as they are or one of them mirrored."""
    coarse = details(halved(thumbnails))
    large = shorter >= _FINE_FROM
    for start in range(0, len(thumbnails), _BLOCK):
        rows = slice(start, start + _BLOCK)
        here = thumbnails[rows]
        for seen in (here, here[:, :, ::-1]):
            here_details = details(halved(seen))
            for other in range(start, len(thumbnails), _BLOCK):
                alike = here_details @ coarse[other : other + _BLOCK].T >= _COARSE
                a, b = np.nonzero(alike)
                later = b + other > a + start
                a, b = a[later], b[later] + other
                both = large[a + start] & large[b]
                for at in range(0, len(a), _BLOCK):  # many only where almost all are alike
                    part = slice(at, at + _BLOCK)
                    fine = (details(seen[a[part]]) * details(thumbnails[b[part]])).sum(1)
                    kept = (fine >= _FINE) | ~both[part]
                    yield from zip(
                        (a[part][kept] + start).tolist(), b[part][kept].tolist(), strict=True
                    )


def halved(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return thumbnails (N, side, side) at half their side."""
    half = thumbnails.shape[1] // 2
    blocks = thumbnails.reshape(len(thumbnails), half, 2, half, 2)
    return np.asarray(blocks.mean((2, 4)), np.float32)


def details(images: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return differences between neighbours as rows of norm 1; of flat images, of norm 0."""
    values = images.astype(np.float32)
    differences = np.concatenate(
        [np.diff(values, axis=axis).reshape(len(values), -1) for axis in (1, 2)], axis=1
    )
    norms = np.linalg.norm(differences, axis=1, keepdims=True)
    norms[values.std((1, 2)) < _FLAT] = np.inf
    return np.asarray(differences / np.maximum(norms, 1e-6), np.float32)
