"""Channel attention: what weighs the channels of a residual before it is added."""

from math import log2

import torch.nn.functional as F
from torch import Tensor, nn

from resnets.spec import Spec


class SqueezeExcitation(nn.Module):
    """Channels weighed by a two-layer gate on their means (Hu et al. 2018, sec. 3)."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, middle, 1)
        self.fc2 = nn.Conv2d(middle, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
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
        gate: Tensor = self.conv(x.mean((2, 3)).unsqueeze(1))
        return x * gate.sigmoid().transpose(1, 2).unsqueeze(3)


def attention(spec: Spec, channels: int) -> nn.Module:
    """Return the spec's channel attention over so many channels."""
    if spec.attention == "none":
        return nn.Identity()
    if spec.attention == "eca":
        return EfficientChannelAttention(channels)
    # Rounded to a multiple of 8, as published weights have it.
    middle = max(8, int(channels / spec.attention_reduction + 4) // 8 * 8)
    return SqueezeExcitation(channels, middle)
