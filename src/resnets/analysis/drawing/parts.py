"""What there is to draw, read off the network's own modules so that a drawing cannot lie."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from resnets.analysis.profiling import Shapes
from resnets.nn import ResNet
from resnets.nn.attention import EfficientChannelAttention, SqueezeExcitation
from resnets.nn.block_steps import steps
from resnets.nn.blocks import Block
from resnets.nn.freezing import FrozenBatchNorm2d
from resnets.nn.layers import DropPath
from resnets.nn.shortcuts import (
    DilatedAverage,
    DropoutSum,
    ExclusiveGate,
    ResidualOnly,
    ScaledSum,
    ShortcutGate,
    ZeroPad,
)
from resnets.spec import Spec

Kind = Literal["conv", "norm", "activation", "shortcut", "extra"]


@dataclass(frozen=True)
class Map:
    """A feature map of the whole net and what makes it."""

    name: str
    shape: tuple[int, ...]  # (C, H, W), or (C,)
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrawnLayer:
    """One box of a block; ``name`` is the module's own, such as ``layer1.0.conv1``."""

    name: str
    kind: Kind
    text: str


@dataclass(frozen=True)
class Unit:
    """One residual block: its paths, first layer to last, and how they are joined."""

    stage: int  # counted from 0
    position: int  # in the stage, counted from 0
    input: tuple[int, ...]  # (C, H, W)
    output: tuple[int, ...]
    before: tuple[DrawnLayer, ...]  # before the split
    residual: tuple[DrawnLayer, ...]
    after: tuple[DrawnLayer, ...]  # after the addition
    shortcut: tuple[DrawnLayer, ...]
    gate: tuple[DrawnLayer, ...]
    weights: tuple[str, str]  # of shortcut and residual in the sum; empty: 1
    title: str
    joined: bool  # False: a plain net adds nothing

    @property
    def is_first(self) -> bool:
        """Whether it is the very first block."""
        return self.stage == self.position == 0

    @property
    def keeps_shape(self) -> bool:
        """Whether its output is as large as its input."""
        return self.input == self.output

    @property
    def likeness(self) -> tuple[object, ...]:
        """What blocks that deserve one common drawing share."""
        paths = (self.before, self.residual, self.after)
        names = tuple(tuple(layer.name.rpartition(".")[2] for layer in path) for path in paths)
        return (*names, self.title, self.keeps_shape)


def maps_and_units(spec: Spec) -> tuple[list[Map], list[Unit]]:
    """Return the feature maps of the whole net, input to classes, and all its blocks."""
    with torch.device("meta"):
        network = ResNet(spec).eval()
        x = torch.empty(1, spec.in_channels, spec.image_size, spec.image_size)
    with Shapes():
        maps = [Map("input", _shape(x))]
        stem = nn.Sequential(network.conv1, network.bn1, network.activation)
        x = stem(x)
        maps.append(Map("stem", _shape(x), _lines(stem)))
        x = network.maxpool(x)
        if pooling := _lines(network.maxpool):
            maps.append(Map("max pool", _shape(x), pooling))
        units = []
        for stage, blocks in enumerate(network.stages):
            for position, block in enumerate(blocks.children()):
                assert isinstance(block, Block)
                y = block(x)
                units.append(_unit(block, stage, position, _shape(x), _shape(y)))
                x = y
            count = spec.depths[stage]
            maps.append(Map(f"layer{stage + 1}", _shape(x), (f"{count} block{'s' * (count > 1)}",)))
        ends = _lines(nn.Sequential(network.norm, network.last_activation))
        maps.append(Map("average pool", (x.shape[1],), tuple(f"after {line}" for line in ends)))
        lines = (*_lines(network.dropout), "fully connected")
        maps.append(Map("classes", (network.fc.out_features,), lines))
    return maps, units


def kinds_of_units(units: list[Unit]) -> list[tuple[Unit, int]]:
    """Return one block of each kind and how many there are.

    Kinds that keep the shape come first, then the more frequent ones. A kind is shown by its first
    block, or its first that changes the size.
    """
    counts = Counter(unit.likeness for unit in units)
    shown: dict[tuple[object, ...], Unit] = {}
    for unit in units:
        known = shown.setdefault(unit.likeness, unit)
        if known.input[1:] == known.output[1:] and unit.input[1:] != unit.output[1:]:
            shown[unit.likeness] = unit
    kinds = [(shown[likeness], count) for likeness, count in counts.items()]
    return sorted(kinds, key=lambda kind: (not kind[0].keeps_shape, -kind[1]))


def _unit(
    block: Block, stage: int, position: int, input: tuple[int, ...], output: tuple[int, ...]
) -> Unit:
    prefix = f"layer{stage + 1}.{position}"

    def layers(names: tuple[str, ...]) -> tuple[DrawnLayer, ...]:
        return tuple(_layer(f"{prefix}.{name}", block.get_submodule(name)) for name in names)

    paths, join, downsample = steps(block), block.join, block.downsample
    title, names = "Identity shortcut", tuple[str, ...]()
    if isinstance(downsample, nn.Sequential):
        title = "Projection shortcut"
        names = tuple(
            f"downsample.{name}"
            for name, layer in downsample.named_children()
            if not isinstance(layer, nn.Identity)
        )
    elif isinstance(downsample, ZeroPad):
        grows = downsample.before + downsample.after
        title = "Zero-padded shortcut" if grows else "Subsampled shortcut"
        names = ("downsample",)
    weights, gate = ("", ""), tuple[DrawnLayer, ...]()
    if isinstance(join, ResidualOnly):
        title = "No shortcut"
    elif isinstance(join, ShortcutGate):
        weights = ("1 − g", "g" if isinstance(join, ExclusiveGate) else "")
        gate = (*layers(("join.gate",)), DrawnLayer(f"{prefix}.join", "shortcut", "σ"))
    elif isinstance(join, ScaledSum):
        scales = (join.shortcut_scale, join.residual_scale)
        weights = (_factor(scales[0]), _factor(scales[1]))
    elif isinstance(join, DropoutSum):
        names = (*names, "join.dropout")
    return Unit(
        stage=stage,
        position=position,
        input=input,
        output=output,
        before=layers(paths.before),
        residual=layers(paths.residual),
        after=layers(paths.after),
        shortcut=layers(names),
        gate=gate,
        weights=weights,
        title=title,
        joined=not isinstance(join, ResidualOnly),
    )


def _layer(name: str, module: nn.Module) -> DrawnLayer:
    kind: Kind = "activation"
    if {"downsample", "join"} & set(name.split(".")):
        kind = "shortcut"
    elif isinstance(module, nn.Conv2d):
        kind = "conv"
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | FrozenBatchNorm2d):
        kind = "norm"
    elif isinstance(module, SqueezeExcitation | EfficientChannelAttention | DropPath):
        kind = "extra"
    return DrawnLayer(name, kind, _text(module))


def _text(module: nn.Module) -> str:
    """Return what a box says, in the manner of the papers' figures."""
    match module:
        case nn.Conv2d():
            words = [f"{module.kernel_size[0]}×{module.kernel_size[1]} conv, {module.out_channels}"]
            words += [f"C = {module.groups}"] * (module.groups > 1)
            words += [f"dilation {module.dilation[0]}"] * (module.dilation[0] > 1)
            return ", ".join(words + _over(module.stride[0]))
        case nn.BatchNorm2d():
            return "BN"
        case FrozenBatchNorm2d():
            return "frozen BN"
        case nn.GroupNorm():
            return f"GN, {module.num_groups} groups"
        case nn.ReLU():
            return "ReLU"
        case nn.LeakyReLU():
            return "leaky ReLU"
        case nn.SiLU() | nn.GELU():
            return type(module).__name__
        case SqueezeExcitation():
            return f"SE: {module.fc1.in_channels} → {module.fc1.out_channels} → gate"
        case EfficientChannelAttention():
            return f"ECA: kernel {module.conv.kernel_size[0]} → gate"
        case DropPath():
            return f"drop path {module.probability:.2g}"
        case nn.AvgPool2d() | nn.MaxPool2d():
            side, stride = int(str(module.kernel_size)), int(str(module.stride))
            kind = "average" if isinstance(module, nn.AvgPool2d) else "max"
            return ", ".join([f"{side}×{side} {kind} pool", *_over(stride)])
        case DilatedAverage():
            return f"2×2 average pool, dilation {module.dilation}"
        case nn.ZeroPad2d():
            return "zero padding"
        case nn.Dropout():
            return f"dropout {module.p:g}"
        case ZeroPad():
            both = f"{module.before} + {module.after}" if module.before else f"+{module.after}"
            words = [f"zero-pad {both} channels"] if module.before + module.after else ["subsample"]
            return ", ".join(words + _over(module.stride))
    raise TypeError(f"no words for {type(module).__name__}")


def _lines(module: nn.Module) -> tuple[str, ...]:
    """Return what the layers inside a module say, one line for each but norm and activation."""
    lines: list[str] = []
    joins = False  # whether the line before was a norm's
    for layer in module.modules():
        if isinstance(layer, nn.Sequential | nn.Identity):
            continue
        if joins and _layer("", layer).kind == "activation":
            lines[-1] += f", {_text(layer)}"
        else:
            lines.append(_text(layer))
        joins = _layer("", layer).kind == "norm"
    return tuple(lines)


def _over(stride: int) -> list[str]:
    return [f"/{stride}"] if stride > 1 else []


def _factor(scale: float) -> str:
    return "" if scale == 1 else f"{scale:g}"


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape[1:])
