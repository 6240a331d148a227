"""The layers before the first stage: a convolution, and the pooling after its activation."""

from torch import nn

from resnets.spec import Spec


def stem_convolution(spec: Spec) -> nn.Module:
    """Return the stem's convolution: 7x7 stride 2 (He et al. 2015, Table 1) or 3x3 (sec. 4.2)."""
    size, stride = {"7x7": (7, 2), "3x3": (3, 1)}[spec.stem]
    return nn.Conv2d(spec.in_channels, spec.stem_width, size, stride, padding=size // 2, bias=False)


def stem_pool(spec: Spec) -> nn.Module:
    """Return the stem's pooling: 3x3 max, stride 2, after a 7x7 convolution; else nothing."""
    return nn.MaxPool2d(3, stride=2, padding=1) if spec.stem == "7x7" else nn.Identity()
