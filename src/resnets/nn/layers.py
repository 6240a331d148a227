"""The layers that a spec chooses: convolution, norm, activation, attention, stochastic depth."""

from math import gcd, log2

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    """Return a size x size convolution, padded so that stride 1 keeps the picture's size."""
    bias = spec.conv_bias == "all" or (spec.conv_bias == "without_norm" and not norm_follows)
    if spec.padding == "same" and stride > 1 and size > 1:
        return SameConv2d(in_channels, out_channels, size, stride, groups=groups, bias=bias)
    return nn.Conv2d(
        in_channels,
        out_channels,
        size,
        stride,
        padding=dilation * (size - 1) // 2,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters never change: all four are buffers."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            self.register_buffer(name, torch.full((channels,), value))
        for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised by the stored statistics, (N, C, H, W)."""
        mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        weight, bias = self.get_buffer("weight"), self.get_buffer("bias")
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=self.eps)


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

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return x, or in training each sample's x / (1 - rate) or zero."""
        if not self.training:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate
        return x * (kept.to(x.dtype) / (1 - self.rate))

    def extra_repr(self) -> str:
        """Return what repr() shows."""
        return f"rate={self.rate:g}"


class SqueezeExcitation(nn.Module):
    """Channels weighed by a two-layer gate on their means (Hu et al. 2018, sec. 3)."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, middle, 1)
        self.fc2 = nn.Conv2d(middle, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times its gate, (N, C, H, W)."""
        gate: Tensor = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class EfficientChannelAttention(nn.Module):
    """Channels weighed by a 1-d convolution over their means (Wang et al. 2020, eq. 6 and 12)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        nearest_odd = int(abs(log2(channels) + 1) / 2)
        size = max(nearest_odd if nearest_odd % 2 else nearest_odd + 1, 3)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times its gate, (N, C, H, W)."""
        gate: Tensor = self.conv(x.mean((2, 3)).unsqueeze(1))
        return x * gate.sigmoid().transpose(1, 2).unsqueeze(3)


def attention(spec: Spec, channels: int) -> nn.Module:
    """Return the spec's channel attention over so many channels."""
    if spec.attention == "eca":
        return EfficientChannelAttention(channels)
    # Rounded to a multiple of 8, as published weights have it.
    middle = max(8, int(channels / spec.attention_reduction + 4) // 8 * 8)
    return SqueezeExcitation(channels, middle)
