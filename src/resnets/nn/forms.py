"""ResNeXt's three equivalent blocks and the lossless maps between their weights.

Xie et al. 2017, Fig. 3: (a) every path transforms and the results are added, (b) the paths are
concatenated before the last convolution, (c) one grouped convolution. Form (c) is the residual of
``BottleneckBlock`` under the same keys; the networks use it because it is the fastest.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = dict[str, Tensor]


class _Path(nn.Module):
    """1x1 and 3x3 convolution to ``width`` channels, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, width: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class SplitTransformMerge(nn.Module):
    """Form (a): the sum of ``cardinality`` paths, (N, in_channels, H, W) to (N, out_channels, ...).

    ``width`` is a path's number of channels; the batch norm follows the sum.
    """

    def __init__(
        self, in_channels: int, out_channels: int, cardinality: int, width: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.paths = nn.ModuleList(_Path(in_channels, width, stride) for _ in range(cardinality))
        self.conv3 = nn.ModuleList(
            nn.Conv2d(width, out_channels, 1, bias=False) for _ in range(cardinality)
        )
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        ends = [last(path(x)) for path, last in zip(self.paths, self.conv3, strict=True)]
        return self.bn3(torch.stack(ends).sum(0))  # type: ignore[no-any-return]


class EarlyConcatenation(nn.Module):
    """Form (b): ``cardinality`` paths, concatenated before the last convolution."""

    def __init__(
        self, in_channels: int, out_channels: int, cardinality: int, width: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.paths = nn.ModuleList(_Path(in_channels, width, stride) for _ in range(cardinality))
        self.conv3 = nn.Conv2d(cardinality * width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn3(self.conv3(torch.cat([path(x) for path in self.paths], 1)))  # type: ignore[no-any-return]


class GroupedConvolution(_Path):
    """Form (c): a bottleneck whose 3x3 convolution has ``cardinality`` groups."""

    def __init__(
        self, in_channels: int, out_channels: int, cardinality: int, width: int, stride: int = 1
    ) -> None:
        super().__init__(in_channels, cardinality * width, stride, groups=cardinality)
        self.conv3 = nn.Conv2d(cardinality * width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn3(self.conv3(super().forward(x)))  # type: ignore[no-any-return]


def grouped_to_concatenated(state: Mapping[str, Tensor], cardinality: int) -> State:
    """Return form (b)'s weights of form (c)'s: channels of conv1 to bn2 go to their paths."""
    result: State = {}
    for key, tensor in state.items():
        if not key.startswith(("conv1", "bn1", "conv2", "bn2")):
            result[key] = tensor
            continue
        parts = tensor.chunk(cardinality) if tensor.ndim else [tensor] * cardinality
        result |= {f"paths.{i}.{key}": part for i, part in enumerate(parts)}
    return result


def concatenated_to_grouped(state: Mapping[str, Tensor]) -> State:
    """Return form (c)'s weights of form (b)'s."""
    parts: dict[str, list[Tensor]] = {}
    result: State = {}
    for key, tensor in state.items():
        if key.startswith("paths."):
            parts.setdefault(key.split(".", 2)[2], []).append(tensor)
        else:
            result[key] = tensor
    return result | {k: torch.cat(ts) if ts[0].ndim else ts[0] for k, ts in parts.items()}


def concatenated_to_split(state: Mapping[str, Tensor], cardinality: int) -> State:
    """Return form (a)'s weights of form (b)'s: the last convolution is cut along its input."""
    result = {key: tensor for key, tensor in state.items() if key != "conv3.weight"}
    pieces = state["conv3.weight"].chunk(cardinality, 1)
    return result | {f"conv3.{i}.weight": piece for i, piece in enumerate(pieces)}


def split_to_concatenated(state: Mapping[str, Tensor]) -> State:
    """Return form (b)'s weights of form (a)'s."""
    pieces = [key for key in state if key.startswith("conv3.")]
    result = {key: tensor for key, tensor in state.items() if key not in pieces}
    return result | {"conv3.weight": torch.cat([state[key] for key in pieces], 1)}


class TwoLayerPaths(nn.Module):
    """Paths of two 3x3 convolutions, added: what grouping a basic block would mean."""

    def __init__(self, channels: int, cardinality: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.ModuleList(
            nn.Conv2d(channels, width, 3, padding=1, bias=False) for _ in range(cardinality)
        )
        self.conv2 = nn.ModuleList(
            nn.Conv2d(width, channels, 3, padding=1, bias=False) for _ in range(cardinality)
        )

    def forward(self, x: Tensor) -> Tensor:
        ends = [b(F.relu(a(x))) for a, b in zip(self.conv1, self.conv2, strict=True)]
        return torch.stack(ends).sum(0)


def two_layer_paths_to_dense(state: Mapping[str, Tensor]) -> State:
    """Return conv1 and conv2 of the wide dense block that the paths are (Xie et al. 2017, 3.3)."""

    def of(name: str) -> list[Tensor]:
        return [tensor for key, tensor in state.items() if key.startswith(name)]

    return {"conv1.weight": torch.cat(of("conv1")), "conv2.weight": torch.cat(of("conv2"), 1)}
