"""Weights as a file that Keras loads: the older .h5, or Keras 3's .weights.h5."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnets.errors import CheckpointError, ResourceError
from resnets.files import write_bytes
from resnets.spec import Spec
from resnets.weights.keras.keras_variables import to_keras
from resnets.weights.keras.modules import layer_order
from resnets.weights.keras.names import application_layer
from resnets.zoo import get_spec

LONGEST_ATTRIBUTE = 60_000  # bytes; HDF5's limit is 64 KiB with the rest of the header

APPLICATIONS_EPS = get_spec("keras_applications_resnet50").norm_eps


def write_keras(path: Path, tensors: Mapping[str, Tensor], spec: Spec) -> None:
    """Write the state dict of a spec's network, whole or not at all, for ``model.load_weights``.

    A path that ends in ``.weights.h5`` gets Keras 3's format, any other the older one, which
    tf.keras 2 reads too. Layers stand in the order in which Keras lists them; their names are those
    of keras.applications where it has such a network. Raises CheckpointError when Keras has no such
    layers or a tensor is missing, ResourceError without h5py.
    """
    try:
        import h5py
    except ImportError:
        raise ResourceError(
            "writing Keras files needs h5py", hint='pip install "resnets[keras]"'
        ) from None
    layers = _layers(tensors, spec)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        (_write_numbered if path.name.endswith(".weights.h5") else _write_named)(file, layers)
    write_bytes(path, buffer.getvalue())


def for_applications(tensors: Mapping[str, Tensor], spec: Spec) -> tuple[dict[str, Tensor], Spec]:
    """Return an ImageNet net's tensors as keras.applications' ResNet of the same depth has them.

    Its convolutions have biases, here zero, and its norms another epsilon, which their variances
    make up for. Other nets stay as they are. Raises CheckpointError for v1.5, whose weights Keras
    would load and compute something else with.
    """
    state = dict(tensors)
    if (spec.block, spec.stem, spec.activation_order) != ("bottleneck", "7x7", "original"):
        return state, spec
    if spec.bottleneck_stride == "3x3":
        raise CheckpointError(
            f"keras cannot hold {spec.name}: keras.applications strides on the 1x1 (v1), and these "
            "weights, which would load there, are for the stride on the 3x3",
            hint="train the v1 net, or write another dialect",
        )
    target = replace(spec, conv_bias="all", norm_eps=APPLICATIONS_EPS)
    for key, tensor in tensors.items():
        if tensor.ndim == 4:
            state.setdefault(f"{key.removesuffix('.weight')}.bias", tensor.new_zeros(len(tensor)))
        elif key.endswith(".running_var"):
            shifted = tensor.double() + spec.norm_eps - APPLICATIONS_EPS
            state[key] = shifted.clamp(min=0).to(tensor.dtype)
    return state, target


Layers = dict[str, tuple[str, dict[str, Tensor]]]  # name -> kind and variables


def _layers(tensors: Mapping[str, Tensor], spec: Spec) -> Layers:
    if spec.norm == "group" or spec.attention != "none" or spec.gate != "none" or spec.scaled:
        raise CheckpointError(
            f"{spec.name} has layers that Keras's residual networks do not have: {spec!r}",
            hint="write it as safetensors",
        )
    order = layer_order(spec)
    layers: Layers = {}
    for (module, kind), name in zip(order, _counted(kind for _, kind in order), strict=True):
        if (spec.block, spec.stem) == ("bottleneck", "7x7"):
            name = application_layer(module, spec)
        layers[name] = kind, to_keras(tensors, module, kind)
    written = {module for module, _ in order}
    for key in tensors:
        if key.rsplit(".", 1)[0] not in written:
            raise CheckpointError(
                f'"{key}" is no tensor of {spec.name}', hint="give the state dict of its network"
            )
    return layers


def _counted(kinds: Iterable[str]) -> Iterator[str]:
    """Yield Keras's automatic names: conv2d, conv2d_1 and so on."""
    counters: dict[str, int] = {}
    for kind in kinds:
        number = counters[kind] = counters.get(kind, -1) + 1
        yield f"{kind}_{number}" if number else kind


def _write_named(file: Any, layers: Layers) -> None:
    _set_names(file, "layer_names", list(layers))
    file.attrs["backend"] = b"tensorflow"
    file.attrs["keras_version"] = b"2.15.0"
    for layer, (_, variables) in layers.items():
        group = file.create_group(layer)
        _set_names(group, "weight_names", [f"{layer}/{name}:0" for name in variables])
        for name, tensor in variables.items():
            group[f"{layer}/{name}:0"] = _array(tensor)


def _set_names(group: Any, name: str, names: list[str]) -> None:
    """Write a list of names, in parts where it is too long for one attribute."""
    longest = max(len(text.encode()) for text in names)
    per_part = max(LONGEST_ATTRIBUTE // longest, 1)
    parts = [names[i : i + per_part] for i in range(0, len(names), per_part)]
    for number, part in enumerate(parts):
        label = name if len(parts) == 1 else f"{name}{number}"
        group.attrs[label] = [text.encode() for text in part]


def _write_numbered(file: Any, layers: Layers) -> None:
    places = _counted(kind for kind, _ in layers.values())
    for place, (layer, (_, variables)) in zip(places, layers.items(), strict=True):
        group = file.create_group(f"layers/{place}/vars")
        group.attrs["name"] = layer
        for position, tensor in enumerate(variables.values()):
            group[str(position)] = _array(tensor)


def _array(tensor: Tensor) -> Any:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # NumPy has none
        tensor = tensor.float()
    return tensor.contiguous().numpy()
