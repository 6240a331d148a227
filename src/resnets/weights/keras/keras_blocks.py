"""Where a Keras graph's residual blocks begin and end, found from its Adds."""

from dataclasses import dataclass

from resnets.errors import CheckpointError
from resnets.weights.keras.graph import Graph, Node, ancestors
from resnets.weights.keras.steps import CONVOLUTION, KINDS, Step, is_addition, steps, unsupported

WEIGHTED = (*KINDS, "Dense", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose")


@dataclass(frozen=True)
class BlockSteps:
    """One block: what runs before the split into two branches, and on each of them."""

    lead: list[Step]  # since the addition before; of the first block the whole stem
    residual: list[Step]
    shortcut: list[Step]

    @property
    def paths(self) -> tuple[list[Step], ...]:
        """The stretches that it is made of."""
        return self.lead, self.residual, self.shortcut

    @property
    def convolutions(self) -> list[Step]:
        """The residual's convolutions."""
        return [step for step in self.residual if step.kind == CONVOLUTION]


@dataclass(frozen=True)
class Body:
    """The network between its input and its last addition."""

    sources: list[Node]  # the input layer, and those of the models within it that lead to it
    entry: str  # the key of what the first convolution reads
    blocks: list[BlockSteps]
    last: str  # the key of the last addition

    @property
    def main(self) -> list[Step]:
        """The steps from the stem to the last addition, but for those of shortcuts."""
        return [step for b in self.blocks for path in (b.lead, b.residual) for step in path]


def find_body(graph: Graph) -> Body:
    """Return the blocks, first to last. Raises CheckpointError where it is no residual network."""
    additions = {key: node for key, node in graph.items() if _joins(node)}
    if not additions:
        raise CheckpointError(
            f"no residual network: none of its {len(graph)} layers adds two branches",
            hint="`resnets models` lists the networks that are here",
        )
    blocks: list[tuple[list[Node], list[Node], list[Node]]] = []
    key = last = list(additions)[-1]
    while key in additions:
        start, *block = _split(graph, key)
        blocks.append((block[0], block[1], block[2]))
        del additions[key]
        key = start
    if additions:
        raise unsupported(next(iter(additions.values())), "beside the main path")
    blocks.reverse()
    stem = _stem(graph, key, blocks[0][0])
    blocks[0] = (stem, *blocks[0][1:])
    return Body(
        _sources(graph, stem[0].inputs[0]),
        stem[0].inputs[0],
        [BlockSteps(*(steps(nodes) for nodes in block)) for block in blocks],
        last,
    )


def _joins(node: Node) -> bool:
    return is_addition(node) and len(node.inputs) > 1


def _split(graph: Graph, key: str) -> tuple[str, list[Node], list[Node], list[Node]]:
    """Return where an addition's block starts, its lead, its residual and its shortcut."""
    addition = graph[key]
    if len(addition.inputs) != 2:
        raise unsupported(addition, f"of {len(addition.inputs)} inputs")
    first, second = (_back(graph, other) for other in addition.inputs)
    shared = set(first) & set(second)
    if not shared:
        for end in (first[-1], second[-1]):
            if graph[end].inputs and not is_addition(graph[end]):
                raise unsupported(graph[end])
        raise unsupported(addition, "whose inputs do not begin at one place")
    branches = sorted(
        ([graph[k] for k in reversed(path) if k not in shared] for path in (first, second)),
        key=_convolutions,
    )
    shortcut, residual = branches
    if _convolutions(shortcut) == _convolutions(residual):
        raise unsupported(addition, "of two branches with as many convolutions")
    lead = [k for k in reversed(first) if k in shared]
    return lead[0], [graph[k] for k in lead[1:]], residual, shortcut


def _back(graph: Graph, key: str) -> list[str]:
    """Return the keys from ``key`` back to the next addition or to what has not one input."""
    path = [key]
    while len(graph[key].inputs) == 1 and not is_addition(graph[key]):
        key = graph[key].inputs[0]
        path.append(key)
    return path


def _convolutions(branch: list[Node]) -> int:
    return sum(KINDS.get(node.kind) == CONVOLUTION for node in branch)


def _stem(graph: Graph, start: str, lead: list[Node]) -> list[Node]:
    """Return the layers from the first convolution to the first split.

    A padding in front of the convolution is the convolution's.
    """
    kinds = [KINDS.get(node.kind) for node in lead]
    if CONVOLUTION not in kinds:
        raise unsupported(graph[start], "before the first block")
    position = kinds.index(CONVOLUTION)
    if position and lead[position - 1].kind == "ZeroPadding2D":
        position -= 1
    for node in ancestors(graph, lead[position].inputs[0]).values():
        if node.kind in WEIGHTED:
            raise unsupported(node, "before the first convolution")
    return lead[position:]


def _sources(graph: Graph, entry: str) -> list[Node]:
    """Return the input layers in front of the stem, the model's own first."""
    before = ancestors(graph, entry).values()
    sources = [node for node in before if node.kind == "InputLayer"]
    own = sum(not node.inputs for node in sources)
    if own != 1:
        raise CheckpointError(f"it has {own} inputs where residual networks have one")
    return sources
