"""Keras's variables and layouts into ours, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from resnets.errors import CheckpointError
from resnets.spec import Spec

NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


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
    if variable == "kernel" and tensor.ndim == 4:
        return "weight", tensor.permute(3, 2, 0, 1).contiguous()
    if variable == "kernel" and tensor.ndim == 2:
        return "weight", tensor.T.contiguous()
    if variable == "bias" and tensor.ndim == 1:
        return "bias", tensor
    if variable in NORM and tensor.ndim == 1:
        return NORM[variable], tensor
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
            return {theirs: tensors[f"{module}.{ours}"] for theirs, ours in NORM.items()}
        weight = tensors[f"{module}.weight"]
    except KeyError as error:
        raise CheckpointError(
            f"there is no {error} to write as a Keras layer",
            hint="Keras's batch norms have scale, center and statistics; give a whole state dict",
        ) from None
    kernel = weight.permute(2, 3, 1, 0) if kind == "conv2d" else weight.T
    bias = tensors.get(f"{module}.bias")
    return {"kernel": kernel} | ({} if bias is None else {"bias": bias})
