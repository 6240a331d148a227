"""From somebody's tensors to ours and back: names, layouts, and what a dialect leaves out.

The model then computes what the original computed; what had to be done for that is told.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from resnets.errors import CheckpointError, check_name
from resnets.readers.content import Content
from resnets.spec import Spec
from resnets.weights import naming
from resnets.weights.biases import following_norm
from resnets.weights.dialects import BY_NAME, Input
from resnets.weights.infer import block_of
from resnets.weights.layer_facts import layer_facts
from resnets.weights.reparametrised import multiplied_out
from resnets.weights.state_dict import StateDict
from resnets.weights.structure.choosing import choose_network
from resnets.weights.structure.tensor_modules import in_torchs_order, split
from resnets.weights.tensors import name_of

STATISTICS = ("running_mean", "running_var")
UNKNOWN = "nobody's that is known here"


def translate(
    state: StateDict,
    content: Content | None = None,
    dialect: str | None = None,
    *,
    ema: bool = False,
    spec: Spec | None = None,
    images: Input | None = None,
    norm_eps: float | None = None,
) -> StateDict:
    """Return the tensors of the network in a state as ours, and what its names prove.

    ``ema`` and ``spec`` are for `choose_network`. ``dialect`` says whose names they are.
    ``images`` says what the net was trained on where the caller knows better than the dialect; a
    net for blue-green-red gets its first convolution's channels exchanged. ``norm_eps``, by default
    that of ``spec``, is what the model adds to variances: norms without statistics get such that
    nothing changes. Raises
    CheckpointError where there is no network, for another dialect, names that contradict the order
    in the file and tensors that cannot be what their places say, and UsageError for an unknown
    dialect.
    """
    if dialect:
        check_name("dialect", dialect, BY_NAME)
    tensors, computed = multiplied_out(state.tensors)
    tensors = {key: in_torchs_order(key, tensor) for key, tensor in tensors.items()}
    state = choose_network(replace(state, tensors=tensors), ema=ema, spec=spec)
    if norm_eps is None:
        norm_eps = spec.norm_eps if spec else Spec.norm_eps
    found = _translated(state, dialect, content, images, norm_eps)
    done = {ours: computed[key] for ours, key in found.sources.items() if key in computed}
    return replace(found, adapted={**done, **found.adapted})


def _translated(
    state: StateDict,
    dialect: str | None,
    content: Content | None,
    images: Input | None,
    norm_eps: float,
) -> StateDict:
    shapes = {key: tuple(tensor.shape) for key, tensor in state.tensors.items()}
    spoken, names = naming.recognise(state.sources, shapes, dialect)
    if state.contradiction and spoken is None:
        raise CheckpointError(
            f"which norm is which is unclear: {state.contradiction}",
            hint="give the names or the order of a dialect, such as torchvision's",
        )
    tensors = {
        ours: _to_torch(ours, theirs, state.tensors[theirs]) for ours, theirs in names.items()
    }
    name = spoken.name if spoken else UNKNOWN
    _refuse_standardised(name, tensors)
    folded = (
        {} if any(".running_mean" in k or ".bn1." in k for k in tensors) else _norms_of(tensors)
    )
    undecided = () if spoken else state.undecided
    # Names of no dialect prove nothing.
    hints, known = spoken.proven(signs(tensors, content)) if spoken else ({}, None)
    adapted = {}
    known = images or known
    if known is not None and known.bgr and exchange_red_and_blue(tensors):
        adapted[_first_convolution(tensors)] = "input channels from blue-green-red to red first"
    if spoken and spoken.affine_norms:
        adapted |= _add_statistics(tensors, norm_eps)
    if folded:
        tensors |= folded
        adapted |= dict.fromkeys(folded, "the file's convolutions have their norms folded in")
        adapted |= _add_statistics(tensors, norm_eps)
        undecided = ("activation_order", *undecided)
    adapted |= _add_counters(tensors)
    modules = {o.rpartition(".")[0]: split(theirs)[0] for o, theirs in state.sources.items()}
    stated, notes = layer_facts(modules, content.layers if content else {})
    places = {key: place for place, key in enumerate(state.tensors)}
    before = {theirs: ours.rpartition(".")[0] for ours, theirs in state.sources.items()}
    sources = dict(sorted(names.items(), key=lambda each: places[each[1]]))
    return replace(
        state,
        tensors=tensors,
        dialect=name,
        sources=sources,
        reasons={o.rpartition(".")[0]: state.reasons[before[key]] for o, key in sources.items()},
        hints={**hints, **stated},
        notes=(*state.notes, *notes),
        input=known,
        adapted=adapted,
        undecided=tuple(name for name in undecided if name not in stated),
    )


def to_dialect(tensors: Mapping[str, Tensor], spec: Spec, dialect: str) -> dict[str, Tensor]:
    """Return our tensors as a dialect has them: names, layouts, channel order, folded statistics.

    Raises CheckpointError, with the reason, for a net that the dialect cannot hold, and UsageError
    for an unknown dialect.
    """
    check_name("dialect", dialect, BY_NAME)
    spoken = BY_NAME[dialect]
    values = {key: tensor.detach().cpu() for key, tensor in tensors.items()}
    if spoken.affine_norms and not naming.refusal(spec, spoken):
        _fold_statistics(values, spec.norm_eps)
    names = naming.write(values, spoken, spec)
    _, images = spoken.proven(signs(values))
    if images is not None and images.bgr:
        exchange_red_and_blue(values)
    head = spoken.head == "convolution" and spec.activation_order == "preactivation"
    result = {}
    for ours, theirs in names.items():
        tensor = values[ours]
        if head and ours == "fc.weight":
            tensor = tensor[:, :, None, None]
        result[theirs] = tensor.contiguous()
    return result


def exchange_red_and_blue(tensors: dict[str, Tensor]) -> bool:
    """Reverse the first convolution's three input channels in place; tell whether there are."""
    key = _first_convolution(tensors)
    if key not in tensors or tensors[key].shape[1] != 3:
        return False
    tensors[key] = tensors[key].flip(1)
    return True


def _first_convolution(tensors: Mapping[str, Tensor]) -> str:
    return "conv1.0.weight" if "conv1.0.weight" in tensors else "conv1.weight"


def _to_torch(ours: str, theirs: str, tensor: Tensor) -> Tensor:
    """Return a tensor in torch's layout: convolutions (out, in, H, W), classifiers (out, in)."""
    if ours.endswith("num_batches_tracked"):
        if tensor.numel() != 1:
            raise CheckpointError(f"{theirs}: a counter of shape {tuple(tensor.shape)}")
        return tensor.reshape(()).long()
    if not tensor.is_floating_point():
        raise CheckpointError(
            f"{theirs}: {name_of(tensor.dtype)} values are no weights",
            hint="quantised files must be converted to floats by the program that wrote them",
        )
    if ours == "fc.weight" and tensor.ndim == 4:
        return tensor.flatten(1)
    if ".se.fc" in ours and ours.endswith(".weight") and tensor.ndim == 2:
        return tensor[:, :, None, None]
    return tensor


def signs(tensors: Mapping[str, Tensor], content: Content | None = None) -> dict[str, Any]:
    """Return what tensors under our keys, and a file beside them, show of a net; None for unknown.

    They are what proofs of dialects ask for (`dialects.Proof`).
    """
    one, three, stem = (
        tensors[key].shape if key in tensors else ()
        for key in ("layer1.0.conv1.weight", "layer1.0.conv2.weight", "conv1.weight")
    )
    projections = [key for key in tensors if ".downsample." in key]
    tree = content.tree if content and isinstance(content.tree, dict) else {}
    config = content.config if content and isinstance(content.config, dict) else {}
    return {
        "author": tree.get("__author__"),  # detectron2's word for who trained a net
        "biased": any(".conv" in key and key.endswith(".bias") for key in tensors),
        "block": block_of(tensors),
        "downsample_in_bottleneck": config.get("downsample_in_bottleneck"),  # Hugging Face's
        "first_projects": any(key.startswith("layer1.0.") for key in projections),
        "folded": _statistics_are_folded(tensors),
        "grouped": three[1] != one[0] if one and three else None,
        "pre": int("norm.weight" in tensors),
        "projects": bool(projections),
        "stem": f"{stem[2]}x{stem[2]}" if stem else None,
    }


def _refuse_standardised(dialect: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for group norms before convolutions, as timm's BiT nets have them.

    Their weights alone do not show what they are.
    """
    group_norm = "norm.weight" in tensors and "norm.running_mean" not in tensors
    if dialect in ("timm", UNKNOWN) and group_norm and "conv1.weight" in tensors:
        raise CheckpointError(
            "pre-activation blocks with group norms: such nets, as timm's BiT, standardise the "
            "weights of their convolutions, which no network here does",
            hint="use one with batch norms, as timm's resnetv2_50, or the library that it is from",
        )


def _norms(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the modules that are norms: a weight of one dimension."""
    weights = [key for key, tensor in tensors.items() if key.endswith(".weight")]
    return [key.removesuffix(".weight") for key in weights if tensors[key].ndim == 1]


def _statistics_are_folded(tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether every norm has mean 0 and one variance, but learnt scales: as in Caffe nets."""
    norms = _norms(tensors)
    means, variances = (
        [tensors[f"{norm}.{name}"].double() for norm in norms if f"{norm}.{name}" in tensors]
        for name in STATISTICS
    )
    return (
        len(means) > 0
        and not any(mean.is_meta or mean.any() for mean in means)
        and all(variance.eq(variance[:1]).all() for variance in variances)
        and not all(tensors[f"{norm}.weight"].double().eq(1).all() for norm in norms)
    )


def _norms_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return norms that change nothing behind convolutions that have had theirs folded in."""
    spec = Spec(block=block_of(tensors))
    found = {}
    for key, tensor in tensors.items():
        module, _, leaf = key.rpartition(".")
        norm = following_norm(module, spec) if leaf == "weight" and tensor.ndim == 4 else None
        if norm and ".se." not in key:
            found[f"{norm}.weight"] = torch.ones(len(tensor), dtype=tensor.dtype)
            found[f"{norm}.bias"] = torch.zeros(len(tensor), dtype=tensor.dtype)
    return found


def _add_statistics(tensors: dict[str, Tensor], norm_eps: float) -> dict[str, str]:
    """Give norms that only scale and shift the statistics that leave their input as it is."""
    adapted = {}
    for norm in _norms(tensors):
        weight = tensors[f"{norm}.weight"]
        for name, value in zip(STATISTICS, (0.0, 1 - norm_eps), strict=True):
            if f"{norm}.{name}" not in tensors:
                wide = torch.promote_types(weight.dtype, torch.float32)  # float16 has no 1 - eps
                tensors[f"{norm}.{name}"] = torch.full_like(weight, value, dtype=wide)
                adapted[f"{norm}.{name}"] = "the file's norms only scale and shift"
    return adapted


def _fold_statistics(tensors: dict[str, Tensor], norm_eps: float) -> None:
    """Turn norms into a scale and a shift, in place, computed in float64."""
    for norm in _norms(tensors):
        if f"{norm}.running_mean" not in tensors:
            continue
        mean, var = (tensors.pop(f"{norm}.{name}").double() for name in STATISTICS)
        weight, bias = tensors[f"{norm}.weight"], tensors[f"{norm}.bias"]
        scale = weight.double() / (var + norm_eps).sqrt()
        tensors[f"{norm}.weight"] = scale.to(weight.dtype)
        tensors[f"{norm}.bias"] = (bias.double() - mean * scale).to(bias.dtype)


def _add_counters(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Give batch norms without one the counter that torch keeps, which evaluation never reads."""
    added = {}
    for norm in _norms(tensors):
        key = f"{norm}.num_batches_tracked"
        if f"{norm}.running_mean" in tensors and key not in tensors:
            tensors[key] = torch.tensor(0)
            added[key] = "not in the file; only training counts with it"
    return added
