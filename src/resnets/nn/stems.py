"""The layers before the first stage: a convolution or three, and the pooling after them."""

from torch import nn

from resnets.nn.layers import activation, convolution, normalisation
from resnets.spec import Spec


def stem_convolution(spec: Spec) -> nn.Module:
    """Return what comes before the stem's norm, (N, in_channels, H, W) to stem_width channels.

    7x7 stride 2 (He et al. 2015, Table 1), 3x3 (sec. 4.2), or three 3x3, the first with stride 2
    (He et al. 2019, sec. 4.2): at half width, or growing from 3/8 over 1/2.
    """
    norm = not spec.preactivated or spec.stem_activation
    width = spec.stem_width
    if spec.stem == "7x7":
        return convolution(spec, spec.in_channels, width, 7, 2, norm_follows=norm)
    if spec.stem == "3x3":
        return convolution(spec, spec.in_channels, width, 3, norm_follows=norm)
    first, second = (3 * width // 8 if spec.stem == "deep_tiered" else width // 2), width // 2
    return nn.Sequential(
        convolution(spec, spec.in_channels, first, 3, 2),
        normalisation(spec, first),
        activation(spec),
        convolution(spec, first, second, 3),
        normalisation(spec, second),
        activation(spec),
        convolution(spec, second, width, 3, norm_follows=norm),
    )


def stem_pool(spec: Spec) -> nn.Module:
    """Return the stem's pooling: 3x3 max, stride 2, or nothing."""
    if spec.stem == "3x3" or spec.stem_pool == "none":
        return nn.Identity()
    if spec.stem_pool == "zero_padded_max":
        return nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, stride=2))
    return nn.MaxPool2d(3, stride=2, padding=1)
