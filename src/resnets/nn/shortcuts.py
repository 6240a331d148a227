"""Shortcuts: how a block's input takes the shape of its residual, and how the two are joined."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.nn.layers import convolution, normalisation
from resnets.nn.places import Place
from resnets.spec import POOLING, Spec


class ZeroPad(nn.Module):
    """Subsampling, and zeros for the new channels: option A (He et al. 2015, sec. 3.3).

    (N, C, H, W) to (N, C + before + after, H / stride, W / stride).
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.before, self.after, self.stride = before, after, stride

    def forward(self, x: Tensor) -> Tensor:
        subsampled = x[:, :, :: self.stride, :: self.stride]
        return F.pad(subsampled, (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}, stride={self.stride}"


class DilatedAverage(nn.Module):
    """Option D's 2x2 average where dilation replaces its stride: the same averages, everywhere.

    The averaged pixels are ``dilation`` apart, and those outside the image do not count.
    """

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.ones_like(x[:1, :1])
        return self._sum(x) / self._sum(inside)

    def _sum(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = F.pad(x, (0, self.dilation, 0, self.dilation))
        rows = padded[:, :, :height] + padded[:, :, self.dilation :]
        return rows[..., :width] + rows[..., self.dilation :]

    def extra_repr(self) -> str:
        return f"dilation={self.dilation}"


def shortcut(spec: Spec, place: Place) -> nn.Module:
    """Return what gives a block's input the shape of its residual."""
    in_channels, out_channels, stride = place.in_channels, place.out_channels, place.stride
    if place.projects:
        pool: list[nn.Module] = []
        if spec.shortcut in POOLING:
            pool, stride = [average(place)], 1
        norm = spec.projection_norm and not spec.preactivated
        size = int(spec.projection_size[0])
        dilation = place.input_dilation if size > 1 else 1
        project = convolution(
            spec, in_channels, out_channels, size, stride, dilation=dilation, norm_follows=norm
        )
        after = [normalisation(spec, out_channels)] if norm else []
        return nn.Sequential(*pool, project, *after)
    if spec.shortcut == "none" or (stride == 1 and in_channels == out_channels):
        return nn.Identity()
    new = out_channels - in_channels
    before = new // 2 if spec.zero_pad == "both" else 0
    return ZeroPad(before, new - before, stride)


def average(place: Place) -> nn.Module:
    """Return option D's average before the projection (He et al. 2019, Fig. 2c)."""
    if place.stride > 1:
        return nn.AvgPool2d(place.stride, ceil_mode=True, count_include_pad=False)
    return DilatedAverage(place.input_dilation) if place.replaced_stride > 1 else nn.Identity()


class Sum(nn.Module):
    """x + F(x) (He et al. 2015, eq. 1)."""

    def forward(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        return residual + shortcut


class ResidualOnly(nn.Module):
    """F(x): a plain net."""

    def forward(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        return residual


class ScaledSum(nn.Module):
    """Constant scaling (He et al. 2016, sec. 3.1)."""

    def __init__(self, shortcut_scale: float, residual_scale: float) -> None:
        super().__init__()
        self.shortcut_scale, self.residual_scale = shortcut_scale, residual_scale

    def forward(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        return self.shortcut_scale * shortcut + self.residual_scale * residual


class ShortcutGate(nn.Module):
    """(1 - g) x + F(x), with g = sigmoid(W x + b) (He et al. 2016, sec. 3.1).

    The gate reads the shortcut, not x, so that it has the residual's shape in every block.
    """

    def __init__(self, channels: int, bias: float) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)
        self.initial_bias = bias

    def forward(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        return (1 - torch.sigmoid(self.gate(shortcut))) * shortcut + residual


class ExclusiveGate(ShortcutGate):
    """(1 - g) x + g F(x) (He et al. 2016, sec. 3.1, after Srivastava et al. 2015)."""

    def forward(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(shortcut))
        return (1 - gate) * shortcut + gate * residual


class DropoutSum(nn.Module):
    """Dropout on the shortcut (He et al. 2016, sec. 3.1)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(probability)

    def forward(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        return residual + self.dropout(shortcut)  # type: ignore[no-any-return]


def join(spec: Spec, channels: int) -> nn.Module:
    """Return what joins a shortcut and a residual of so many channels."""
    if spec.shortcut == "none":
        return ResidualOnly()
    if spec.gate == "exclusive":
        return ExclusiveGate(channels, spec.gate_bias)
    if spec.gate == "shortcut_only":
        return ShortcutGate(channels, spec.gate_bias)
    if spec.scaled:
        return ScaledSum(spec.shortcut_scale, spec.residual_scale)
    if spec.shortcut_dropout:
        return DropoutSum(spec.shortcut_dropout)
    return Sum()
