"""Keras's variables and layouts into ours, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.keras_file import NORM
from resnets.spec import Spec
from resnets.weights.structure.tensor_modules import LEAVES, in_torchs_order

_DIMENSIONS = {"kernel": (2, 4), **dict.fromkeys(("bias", *NORM), (1,))}


def to_ours(
    tree: Mapping[str, Tensor], names: Mapping[str, str], spec: Spec | None = None
) -> dict[str, Tensor]:
    """Return our state dict's tensors of the layers that ``names`` gives a module.

    Convolutions go from (H, W, in, out) to (out, in, H, W), classifiers from (in, out) to (out,
    in). A norm without scale or center gets ones or zeros; so does, as ``spec`` asks for biases
    everywhere, a convolution without one. Raises CheckpointError for a variable of another kind.
    """
    state: dict[str, Tensor] = {}
    for key, tensor in tree.items():
        layer, variable = key.rsplit("/", 1)
        if module := names.get(layer):
            name, value = _ours(key, variable, tensor)
            state[f"{module}.{name}"] = value
    for name, value in list(state.items()):
        module = name.rsplit(".", 1)[0]
        if name.endswith(".running_mean"):
            state.setdefault(f"{module}.weight", torch.ones_like(value))
            state.setdefault(f"{module}.bias", torch.zeros_like(value))
            state[f"{module}.num_batches_tracked"] = torch.tensor(0)
        elif value.ndim == 4 and spec is not None and spec.conv_bias == "all":
            state.setdefault(f"{module}.bias", value.new_zeros(len(value)))
    return state


def _ours(key: str, variable: str, tensor: Tensor) -> tuple[str, Tensor]:
    if tensor.ndim in _DIMENSIONS.get(variable, ()):
        return LEAVES[variable], in_torchs_order(key, tensor).contiguous()
    raise CheckpointError(
        f'"{key}" of shape {tuple(tensor.shape)} belongs to no convolution, norm or classifier',
        hint="residual networks have no such layer",
    )


def to_keras(tensors: Mapping[str, Tensor], module: str, kind: str) -> dict[str, Tensor]:
    """Return the variables of one layer, in Keras's order and layouts, from our state dict.

    ``kind`` is "conv2d", "batch_normalization" or "dense". Raises CheckpointError where one is
    missing.
    """
    try:
        if kind == "batch_normalization":
            return {theirs: tensors[f"{module}.{LEAVES[theirs]}"] for theirs in NORM}
        weight = tensors[f"{module}.weight"]
    except KeyError as error:
        raise CheckpointError(
            f"there is no {error} to write as a Keras layer",
            hint="Keras's batch norms have scale, center and statistics; give a whole state dict",
        ) from None
    kernel = weight.permute(*range(2, weight.ndim), 1, 0)
    bias = tensors.get(f"{module}.bias")
    return {"kernel": kernel} | ({} if bias is None else {"bias": bias})
