"""Keras's three kinds of files: .keras archives, .weights.h5, and the older .h5; any other HDF5.

Read without Keras and without h5py; no code in them is run. The tensors come in Keras's layouts
(convolution kernels H, W, in, out) under ``LAYER/VARIABLE``, with the layer's name as far as the
file tells it; optimizer variables and seeds are left out.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.allowance import Allowance, broken
from resnets.readers.archive import read_packed
from resnets.readers.content import Content
from resnets.readers.hdf5.data import Dataset
from resnets.readers.hdf5.tree import Group, read_tree
from resnets.readers.keras_1 import is_theanos, name_of, turned, upright
from resnets.readers.keras_config import (
    check_size,
    is_model,
    layer_name,
    parse_config,
    stored_paths,
)

KERAS_MEMBERS = ("config.json", "model.weights.h5")  # of an archive, the only ones that are read
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
VARIABLES = ("kernel", "bias", *NORM)
# What lies beside the layers and inside them, and is no weight.
NO_WEIGHTS = ("optimizer", "metrics", "loss", "seed_generator", "random_generator")


def read_keras_archive(archive: zipfile.ZipFile, path: Path, size: int) -> Content:
    """Return what a .keras archive of ``size`` bytes holds; other members are never touched.

    Raises CheckpointError when it is damaged or unsafe.
    """
    allowance = Allowance(size)
    config, weights = (archive.getinfo(name) for name in KERAS_MEMBERS)
    check_size(config.file_size)
    text = read_packed(archive, config, allowance).decode("utf-8", errors="replace")
    stated = parse_config(text)
    tree = _by_layers(read_tree(read_packed(archive, weights, allowance)), stated)
    return Content(path, "Keras .keras", tree, config=stated)


def read_hdf5(path: Path) -> Content:
    """Return what an HDF5 file of Keras's or of anybody's holds; its content says which it is.

    Raises CheckpointError when it is damaged or unsafe.
    """
    root = read_tree(path.read_bytes())
    text = "".join(root.attributes.get("model_config", []))
    config = parse_config(text) if text else None
    weights = root.children.get("model_weights", root)
    if (
        isinstance(weights, Group)
        and texts(weights, "layer_names")
        # Blocks of somebody's own class call their layers alike: only whole names tell them then.
        and not (config is None and _repeats_names(weights))
    ):
        tree, old_names = _by_names(weights, config)
        if old_names:
            tree, config = upright(tree), None  # which has other words
        if is_theanos(weights, old_names):
            tree = turned(tree)
        return Content(path, "Keras .h5", tree, config=config)
    if tree := _by_layers(root, config):
        return Content(path, "Keras .weights.h5", tree, config=config)
    # In the order in which they were written: a group's names are sorted.
    arrays = sorted(_arrays(root), key=lambda array: array.layout)
    if not arrays:
        raise CheckpointError(
            "an HDF5 file without arrays of numbers",
            hint="Keras writes model.save('x.keras') and model.save_weights('x.weights.h5')",
        )
    return Content(path, "HDF5", {array.name: array.read() for array in arrays})


def _arrays(group: Group) -> Iterator[Dataset]:
    for child in group.children.values():
        if isinstance(child, Group):
            yield from _arrays(child)
        elif child.type.is_float and child.size:
            yield child


def texts(group: Group, name: str) -> list[str]:
    """Return an attribute's texts; Keras splits long ones into name0, name1 and so on."""
    if name in group.attributes:
        return group.attributes[name]
    found: list[str] = []
    number = 0
    while f"{name}{number}" in group.attributes:
        found += group.attributes[f"{name}{number}"]
        number += 1
    return found


def _by_names(weights: Group, config: dict[str, Any] | None) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of an older .h5, whose attributes list layers and their weights.

    The second are the names of Keras 1 among them, as they are in the file.
    """
    models = {layer_name(layer) for _, layer in _stored(config) if is_model(layer)}
    tree: dict[str, Tensor] = {}
    old_names: list[str] = []
    for layer in texts(weights, "layer_names"):
        group = weights
        for part in layer.split("/"):  # a layer's name may have slashes
            group = _child(group, part)
        names = [name.split("/") for name in texts(group, "weight_names")]
        scopes = {parts[-2] if len(parts) > 1 else layer for parts in names}
        nested = layer in models if config else not _own_scope(layer, scopes)
        for parts in names:
            array: Group | Dataset = group
            for part in parts:
                array = _child(array, part)
            if isinstance(array, Dataset) and array.type.name != "integer":  # seeds, counters
                owner = parts[-2] if nested and len(parts) > 1 else layer
                variable = _variable(parts[-1])
                if old := name_of(parts[-1]):
                    owner, variable = old
                    old_names.append(parts[-1])
                _put(tree, f"{owner}/{variable}", array)
    return tree, old_names


def _repeats_names(weights: Group) -> bool:
    """Tell whether layers within a layer have the same name."""
    scopes = [
        tuple(dict.fromkeys(name.rpartition("/")[0] for name in texts(group, "weight_names")))
        for group in weights.children.values()
        if isinstance(group, Group)
    ]
    owners = [scope.rpartition("/")[2] for inner in scopes for scope in inner if "/" in scope]
    return len(owners) > len(set(owners))


def _own_scope(layer: str, scopes: set[str]) -> bool:
    """Tell whether variables are a layer's own, and not those of a model within the model.

    A scope is called like its layer, with a number behind it when that was taken.
    """
    own = re.compile(rf"{re.escape(layer.split('/')[-1])}(_\d+)?")
    return len(scopes) == 1 and all(own.fullmatch(scope) for scope in scopes)


def _child(group: Any, name: str) -> Any:
    if not isinstance(group, Group) or name not in group.children:
        raise broken(f'it names "{name}" among its weights and does not hold it')
    return group.children[name]


def _variable(name: str) -> str:
    """Return a variable's plain name: ``kernel`` of ``kernel:0`` or ``kernel_1:0``."""
    name = name.split(":")[0]
    plain = re.sub(r"_\d+$", "", name)
    return plain if plain in VARIABLES else name


def _by_layers(root: Group, config: dict[str, Any] | None) -> dict[str, Tensor]:
    """Return the tensors of a Keras 3 file, whose layers number their variables."""
    known = dict(_stored(config))
    tree: dict[str, Tensor] = {}
    # In the order of the counters: for each class, the order in which the model lists its layers.
    for place, variables in sorted(_layers(root), key=lambda found: _counters(found[0])):
        layer = known.get(place)
        # As its variables tell it, or else the name it is stored under.
        stated = "".join(variables.attributes.get("name", [])) or place.split("/")[-1]
        owner = layer_name(layer) if layer else stated
        for variable, array in _numbered(variables, place, layer).items():
            if array.type.name != "integer":  # seeds, and how many images were seen
                _put(tree, f"{owner}/{variable}", array)
    return tree


def _layers(root: Group) -> Iterator[tuple[str, Group]]:
    """Yield where layers are, such as ``layers/conv2d_7``, and the groups of their variables."""
    left = [("", root)]
    while left:
        place, group = left.pop()
        for name, child in group.children.items():
            if not isinstance(child, Group) or name.lstrip("_") in NO_WEIGHTS:
                continue
            if name == "vars":
                yield place, child
            else:  # TensorFlow's Keras had a longer word
                name = name.replace("\\", "/").replace("_layer_checkpoint_dependencies", "layers")
                left.append((f"{place}/{name}" if place else name, child))


def _counters(place: str) -> list[tuple[str, int]]:
    """Return what sorts conv2d_2 before conv2d_10, and 2 before 10."""
    parts = (re.fullmatch(r"(.*?)(?:_?(\d{1,9}))?", part, re.DOTALL) for part in place.split("/"))
    return [(match[1], int(match[2] or 0)) for match in parts if match]


def _stored(config: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    try:
        return list(stored_paths(config)) if config else []
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise broken(f"its model config is damaged: {error!r}") from None


def _numbered(variables: Group, place: str, layer: dict[str, Any] | None) -> dict[str, Dataset]:
    """Return the arrays of one layer by the names of its variables, which lie under 0, 1, 2, 3."""
    names = sorted(variables.children, key=_counters)
    arrays = [array for name in names if isinstance(array := variables.children[name], Dataset)]
    ranks = [len(array.shape) for array in arrays]
    if ranks and ranks[0] > 1:
        return dict(zip(("kernel", "bias", *map(str, range(2, len(ranks)))), arrays, strict=False))
    last = place.split("/")[-1]
    if re.fullmatch(r"batch_normalization(_\d+)?", last) or (
        len(arrays) == 4 and ranks == [1, 1, 1, 1]
    ):
        return dict(zip(_norm_variables(len(arrays), layer, place), arrays, strict=False))
    return {str(number): array for number, array in enumerate(arrays)}


def _norm_variables(count: int, layer: dict[str, Any] | None, place: str) -> tuple[str, ...]:
    """Return which variables a norm has: without scale no gamma, without center no beta."""
    config = layer["config"] if layer else {"scale": count != 2, "center": count != 2}
    flags = {"gamma": "scale", "beta": "center"}
    names = tuple(name for name in NORM if config.get(flags.get(name), True))
    if len(names) != count:
        raise CheckpointError(
            f"norm {place} has {count} variables and it is unknown which",
            hint="give the whole model, as model.save('x.keras') writes it",
        )
    return names


def _put(tree: dict[str, Tensor], key: str, array: Dataset) -> None:
    if key in tree:
        raise CheckpointError(
            f'two layers have "{key}"',
            hint="save the part of the model that is the network: model.get_layer(...).save(...)",
        )
    tree[key] = array.read()
