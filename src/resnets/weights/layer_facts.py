"""What whole modules and graphs say of their layers, as fields of a spec: strides, epsilons."""

from collections.abc import Mapping
from typing import Any

from resnets.errors import CheckpointError

_STEM = {7: 2, 3: 1}  # kernel -> stride, of the stems that are here
_ACTIVATIONS = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "SiLU": "silu", "GELU": "gelu"}


def layer_facts(
    modules: Mapping[str, str], layers: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """Return the fields that the layers of a file prove, and notes on what they prove otherwise.

    ``modules`` is {our module: their module}, ``layers`` what `Content.layers` is. Raises
    CheckpointError for a stem that strides or pools as none here does.
    """
    known = {
        ours: facts
        for ours, theirs in modules.items()
        for facts in [layers.get(theirs) or _ending(layers, theirs)]
        if facts
    }
    proven: dict[str, Any] = {}
    strides = {ours: _number(facts.get("stride")) for ours, facts in known.items()}
    second = [strides.get(f"layer2.0.conv{i}") for i in (1, 2)]
    if "layer2.0.conv3" in modules and sorted(second, key=str) == [1, 2]:
        proven["bottleneck_stride"] = "1x1" if second[0] == 2 else "3x3"
    kernel, stride = _number(known.get("conv1", {}).get("kernel_size")), strides.get("conv1")
    if kernel in _STEM and stride:
        if stride != _STEM[kernel]:
            raise CheckpointError(
                f"its stem, a convolution of {kernel}x{kernel}, has a stride of {stride}: those "
                f"here have {_STEM[kernel]}",
                hint="`resnets models` lists the nets that are here",
            )
        proven["stem_stride"] = stride
    kinds = {str(facts.get("class")).rpartition(".")[2] for facts in layers.values()}
    if kernel == 3 and any(kind.endswith("MaxPool2d") for kind in kinds):
        raise CheckpointError(
            "it has a max-pooling: networks here with a 3x3 stem have none",
            hint="`resnets models` lists the nets that are here",
        )
    if len(active := kinds & _ACTIVATIONS.keys()) == 1:
        proven["activation"] = _ACTIVATIONS[active.pop()]
    epsilons = {facts["eps"] for facts in known.values() if isinstance(facts.get("eps"), float)}
    if len(epsilons) == 1:
        proven["norm_eps"] = epsilons.pop()
    notes = ["its norms have several epsilons: each is taken as 1e-05"] if epsilons else []
    return proven, notes


def _ending(layers: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((facts for path, facts in layers.items() if path.endswith(f".{name}")), {})


def _number(value: Any) -> int | None:
    """Return the one number of a pair of equal ones, or the number itself."""
    if isinstance(value, list | tuple) and len(set(value)) == 1:
        value = value[0]
    return value if isinstance(value, int) else None
