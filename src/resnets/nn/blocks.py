"""The residual block: after(join(shortcut(x), residual(x))).

A block type states its convolutions; the activation order, which is data, says in which sequence
convolutions, norms and activations run, and which of them come after the addition.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from resnets.nn.layers import DropPath, activation, attention, convolution, normalisation
from resnets.nn.shortcuts import is_projection, joining, matching
from resnets.spec import Spec

# He et al. 2016, Fig. 4: how many of conv-bn-act-conv-bn-act's last steps follow the addition.
AFTER_ADDITION = {"original": 1, "bn_after_addition": 2, "relu_before_addition": 0}


@dataclass(frozen=True)
class Place:
    """Where a block stands in its network."""

    stage: int  # counted from 0
    position: int  # in the stage, counted from 0
    in_channels: int
    stride: int
    dilation: int  # of the block's 3x3 convolutions
    first_dilation: int  # of the 3x3 that would carry the stride
    drop_path: float
    replaced_stride: int = 1  # what dilation stands in for
    input_dilation: int = 1  # how far apart what were neighbours are in the block's input

    @property
    def is_first(self) -> bool:
        """Whether it is the very first block."""
        return self.stage == self.position == 0

    @property
    def undilated_stride(self) -> int:
        """The stride that it has, or would have if dilation did not replace it."""
        return self.stride * self.replaced_stride


class Block(nn.Module):
    """One unit, (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    The shortcut's attribute is called ``downsample``, as in torchvision, so that keys match.
    """

    def __init__(self, spec: Spec, place: Place) -> None:
        super().__init__()
        self.out_channels = spec.channels[place.stage]
        convolutions = self.convolutions(spec, place)
        for number, layer in enumerate(convolutions, start=1):
            self.add_module(f"conv{number}", layer)
        self.activation = activation(spec)
        self.before, residual, self.after = sequences(spec, place, len(convolutions))
        for number, layer in enumerate(convolutions, start=1):
            if f"bn{number}" in (*self.before, *residual, *self.after):
                first = spec.activation_order == "preactivation"
                channels = layer.in_channels if first else layer.out_channels
                self.add_module(f"bn{number}", normalisation(spec, channels))
        if "raw_activation" in (*self.before, *residual):
            # Not in place: the shortcut, or whoever keeps the block's input, has the same tensor.
            self.raw_activation = activation(spec, inplace=False)
        if spec.attention != "none":
            self.se = attention(spec, self.out_channels)
            residual += ("se",)
        if place.drop_path:
            self.drop_path = DropPath(place.drop_path)
            residual += ("drop_path",)
        self.sequence = residual
        self.downsample = matching(
            spec,
            place.in_channels,
            self.out_channels,
            place.stride,
            undilated_stride=place.undilated_stride,
            dilation=place.input_dilation,
        )
        self.join = joining(spec, self.out_channels)

    def convolutions(self, spec: Spec, place: Place) -> list[nn.Conv2d]:
        """Return the block's convolutions, first to last."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        """Return F(x) in the papers' notation."""
        return self._run(self.sequence, x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the joined and activated shortcut and residual."""
        x = self._run(self.before, x)
        return self._run(self.after, self.join(self.downsample(x), self.residual(x)))

    def _run(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        for name in names:
            x = getattr(self, name)(x)
        return x


def sequences(
    spec: Spec, place: Place, count: int
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the layers' names before the split, on the residual, and after the addition."""
    numbers = range(1, count + 1)
    if not spec.preactivated:
        steps = [name for i in numbers for name in (f"conv{i}", f"bn{i}", "activation")]
        split = len(steps) - AFTER_ADDITION[spec.activation_order]
        return (), tuple(steps[:split]), tuple(steps[split:])
    if spec.activation_order == "preactivation":
        steps = [name for i in numbers for name in (f"bn{i}", "activation", f"conv{i}")]
        lead = 2
    else:
        steps = [name for i in numbers for name in ("activation", f"conv{i}", f"bn{i}")]
        steps[0], lead = "raw_activation", 1
    if place.is_first and spec.stem_activation:  # the stem has done it
        return (), tuple(steps[lead:]), ()
    channels, stride = spec.channels[place.stage], place.undilated_stride
    projects = is_projection(spec, place.in_channels, channels, stride)
    shared = (projects and spec.projection_input == "activated") or (
        place.is_first and spec.first_shortcut_input == "activated"
    )
    if shared:  # He et al. 2016, appendix: activated before the split into two paths
        return tuple(steps[:lead]), tuple(steps[lead:]), ()
    return (), tuple(steps), ()


class BasicBlock(Block):
    """Two 3x3 convolutions (He et al. 2015, Fig. 5 left)."""

    def convolutions(self, spec: Spec, place: Place) -> list[nn.Conv2d]:
        """Return the two convolutions; the first carries the stride."""
        out = spec.channels[place.stage]
        last = spec.activation_order != "preactivation"
        return [
            convolution(
                spec, place.in_channels, out, 3, place.stride, dilation=place.first_dilation
            ),
            convolution(spec, out, out, 3, dilation=place.dilation, norm_follows=last),
        ]


class BottleneckBlock(Block):
    """1x1, 3x3 (grouped, for ResNeXt) and 1x1 convolutions (He et al. 2015, Fig. 5 right)."""

    def convolutions(self, spec: Spec, place: Place) -> list[nn.Conv2d]:
        """Return the three convolutions; which one carries the stride is the spec's choice."""
        width, out = spec.inner_width(place.stage), spec.channels[place.stage]
        one, three, dilation = 1, place.stride, place.first_dilation
        if spec.bottleneck_stride == "1x1":  # so that the 3x3 sees what the stride has thinned out
            one, three, dilation = place.stride, 1, place.dilation
        last = spec.activation_order != "preactivation"
        return [
            convolution(spec, place.in_channels, width, 1, one),
            convolution(spec, width, width, 3, three, groups=spec.groups, dilation=dilation),
            convolution(spec, width, out, 1, norm_follows=last),
        ]


BLOCKS: dict[str, type[Block]] = {"basic": BasicBlock, "bottleneck": BottleneckBlock}
