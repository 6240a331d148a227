"""The residual blocks: activation(shortcut(x, residual(x))); subclasses state only residual()."""

from torch import Tensor, nn

from resnets.nn.shortcuts import shortcut
from resnets.spec import Spec


class Block(nn.Module):
    """One unit of a stage, (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride).

    The shortcut's attribute is called ``downsample``, as in torchvision, so that keys match.
    """

    def __init__(self, spec: Spec, stage: int, in_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels = spec.channels[stage]
        self.downsample = shortcut(spec.shortcut, in_channels, self.out_channels, stride)
        self.activation = nn.ReLU(inplace=True)

    def residual(self, x: Tensor) -> Tensor:
        """Return F(x) in the papers' notation."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum of residual and shortcut."""
        return self.activation(self.downsample(x, self.residual(x)))  # type: ignore[no-any-return]


class BasicBlock(Block):
    """Two 3x3 convolutions (He et al. 2015, Fig. 5 left)."""

    def __init__(self, spec: Spec, stage: int, in_channels: int, stride: int) -> None:
        super().__init__(spec, stage, in_channels, stride)
        self.conv1 = nn.Conv2d(in_channels, self.out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(self.out_channels)
        self.conv2 = nn.Conv2d(self.out_channels, self.out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(self.out_channels)

    def residual(self, x: Tensor) -> Tensor:
        """Return conv-bn-relu-conv-bn of x."""
        x = self.activation(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))  # type: ignore[no-any-return]


class BottleneckBlock(Block):
    """1x1, 3x3 (grouped, for ResNeXt) and 1x1 convolutions (He et al. 2015, Fig. 5 right)."""

    def __init__(self, spec: Spec, stage: int, in_channels: int, stride: int) -> None:
        super().__init__(spec, stage, in_channels, stride)
        width = spec.inner_width(stage)
        first, second = (stride, 1) if spec.bottleneck_stride == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, groups=spec.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, self.out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.out_channels)

    def residual(self, x: Tensor) -> Tensor:
        """Return conv-bn-relu-conv-bn-relu-conv-bn of x."""
        x = self.activation(self.bn1(self.conv1(x)))
        x = self.activation(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))  # type: ignore[no-any-return]


BLOCKS: dict[str, type[Block]] = {"basic": BasicBlock, "bottleneck": BottleneckBlock}
