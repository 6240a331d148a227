"""The layers that a spec chooses: convolution, norm, activation, stochastic depth."""

from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.nn.freezing import FrozenBatchNorm2d
from resnets.spec import Spec


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": at stride 2 more at the bottom and right."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, ceil(H / stride), ceil(W / stride))."""
        amounts = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((size - 1) // stride * stride + kernel - size, 0)
            amounts += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, amounts), self.weight, self.bias, self.stride, groups=self.groups)


def convolution(
    spec: Spec,
    in_channels: int,
    out_channels: int,
    size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    norm_follows: bool = True,
) -> nn.Conv2d:
    """Return a size x size convolution, padded so that stride 1 keeps the image's size."""
    bias = spec.conv_bias == "all" or (spec.conv_bias == "without_norm" and not norm_follows)
    if spec.padding == "same" and stride > 1 and size > 1:
        return SameConv2d(in_channels, out_channels, size, stride, groups=groups, bias=bias)
    padding = dilation * (size - 1) // 2
    return nn.Conv2d(in_channels, out_channels, size, stride, padding, dilation, groups, bias)


def normalisation(spec: Spec, channels: int) -> nn.Module:
    """Return the spec's normalisation over so many channels."""
    if spec.norm == "group":  # Wu & He 2018: 32 groups, or as many as divide the channels
        return nn.GroupNorm(gcd(32, channels), channels, eps=spec.norm_eps)
    if spec.norm == "frozen_batch":
        return FrozenBatchNorm2d(channels, spec.norm_eps)
    return nn.BatchNorm2d(channels, eps=spec.norm_eps, momentum=spec.norm_momentum)


def activation(spec: Spec, *, inplace: bool = True) -> nn.Module:
    """Return the spec's activation; in place it overwrites its input."""
    if spec.activation == "gelu":
        return nn.GELU()
    if spec.activation == "leaky_relu":
        return nn.LeakyReLU(inplace=inplace)
    return {"relu": nn.ReLU, "silu": nn.SiLU}[spec.activation](inplace=inplace)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a sample's residual, scales those that stay."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return x, or in training each sample's x / (1 - probability) or zero."""
        if not self.training:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.probability
        return x * (kept.to(x.dtype) / (1 - self.probability))

    def extra_repr(self) -> str:
        return f"probability={self.probability:g}"
