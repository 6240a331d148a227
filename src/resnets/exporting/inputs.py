"""What an exported network does with its input: nothing, normalise, or resize, crop and normalise.

Pillow's scaling is two products with matrices of weights, one for the rows of an image and one for
the columns, each followed by rounding to 8 bits. Written like this it is the same in every runtime;
their own operators for resizing round once, or differ at the borders. Rows come first, as in all of
Pillow's versions; only 13 begins with the columns where an image is more than twice as high as
wide.
"""

import torch
from torch import Tensor, nn

from resnets.data.framing import Frame
from resnets.data.preprocess import Preprocess, preprocess_of
from resnets.nn import ResNet


class Prepared(nn.Module):
    """A network and what happens to its input before, (N, ...) to logits (N, num_classes)."""

    def __init__(self, before: nn.Module, network: ResNet) -> None:
        super().__init__()
        self.before, self.network = before, network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.network(self.before(images))  # type: ignore[no-any-return]


class Pixels(nn.Module):
    """Normalising, uint8 (N, C, H, W) to float32 (N, C, H, W)."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        mean, scale = preprocess.constants
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised pixels."""
        return (images.float() - self.get_buffer("mean")) * self.get_buffer("scale")


class DecodedImages(nn.Module):
    """Resizing, cropping and normalising, uint8 (N, H, W, C) to float32 (N, C, size, size).

    As `resnets.data.framing.Frame` does it, and then takes the middle. Sizes are whole numbers
    throughout, and only what stays is computed.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.frame = preprocess.frame
        self.cubic = preprocess.interpolation == "bicubic"
        self.normalise = Pixels(preprocess)

    def forward(self, images: Tensor) -> Tensor:
        """Return the prepared images."""
        height, width = (torch.scalar_tensor(n, dtype=torch.int64) for n in images.shape[1:3])
        rows = self._weights(torch.arange(images.shape[1]), *_placed(self.frame, height, width))
        columns = self._weights(torch.arange(images.shape[2]), *_placed(self.frame, width, height))
        pixels = images.permute(0, 3, 1, 2).float()
        across = _to_8_bits(pixels @ columns.T)  # Pillow scales rows first, and rounds in between
        return self.normalise(_to_8_bits(rows @ across))  # type: ignore[no-any-return]

    def _weights(
        self, source: Tensor, before: Tensor, kept: Tensor, scaled: Tensor, first: Tensor
    ) -> Tensor:
        """Return what each pixel of a side gives to each that stays, (size, length).

        A pixel's weight depends on its distance from the place where the scaled pixel lies, in
        units of what is larger, a pixel or a scaled pixel. Both are counted here in halves of one
        over (length times scaled length), which makes them whole.
        """
        source = source - before
        target = (torch.arange(self.frame.size) + first)[:, None]
        distance = ((2 * source + 1) * scaled - (2 * target + 1) * kept).abs()
        unit = 2 * torch.maximum(kept, scaled)
        reach = 2 if self.cubic else 1
        distance = torch.minimum(distance, reach * unit)
        inside = (source >= 0) & (source < kept)
        weights = _cubic(distance / unit) if self.cubic else (unit - distance).float()
        weights = weights * inside.float()
        if self.frame.fit != "pad":
            return weights / weights.sum(1, keepdim=True)
        shown = ((target >= 0) & (target < scaled)).float()  # the rest is black
        return weights * shown / (weights.sum(1, keepdim=True) + (1 - shown))


def _placed(frame: Frame, length: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return where a side of an image comes to lie in what a network sees.

    The number of its pixels that are cut off before, and of those that are kept; how many these are
    when they are scaled; and which of them is the first to be seen, below 0 after a black border.
    """
    none = torch.zeros_like(length)
    if frame.fit == "squash":
        return none, length, none + frame.side, none
    if frame.fit == "pad":
        longer = torch.maximum(length, other)
        scaled = _quotient(2 * frame.side * length + longer, 2 * longer).clamp(min=1)
        return none, length, scaled, -_quotient(frame.side - scaled, none + 2)
    shorter = torch.minimum(length, other)
    kept = torch.minimum(length, frame.strip * shorter)
    scaled = _quotient(frame.side * kept, shorter)
    if frame.cuts == 2:
        first = _half(scaled - frame.side) + frame.middle.start
    else:
        first = _half(scaled - frame.size)
    return _half(length - kept), kept, scaled, first


def _quotient(number: Tensor, divisor: Tensor) -> Tensor:
    """Return a whole number, at least 0, divided and rounded down."""
    # Also where a runtime multiplies by the inverse instead: OpenVINO has 427 / 427 below 1.
    quotient = (number / divisor).long()
    rest = number - quotient * divisor
    return quotient + (rest >= divisor).long() - (rest < 0).long()


def _half(length: Tensor) -> Tensor:
    """Return half of a whole number, rounded to even as Python does."""
    return (length / 2).round().long()


def _cubic(x: Tensor) -> Tensor:
    """Return Keys's cubic kernel (1981, eq. 15, a = -1/2) of distances of at most 2."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, far)


def _to_8_bits(values: Tensor) -> Tensor:
    """Return numbers rounded to whole ones from 0 to 255, a half upwards."""
    return (values + 0.5).floor().clamp(0, 255)


def preparation(network: ResNet, form: str) -> nn.Module:
    """Return what an input of a form, "normalized", "pixels" or "pictures", has to pass through."""
    if form == "normalized":
        return nn.Identity()
    preprocess = preprocess_of(network)
    return Pixels(preprocess) if form == "pixels" else DecodedImages(preprocess)
