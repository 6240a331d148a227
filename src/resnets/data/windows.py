"""Windows into images: how they are chosen at random, and how they are scaled to one size."""

from math import ceil, log
from typing import NamedTuple

import torch
from torch import Tensor

from resnets.data import counter

TRIES = 10  # until a window fits
# Weights are whole multiples of 1 / _UNIT: with 8-bit pixels every sum is then exact in float32,
# so that an image is the same in any batch, in whatever order a product is summed.
_UNIT = 2**16


class Windows(NamedTuple):
    """One window for each image of a batch, float64 (N,) each, in pixels of the image."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


Sides = tuple[int | Tensor, int | Tensor]  # (H, W) of all images, or int64 (N,) of each


def random_areas(
    shape: Sides,
    area: tuple[float, float],
    aspect: tuple[float, float],
    seed: int,
    epoch: int,
    ids: Tensor,
) -> Windows:
    """Return windows of a random part of the area and aspect (Szegedy et al. 2015, sec. 6).

    As torchvision's RandomResizedCrop: ``area`` is drawn uniformly as a part of the image's, the
    width / height ``aspect`` uniformly in its logarithm, both in whole pixels. Where ten tries do
    not fit into ``shape``, the largest middle part of an allowed aspect stands in.
    """
    height, width = _each(shape, ids)
    part, shade = (
        counter.uniform(seed, [f"{what} {number}" for number in range(TRIES)], epoch, ids)
        for what in ("area", "aspect")
    )
    pixels = height * width * (area[0] + (area[1] - area[0]) * part)
    ratio = torch.exp(log(aspect[0]) + (log(aspect[1]) - log(aspect[0])) * shade)
    high = torch.sqrt(pixels / ratio).round().long()
    wide = torch.sqrt(pixels * ratio).round().long()
    fits = (high > 0) & (high <= height) & (wide > 0) & (wide <= width)
    found, rows, columns = first_fitting(fits, high, wide)
    rows = torch.where(found, rows, torch.minimum(height, (width / aspect[0]).round().long()))
    columns = torch.where(found, columns, torch.minimum(width, (height * aspect[1]).round().long()))
    top, left = (
        torch.where(found, counter.integers(room + 1, seed, f"crop {axis}", epoch, ids), room // 2)
        for axis, room in (("row", height - rows), ("column", width - columns))
    )
    return Windows(top.double(), left.double(), rows.double(), columns.double())


def first_fitting(fits: Tensor, *tries: Tensor) -> tuple[Tensor, ...]:
    """Return whether any of a sample's tries ``fits``, bool (N,), and the first that does.

    ``fits`` is bool (TRIES, N), and so large are each of ``tries``; 0 stands in where none fits.
    """
    found = fits.any(0)
    first = fits.byte().argmax(0, keepdim=True)
    return found, *(values.gather(0, first)[0] * found for values in tries)


def random_scales(
    shape: Sides, scale: tuple[int, int], size: int, seed: int, epoch: int, ids: Tensor
) -> Windows:
    """Return what size x size crops show of images ``shape`` scaled to a random side.

    The shorter side becomes a whole number of pixels from ``scale``, both ends included, and the
    crop lies anywhere in the scaled image (Simonyan & Zisserman 2014; He et al. 2015, sec. 3.4).
    """
    (low, high), sides = scale, _each(shape, ids)
    side = low + counter.integers(high - low + 1, seed, "scale", epoch, ids)
    shorter = torch.minimum(*sides)
    pixel = side.double().reciprocal() * shorter  # of the scaled image, in the image's own
    top, left = (
        pixel
        * counter.integers(length * side // shorter - size + 1, seed, f"crop {axis}", epoch, ids)
        for axis, length in zip(("row", "column"), sides, strict=True)
    )
    return Windows(top, left, size * pixel, size * pixel)


def _each(shape: Sides, ids: Tensor, dtype: torch.dtype = torch.int64) -> tuple[Tensor, Tensor]:
    """Return the sides of each image as tensors (N,)."""
    height, width = (
        (n if isinstance(n, Tensor) else torch.full_like(ids, n)).to(dtype) for n in shape
    )
    return height, width


def random_shifts(
    shape: Sides, shift: float, size: int, seed: int, epoch: int, ids: Tensor
) -> Windows:
    """Return the middle size x size windows, moved by up to ``shift`` of the sides ``shape``."""
    top, left = (
        ((length - size) / 2).round()
        + shift * length * (2 * counter.uniform(seed, f"crop {axis}", epoch, ids) - 1)
        for axis, length in zip(("row", "column"), _each(shape, ids, torch.float64), strict=True)
    )
    side = torch.full_like(top, size)
    return Windows(top, left, side, side)


def within(length: int, start: Tensor, extent: Tensor | int) -> Tensor:
    """Return which of ``length`` positions lie in [start, start + extent), bool (N, length)."""
    positions = torch.arange(length, device=start.device)
    return (positions >= start[:, None]) & (positions < (start + extent)[:, None])


def resample(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    size: int,
    flipped: Tensor | None = None,
) -> Tensor:
    """Scale a window of each image to size x size, mirrored where ``flipped`` (N,) is true.

    ``images`` are uint8 (N, C, H, W); the windows (N,) are in their pixels and need not be whole.
    The result is uint8 (N, C, size, size), channels-last in memory: Pillow's antialiased bilinear
    ``resize(box=...)`` but for one grey level where a value lies at a half, with the border's
    pixels repeated as far as a window reaches outside.
    """
    rows = _weights(top, height, images.shape[2], size)
    columns = _weights(left, width, images.shape[3], size)
    if flipped is not None:
        columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
    pixels = _product(columns, images.permute(0, 3, 2, 1))
    # The columns come first and are rounded, as in Pillow (since 13, but for tall images).
    return _product(rows, pixels.transpose(1, 2)).byte().permute(0, 3, 1, 2)


def _product(weights: Tensor, pixels: Tensor) -> Tensor:
    """Return whole grey levels (N, size, A, C), float32, of ``pixels`` (N, L, A, C)."""
    sums = torch.bmm(weights, pixels.flatten(2).float())
    levels = sums.add_(_UNIT // 2).div_(_UNIT).floor_().clamp_(max=255)
    return levels.view(len(levels), -1, *pixels.shape[2:])


def _weights(start: Tensor, extent: Tensor, length: int, size: int) -> Tensor:
    """Return what each of ``length`` pixels adds to each of ``size``, in 1 / _UNIT (N, size, L).

    A triangle as wide as two pixels of the source or of the result, whichever is larger, cut off
    where the image ends.
    """
    start, extent = start.double()[:, None, None], extent.double()[:, None, None]
    stop = start + extent
    before = ceil(max(0.0, -start.min().item()))  # note: this waits for the device
    after = ceil(max(0.0, stop.max().item() - length))
    centre = start + extent / size * (torch.arange(size, device=start.device)[:, None] + 0.5)
    positions = torch.arange(-before, length + after, device=start.device)
    there = (positions >= start.floor().clamp(max=0)) & (positions < stop.ceil().clamp(min=length))
    distance = (positions + 0.5 - centre).abs() / (extent / size).clamp(min=1)
    weights = (1 - distance).clamp_(min=0) * there
    weights /= weights.sum(2, keepdim=True)
    inside = weights[:, :, before : before + length]
    inside[:, :, 0] += weights[:, :, :before].sum(2)
    inside[:, :, -1] += weights[:, :, before + length :].sum(2)
    return torch.round(inside * _UNIT).float()
