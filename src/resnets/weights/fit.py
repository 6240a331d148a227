"""Tensors under our keys -> exactly those that a network wants, or the reasons why not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from resnets.errors import CheckpointError, UsageError

Head = Literal["error", "drop", "keep", "optional"]
InChannels = Literal["sum", "mean", "repeat", "slice", "random"]
HEAD = ("fc.weight", "fc.bias")
STEMS = ("conv1.weight", "conv1.0.weight")  # the convolution that reads the picture
_COUNTER = "num_batches_tracked"


@dataclass
class Fit:
    """What a network takes from a file, and what becomes of the rest; keys are our own."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    rounded: dict[str, str] = field(default_factory=dict)  # from which precision to which
    skipped: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        """The keys that do not fit, worst first."""
        return [*self.mismatched, *self.missing, *self.unexpected]


def fit(
    found: dict[str, Tensor],
    wanted: dict[str, Tensor],
    *,
    head: Head = "error",
    in_channels: InChannels | None = None,
) -> Fit:
    """Choose and adapt ``found`` for a network whose state dict is ``wanted``; neither is changed.

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
    result = Fit()
    for key, target in wanted.items():
        if key in HEAD and head == "drop":
            result.skipped[key] = "the classifier keeps its own weights"
        elif key not in found:
            if key.endswith(_COUNTER) and key.replace(_COUNTER, "weight") in found:
                result.adapted[key] = "the file does not count batches; starts at 0"
                result.tensors[key] = torch.zeros_like(target)
            elif _is_convolution_bias(key, wanted):
                result.adapted[key] = "the file's convolutions have no bias; zero"
                result.tensors[key] = torch.zeros_like(target)
            else:
                result.missing.append(key)
        else:
            _take(result, key, found[key], target, in_channels)
    for key in found.keys() - wanted.keys():
        if key.endswith(_COUNTER) and key.replace(_COUNTER, "weight") in wanted:
            result.skipped[key] = "the network does not count batches"
        elif key in HEAD and head == "drop":
            result.skipped[key] = "the network has no classifier"
        else:
            result.unexpected.append(key)
    result.unexpected.sort()
    return result


def _is_convolution_bias(key: str, wanted: dict[str, Tensor]) -> bool:
    module, _, leaf = key.rpartition(".")
    plain = ".se." not in key and ".join." not in key
    return leaf == "bias" and plain and wanted[f"{module}.weight"].ndim == 4


def _take(
    result: Fit, key: str, tensor: Tensor, target: Tensor, in_channels: InChannels | None
) -> None:
    if key in STEMS and _differ_in_channels(tensor, target):
        channels = target.shape[1]
        if in_channels == "random":
            result.skipped[key] = "the first convolution keeps its own weights"
            return
        policy = in_channels or ("sum" if channels == 1 else "repeat")
        tensor = spread(tensor, target, policy)
        result.adapted[key] = f"{policy} of the file's input channels over {channels}"
    if tensor.layout != torch.strided or tensor.is_meta:
        raise CheckpointError(
            f"{key}: a tensor on the meta device or without a dense layout holds no plain values",
            hint="save the state dict of a model on the CPU",
        )
    if tensor.shape != target.shape:
        result.mismatched[key] = tuple(tensor.shape), tuple(target.shape)
        return
    kept = tensor.to(target.dtype)
    if _is_rounded(tensor, kept):
        result.rounded[key] = f"from {_name(tensor.dtype)} to {_name(kept.dtype)}"
    result.tensors[key] = kept


def _is_rounded(tensor: Tensor, kept: Tensor) -> bool:
    """Tell whether a value of ``tensor`` has changed in another precision."""
    if torch.promote_types(tensor.dtype, kept.dtype) == kept.dtype:
        return False  # which holds all values of the other
    back = kept.to(tensor.dtype)
    return not bool(((back == tensor) | tensor.isnan()).all())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _differ_in_channels(tensor: Tensor, target: Tensor) -> bool:
    a, b = tensor.shape, target.shape
    return len(a) == len(b) == 4 and a[1] != b[1] and (a[0], *a[2:]) == (b[0], *b[2:])


def spread(weight: Tensor, target: Tensor, policy: InChannels) -> Tensor:
    """Return a first convolution's weights (O, C, H, W) over as many channels as ``target`` has.

    - sum: each channel gets the sum over the file's, divided by the number of channels;
    - mean: each channel gets the mean over the file's;
    - repeat: the file's channels in turn, scaled so that a constant picture keeps its response;
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
