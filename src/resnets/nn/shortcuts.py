"""How a block's input joins its residual: one module for each option of the papers.

Every shortcut takes the block's input ``x`` (N, C, H, W) and its residual F(x) (N, C', H', W') and
returns what the block activates, (N, C', H', W'). Taking both, rather than returning the value to
add, lets a plain net skip the addition and a gate scale the residual.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from resnets.spec import Shortcut


class Absent(nn.Module):
    """F(x): no shortcut, as in a plain net."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the residual alone."""
        return residual


class Identity(nn.Module):
    """F(x) + x (He et al. 2015, eq. 1)."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the sum."""
        return residual + x


class ZeroPad(nn.Module):
    """F(x) + x, subsampled, with zeros for the new channels: option A (He et al. 2015, sec. 3.3).

    The zero channels come last, as in facebook/fb.resnet.torch.
    """

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = new_channels
        self.stride = stride

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the sum."""
        subsampled = x[:, :, :: self.stride, :: self.stride]
        return residual + F.pad(subsampled, (0, 0, 0, 0, 0, self.new_channels))

    def extra_repr(self) -> str:
        """Return what repr() shows."""
        return f"new_channels={self.new_channels}, stride={self.stride}"


class Projection(nn.Sequential):
    """F(x) + W x, a 1x1 convolution and batch norm: options B and C (He et al. 2015, eq. 2)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:  # type: ignore[override]
        """Return the sum."""
        convolution, norm = self
        return residual + norm(convolution(x))  # type: ignore[no-any-return]


def shortcut(option: Shortcut, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the shortcut that ``option`` asks for between these shapes."""
    same_shape = stride == 1 and in_channels == out_channels
    if option == "none":
        return Absent()
    if option == "C" or (option == "B" and not same_shape):
        return Projection(in_channels, out_channels, stride)
    if same_shape:
        return Identity()
    return ZeroPad(out_channels - in_channels, stride)
