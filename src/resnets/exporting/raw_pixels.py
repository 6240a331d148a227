"""Raw pixels as an exported file takes them, and as its network does."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnets.data.preprocess import Preprocess, identity
from resnets.data.samples import as_images
from resnets.exporting.plan import ExportPlan, Size
from resnets.nn import ResNet

Pixels = NDArray[np.uint8]  # (N, C, H, W)


def preprocess_or_identity(network: ResNet) -> Preprocess:
    """Return a network's preprocessing; where it has none, any numbers do to compare with."""
    own, spec = network.preprocess, network.spec
    return own if isinstance(own, Preprocess) else identity(spec.in_channels, spec.image_size)


class Feed:
    """Gives the same images to a file and to its network."""

    def __init__(self, network: ResNet, plan: ExportPlan) -> None:
        self.network, self.plan, self.channels = network, plan, network.spec.in_channels
        # The plan has none for a size that nothing makes of images; what normalises is the same.
        self.preprocess = plan.preprocess or preprocess_or_identity(network)

    def to_file(self, images: Pixels) -> NDArray[Any]:
        """Return what the file takes of pixels."""
        if self.plan.form == "normalized":
            return self.to_network(images).contiguous().numpy()
        last = self.plan.form == "pictures"
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1) if last else images)

    def to_network(self, images: Pixels) -> Tensor:
        """Return what the network takes of the same pixels, prepared as it was trained."""
        pixels, preprocess = torch.from_numpy(np.ascontiguousarray(images)), self.preprocess
        if self.plan.form == "pictures":
            return preprocess(pixels)
        if pixels.shape[2:] != (preprocess.size, preprocess.size):
            preprocess = replace(preprocess, mean=preprocess.channel_mean)
        return preprocess.normalize(pixels)

    def stored(self, images: Tensor) -> Pixels:
        """Return pixels, as data sets store them, of the size that the file takes."""
        if self.plan.form != "pictures":
            return self.preprocess.fitted(images).numpy()
        if self.plan.size is None or self.plan.size == images.shape[2:]:
            return images.numpy()
        return self.scaled(as_images(images), self.plan.size)

    def scaled(self, images: list[Image.Image], size: Size) -> Pixels:
        """Return the pixels of images at a size; cropped where it is that of training."""
        if self.plan.form != "pictures" and size == (self.preprocess.size,) * 2:
            return self.preprocess.squares(images)
        height, width = size
        scaled = [self.preprocess.decoded(one).resize((width, height)) for one in images]
        planes = [np.asarray(image).reshape(height, width, -1) for image in scaled]
        return np.stack(planes).transpose(0, 3, 1, 2)

    def one_level_off(self, prepared: Tensor) -> Tensor:
        """Return prepared images with every pixel a grey level brighter or darker, at random."""
        signs = np.random.default_rng(0).choice([-1.0, 1.0], prepared.shape)
        level = 1 / (255 * torch.tensor(self.preprocess.std).view(-1, 1, 1))
        return prepared + torch.from_numpy(signs).float() * level
