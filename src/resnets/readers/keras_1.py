"""Files of Keras 1 (2015 to 2017) and kernels of its Theano backend, made like later ones."""

import re

from torch import Tensor

from resnets.readers.hdf5.tree import Group

_NAME = re.compile(r"(.+)_(W|b|gamma|beta|running_mean|running_std)")
_RENAMED = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # it never was a deviation
}


def name_of(variable: str) -> tuple[str, str] | None:
    """Return the layer and the variable in a name such as ``conv1_W:0``; None for later ones."""
    match = _NAME.fullmatch(variable.split(":")[0])
    return (match[1], _RENAMED.get(match[2], match[2])) if match else None


def is_theanos(group: Group, old_names: list[str]) -> bool:
    """Tell whether the backend was Theano, whose convolutions turn their kernels by 180 degrees.

    Without a word about it the names of Keras 1 tell: only TensorFlow numbers its variables (:0).
    """
    stated = "".join(group.attributes.get("backend", []))
    return stated == "theano" if stated else any(":" not in name for name in old_names)


def upright(tree: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a tree whose kernels (out, in, H, W), if it has such, are (H, W, in, out)."""
    kernels = {k: t for k, t in tree.items() if t.ndim == 4 and k.endswith("/kernel")}
    first = sum(kernel.shape[0] * kernel.shape[1] for kernel in kernels.values())
    last = sum(kernel.shape[2] * kernel.shape[3] for kernel in kernels.values())
    if first <= last:  # the sizes of kernels are less than the numbers of channels
        return tree
    return tree | {key: kernel.permute(2, 3, 1, 0) for key, kernel in kernels.items()}


def turned(tree: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a tree whose kernels (H, W, in, out) are turned by 180 degrees."""
    return {
        key: value.flip(0, 1) if value.ndim == 4 and key.endswith("/kernel") else value
        for key, value in tree.items()
    }
