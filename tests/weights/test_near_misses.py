"""Almost residual networks: each raises, or computes what the module computes that it came from.

The modules are written by hand. Each is tried under torchvision's words and under words that
nobody knows, by every public way in; `ordinary` shows that the same module without its peculiarity
is read.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conftest import scramble
from resnets import ResNet, Spec, create_backbone, create_model, load_weights, open_model
from resnets.errors import CheckpointError
from resnets.weights.checkpoint import open_checkpoint

SPEC = Spec(
    "small", depths=(1, 2, 2), widths=(8, 16, 32), stem="3x3", stem_width=8, num_classes=5,
    image_size=32,
)  # fmt: skip
Tensors = tuple[str, Tensor]
STRANGE = {
    **{"conv": "alpha", "bn": "beta", "layer": "grp", "downsample": "skipper", "fc": "clf"},
    **{"se": "kappa", "extra": "delta", "prelu": "omega", "gamma": "sigma", "neck": "theta"},
}


def conv(into: int, out: int, size: int = 3, stride: int = 1, **options) -> nn.Conv2d:
    return nn.Conv2d(into, out, size, stride, size // 2, bias=False, **options)


class Unit(nn.Module):
    """An ordinary block."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.build(into, out, stride)
        if stride > 1 or into != out:
            self.downsample = nn.Sequential(conv(into, out, 1, stride), nn.BatchNorm2d(out))

    def build(self, into: int, out: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(into, out, 3, stride), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = conv(out, out), nn.BatchNorm2d(out)

    def residual(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))

    def shortcut(self, x: Tensor) -> Tensor:
        return self.downsample(x) if hasattr(self, "downsample") else x

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x))


class Net(nn.Module):
    """An ordinary network of units; `peculiar` ones stand where ``where`` says."""

    def __init__(self, peculiar: type[Unit] = Unit, where: str = "") -> None:
        super().__init__()
        self.stem()
        into = 8
        for stage, (depth, out) in enumerate(zip(SPEC.depths, SPEC.widths, strict=True), 1):
            units = []
            for block in range(depth):
                unit = peculiar if f"{stage}.{block}".startswith(where) else Unit
                units.append(unit(into, out, 2 if stage > 1 and block == 0 else 1))
                into = out
            self.add_module(f"layer{stage}", nn.Sequential(*units))
        self.head()

    def stem(self) -> None:
        self.conv1, self.bn1 = conv(3, 8), nn.BatchNorm2d(8)

    def head(self) -> None:
        self.fc = nn.Linear(32, 5)

    def start(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))

    def features(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(self.start(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


# Peculiar blocks.


class WithPReLU(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.prelu = nn.PReLU(out)

    def residual(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class WithOnePReLU(WithPReLU):
    def build(self, into: int, out: int, stride: int) -> None:
        Unit.build(self, into, out, stride)
        self.prelu = nn.PReLU()


class WithPReLUBetween(WithPReLU):
    def build(self, into: int, out: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(into, out, 3, stride), nn.BatchNorm2d(out)
        self.prelu = nn.PReLU(out)
        self.conv2, self.bn2 = conv(out, out), nn.BatchNorm2d(out)


class LayerScale(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.gamma = nn.Parameter(torch.rand(out))

    def residual(self, x: Tensor) -> Tensor:
        return super().residual(x) * self.gamma.view(-1, 1, 1)


class LayerScaleAsMap(LayerScale):
    def build(self, into: int, out: int, stride: int) -> None:
        Unit.build(self, into, out, stride)
        self.gamma = nn.Parameter(torch.rand(out, 1, 1))


class OneScale(LayerScale):
    """SkipInit."""

    def build(self, into: int, out: int, stride: int) -> None:
        Unit.build(self, into, out, stride)
        self.gamma = nn.Parameter(torch.rand(1))


class ThirdConvolution(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.conv3, self.bn3 = conv(out, out), nn.BatchNorm2d(out)

    def residual(self, x: Tensor) -> Tensor:
        return self.bn3(self.conv3(F.relu(super().residual(x))))


class BareConvolution(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.extra = conv(out, out)

    def residual(self, x: Tensor) -> Tensor:
        return self.extra(super().residual(x))


class ConvolutionBetween(BareConvolution):
    def build(self, into: int, out: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(into, out, 3, stride), nn.BatchNorm2d(out)
        self.extra = conv(out, out)
        self.conv2, self.bn2 = conv(out, out), nn.BatchNorm2d(out)

    def residual(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.extra(F.relu(self.bn1(self.conv1(x))))))


class Pointwise(Unit):
    """A 1x1 after the residual: not a projection, for it reads what the block computes."""

    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.extra = nn.Sequential(conv(out, out, 1), nn.BatchNorm2d(out))

    def residual(self, x: Tensor) -> Tensor:
        return self.extra(super().residual(x))


class Squeeze(nn.Module):
    def __init__(self, channels: int, middle: int = 8) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, middle, 1), nn.Conv2d(middle, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.fc2(F.relu(self.fc1(mean))).sigmoid()


class Squeezed(Unit):
    """Squeeze-and-excitation where everybody has it."""

    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.se = Squeeze(out)

    def residual(self, x: Tensor) -> Tensor:
        return self.se(super().residual(x))


class SqueezedEarly(Squeezed):
    def build(self, into: int, out: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(into, out, 3, stride), nn.BatchNorm2d(out)
        self.se = Squeeze(out)
        self.conv2, self.bn2 = conv(out, out), nn.BatchNorm2d(out)

    def residual(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.se(F.relu(self.bn1(self.conv1(x))))))


class SqueezedInput(Squeezed):
    def build(self, into: int, out: int, stride: int) -> None:
        Unit.build(self, into, out, stride)
        self.se = Squeeze(into)

    def residual(self, x: Tensor) -> Tensor:
        return Unit.residual(self, self.se(x))


class SqueezedLinearly(Squeezed):
    """Hu et al.'s: two matrices, here without biases."""

    def build(self, into: int, out: int, stride: int) -> None:
        Unit.build(self, into, out, stride)
        self.se = nn.Sequential(nn.Linear(out, 8, bias=False), nn.ReLU(), nn.Linear(8, out))
        self.se[2].bias = None

    def residual(self, x: Tensor) -> Tensor:
        y = Unit.residual(self, x)
        return y * self.se(y.mean((2, 3))).sigmoid()[:, :, None, None]


class SpatialAttention(Unit):
    """CBAM's second half."""

    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.se = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def residual(self, x: Tensor) -> Tensor:
        y = super().residual(x)
        return y * self.se(torch.cat([y.mean(1, True), y.amax(1, True)], 1)).sigmoid()


class Thinned(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        inner = out - 3
        self.conv1, self.bn1 = conv(into, inner, 3, stride), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = conv(inner, out), nn.BatchNorm2d(out)


class Depthwise(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.conv2 = conv(out, out, groups=out)


class FiveByFive(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.conv2 = conv(out, out, 5)


class WithoutItsSecondNorm(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(into, out, 3, stride), nn.BatchNorm2d(out)
        self.conv2 = conv(out, out)

    def residual(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.bn1(self.conv1(x))))


class HalfInstanceNorm(nn.Module):
    """IBN-Net's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.IN = nn.InstanceNorm2d(self.half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x[:, : self.half], x[:, self.half :]
        return torch.cat([self.IN(first.contiguous()), self.BN(second.contiguous())], 1)


class InstanceBatch(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.bn1 = HalfInstanceNorm(out)


class NormWithoutAffine(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.bn1 = nn.BatchNorm2d(out, affine=False)


class Blurred(Unit):
    """Zhang 2019: strides are blurs, which are buffers."""

    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, 1)
        self.stride = stride
        kernel = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filt", (kernel[:, None] * kernel / 16).expand(out, 1, 3, 3).clone())

    def residual(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.conv2d(y, self.filt, None, self.stride, 1, groups=len(self.filt))
        return self.bn2(self.conv2(y))


class TwoBranches(Unit):
    """Shake-shake."""

    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.extra = nn.ModuleList([conv(into, out, 3, stride), nn.BatchNorm2d(out)])
        self.extra.extend([conv(out, out), nn.BatchNorm2d(out)])

    def residual(self, x: Tensor) -> Tensor:
        first, norm1, second, norm2 = self.extra
        return super().residual(x) + norm2(second(F.relu(norm1(first(x)))))


class ProjectedTwice(Unit):
    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.extra = nn.Sequential(conv(into, out, 1, stride), nn.BatchNorm2d(out))

    def shortcut(self, x: Tensor) -> Tensor:
        return super().shortcut(x) + self.extra(x)


class LargeProjection(Unit):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__(into, out, stride)
        self.downsample[0] = conv(into, out, 3, stride)


class Split(Unit):
    """Res2Net's: four groups of channels, each of which reads the one before."""

    def build(self, into: int, out: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(into, out, 1, stride), nn.BatchNorm2d(out)
        self.conv2 = nn.ModuleList(conv(out // 4, out // 4) for _ in range(3))
        self.bn2 = nn.ModuleList(nn.BatchNorm2d(out // 4) for _ in range(3))
        self.conv3, self.bn3 = conv(out, out, 1), nn.BatchNorm2d(out)

    def residual(self, x: Tensor) -> Tensor:
        parts = F.relu(self.bn1(self.conv1(x))).chunk(4, 1)
        done = [parts[0]]
        for part, layer, norm in zip(parts[1:], self.conv2, self.bn2, strict=True):
            done.append(F.relu(norm(layer(part + (done[-1] if len(done) > 1 else 0)))))
        return self.bn3(self.conv3(torch.cat(done, 1)))


class Inverted(Unit):
    """MobileNetV2's: wide inside, one channel a group, nothing after the addition."""

    def build(self, into: int, out: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(into, 4 * into, 1), nn.BatchNorm2d(4 * into)
        self.conv2 = conv(4 * into, 4 * into, 3, stride, groups=4 * into)
        self.bn2 = nn.BatchNorm2d(4 * into)
        self.conv3, self.bn3 = conv(4 * into, out, 1), nn.BatchNorm2d(out)

    def residual(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.bn3(self.conv3(y))

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)


class Concatenated(Unit):
    """DenseNet's: what is computed stands beside what was there."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        nn.Module.__init__(self)
        self.bn1, self.conv1 = nn.BatchNorm2d(into), conv(into, 16, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(16), conv(16, out - into or 4)
        if out == into:  # which narrows what has grown
            self.conv3 = conv(into + 4, out, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        x = torch.cat([x, y], 1)
        x = self.conv3(x) if hasattr(self, "conv3") else x
        return F.avg_pool2d(x, self.stride)


class Preactivated(Unit):
    """kuangliu's: norms first, projections without one."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        nn.Module.__init__(self)
        self.bn1, self.conv1 = nn.BatchNorm2d(into), conv(into, out, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(out), conv(out, out)
        if stride > 1 or into != out:
            self.downsample = nn.Sequential(conv(into, out, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.bn1(x))
        shortcut = self.downsample(first) if hasattr(self, "downsample") else x
        return self.conv2(F.relu(self.bn2(self.conv1(first)))) + shortcut


class Scalars(Unit):
    """Fixup's: no norms, a bias and a scale that are numbers."""

    def build(self, into: int, out: int, stride: int) -> None:
        self.bias1 = nn.Parameter(torch.rand(1))
        self.conv1, self.conv2 = conv(into, out, 3, stride), conv(out, out)
        self.scale = nn.Parameter(torch.rand(1))

    def residual(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x + self.bias1))) * self.scale


class Biased(Unit):
    """Which a norm follows: its mean takes them."""

    def build(self, into: int, out: int, stride: int) -> None:
        super().build(into, out, stride)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1)
        nn.init.normal_(self.conv2.bias)


BLOCKS = (
    *(WithPReLU, WithOnePReLU, WithPReLUBetween, LayerScale, LayerScaleAsMap, OneScale),
    *(ThirdConvolution, BareConvolution, ConvolutionBetween, Pointwise, Squeezed, SqueezedEarly),
    *(SqueezedInput, SqueezedLinearly, SpatialAttention, Thinned, Depthwise, FiveByFive),
    *(WithoutItsSecondNorm, InstanceBatch, NormWithoutAffine, Blurred, TwoBranches),
    *(ProjectedTwice, Split, Inverted, Concatenated, Scalars, Biased),
)
# Blocks that a network here computes, too.
REPRESENTABLE = (Squeezed, SqueezedLinearly, NormWithoutAffine, Biased)


# Peculiar networks.


class ConvolutionAfterTheStem(Net):
    def stem(self) -> None:
        super().stem()
        self.extra = conv(8, 8)

    def start(self, x: Tensor) -> Tensor:
        return self.extra(super().start(x))


class UnitAfterTheStem(Net):
    def stem(self) -> None:
        super().stem()
        self.conv2, self.bn2 = conv(8, 8), nn.BatchNorm2d(8)

    def start(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(super().start(x))))


class ConvolutionBeforeTheStem(Net):
    def stem(self) -> None:
        self.extra = conv(3, 3)
        super().stem()

    def start(self, x: Tensor) -> Tensor:
        return super().start(self.extra(x))


class NormBeforeTheStem(Net):
    def stem(self) -> None:
        self.extra = nn.BatchNorm2d(3)
        super().stem()

    def start(self, x: Tensor) -> Tensor:
        return super().start(self.extra(x))


class TwoStems(Net):
    def stem(self) -> None:
        super().stem()
        self.extra = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8))

    def start(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)) + self.extra(x))


class StemWithPReLU(Net):
    def stem(self) -> None:
        super().stem()
        self.prelu = nn.PReLU(8)

    def start(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn1(self.conv1(x)))


class OnePReLUForAll(Net):
    def stem(self) -> None:
        super().stem()
        self.prelu = nn.PReLU()

    def start(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn1(self.conv1(x)))


class Necked(Net):
    """A 1x1 as wide as the last stage, before the mean."""

    def head(self) -> None:
        self.neck = nn.Sequential(conv(32, 32, 1), nn.BatchNorm2d(32))
        super().head()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.neck(self.features(x))).mean((2, 3)))


class NeckedBare(Net):
    def head(self) -> None:
        self.neck = conv(32, 32)
        super().head()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.neck(self.features(x))).mean((2, 3)))


class NormBehind(Net):
    """A norm after the mean: BNNeck."""

    def head(self) -> None:
        self.neck = nn.BatchNorm1d(32)
        super().head()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.neck(self.features(x).mean((2, 3))))


class HiddenLayer(Net):
    def head(self) -> None:
        self.fc = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))


class HiddenLayerOfItsOwn(Net):
    def head(self) -> None:
        self.neck = nn.Linear(32, 32)
        super().head()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.neck(self.features(x).mean((2, 3)))))


class NarrowLayer(Net):
    def head(self) -> None:
        self.neck, self.fc = nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.neck(self.features(x).mean((2, 3)))))


class WithoutHeadBias(Net):
    def head(self) -> None:
        self.fc = nn.Linear(32, 5, bias=False)


class TwoHeads(Net):
    """Two tasks of as many classes; this is the first."""

    def head(self) -> None:
        self.fc, self.extra = nn.Linear(32, 5), nn.Linear(32, 5)


class SecondHead(TwoHeads):
    def forward(self, x: Tensor) -> Tensor:
        return self.extra(self.features(x).mean((2, 3)))


NETS = (
    *(ConvolutionAfterTheStem, UnitAfterTheStem, ConvolutionBeforeTheStem, NormBeforeTheStem),
    *(TwoStems, StemWithPReLU, OnePReLUForAll, Necked, NeckedBare, NormBehind, HiddenLayer),
    *(HiddenLayerOfItsOwn, NarrowLayer, WithoutHeadBias, TwoHeads),
)
# Between features and classifier; a projection head, which nobody needs, looks no other.
BESIDE = {NormBehind: "neck", HiddenLayerOfItsOwn: "neck", NarrowLayer: "neck"}


class Vgg(Net):
    """No shortcuts, and pooling where a plain residual network strides."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        widths = [8, 8, 8, 16, 16, 16, 16, 32, 32, 32, 32]
        layers: list[nn.Module] = []
        for into, out in zip([3, *widths], widths, strict=False):
            layers += [nn.MaxPool2d(2)] if out > into > 3 else []
            layers += [conv(into, out), nn.BatchNorm2d(out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(32, 5)

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x)


class UNet(Net):
    """Two convolutions on every level, down and up; its lowest level is what is classified."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        widths = [3, 8, 16, 32]
        for i, (into, out) in enumerate(pairwise(widths), 1):
            self.add_module(f"layer{i}", self.twice(into, out))
        self.neck = nn.ModuleList(self.twice(a + b, b) for b, a in pairwise(widths[1:]))
        self.fc = nn.Linear(32, 5)

    def twice(self, into: int, out: int) -> nn.Module:
        layers = [conv(into, out), nn.BatchNorm2d(out), nn.ReLU()]
        return nn.Sequential(*layers, conv(out, out), nn.BatchNorm2d(out), nn.ReLU())

    def features(self, x: Tensor) -> Tensor:
        return self.layer3(F.max_pool2d(self.layer2(F.max_pool2d(self.layer1(x), 2)), 2))


class Channelwise(Net):
    """Stages that read each channel by itself, as ShuffleNet's and Xception's do."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.conv1, self.bn1 = conv(3, 8), nn.BatchNorm2d(8)
        for i, (into, out) in enumerate(pairwise([8, 16, 32]), 2):
            self.add_module(f"layer{i}", nn.Sequential(self.unit(into, out), self.unit(out, out)))
        self.fc = nn.Linear(32, 5)

    def unit(self, into: int, out: int) -> nn.Module:
        branch1 = [conv(into, into, groups=into), nn.BatchNorm2d(into)]
        branch1 += [conv(into, out, 1), nn.BatchNorm2d(out)]
        branch2 = [conv(into, out, 1), nn.BatchNorm2d(out), nn.ReLU()]
        branch2 += [conv(out, out, groups=out), nn.BatchNorm2d(out)]
        branch2 += [conv(out, out, 1), nn.BatchNorm2d(out)]
        branches = {"branch1": nn.Sequential(*branch1)} if into != out else {}
        return nn.ModuleDict(branches | {"branch2": nn.Sequential(*branch2)})

    def features(self, x: Tensor) -> Tensor:
        x = self.start(x)
        for layer in (self.layer2, self.layer3):
            for unit in layer:
                x = sum(branch(x) for branch in unit.values())
        return x


def under(state: Mapping[str, Tensor], words: str) -> dict[str, Tensor]:
    """Return the tensors under torchvision's words or strange ones; numbers stay."""
    result = {}
    for key, tensor in state.items():
        name = key
        if words == "strange":
            name = ".".join(
                STRANGE.get(word.rstrip("0123456789"), word.rstrip("0123456789"))
                + word[len(word.rstrip("0123456789")) :]
                for word in key.split(".")
            )
        result[name] = tensor
    return result


X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def ways(state: dict[str, Tensor], file: Path, told: str) -> Iterator[Callable[[], Tensors]]:
    """Yield the public ways from weights to what a network computes: logits, or features."""
    torch.save(state, file)

    def loaded() -> Tensors:
        model = create_model(SPEC)
        report = load_weights(model, state)
        beside = [key.partition(" ")[0] for key in (*report.unexpected, *report.ignored)]
        if told and any(key.split(".")[0] in (told, STRANGE[told]) for key in beside):
            raise CheckpointError("not in silence: the report names what is left out")
        return "logits", model.eval()(X)

    yield lambda: ("logits", open_model(file)(X))
    yield loaded
    yield lambda: ("features", create_backbone(SPEC, weights=file).eval()(X).popitem()[1])


@torch.no_grad()
def times_read(truth: nn.Module, state: dict[str, Tensor], file: Path, told: str = "") -> int:
    """Return how often weights are read; fail where a network of theirs computes something else.

    ``told`` is what may be left out where the report names it.
    """
    explains_every_tensor(state)
    expected = {"logits": truth(X), "features": truth.features(X)}
    read = 0
    for way in ways(state, file, told):
        try:
            what, found = way()
        except CheckpointError:
            continue
        read += 1
        if not found.allclose(expected[what], rtol=1e-4, atol=1e-4 * expected[what].abs().max()):
            pytest.fail(f"{what} of another network than {type(truth).__name__}")
    return read


def explains_every_tensor(state: dict[str, Tensor]) -> None:
    """Fail where tensors are called a network that has no place for one, and none is left over."""
    try:
        checkpoint = open_checkpoint(state)
    except CheckpointError:
        return
    if checkpoint.spec is None or checkpoint.to_dict()["unexpected"]:
        return
    with torch.device("meta"):
        places = ResNet(checkpoint.spec).state_dict()
    for key, tensor in checkpoint.tensors.items():
        bias = key.endswith(("conv1.bias", "conv2.bias"))  # which the norm that follows takes
        assert bias or (key in places and tensor.shape == places[key].shape), key


def made(net: type[Net] = Net, *peculiar) -> nn.Module:
    torch.manual_seed(0)
    return scramble(net(*peculiar)).eval()


@pytest.mark.parametrize("words", ["torchvision's", "strange"])
def test_ordinary(tmp_path, words):
    truth = made()
    assert times_read(truth, under(truth.state_dict(), words), tmp_path / "file.pth") == 3


@pytest.mark.parametrize(
    ("words", "where"), [("torchvision's", ""), ("strange", ""), ("strange", "2.1")]
)
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_peculiar_blocks(tmp_path, block, where, words):
    """Everywhere, and in one block where nothing changes its shape."""
    truth = made(Net, block, where)
    read = times_read(truth, under(truth.state_dict(), words), tmp_path / "file.pth")
    assert read == 0 or block in REPRESENTABLE


@pytest.mark.parametrize("words", ["torchvision's", "strange"])
@pytest.mark.parametrize("block", [LargeProjection, Preactivated, ProjectedTwice, Thinned])
def test_peculiar_blocks_that_change_the_shape(tmp_path, block, words):
    truth = made(Net, block, "3.0")
    assert not times_read(truth, under(truth.state_dict(), words), tmp_path / "file.pth")


@pytest.mark.parametrize("words", ["torchvision's", "strange"])
@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_peculiar_networks(tmp_path, net, words):
    truth = made(net)
    times_read(truth, under(truth.state_dict(), words), tmp_path / "file.pth", BESIDE.get(net, ""))


@pytest.mark.parametrize("words", ["torchvision's", "strange"])
@pytest.mark.parametrize("net", [Vgg, UNet, Channelwise], ids=lambda net: net.__name__)
def test_other_networks(tmp_path, net, words):
    truth = made(net)
    assert not times_read(truth, under(truth.state_dict(), words), tmp_path / "file.pth")


@pytest.mark.parametrize("stages", [("layer2",), ("layer2", "layer3")])
def test_a_stage_that_reads_each_channel_by_itself_is_no_network(stages):
    state = made(Channelwise).state_dict()
    tensors = {k: v for k, v in state.items() if k.startswith(("conv1", "bn1", "fc", *stages))}
    with pytest.raises(CheckpointError, match="no residual network"):
        open_checkpoint(tensors)


class Tower(nn.Module):
    """One width, as nets that play games have it; norms before or behind their convolutions."""

    def __init__(self, pre: bool, stem_norm: bool, last_norm: bool) -> None:
        super().__init__()
        self.pre, self.stem = pre, conv(3, 8)
        self.stem_norm = nn.BatchNorm2d(8) if stem_norm else nn.Identity()
        self.blocks = nn.ModuleList(self.block() for _ in range(3))
        self.last_norm = nn.BatchNorm2d(8) if last_norm else nn.Identity()
        self.fc = nn.Linear(8, 5)

    def block(self) -> nn.Module:
        layers = {"conv1": conv(8, 8), "bn1": nn.BatchNorm2d(8)}
        layers |= {"conv2": conv(8, 8), "bn2": nn.BatchNorm2d(8)}
        order = ("bn1", "conv1", "bn2", "conv2") if self.pre else layers
        return nn.ModuleDict({name: layers[name] for name in order})

    def features(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x))
        x = F.relu(x) if isinstance(self.stem_norm, nn.BatchNorm2d) else x
        for block in self.blocks:
            if self.pre:
                first = block["conv1"](F.relu(block["bn1"](x)))
                x = x + block["conv2"](F.relu(block["bn2"](first)))
            else:
                first = F.relu(block["bn1"](block["conv1"](x)))
                x = F.relu(x + block["bn2"](block["conv2"](first)))
        x = self.last_norm(x)
        return F.relu(x) if isinstance(self.last_norm, nn.BatchNorm2d) else x

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


@pytest.mark.parametrize("asked", ["original", "preactivation"])
@pytest.mark.parametrize("last_norm", [True, False])
@pytest.mark.parametrize("stem_norm", [True, False])
@pytest.mark.parametrize("pre", [True, False])
@torch.no_grad()
def test_where_all_is_of_one_width_the_order_says_where_norms_stand(
    pre, stem_norm, last_norm, asked
):
    truth = scramble(Tower(pre, stem_norm, last_norm)).eval()
    spec = replace(SPEC, depths=(3,), widths=(8,), first_shortcut_input="raw")
    model = create_model(replace(spec, activation_order=asked)).eval()
    # Some list the norms of pre-activation nets behind the convolutions, as here by their numbers.
    possible = {
        "original": [(False, True, False)],
        "preactivation": [(True, False, True), (False, False, True)],
    }
    if (pre, stem_norm, last_norm) not in possible[asked]:
        with pytest.raises(CheckpointError):
            load_weights(model, truth.state_dict())
        return
    load_weights(model, truth.state_dict())
    if pre == (asked == "preactivation"):
        torch.testing.assert_close(model(X), truth(X), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_whether_a_single_stage_has_shortcuts_is_asked(tmp_path):
    """Where nothing changes the shape, keys and shapes are those of a plain network."""
    truth, file = scramble(Tower(False, True, False)).eval(), tmp_path / "tower.pth"
    torch.save(truth.state_dict(), file)
    with pytest.raises(CheckpointError, match="whether its shortcuts are") as caught:
        open_model(file)
    spec = eval(re.search(r"Spec\(.*\)", caught.value.hint)[0])
    torch.testing.assert_close(open_model(file, spec)(X), truth(X), rtol=1e-4, atol=1e-4)
    plain = create_model(replace(spec, shortcut="none"))
    assert any("what shortcut is; taken as none" in n for n in load_weights(plain, file).notes)


@pytest.mark.parametrize("words", ["torchvision's", "strange"])
def test_a_hidden_layer_is_no_classifier_and_a_backbone_does_without(tmp_path, words):
    """As the heads of SimCLR and MoCo are: the features are there, classes are not."""
    truth = made(HiddenLayer)
    assert times_read(truth, under(truth.state_dict(), words), tmp_path / "file.pth") == 1


@pytest.mark.parametrize("net", [TwoHeads, SecondHead])
def test_of_two_classifiers_none_is_taken(tmp_path, net):
    truth = made(net)
    state = under(truth.state_dict(), "strange")
    assert times_read(truth, state, tmp_path / "file.pth") == 1  # features, as above
    with pytest.raises(CheckpointError, match=r"(?s)clf.*delta|delta.*clf"):
        load_weights(create_model(SPEC), state)


@pytest.mark.parametrize("words", ["torchvision's", "strange"])
def test_no_tensor_may_be_missing(words):
    state = under(made().state_dict(), words)
    for key in state:
        rest = {name: tensor for name, tensor in state.items() if name != key}
        if key.endswith("num_batches_tracked"):
            load_weights(create_model(SPEC), rest)
            continue
        with pytest.raises(CheckpointError):
            load_weights(create_model(SPEC), rest)


@pytest.mark.parametrize("words", ["torchvision's", "strange"])
@pytest.mark.parametrize("module", ["layer2.0", "layer3.1", "layer3.0.downsample", "layer2.1.bn2"])
def test_no_part_may_be_missing(module, words):
    state = {k: v for k, v in made().state_dict().items() if not k.startswith(f"{module}.")}
    with pytest.raises(CheckpointError):
        load_weights(create_model(SPEC), under(state, words))


@pytest.mark.parametrize("words", ["torchvision's", "strange"])
def test_numbers_say_which_norm_is_which_against_the_order(tmp_path, words):
    """All norms of a block stand in the file the other way round than their numbers say."""
    truth = made()
    state = truth.state_dict()
    state = under({key: state[key] for key in map(_other_norm, state)}, words)
    assert times_read(truth, state, tmp_path / "file.pth") in (0, 3)


def _other_norm(key: str) -> str:
    """Return the same tensor of a block's other norm."""
    if not key.startswith("layer"):
        return key
    return key.replace(".bn1.", ".bn0.").replace(".bn2.", ".bn1.").replace(".bn0.", ".bn2.")


def test_words_say_which_norm_is_which_against_the_order(tmp_path):
    """In one block only the order is another, so it is not the order that is kept."""
    truth = made()
    words = {"bn1": "omega", "bn2": "sigma", "conv1": "alpha", "conv2": "delta"}
    state = {
        ".".join(words.get(word, word) if key.startswith("layer") else word for word in path): t
        for key, t in truth.state_dict().items()
        for path in [key.split(".")]
    }
    turned = {
        key.replace("omega", "?").replace("sigma", "omega").replace("?", "sigma")
        if key.startswith("layer3.1.")
        else key: None
        for key in state
    }
    state = under({key: state[key] for key in turned}, "strange")
    assert times_read(truth, state, tmp_path / "file.pth") in (0, 3)


@pytest.mark.parametrize("words", ["torchvision's", "strange"])
def test_a_bias_that_no_norm_takes(words):
    """A pre-activation block's last convolution has none behind it."""
    spec = replace(SPEC, activation_order="preactivation", conv_bias="all")
    torch.manual_seed(0)
    state = under(scramble(create_model(spec)).state_dict(), words)
    load_weights(create_model(spec), state)
    with pytest.raises(CheckpointError):
        load_weights(create_model(replace(spec, conv_bias="none")), state)
