"""A network block by block, and each block in its parts, so that one of them can be left out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resnets.nn import ResNet
from resnets.nn.block_steps import steps
from resnets.nn.blocks import Block
from resnets.nn.places import Place, places


class Parts:
    """A block as y = joined(shortcut(x), branch(x)), where x is its input, activated if it is.

    The parts run the block's own layers in the order of its forward pass: put together they compute
    what the block does, bit for bit.
    """

    def __init__(self, name: str, block: Block, place: Place, *, plain: bool) -> None:
        self.name, self.block, self.plain = name, block, plain
        self.stage = name.partition(".")[0]
        self.keeps_shape = place.in_channels == place.out_channels and place.stride == 1
        self._before, self._branch, self._after = (
            [block.get_submodule(layer) for layer in path] for path in steps(block)
        )

    def read(self, x: Tensor) -> Tensor:
        """Return what shortcut and branch both read of the block's input."""
        return _through(self._before, x)

    def shortcut(self, x: Tensor) -> Tensor:
        """Return the shortcut of what is read."""
        return self.block.downsample(x)

    def branch(self, x: Tensor) -> Tensor:
        """Return F of what is read, up to where stochastic depth drops it."""
        return _through(self._branch, x)

    def joined(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        """Return the block's output."""
        return _through(self._after, self.block.join(shortcut, branch))

    @property
    def can_go(self) -> bool:
        """Whether something is left without the branch: plain nets lack what changes shapes."""
        return self.keeps_shape or not self.plain

    def without_branch(self, x: Tensor) -> Tensor:
        """Return the block's output where its branch is zero; a plain block's is its input."""
        if self.plain:
            return x.clone()  # an activation that follows may overwrite it
        shortcut = self.shortcut(self.read(x))
        return self.joined(shortcut, torch.zeros_like(shortcut))


def parts_of(model: ResNet) -> list[Parts]:
    """Return the parts of every block, first to last."""
    plain = model.spec.shortcut == "none"
    blocks = [(name, m) for name, m in model.named_modules() if isinstance(m, Block)]
    table = [place for row in places(model.spec) for place in row]
    return [Parts(*each, place, plain=plain) for each, place in zip(blocks, table, strict=True)]


def stem(model: ResNet, x: Tensor) -> Tensor:
    """Return what the first block reads of images (N, C, H, W)."""
    return model.maxpool(model.activation(model.bn1(model.conv1(x))))  # type: ignore[no-any-return]


def head(model: ResNet, x: Tensor) -> Tensor:
    """Return logits (N, classes) of the last block's output, into which it may write."""
    return model.forward_head(model.last_activation(model.norm(x)))


def _through(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x
