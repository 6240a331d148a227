"""Our own network in Keras's words: the steps of its blocks, and the order of its layers."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import nn

from resnets.nn.block_steps import steps
from resnets.nn.blocks import BLOCKS
from resnets.nn.freezing import FrozenBatchNorm2d
from resnets.nn.places import Place, places
from resnets.nn.shortcuts import ZeroPad
from resnets.nn.trunk import Trunk
from resnets.spec import Spec
from resnets.weights.keras.steps import ACTIVATION, AVERAGE_POOL, CONVOLUTION, MAX_POOL, NORM


@dataclass(frozen=True)
class OurStep:
    """One step: its kind as in keras_steps, and the module that it is where it has weights."""

    kind: str
    module: str = ""


# Of a block: what runs since the addition before it, and on its residual and its shortcut
Paths = tuple[list[OurStep], list[OurStep], list[OurStep]]


def our_steps(spec: Spec) -> tuple[list[Paths], list[OurStep]]:
    """Return the steps of our blocks, and those between the last addition and the pooling.

    The first block's lead begins with the stem.
    """
    spec = replace(spec, output_stride=32, multi_grid=(), drop_path=0.0)
    with torch.device("meta"):
        stem = Trunk(spec, stages=0)
    blocks: list[Paths] = []
    lead = _steps(stem, ("conv1", "bn1", "activation", "maxpool"))
    for stage, row in enumerate(places(spec), 1):
        for position, place in enumerate(row):
            where = f"layer{stage}.{position}"
            paths = (_inside(where, path) for path in _block_steps(spec, place))
            before, residual, after, shortcut = paths
            blocks.append((lead + before, residual, shortcut))
            lead = after
    if spec.activation_order == "preactivation":
        lead.append(OurStep(NORM, "norm"))
    return blocks, [*lead, OurStep(ACTIVATION)] if spec.preactivated else lead


@lru_cache(maxsize=64)
def _block_steps(spec: Spec, place: Place) -> tuple[tuple[OurStep, ...], ...]:
    """Return the steps of blocks in such a place, of which a stage has one or two kinds."""
    with torch.device("meta"):
        block = BLOCKS[spec.block](spec, place)
    return tuple(tuple(_steps(block, path)) for path in (*steps(block), ("downsample",)))


def _inside(where: str, steps: Iterable[OurStep]) -> list[OurStep]:
    return [replace(s, module=f"{where}.{s.module}") if s.module else s for s in steps]


def _steps(parent: nn.Module, names: Iterable[str]) -> list[OurStep]:
    """Return the steps of some layers of a module."""
    found: list[OurStep] = []
    for name in names:
        match layer := parent.get_submodule(name):
            case nn.Sequential():
                found += _steps(parent, (f"{name}.{child}" for child, _ in layer.named_children()))
            case nn.Conv2d():
                found.append(OurStep(CONVOLUTION, name))
            case nn.BatchNorm2d() | nn.GroupNorm() | FrozenBatchNorm2d():
                found.append(OurStep(NORM, name))
            case nn.MaxPool2d():
                found.append(OurStep(MAX_POOL))
            case ZeroPad() if layer.stride > 1:  # where Keras subsamples by pooling
                found.append(OurStep(MAX_POOL))
            case nn.AvgPool2d():
                found.append(OurStep(AVERAGE_POOL))
            case nn.ReLU() | nn.LeakyReLU() | nn.SiLU() | nn.GELU():
                found.append(OurStep(ACTIVATION))
    return found


def layer_order(spec: Spec) -> list[tuple[str, str]]:
    """Return our modules in the order in which a Keras model lists such layers, and their kinds.

    Kinds are "conv2d", "batch_normalization" and "dense". Keras lists layers by how far they are
    from the output, and of two that are equally far first the one on an addition's first input,
    which is the shortcut wherever such networks are published.
    """
    kinds = {CONVOLUTION: "conv2d", NORM: "batch_normalization"}
    order: list[OurStep] = []
    blocks, tail = our_steps(spec)
    for lead, residual, shortcut in blocks:
        distant = [
            (-distance, branch, step)
            for branch, steps in enumerate((shortcut, residual))
            for distance, step in enumerate(reversed(steps))
        ]
        order += lead
        order += [step for _, _, step in sorted(distant, key=lambda found: found[:2])]
    order += tail
    return [*((step.module, kinds[step.kind]) for step in order if step.module), ("fc", "dense")]
