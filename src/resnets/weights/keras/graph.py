"""A Keras model's config as a graph of layers, models within models opened up.

Keras 3 and tf.keras 2 write differently which layers feed which; both are understood.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from resnets.errors import CheckpointError
from resnets.readers.keras_config import is_model, layer_name, layers_of

CONSTANT = "_CONSTANT_VALUE"


@dataclass(frozen=True)
class Node:
    """One layer: its class, its config, and the keys of the nodes that feed it."""

    name: str
    kind: str
    config: dict[str, Any]
    inputs: tuple[str, ...]
    calls: Any = None  # as the config has them, with arguments that are no layers

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}"'


# A model: nodes by their keys, which are names with those of the models around them
Graph = dict[str, Node]


def build_graph(config: dict[str, Any]) -> Graph:
    """Return the graph of a model's config, every node after what feeds it.

    Raises CheckpointError where it contradicts itself, and others that mean damage.
    """
    graph: Graph = {}
    _add_model(graph, config, "", [])
    return graph


def _add_model(graph: Graph, model: dict[str, Any], prefix: str, given: list[str]) -> str:
    """Add a model's layers to the graph, fed by ``given``, and return the key of its output."""
    layers = layers_of(model)
    if any("inbound_nodes" in layer for layer in layers):
        return _add_functional(graph, model, prefix, given)
    before = list(given)
    for layer in layers:
        if not before and layer["class_name"] != "InputLayer":
            before = [_add_input(graph, model, layer, prefix)]
        before = [_add_layer(graph, layer, prefix, before)]
    return before[0]


def _add_input(graph: Graph, model: dict[str, Any], first: dict[str, Any], prefix: str) -> str:
    """Add the input that a Sequential without one means, and return its key."""
    shape = first["config"].get("batch_input_shape")
    if shape is None and isinstance(model["config"], dict):
        shape = model["config"].get("build_input_shape")
    key = f"{prefix}input"
    graph[key] = Node("input", "InputLayer", {"batch_shape": shape}, ())
    return key


def _add_functional(graph: Graph, model: dict[str, Any], prefix: str, given: list[str]) -> str:
    config = model["config"]
    # The input of a model within a model is a node too, because it tells a shape.
    fed = dict(zip(references(config["input_layers"]), given, strict=False))
    keys: dict[str, str] = {}  # of the layers that are in the graph, by their names in this model
    for layer, feeding in _in_order(layers_of(model)):
        name = layer_name(layer)
        inputs = [fed[name]] if name in fed else [keys[other] for other in feeding]
        keys[name] = _add_layer(graph, layer, prefix, inputs)
    return keys[references(config["output_layers"])[0]]


def _in_order(layers: list[dict[str, Any]]) -> list[tuple[dict[str, Any], list[str]]]:
    """Return layers and the names of those that feed them, every layer after what feeds it."""
    feeding: dict[str, list[str]] = {}
    fed_by: dict[str, list[str]] = {}
    for layer in layers:
        name, calls = layer_name(layer), layer.get("inbound_nodes") or []
        if len(calls) > 1:
            raise CheckpointError(f'layer "{name}" is used {len(calls)} times')
        feeding[name] = references(calls)
        for other in feeding[name]:
            fed_by.setdefault(other, []).append(name)
    by_name = {layer_name(layer): layer for layer in layers}
    missing = {name: len(others) for name, others in feeding.items()}
    ready = deque(name for name, count in missing.items() if not count)
    order = []
    while ready:
        name = ready.popleft()
        order.append((by_name[name], feeding[name]))
        for other in fed_by.get(name, []):
            missing[other] -= 1
            if not missing[other]:
                ready.append(other)
    if len(order) < len(layers):
        left = next(name for name, count in missing.items() if count)
        raise CheckpointError(f'the model config is damaged: nothing feeds layer "{left}"')
    return order


def _add_layer(graph: Graph, layer: dict[str, Any], prefix: str, inputs: list[str]) -> str:
    name = layer_name(layer)
    key = prefix + name
    if is_model(layer):
        return _add_model(graph, layer, f"{key}/", inputs)
    if key in graph:
        raise CheckpointError(f'two layers are called "{key}"')
    kind, calls = str(layer["class_name"]), layer.get("inbound_nodes")
    graph[key] = Node(name, kind, layer["config"], tuple(inputs), calls)
    return key


def references(value: Any) -> list[str]:
    """Return the names of the layers whose outputs a call's arguments mention, in their order.

    Keras 3 writes them as ``{"class_name": "__keras_tensor__", "config": {"keras_history": [name,
    0, 0]}}``, tf.keras 2 as ``[name, 0, 0, {other arguments}]``, and a number where a layer would
    be as ``["_CONSTANT_VALUE", -1, 1.0, {other arguments}]``.
    """
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return [str(value["config"]["keras_history"][0])]
        return [name for inner in value.values() for name in references(inner)]
    if not isinstance(value, list):
        return []
    if len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int):
        own = [] if value[0] == CONSTANT else [value[0]]
        return [*own, *references(value[3:])]
    return [name for inner in value for name in references(inner)]


def ancestors(graph: Graph, key: str) -> Graph:
    """Return a node and all that feeds it, every node after what feeds it."""
    found, left = set(), [key]
    while left:
        if (key := left.pop()) not in found:
            found.add(key)
            left += graph[key].inputs
    return {name: node for name, node in graph.items() if name in found}


def arguments(node: Node, given: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a node's call, positional and named.

    ``given`` has what its inputs are, in their order; of one with several outputs a list, from
    which the call chooses. Raises LookupError, TypeError and others for what is no call.
    """
    fed = iter(given)
    (call,) = node.calls
    if isinstance(call, dict):  # of Keras 3
        positional = [_argument(value, fed) for value in call["args"]]
        return positional, {name: _argument(value, fed) for name, value in call["kwargs"].items()}
    if isinstance(call[0], str):
        return [_argument(call, fed)], _named(call, fed)
    several = [(_argument(one, fed), _named(one, fed)) for one in call]
    values = [value for value, _ in several]
    return values if len(values) == 1 else [values], several[0][1]


def _named(call: list[Any], fed: Iterator[Any]) -> dict[str, Any]:
    """Return the other arguments of a call of tf.keras 2."""
    return {name: _argument(value, fed) for name, value in call[3].items()} if call[3:] else {}


def _argument(value: Any, fed: Iterator[Any]) -> Any:
    """Return an argument: what feeds it, a constant, an index, or a list of such."""
    if isinstance(value, dict):
        match value.get("class_name"):
            case "__keras_tensor__":
                return _fed(value["config"]["keras_history"], fed)
            case "__tensor__" | "__numpy__":
                return value["config"]["value"]
            case "__ellipsis__":
                return ...
            case "__tuple__":
                return [_argument(item, fed) for item in value["items"]]
        parts = value["config"] if value.get("class_name") == "__slice__" else value
        return slice(parts["start"], parts["stop"], parts["step"])
    if not isinstance(value, list):
        return value
    if len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int):
        return value[2] if value[0] == CONSTANT else _fed(value, fed)
    return [_argument(item, fed) for item in value]


def _fed(place: list[Any], fed: Iterator[Any]) -> Any:
    made = next(fed)
    return made[place[2]] if isinstance(made, list) else made
