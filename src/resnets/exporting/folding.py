"""Batch norms folded into the convolutions before them: the same function in fewer steps.

A norm with stored statistics multiplies each channel and adds to it, and so does a convolution's
last step. Only a norm that reads a convolution's output and nothing else does is folded: the first
norm of a pre-activation block stays, because its input is a sum that the shortcut reads too.
"""

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from resnets.nn import ResNet
from resnets.nn.block_steps import steps
from resnets.nn.blocks import Block
from resnets.nn.freezing import FixedBatchNorm2d, FrozenBatchNorm2d

Norm = nn.BatchNorm2d | FrozenBatchNorm2d | FixedBatchNorm2d


def folded(network: ResNet) -> ResNet:
    """Return a copy in evaluation mode whose norms are folded where that is exact.

    Folding is computed in float64 and rounded once. Modules keep their names; a folded norm is the
    identity.
    """
    network = copy.deepcopy(network).eval()
    for parent, first, second in list(_consecutive(network)):
        convolution, norm = _last(parent.get_submodule(first)), parent.get_submodule(second)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, Norm):
            _fold(convolution, norm)
            setattr(parent, second, nn.Identity())
    return network


def _consecutive(network: ResNet) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield (parent, name, name) of modules of which the second alone reads the first's output."""
    yield network, "conv1", "bn1"
    for module in network.modules():
        if isinstance(module, Block):
            names = steps(module).residual
        elif isinstance(module, nn.Sequential):
            names = tuple(name for name, _ in module.named_children())
        else:
            continue
        for first, second in pairwise(names):
            yield module, first, second


def _last(module: nn.Module) -> nn.Module:
    """Return what computes a module's output: a deep stem is a sequence."""
    return module[-1] if isinstance(module, nn.Sequential) else module


def _fold(convolution: nn.Conv2d, norm: Norm) -> None:
    mean, variance, weight, bias = (
        getattr(norm, name).detach().double()
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    scale = weight / (variance + norm.eps).sqrt()
    before: Tensor | float = 0.0 if convolution.bias is None else convolution.bias.detach().double()
    kernel = convolution.weight.detach()
    convolution.weight = _constant(kernel.double() * scale[:, None, None, None], kernel.dtype)
    convolution.bias = _constant(bias + (before - mean) * scale, kernel.dtype)


def _constant(values: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(values.to(dtype), requires_grad=False)
