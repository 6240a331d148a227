"""Our own network in Keras's words: the steps of its blocks, and the order of its layers."""

from collections.abc import Iterable, Iterator
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


def our_blocks(spec: Spec) -> list[Paths]:
    """Return the steps of our blocks; the first one's lead begins with the stem."""
    with torch.device("meta"):
        stem = Trunk(spec, stages=0)
    blocks: list[Paths] = []
    lead = _steps(stem, ("conv1", "bn1", "activation", "maxpool"))
    for where, path in _paths(spec):
        before, residual, after, shortcut = (_inside(where, steps) for steps in path)
        blocks.append((lead + before, residual, shortcut))
        lead = after
    return blocks


def our_tail(spec: Spec) -> list[OurStep]:
    """Return the steps between the last addition and the pooling."""
    *_, (where, (_, _, after, _)) = _paths(spec)
    tail = _inside(where, after)
    if spec.activation_order == "preactivation":
        tail.append(OurStep(NORM, "norm"))
    return [*tail, OurStep(ACTIVATION)] if spec.preactivated else tail


def _paths(spec: Spec) -> Iterator[tuple[str, tuple[tuple[OurStep, ...], ...]]]:
    """Yield each block's name and what runs before, on, after its residual, and on its shortcut."""
    spec = replace(spec, output_stride=32, multi_grid=(), drop_path=0.0)
    for stage, row in enumerate(places(spec)):
        for position, place in enumerate(row):
            yield f"layer{stage + 1}.{position}", _block_steps(spec, place)


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
    for lead, residual, shortcut in our_blocks(spec):
        distant = [
            (-distance, branch, step)
            for branch, steps in enumerate((shortcut, residual))
            for distance, step in enumerate(reversed(steps))
        ]
        order += lead
        order += [step for _, _, step in sorted(distant, key=lambda found: found[:2])]
    order += our_tail(spec)
    return [*((step.module, kinds[step.kind]) for step in order if step.module), ("fc", "dense")]
