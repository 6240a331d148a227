"""The residual block: x + F(x), in each activation order of He et al. 2016, Fig. 4.

A block type states its convolutions and F; ``forward`` is the method that is named like the order.
F is one expression: a name for a map in between would keep it in memory during evaluation.
"""

from collections.abc import Callable

from torch import Tensor, nn

from resnets.nn.attention import attention
from resnets.nn.layers import DropPath, activation, convolution, normalisation
from resnets.nn.places import Place
from resnets.nn.shortcuts import join, shortcut
from resnets.spec import Spec

Layer = Callable[[Tensor], Tensor]


class Block(nn.Module):
    """One unit, (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    The shortcut's attribute is called ``downsample``, as in torchvision, so that keys match.
    """

    conv1: Layer
    conv2: Layer  # basic blocks have a second
    conv3: Layer  # bottlenecks have a third
    bn1: Layer
    bn2: Layer
    bn3: Layer
    convolutions: Callable[[Spec, Place], list[nn.Conv2d]]
    residual: Layer  # F, each norm behind its convolution
    preactivated_residual: Layer  # F, each norm before its convolution

    def __init__(self, spec: Spec, place: Place) -> None:
        super().__init__()
        self.order, self.out_channels = spec.activation_order, place.out_channels
        # Which paths activate a pre-activated block's input; both in He et al. 2016, appendix.
        both = (place.projects and spec.projection_input == "activated") or (
            place.is_first and spec.first_shortcut_input == "activated"
        )
        by_stem = place.is_first and spec.stem_activation
        self.activates = "nothing" if by_stem else "both paths" if both else "residual"
        convolutions = self.convolutions(spec, place)
        for number, layer in enumerate(convolutions, start=1):
            self.add_module(f"conv{number}", layer)
        last = "conv" if self.order in ("preactivation", "bn_after_addition") else "bn"
        self.last_weighted = f"{last}{len(convolutions)}"  # on the residual
        self.activation: Layer = activation(spec)
        norm_first = self.order == "preactivation"
        for number, layer in enumerate(convolutions, start=1):
            if number > 1 or not norm_first or self.activates != "nothing":
                channels = layer.in_channels if norm_first else layer.out_channels
                self.add_module(f"bn{number}", normalisation(spec, channels))
        if self.order == "relu_only_preactivation" and self.activates != "nothing":
            # Not in place: the shortcut, or whoever keeps the block's input, has the same tensor.
            self.raw_activation: Layer = activation(spec, inplace=False)
        self.se: Layer = attention(spec, place.out_channels)
        self.drop_path: Layer = DropPath(place.drop_path) if place.drop_path else nn.Identity()
        self.downsample: Layer = shortcut(spec, place)
        self.join: Callable[[Tensor, Tensor], Tensor] = join(spec, place.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.order)(x)  # type: ignore[no-any-return]

    def add(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        """Return their sum, or what else the spec says joins them."""
        return self.join(shortcut, self.drop_path(self.se(residual)))

    def original(self, x: Tensor) -> Tensor:
        """relu(x + F(x)): Fig. 4 (a), He et al. 2015, Fig. 2."""
        return self.activation(self.add(self.downsample(x), self.residual(x)))

    def relu_before_addition(self, x: Tensor) -> Tensor:
        """x + relu(F(x)): Fig. 4 (c)."""
        return self.add(self.downsample(x), self.activation(self.residual(x)))

    def relu_only_preactivation(self, x: Tensor) -> Tensor:
        """x + F(relu(x)): Fig. 4 (d)."""
        x = self.activated("both paths", x)
        return self.add(self.downsample(x), self.residual(self.activated("residual", x)))

    def preactivation(self, x: Tensor) -> Tensor:
        """x + F(x), with F(x) = conv2(relu(bn2(conv1(relu(bn1(x)))))) of two layers: Fig. 4 (e)."""
        x = self.activated("both paths", x)
        return self.add(self.downsample(x), self.preactivated_residual(x))

    def activated(self, on: str, x: Tensor) -> Tensor:
        """Return x activated, if this is where the block does it."""
        if self.activates != on:
            return x
        relu_only = self.order == "relu_only_preactivation"
        return self.raw_activation(x) if relu_only else self.activation(self.bn1(x))


class SingleBlock(Block):
    """One 3x3 convolution (He et al. 2015, sec. 3.2; He et al. 2016, Table 3)."""

    def convolutions(self, spec: Spec, place: Place) -> list[nn.Conv2d]:
        """Return the convolution, which carries the stride."""
        channels, dilation = (place.in_channels, place.out_channels), place.first_dilation
        norm = spec.activation_order != "preactivation"
        return [convolution(spec, *channels, 3, place.stride, dilation=dilation, norm_follows=norm)]

    def residual(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x))

    def preactivated_residual(self, x: Tensor) -> Tensor:
        return self.conv1(self.activated("residual", x))

    def bn_after_addition(self, x: Tensor) -> Tensor:
        """relu(bn1(x + conv1(x))): Fig. 4 (b)."""
        return self.activation(self.bn1(self.add(self.downsample(x), self.conv1(x))))


class BasicBlock(Block):
    """Two 3x3 convolutions (He et al. 2015, Fig. 5 left)."""

    def convolutions(self, spec: Spec, place: Place) -> list[nn.Conv2d]:
        """Return the two convolutions; the first carries the stride."""
        out, first, last = place.out_channels, place.first_dilation, place.dilation
        norm = spec.activation_order != "preactivation"
        return [
            convolution(spec, place.in_channels, out, 3, place.stride, dilation=first),
            convolution(spec, out, out, 3, dilation=last, norm_follows=norm),
        ]

    def residual(self, x: Tensor) -> Tensor:
        relu = self.activation
        return self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))

    def preactivated_residual(self, x: Tensor) -> Tensor:
        relu = self.activation
        return self.conv2(relu(self.bn2(self.conv1(self.activated("residual", x)))))

    def bn_after_addition(self, x: Tensor) -> Tensor:
        """relu(bn2(x + conv2(relu(bn1(conv1(x)))))): Fig. 4 (b)."""
        shortcut, relu = self.downsample(x), self.activation
        return relu(self.bn2(self.add(shortcut, self.conv2(relu(self.bn1(self.conv1(x)))))))


class BottleneckBlock(Block):
    """1x1, 3x3 (grouped, for ResNeXt) and 1x1 convolutions (He et al. 2015, Fig. 5 right)."""

    def convolutions(self, spec: Spec, place: Place) -> list[nn.Conv2d]:
        """Return the three convolutions; which one carries the stride is the spec's choice."""
        width, out = place.width, place.out_channels
        one, three, dilation = 1, place.stride, place.first_dilation
        if spec.bottleneck_stride == "1x1":  # so that the 3x3 sees what the stride has thinned out
            one, three, dilation = place.stride, 1, place.dilation
        norm = spec.activation_order != "preactivation"
        return [
            convolution(spec, place.in_channels, width, 1, one),
            convolution(spec, width, width, 3, three, groups=spec.groups, dilation=dilation),
            convolution(spec, width, out, 1, norm_follows=norm),
        ]

    def residual(self, x: Tensor) -> Tensor:
        relu = self.activation
        return self.bn3(self.conv3(relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))))))

    def preactivated_residual(self, x: Tensor) -> Tensor:
        relu = self.activation
        x = relu(self.bn3(self.conv2(relu(self.bn2(self.conv1(self.activated("residual", x)))))))
        return self.conv3(x)

    def bn_after_addition(self, x: Tensor) -> Tensor:
        """relu(bn3(x + conv3(relu(bn2(conv2(relu(bn1(conv1(x)))))))): Fig. 4 (b)."""
        shortcut, relu = self.downsample(x), self.activation
        x = relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))))
        return relu(self.bn3(self.add(shortcut, self.conv3(x))))


BLOCKS: dict[str, type[Block]] = {
    "single": SingleBlock,
    "basic": BasicBlock,
    "bottleneck": BottleneckBlock,
}
