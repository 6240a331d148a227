"""Activation checkpointing: the backward pass computes a block's inside again, nothing is kept.

Chen et al. 2016, sec. 4: memory for one more forward pass.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@contextmanager
def uncounted(module: nn.Module) -> Iterator[None]:
    """Let batch norms that learn their statistics not count what they see: they write to copies."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    own = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm, buffers in zip(norms, own, strict=True):
        _set_buffers(norm, {name: buffer.clone() for name, buffer in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, own, strict=True):
            _set_buffers(norm, buffers)


def _set_buffers(module: nn.Module, buffers: dict[str, Tensor]) -> None:
    for name, buffer in buffers.items():
        setattr(module, name, buffer)


class RecomputedStage(nn.Sequential):
    """A stage that keeps its blocks' inputs only.

    Every batch counts once in its batch norms, which plain checkpointing lets count twice.
    """

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = recomputed(block, x)
        return x


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """Return ``block(x)``; what is in between is computed again for the gradient."""
    if torch.compiler.is_compiling():  # which decides itself where to compute, and counts once
        return checkpoint(block, x, use_reentrant=False)  # type: ignore[no-any-return]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), uncounted(block)  # of the first computation and of the second

    return checkpoint(block, x, use_reentrant=False, context_fn=contexts)  # type: ignore[no-any-return]
