"""Augmentation as pure functions on batches of uint8 images.

A batch is uint8 (N, C, H, W) on any device, its samples' ids int64 (N,) beside it. What happens to
a sample is a function of (seed, epoch, id): the same in any batch, order, process or repetition.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnets.data import counter


@dataclass(frozen=True)
class Augment:
    """The augmentation of a run: random crop and mirroring in one gather, then cutout.

    ``fill`` is the colour (C,) of the padding and of cutout's square; with ``reflect`` the padding
    mirrors the picture instead.
    """

    seed: int
    size: int  # of the crop, pixels
    padding: int  # pixels added on each side before the crop
    fill: tuple[int, ...]
    reflect: bool = False
    mirror: bool = True  # flip left to right, half of the time
    cutout: int = 0  # side of the square in pixels; 0 for none

    def __call__(self, images: Tensor, ids: Tensor, epoch: int) -> Tensor:
        """Return the augmented batch, uint8 (N, C, size, size), channels-last in memory."""
        fill = torch.tensor(self.fill, dtype=torch.uint8, device=images.device)
        padded = pad(images, self.padding, None if self.reflect else fill)
        top, left = (
            counter.integers(length - self.size + 1, self.seed, f"crop {axis}", epoch, ids)
            for axis, length in zip(("row", "column"), padded.shape[2:], strict=True)
        )
        flipped = counter.integers(2, self.seed, "mirror", epoch, ids).bool()
        if not self.mirror:
            flipped = torch.zeros_like(flipped)
        images = crop(padded, top, left, self.size, flipped)
        if not self.cutout:
            return images
        row, column = (
            counter.integers(self.size, self.seed, f"cutout {axis}", epoch, ids)
            for axis in ("row", "column")
        )
        return cutout(images, row, column, self.cutout, fill)


def pad(images: Tensor, padding: int, fill: Tensor | None) -> Tensor:
    """Return (N, C, H+2p, W+2p) with borders of the colour ``fill`` (C,), or reflected if None."""
    if padding == 0:
        return images
    if fill is None:
        rows, columns = (_reflected(length, padding, images.device) for length in images.shape[2:])
        return images[:, :, rows[:, None], columns]
    count, channels, height, width = images.shape
    canvas = fill.expand(count, height + 2 * padding, width + 2 * padding, channels).clone()
    canvas[:, padding : padding + height, padding : padding + width] = images.permute(0, 2, 3, 1)
    return canvas.permute(0, 3, 1, 2)


def crop(images: Tensor, top: Tensor, left: Tensor, size: int, flipped: Tensor) -> Tensor:
    """Return size x size windows at (top, left), each (N,), mirrored where ``flipped`` (N,)."""
    steps = torch.arange(size, device=images.device)
    rows = top[:, None] + steps
    columns = left[:, None] + torch.where(flipped[:, None], size - 1 - steps, steps)
    samples = torch.arange(len(images), device=images.device)[:, None, None]
    # One gather over (N, H, W, C) leaves the result channels-last without a copy.
    pixels = images.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]]
    return pixels.permute(0, 3, 1, 2)


def cutout(images: Tensor, row: Tensor, column: Tensor, side: int, fill: Tensor) -> Tensor:
    """Fill a square centred at (row, column), clipped at the borders (DeVries & Taylor 2017)."""
    height, width = images.shape[2:]
    in_rows = _within(torch.arange(height, device=images.device), row, side)
    in_columns = _within(torch.arange(width, device=images.device), column, side)
    inside = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return torch.where(inside, fill[:, None, None], images)


def _within(positions: Tensor, centre: Tensor, side: int) -> Tensor:
    start = centre[:, None] - side // 2
    return (positions >= start) & (positions < start + side)


def _reflected(length: int, padding: int, device: torch.device) -> Tensor:
    """Return the indices -p .. length+p-1, reflected at the first and last without repeating it."""
    index = torch.arange(-padding, length + padding, device=device).abs()
    return torch.where(index < length, index, 2 * (length - 1) - index)
