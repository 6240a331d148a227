"""Which Keras layer is which of our modules, where a file brings no config to read it from."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from resnets.errors import CheckpointError
from resnets.spec import Spec
from resnets.weights.keras.modules import layer_order

# keras.applications' names outside of blocks, those of today first.
OUTSIDE = {
    **{"conv1_conv": "conv1", "conv1_bn": "bn1", "post_bn": "norm", "predictions": "fc"},
    **{"conv1": "conv1", "bn_conv1": "bn1", "probs": "fc", "fc1000": "fc"},
}
IN_BLOCK = re.compile(r"conv([2-9])_block(\d{1,4})_(preact|\d)_(bn|conv)")
# The names of He et al.'s own release, that keras.applications had until 2019: res2a_branch2b.
RELEASED = re.compile(r"(res|bn)([2-9])([a-z])_branch(1|2[abc])")


def application_names(layers: Iterable[str]) -> dict[str, str]:
    """Return which module of ours each layer is, by the names that keras.applications gives.

    Empty when these are not such names; layers that the rule does not know are left out.
    """
    layers = list(layers)
    # V2 counts a block's norms from the one before its first convolution, which it calls preact.
    shift = int(any(layer.endswith("_preact_bn") for layer in layers))
    names = {layer: name for layer in layers if (name := _in_block(layer, shift))}
    if not names:
        return {}
    return names | {layer: OUTSIDE[layer] for layer in layers if layer in OUTSIDE}


def _in_block(layer: str, shift: int) -> str:
    if match := IN_BLOCK.fullmatch(layer):
        stage, block, number, kind = match.groups()
        place = 1 if number == "preact" else int(number) + (shift if kind == "bn" else 0)
        is_projection = number == "0"
        index = int(block) - 1
    elif match := RELEASED.fullmatch(layer):
        kind, stage, letter, branch = match.groups()
        is_projection = branch == "1"
        place, index = " abc".index(branch[-1:]) if branch[1:] else 0, ord(letter) - ord("a")
    else:
        return ""
    where = f"layer{int(stage) - 1}.{index}"
    if is_projection:
        return f"{where}.downsample.{int(kind == 'bn')}"
    return f"{where}.{'bn' if kind == 'bn' else 'conv'}{place}"


def application_layer(module: str, spec: Spec) -> str:
    """Return keras.applications' name of a module of ours; the inverse of ``application_names``."""
    pre = spec.activation_order == "preactivation"
    for theirs, ours in OUTSIDE.items():
        if ours == module:
            return theirs
    layer, block, part, *rest = module.split(".")
    where = f"conv{int(layer[5:]) + 1}_block{int(block) + 1}"
    if part == "downsample":
        return f"{where}_0_{'bn' if rest == ['1'] else 'conv'}"
    kind, number = part[:-1], int(part[-1])
    if kind == "bn" and pre:
        number -= 1
    return f"{where}_{number or 'preact'}_{kind}"


def ordered_names(tree: Mapping[str, Tensor], spec: Spec) -> dict[str, str]:
    """Return which module of a spec each layer is, by the order of the layers of each kind.

    For layers with automatic names such as conv2d_7, in the order in which the reader gives them.
    Raises CheckpointError when the numbers of layers differ.
    """
    theirs: dict[str, list[str]] = {"conv2d": [], "batch_normalization": [], "dense": []}
    for key, tensor in tree.items():
        layer, variable = key.rsplit("/", 1)
        if variable == "moving_mean":
            theirs["batch_normalization"].append(layer)
        elif variable == "kernel" and tensor.ndim in (2, 4):
            theirs["conv2d" if tensor.ndim == 4 else "dense"].append(layer)
    names: dict[str, str] = {}
    for kind, layers in theirs.items():
        ours = [module for module, own in layer_order(spec) if own == kind]
        if len(ours) != len(layers) and (kind, len(layers)) != ("dense", 0):
            raise CheckpointError(
                f"the file has {len(layers)} {kind} layers, {spec.name} has {len(ours)}",
                hint="their names say nothing; name the model that it was saved from, or give the "
                "whole model, as model.save('x.keras') writes it",
            )
        names |= dict(zip(layers, ours, strict=False))
    return names
