"""Random erasing: a box of each normalised image becomes zero or noise (Zhong et al. 2017)."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from resnets.data import counter
from resnets.data.windows import TRIES, first_fitting, within


@dataclass(frozen=True)
class Erasing:
    """The erasing of a run: torchvision's RandomErasing, or with ``noise`` timm's mode "pixel".

    A box takes a share of the image drawn uniformly from ``area``; its height / width is uniform in
    its logarithm. It is a function of (seed, epoch, id) and the images' size.
    """

    seed: int
    probability: float
    area: tuple[float, float] = (0.02, 0.33)
    aspect: tuple[float, float] = (0.3, 3.3)
    noise: bool = False

    def __call__(self, images: Tensor, ids: Tensor, epoch: int) -> Tensor:
        """Erase the boxes of normalised images (N, C, H, W) in place, and return the images."""
        channels, height, width = images.shape[1:]
        top, left, high, wide = self.boxes((height, width), ids, epoch)
        inside = within(height, top, high)[:, :, None] & within(width, left, wide)[:, None, :]
        # Only what is erased is touched, which on a CPU takes a quarter of looking at every pixel.
        sample, row, column = inside.nonzero(as_tuple=True)  # note: this waits for the device
        if not self.noise:
            images[sample, :, row, column] = 0.0
            return images
        places = (row * width + column)[:, None] * channels
        places = places + torch.arange(channels, device=images.device)
        # Each sample has a random range of ids for its pixels: that two meet is beyond chance.
        ranges = counter.bits(self.seed, "erasing range", epoch, ids)[sample, None]
        noise = counter.normal(self.seed, "erasing noise", epoch, ranges + places)
        images[sample, :, row, column] = noise.to(images.dtype)
        return images

    def boxes(self, shape: tuple[int, int], ids: Tensor, epoch: int) -> tuple[Tensor, ...]:
        """Return top, left, height and width of each box, int64 (N,), in images ``shape`` (H, W).

        Where nothing is erased, or ten tries do not fit, both sides are 0.
        """
        height, width = shape
        share, shade = (
            counter.uniform(
                self.seed, [f"erasing {what} {number}" for number in range(TRIES)], epoch, ids
            )
            for what in ("area", "aspect")
        )
        pixels = height * width * (self.area[0] + (self.area[1] - self.area[0]) * share)
        low, high = map(log, self.aspect)
        ratio = torch.exp(low + (high - low) * shade)
        tall = torch.sqrt(pixels * ratio).round().long()
        wide = torch.sqrt(pixels / ratio).round().long()
        chosen = counter.uniform(self.seed, "erasing", epoch, ids) < self.probability
        fits = chosen & (tall < height) & (wide < width)
        _, rows, columns = first_fitting(fits, tall, wide)
        top, left = (
            counter.integers(room + 1, self.seed, f"erasing {axis}", epoch, ids)
            for axis, room in (("row", height - rows), ("column", width - columns))
        )
        return top, left, rows, columns
