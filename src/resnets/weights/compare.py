"""What differs between two checkpoints, tensor by tensor."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Change:
    """One tensor in both checkpoints: how far apart, absolute and relative to the first."""

    key: str
    elements: int
    largest: float  # of the absolute differences; inf where one is not finite
    relative: float  # |b - a| / |a|, Euclidean norms


@dataclass(frozen=True)
class Difference:
    """Two checkpoints, key by key."""

    same: tuple[str, ...]  # every value, in whatever precision each is stored
    changed: tuple[Change, ...]  # the largest relative change first
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values; what is not finite as None."""
        changed = [
            {key: _finite(value) for key, value in vars(change).items()} for change in self.changed
        ]
        return {**vars(self), "changed": changed}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> Difference:
    """Compare two sets of tensors under the same names."""
    same, changed, shapes = [], [], {}
    for key, a in first.items():
        if key not in second:
            continue
        b = second[key]
        if a.shape != b.shape:
            shapes[key] = tuple(a.shape), tuple(b.shape)
        elif _are_same(a, b):
            same.append(key)
        else:
            changed.append(_change(key, a, b))
    return Difference(
        same=tuple(same),
        changed=tuple(sorted(changed, key=lambda change: -change.relative)),
        only_first=tuple(key for key in first if key not in second),
        only_second=tuple(key for key in second if key not in first),
        shapes=shapes,
    )


def _are_same(a: Tensor, b: Tensor) -> bool:
    """Tell whether all values are the same bit for bit, NaNs too, as the wider of the types."""
    if a.dtype != b.dtype and not (a.is_floating_point() and b.is_floating_point()):
        return False
    wide = torch.promote_types(a.dtype, b.dtype)
    return _bytes(a.to(wide)).equal(_bytes(b.to(wide)))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _change(key: str, a: Tensor, b: Tensor) -> Change:
    apart = (b.double() - a.double()).nan_to_num(nan=float("inf")).abs()
    largest = apart.max().item() if apart.numel() else 0.0
    size = a.double().norm().item()
    relative = apart.norm().item() / size if size else float("inf") if largest else 0.0
    return Change(key, a.numel(), largest, relative)
