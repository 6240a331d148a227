"""Convolution biases that a net has no place for, folded into the norm that follows."""

from collections.abc import Mapping

import torch
from torch import Tensor

from resnets.spec import CONVOLUTIONS, Spec


def fold_biases(
    tensors: Mapping[str, Tensor], spec: Spec
) -> tuple[dict[str, Tensor], list[str], dict[str, str]]:
    """Fold the biases of convolutions that have none in this net into its norms' running means.

    Return the tensors, the biases that are gone, and why others had to stay.
    A norm of x + b with mean m + b is the norm of x with mean m, exactly, where the statistics are
    not computed anew (evaluation). Zeros are left out anywhere. A bias that no norm follows, such
    as a pre-activation block's last, is impossible to fold.
    """
    result = dict(tensors)
    folded: list[str] = []
    impossible: dict[str, str] = {}
    for key, bias in tensors.items():
        module, _, leaf = key.rpartition(".")
        if leaf != "bias" or getattr(tensors.get(f"{module}.weight"), "ndim", 0) != 4:
            continue
        norm = following_norm(module, spec)
        if spec.conv_bias == "all" or (spec.conv_bias == "without_norm" and norm is None):
            continue
        if ".se." in key or ".join." in key:
            continue
        mean = f"{norm}.running_mean"
        if bias.any() and norm is None:
            impossible[key] = "no norm follows this convolution"
        elif bias.any() and mean not in tensors:
            impossible[key] = f"{norm} has no running mean"
        else:
            if bias.any():
                shifted = result[mean].double() - bias.double()
                wide = torch.promote_types(result[mean].dtype, bias.dtype)
                result[mean] = shifted.to(torch.promote_types(wide, torch.float32))
            del result[key]
            folded.append(key)
    return result, folded, impossible


def following_norm(module: str, spec: Spec) -> str | None:
    """Return the norm that takes a convolution's output and nothing else's; None without one.

    The join's norm of "bn_after_addition" counts: it takes the sum, which a bias shifts alike.
    """
    place, _, name = module.rpartition(".")
    pre = spec.activation_order == "preactivation"
    if module in ("conv1.0", "conv1.3"):
        return f"conv1.{int(name) + 1}"
    if module in ("conv1", "conv1.6"):
        return None if pre and not spec.stem_activation else "bn1"
    if name.startswith("conv"):
        number = int(name.removeprefix("conv"))
        last = CONVOLUTIONS[spec.block]
        if not pre:
            return f"{place}.bn{number}"
        return f"{place}.bn{number + 1}" if number < last else None
    if place.endswith(".downsample") and spec.projection_norm and not spec.preactivated:
        return f"{place}.{int(name) + 1}"
    return None
