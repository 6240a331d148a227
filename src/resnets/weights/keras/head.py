"""What follows the last block of a Keras network: the last norm, pooling and classifier."""

from dataclasses import dataclass

from resnets.weights.keras.graph import Graph, Node
from resnets.weights.keras.steps import INERT, Step, activation_name, steps

AFTER_BLOCKS = ("BatchNormalization", "SyncBatchNormalization", "Activation", "ReLU", "LeakyReLU")
GLOBAL_POOL = ("GlobalAveragePooling2D", "GlobalAvgPool2D")
PROBABILITIES = ("softmax", "sigmoid", "linear")


@dataclass(frozen=True)
class Head:
    """The end of a network; without a classifier of our kind, ``classifier`` is None."""

    after: list[Step]  # between the last addition and the pooling
    classifier: Node | None
    dropout: float = 0.0
    outputs: str | None = None  # "softmax" or "sigmoid", where the last activation is one


def find_head(graph: Graph, last: str, side: int | None) -> Head:
    """Return what follows the addition ``last``, where the maps have this side if it is known.

    Our classifier is one layer that reads the mean over the map. Of anything else only the norm
    and activation that end the body are returned.
    """
    nodes = _forward(graph, last)
    count = 0
    while count < len(nodes) and nodes[count].kind in AFTER_BLOCKS:
        count += 1
    after, rest = steps(nodes[:count]), nodes[count:]
    pooled = _after_pool(rest, side)
    if pooled is None or _only_probabilities(pooled):
        return Head(after, None)
    dropouts = [node for node in pooled if node.kind == "Dropout"]
    layers = [node for node in pooled if node.kind not in INERT]
    classifier, *end = layers
    if classifier.kind != "Dense" or not _only_probabilities(end):
        return Head(after, None)
    if activation_name(classifier.config.get("activation")) not in PROBABILITIES:
        return Head(after, None)
    rate = float(dropouts[0].config.get("rate", 0)) if len(dropouts) == 1 else 0.0
    return Head(after, classifier, rate, _meaning([classifier, *end]))


def _forward(graph: Graph, key: str) -> list[Node]:
    """Return the nodes that follow one after the other, until there is none or more than one."""
    found: list[Node] = []
    consumers: dict[str, list[str]] = {key: [] for key in graph}
    for fed, node in graph.items():
        for other in node.inputs:
            consumers[other].append(fed)
    while len(consumers[key]) == 1:
        (key,) = consumers[key]
        if len(graph[key].inputs) != 1:
            break
        found.append(graph[key])
    return found


def _after_pool(nodes: list[Node], side: int | None) -> list[Node] | None:
    """Return what follows the mean over the whole map; None where there is no such mean."""
    layers = [node for node in nodes if node.kind not in INERT]
    if not layers:
        return None
    start = nodes.index(layers[0])
    if layers[0].kind in GLOBAL_POOL:
        rest = nodes[start + 1 :]
        return rest[1:] if rest and rest[0].kind == "Flatten" else rest
    if [node.kind for node in layers[:2]] == ["AveragePooling2D", "Flatten"]:
        size = layers[0].config.get("pool_size")
        sides = set(size) if isinstance(size, list) else {size}
        if side is None or sides == {side}:
            return nodes[nodes.index(layers[1]) + 1 :]
    return None


def _meaning(nodes: list[Node]) -> str | None:
    """Return the one activation that makes probabilities; logits say nothing about themselves."""
    words = [
        "softmax" if node.kind == "Softmax" else activation_name(node.config.get("activation"))
        for node in nodes
    ]
    found = [word for word in words if word in ("softmax", "sigmoid")]
    return found[0] if len(found) == 1 else None


def _only_probabilities(nodes: list[Node]) -> bool:
    """Tell whether layers change nothing but how logits are put."""
    return all(
        node.kind in ("Softmax", *INERT)
        or (
            node.kind == "Activation"
            and activation_name(node.config.get("activation")) in PROBABILITIES
        )
        for node in nodes
    )
