"""A Keras model's config: JSON from a stranger, and the names of layers that it gives."""

import json
import re
from collections.abc import Iterator
from typing import Any

from resnets.errors import CheckpointError
from resnets.readers.allowance import broken

_LARGEST = 8 << 20  # bytes; a network of a thousand layers has 3 MB


def parse_config(text: str) -> dict[str, Any]:
    """Return the model that a JSON text describes.

    Raises CheckpointError when it is none, or has Lambda layers: their code would have to run.
    """
    check_size(len(text))
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise broken(f"its model config is no JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict | list):
        raise CheckpointError(
            "its model config describes no model",
            hint="save the model in Keras again: model.save(...)",
        )
    _refuse_code(config)
    return config


def check_size(size: int) -> None:
    """Raise CheckpointError for a config of more bytes than any network's has."""
    if size > _LARGEST:
        raise CheckpointError(
            f"its model config has {size:,} bytes",
            hint="no network needs that; get the file from its author again",
        )


def _refuse_code(config: Any) -> None:
    left = [config]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            kind = value.get("class_name")
            if kind in ("Lambda", "__lambda__"):
                inner = value.get("config")
                name = value.get("name") or (inner.get("name") if isinstance(inner, dict) else "")
                raise CheckpointError(
                    f'its model config has a Lambda layer ("{name}"), which is code: refused',
                    hint="replace it by a layer of Keras's own and save the model again",
                )
            left += value.values()
        elif isinstance(value, list):
            left += value


def layers_of(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the configs of a model's layers; raises KeyError, TypeError for a damaged config."""
    inner = model["config"]
    layers = inner if isinstance(inner, list) else inner["layers"]  # a Sequential of Keras 2.0
    if not all(isinstance(layer, dict) and isinstance(layer["config"], dict) for layer in layers):
        raise TypeError("a layer without a config")
    return list(layers)


def layer_name(layer: dict[str, Any]) -> str:
    """Return the name of a layer from its config."""
    return str(layer.get("name") or layer["config"].get("name", ""))


def is_model(layer: dict[str, Any]) -> bool:
    """Tell whether a layer is a model of its own."""
    inner = layer["config"]
    return isinstance(inner, list) or "layers" in inner


def stored_paths(model: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each layer's variables lie in a .weights.h5, and its config.

    A layer is stored under its class and the number of layers of that class before it, such as
    ``layers/conv2d_7``; models within models nest.
    """
    counts: dict[str, int] = {}
    for layer in layers_of(model):
        if layer["class_name"] == "InputLayer":
            continue
        kind = snake_case(str(layer["class_name"]))
        number = counts[kind] = counts.get(kind, -1) + 1
        path = f"{prefix}layers/{kind}" + (f"_{number}" if number else "")
        yield path, layer
        if is_model(layer):
            yield from stored_paths(layer, f"{path}/")


def snake_case(name: str) -> str:
    """Return Keras's lower-case form of a class name: ``batch_normalization``, ``conv2d``."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()
