"""Augmentation as pure functions on batches of uint8 images.

A batch is uint8 (N, C, H, W) on any device, its samples' ids int64 (N,) beside it. What happens to
a sample is a function of (seed, epoch, id): the same in any batch, order, process or repetition.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from resnets.data import counter
from resnets.data.policies import Policy
from resnets.data.windows import (
    Sides,
    Windows,
    random_areas,
    random_scales,
    random_shifts,
    resample,
    within,
)

# Of the colours of ImageNet's pixels, in 0..1, as everyone has them from fb.resnet.torch: the
# standard deviation along each principal component, and the components as columns (R, G, B).
_DEVIATIONS = (0.2175, 0.0188, 0.0045)
_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@dataclass(frozen=True)
class Augment:
    """The augmentation of a run: random crop and mirroring, then policy, lighting and cutout.

    ``fill`` is the colour (C,) of the padding and of cutout's square; with ``reflect`` the padding
    mirrors the image instead. ``area``, ``scale`` and ``shift`` choose the crop in other ways,
    one at a time and without padding. Raises ValueError for lighting of other than three channels
    and for a scale below the crop's size.
    """

    seed: int
    size: int  # of the crop, pixels
    padding: int  # pixels added on each side before the crop
    fill: tuple[int, ...]
    reflect: bool = False
    mirror: bool | Literal["alternate"] = True  # flip left to right; alternate: Jordan 2024
    cutout: int = 0  # side of the square in pixels; 0 for none
    area: tuple[float, float] | None = None  # part of the image, from and to
    aspect: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of such a part
    scale: tuple[int, int] | None = None  # side to which the image is scaled, from and to
    shift: float = 0.0  # part of its side by which the image moves at most
    policy: Policy | None = None  # what happens to the crops one by one
    lighting: float = 0.0  # standard deviation of the colour noise, in principal components

    def __post_init__(self) -> None:
        if self.lighting and len(self.fill) != 3:
            raise ValueError(f"lighting is for 3 channels, not {len(self.fill)}")
        if self.scale and self.scale[0] < self.size:
            raise ValueError(f"a crop of {self.size} does not fit in images of {self.scale[0]}")

    def __call__(self, images: Tensor, ids: Tensor, epoch: int, size: int | None = None) -> Tensor:
        """Return the augmented batch, uint8 (N, C, size, size), channels-last in memory.

        With a ``size`` of its own a batch shows the same crops, scaled to that size.
        """
        images = self.change(self.crop(images, ids, epoch, size), ids, epoch)
        return self.recolour(images, ids, epoch)

    def crop(self, images: Tensor, ids: Tensor, epoch: int, size: int | None = None) -> Tensor:
        """Return random crops of images of one size, some mirrored: the start of a call."""
        size = size or self.size
        flipped = self.flipped(ids, epoch)
        windows = self.windows((images.shape[2], images.shape[3]), ids, epoch)
        if windows:
            return resample(images, *windows, size, flipped)
        padded = pad(images, self.padding, None if self.reflect else self._fill(images))
        top, left = self.corner((padded.shape[2], padded.shape[3]), ids, epoch)
        if size == self.size:
            return crop(padded, top, left, size, flipped)
        side = torch.full_like(top, self.size)
        return resample(padded, top, left, side, side, size, flipped)

    def change(self, images: Tensor, ids: Tensor, epoch: int) -> Tensor:
        """Return crops (N, C, size, size) as the policy changes them."""
        return self.policy(images, ids, epoch) if self.policy else images

    def recolour(self, images: Tensor, ids: Tensor, epoch: int) -> Tensor:
        """Return crops (N, C, size, size) with their lighting and cutout: the end of a call."""
        if self.lighting:
            normals = [counter.normal(self.seed, f"lighting {i}", epoch, ids) for i in range(3)]
            images = lighting(images, self.lighting * torch.stack(normals, 1))
        if not self.cutout:
            return images
        row, column = (
            counter.integers(self.size, self.seed, f"cutout {axis}", epoch, ids)
            for axis in ("row", "column")
        )
        size = images.shape[3]  # smaller than self.size while images grow
        row, column = row * size // self.size, column * size // self.size
        side = round(self.cutout * size / self.size)
        return cutout(images, row, column, side, self._fill(images))

    def corner(self, shape: Sides, ids: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return the top and left of crops, int64 (N,) each, in padded images ``shape``."""
        top, left = (
            counter.integers(length - self.size + 1, self.seed, f"crop {axis}", epoch, ids)
            for axis, length in zip(("row", "column"), shape, strict=True)
        )
        return top, left

    def _fill(self, images: Tensor) -> Tensor:
        # Value by value: a tensor's copy to a device would wait for what it computes.
        return torch.stack([images.new_full((), value) for value in self.fill])

    def windows(self, shape: Sides, ids: Tensor, epoch: int) -> Windows | None:
        """Return where crops lie in images ``shape``; None for crops of padded ones."""
        if self.area:
            return random_areas(shape, self.area, self.aspect, self.seed, epoch, ids)
        if self.scale:
            return random_scales(shape, self.scale, self.size, self.seed, epoch, ids)
        if self.shift:
            return random_shifts(shape, self.shift, self.size, self.seed, epoch, ids)
        return None

    def flipped(self, ids: Tensor, epoch: int) -> Tensor:
        """Return which images are mirrored, bool (N,)."""
        if not self.mirror:
            return torch.zeros_like(ids, dtype=torch.bool)
        if self.mirror == "alternate":
            return counter.integers(2, self.seed, "mirror", 0, ids).bool() ^ (epoch % 2 == 1)
        return counter.integers(2, self.seed, "mirror", epoch, ids).bool()


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
    rows = within(height, row - side // 2, side)
    columns = within(width, column - side // 2, side)
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(inside, fill[:, None, None], images)


def lighting(images: Tensor, amounts: Tensor) -> Tensor:
    """Add ``amounts`` (N, 3) of ImageNet's principal colours (Krizhevsky et al. 2012, sec. 4.1).

    Amounts are in standard deviations; the images are uint8 (N, 3, H, W) of red, green and blue.
    """
    components, deviations = (
        torch.tensor(values, dtype=torch.float64, device=images.device)
        for values in (_COMPONENTS, _DEVIATIONS)
    )
    change = 255 * (amounts[:, None, :] * deviations * components).sum(2)
    levels = images + change.float()[:, :, None, None]
    return levels.round_().clamp_(0, 255).byte()


def _reflected(length: int, padding: int, device: torch.device) -> Tensor:
    """Return the indices -p .. length+p-1, reflected at the first and last without repeating it."""
    index = torch.arange(-padding, length + padding, device=device).abs()
    return torch.where(index < length, index, 2 * (length - 1) - index)
