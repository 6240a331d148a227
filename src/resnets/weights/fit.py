"""Tensors under our keys -> exactly those that a network wants, or the reasons why not."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from resnets.errors import CheckpointError, UsageError
from resnets.weights.load_report import LoadReport
from resnets.weights.tensors import is_finite, name_of, some

Head = Literal["error", "drop", "keep", "optional"]
InChannels = Literal["sum", "mean", "repeat", "slice", "random"]
HEAD = ("fc.weight", "fc.bias")
STEMS = ("conv1.weight", "conv1.0.weight")  # the convolution that reads the image
_COUNTER = "num_batches_tracked"


def fit(
    found: dict[str, Tensor],
    wanted: dict[str, Tensor],
    *,
    head: Head = "error",
    in_channels: InChannels | None = None,
) -> tuple[dict[str, Tensor], LoadReport]:
    """Choose and adapt ``found`` for a network whose state dict is ``wanted``; neither is changed.

    Return what it takes, and what becomes of everything, the keys of the file's rest being ours.
    ``head="drop"`` leaves the file's classifier out, "optional" does where it has none.
    ``in_channels`` says how the first
    convolution's weights are spread over another number of input channels; by default "sum" onto
    one channel and "repeat" otherwise. Raises UsageError for a policy that does not exist or does
    not apply.
    """
    for name, policy, kind in (("head", head, Head), ("in_channels", in_channels, InChannels)):
        if policy is not None and policy not in get_args(kind):
            choices = ", ".join(map(str, get_args(kind)))
            raise UsageError(f"{name} is {policy!r}", hint=f"choose from {choices}")
    if head == "optional" and HEAD[0] not in found:
        head = "drop"
    taken: dict[str, Tensor] = {}
    report = LoadReport("")
    missing, rounded = [], {}
    for key, target in wanted.items():
        if key in HEAD and head == "drop":
            report.skipped[key] = "the classifier keeps its own weights"
        elif key in found:
            if (tensor := _adapted(report, key, found[key], target, in_channels)) is not None:
                taken[key] = tensor.to(target.dtype)
                if _is_rounded(tensor, taken[key]):
                    rounded[key] = f"from {name_of(tensor.dtype)} to {name_of(target.dtype)}"
        elif reason := _without(key, found, wanted):
            report.adapted[key] = reason
            taken[key] = torch.zeros_like(target)
        else:
            missing.append(key)
    unexpected = []
    for key in found.keys() - wanted.keys():
        if key.endswith(_COUNTER) and key.replace(_COUNTER, "weight") in wanted:
            report.skipped[key] = "the network does not count batches"
        elif key in HEAD and head == "drop":
            report.skipped[key] = "the network has no classifier"
        else:
            unexpected.append(key)
    return taken, replace(
        report,
        loaded=tuple(taken),
        missing=tuple(missing),
        unexpected=tuple(sorted(unexpected)),
        notes=tuple(_of_values(taken, rounded)),
    )


def _without(key: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return why zeros stand for what a file does not have; empty where they do not."""
    if key.endswith(_COUNTER) and key.replace(_COUNTER, "weight") in found:
        return "the file does not count batches; starts at 0"
    if _is_convolution_bias(key, wanted):
        return "the file's convolutions have no bias; zero"
    return ""


def _of_values(taken: Mapping[str, Tensor], rounded: Mapping[str, str]) -> Iterator[str]:
    """Yield what has happened to values, and which are no numbers in this precision."""
    for change in sorted(set(rounded.values())):
        yield f"rounded {change}: {some([key for key, how in rounded.items() if how == change])}"
    if lost := [key for key in rounded if not is_finite(taken[key])]:
        yield f"too large for this precision, and infinite now: {some(lost)}"


def _is_convolution_bias(key: str, wanted: Mapping[str, Tensor]) -> bool:
    module, _, leaf = key.rpartition(".")
    plain = ".se." not in key and ".join." not in key
    return leaf == "bias" and plain and wanted[f"{module}.weight"].ndim == 4


def _adapted(
    report: LoadReport, key: str, tensor: Tensor, target: Tensor, in_channels: InChannels | None
) -> Tensor | None:
    """Return a tensor of the target's shape, or None where there is none; the report says it."""
    if key in STEMS and _differ_in_channels(tensor, target):
        channels = target.shape[1]
        if in_channels == "random":
            report.skipped[key] = "the first convolution keeps its own weights"
            return None
        policy = in_channels or ("sum" if channels == 1 else "repeat")
        tensor = spread(tensor, target, policy)
        report.adapted[key] = f"{policy} of the file's input channels over {channels}"
    if tensor.layout != torch.strided or tensor.is_meta:
        raise CheckpointError(
            f"{key}: a tensor on the meta device or without a dense layout holds no plain values",
            hint="save the state dict of a model on the CPU",
        )
    if tensor.shape != target.shape:
        report.mismatched[key] = tuple(tensor.shape), tuple(target.shape)
        return None
    return tensor


def _is_rounded(tensor: Tensor, kept: Tensor) -> bool:
    """Tell whether a value of ``tensor`` has changed in another precision."""
    if torch.promote_types(tensor.dtype, kept.dtype) == kept.dtype:
        return False  # which holds all values of the other
    back = kept.to(tensor.dtype)
    return not bool(((back == tensor) | tensor.isnan()).all())


def _differ_in_channels(tensor: Tensor, target: Tensor) -> bool:
    a, b = tensor.shape, target.shape
    return len(a) == len(b) == 4 and a[1] != b[1] and (a[0], *a[2:]) == (b[0], *b[2:])


def spread(weight: Tensor, target: Tensor, policy: InChannels) -> Tensor:
    """Return a first convolution's weights (O, C, H, W) over as many channels as ``target`` has.

    - sum: each channel gets the sum over the file's, divided by the number of channels;
    - mean: each channel gets the mean over the file's;
    - repeat: the file's channels in turn, scaled so that a constant image keeps its response;
    - slice: the first channels.

    Raises UsageError where there are too few channels to slice.
    """
    old, new = weight.shape[1], target.shape[1]
    if policy == "slice" and new > old:
        raise UsageError(
            f'in_channels="slice" cannot make {new} channels of {old}',
            hint='"repeat" and "mean" can',
        )
    total = weight.double().sum(1, keepdim=True).expand(-1, new, -1, -1)
    methods: dict[str, Callable[[], Tensor]] = {
        "sum": lambda: total / new,
        "mean": lambda: total / old,
        "repeat": lambda: weight[:, [i % old for i in range(new)]].double() * (old / new),
        "slice": lambda: weight[:, :new],
    }
    wide = torch.promote_types(weight.dtype, target.dtype)
    return methods[policy]().to(wide).contiguous()
