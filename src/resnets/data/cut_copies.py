"""Images that were cut out of others, among those that a network finds alike.

A part of one is compared with the whole of the other as `resnets.data.near` compares images: with
small thumbnails first, and where these agree with larger ones.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from resnets.data.near import details, halved

LARGER = 64  # side of a larger thumbnail
# Of parts of 60 to 90 % of the area of 200 photographs, some of them scaled, compressed or
# mirrored, 99 % lie above both bounds. Of 16,510 pairs of neighbours in TrashNet and the small
# clothing data set 21 do, none in the latter: TrashNet's photographs were taken in series.
_COARSE = 0.86  # correlation of a part with a whole, of small thumbnails
_FINE = 0.88  # and of larger ones
_LEAST = 0.75  # side of a part, of the whole's


def cut_pairs(
    thumbnails: NDArray[np.uint8], larger: NDArray[np.uint8], neighbours: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """Yield the neighbours, (N, K), of which one is like a part of the other, mirrored or not.

    ``thumbnails`` and ``larger`` are those of all images, (N, side, side); -1 is no neighbour.
    """
    others: defaultdict[int, set[int]] = defaultdict(set)
    for one, row in enumerate(neighbours.tolist()):
        for other in row:
            if other >= 0:
                others[one].add(other)
                others[other].add(one)
    for one in sorted(others):
        near = np.array(sorted(others[one]))
        for images, least in ((thumbnails, _COARSE), (larger, _FINE)):
            if len(near):
                near = near[_likeness(images[one], images[near]) >= least]
        yield from ((one, other) for other in near.tolist())


def _likeness(image: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how well the best part of an image correlates with each of others, (N,)."""
    parts = details(_parts(image))
    found = [(parts @ details(halved(seen)).T).max(0) for seen in (others, others[:, :, ::-1])]
    return np.asarray(np.maximum(*found))


def _parts(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return all squares of an image (side, side) at half its side, (M, side / 2, side / 2)."""
    side, found = len(image), []
    for part in range(round(_LEAST * side), side):
        scale = _areas(part, side // 2)
        windows = sliding_window_view(image.astype(np.float32), (part, part))
        found.append((scale @ windows @ scale.T).reshape(-1, side // 2, side // 2))
    return np.concatenate(found)


@cache
def _areas(side: int, count: int) -> NDArray[np.float32]:
    """Return what scales a column of pixels to fewer by means over areas, (count, side)."""
    step, pixels = side / count, np.arange(side)
    starts = step * np.arange(count)[:, None]
    shared = np.minimum(starts + step, pixels + 1) - np.maximum(starts, pixels)
    return np.asarray(shared.clip(min=0) / step, np.float32)
