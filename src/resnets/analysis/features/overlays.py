"""Maps and images that stand inside a page as ``data:`` addresses."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnets.data.samples import as_images, url_of

# Dark to bright in equal steps, with and without colour vision; the second keeps apart from white.
SCALE, GLOW = "magma", "plasma"
SHARP = 96  # pixels; what is smaller is enlarged with its pixels as squares
OPACITY = 0.8  # of the brightest spot over an image
DIMMED = 0.8  # the image under it


def image_url(pixels: Tensor) -> str:
    """Return an image, uint8 (C, H, W) with 1 or 3 channels, as a ``data:`` address."""
    return _data_url(as_images(pixels[None])[0])


def map_url(values: Tensor) -> str:
    """Return a map (H, W) in colours from zero, or its least value if that is lower, to the most.

    One pixel for each position.
    """
    low, high = min(0.0, float(values.min())), float(values.max())
    scaled = (values.double() - low) / ((high - low) or 1)
    image = Image.fromarray((255 * scaled).round().byte().numpy(), "L")
    image.putpalette(_palette(SCALE).tobytes())
    return _data_url(image)


def overlay_url(pixels: Tensor, heat: Tensor) -> str:
    """Return `overlay` as a ``data:`` address."""
    return _data_url(overlay(pixels, heat), "JPEG")


def overlay(pixels: Tensor, heat: Tensor) -> Image.Image:
    """Return an image, uint8 (C, H, W), in dark grey with a map (H, W) >= 0 glowing on it.

    The map is scaled to its greatest value and stretched smoothly over the image; a small
    image is enlarged by a whole factor first. A map of zeros leaves the image bare.
    """
    factor = -(-2 * SHARP // max(pixels.shape[1:])) if is_small(pixels.shape[1:]) else 1
    grey = pixels.float().mean(0).repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    colours, alpha = _glowing(stretched(heat.float() / (float(heat.max()) or 1), grey.shape))
    mixed = (1 - alpha) * DIMMED * grey[..., None] + alpha * colours
    return Image.fromarray(mixed.round().byte().numpy())


def glow_url(heat: Tensor) -> str:
    """Return a map (H, W) >= 0 for a page to stretch over an image; empty for one of zeros.

    It is scaled to its greatest value, has one pixel for each position, and lets through what is
    below it where there is nothing: a hundredth of the bytes of `overlay_url`.
    """
    if not bool(heat.any()):
        return ""
    colours, alpha = _glowing(heat.float() / heat.max())
    pixels = torch.cat([colours.byte(), (255 * alpha).round().byte()], 2)
    return _data_url(Image.fromarray(pixels.numpy(), "RGBA"))


def _glowing(strength: Tensor) -> tuple[Tensor, Tensor]:
    """Return colours (H, W, 3), to 255, and opacity (H, W, 1), to 1, of a map from 0 to 1."""
    # Not from the palette's dark end, which would look like shade.
    colours = torch.from_numpy(_palette(GLOW)[(60 + 195 * strength).byte().numpy()])
    return colours, OPACITY * strength[..., None] ** 0.7


def stretched(values: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map (H, W) enlarged to ``size`` by bilinear interpolation, within 0 and 1."""
    grown = F.interpolate(values[None, None], tuple(size), mode="bilinear", align_corners=False)
    return grown[0, 0].clamp(0, 1)


def is_small(size: Sequence[int]) -> bool:
    """Say whether an image (H, W) is so small that its pixels should be shown as squares."""
    return max(size) <= SHARP


def scale_colours() -> list[str]:
    """Return some colours of the scale, from zero to the most, as a style sheet writes them."""
    return [f"#{bytes(colour).hex()}" for colour in _palette(SCALE)[::51]]


@cache
def _palette(name: str) -> NDArray[np.uint8]:
    """Return 256 colours (256, 3)."""
    colours: NDArray[np.uint8] = colormaps[name](np.arange(256), bytes=True)[:, :3]
    return np.ascontiguousarray(colours)


def _data_url(image: Image.Image, kind: str = "PNG") -> str:
    if kind == "JPEG":  # a quarter of the size, for what is no measurement
        return url_of(image, kind, quality=90, subsampling=0)
    return url_of(image, kind, optimize=True)
