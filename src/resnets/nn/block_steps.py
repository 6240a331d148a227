"""What a block runs, read off its own forward pass, for whoever draws, folds or translates it."""

from typing import NamedTuple

from torch import nn
from torch.fx import Tracer

from resnets.nn.blocks import Block


class Steps(NamedTuple):
    """The names of a block's layers in the order in which they run; some run more than once."""

    before: tuple[str, ...]  # what residual and shortcut both read
    residual: tuple[str, ...]
    after: tuple[str, ...]  # the addition


class _LayerTracer(Tracer):
    """Follows a forward pass from layer to layer and looks into none of them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def steps(block: Block) -> Steps:
    """Return what a block runs, absent layers left out."""
    nodes = _LayerTracer().trace(block).nodes
    calls = [str(node.target) for node in nodes if node.op == "call_module"]
    split, addition = calls.index("downsample"), calls.index("join")
    paths = calls[:split], calls[split + 1 : addition], calls[addition + 1 :]
    present = {name for name, layer in block.named_children() if not isinstance(layer, nn.Identity)}
    return Steps(*(tuple(name for name in path if name in present) for path in paths))
