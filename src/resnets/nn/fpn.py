"""The feature pyramid network on top of a backbone (Lin et al. 2017, sec. 3)."""

import re
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from resnets.errors import UsageError

Extra = Literal["none", "pool", "p6_p7", "p6_p7_of_c5"]


class FeaturePyramid(nn.Module):
    """Levels with the same channels and strong features at every stride.

    {"c2": (N, C, H/4, W/4), ...} to {"p2": (N, out_channels, H/4, W/4), ...}. ``channels`` are the
    levels' own. ``extra`` adds coarser maps: "pool" takes every second pixel of p5 as p6 (Lin et
    al. 2017, sec. 4.1), "p6_p7" two strided convolutions of p5, and "p6_p7_of_c5" of the level
    itself (Lin et al. 2017b, sec. 4). Where the coarsest level is another than c5, the names are
    its own and those after it. Raises UsageError for levels that are none and an unknown ``extra``.
    """

    def __init__(
        self, channels: Mapping[str, int], out_channels: int = 256, *, extra: Extra = "none"
    ) -> None:
        super().__init__()
        named = isinstance(channels, Mapping) and channels
        if not named or not all(re.fullmatch(r"c\d+", str(name)) for name in channels):
            raise UsageError(
                f"a feature pyramid cannot stand on {channels or 'no levels'}",
                hint='give {"c3": channels, "c4": channels, ...}',
            )
        if extra not in get_args(Extra):
            raise UsageError(
                f"extra is {extra!r}", hint=f"choose from {', '.join(get_args(Extra))}"
            )
        self.out_channels = out_channels
        self.inputs = tuple(sorted(channels, key=lambda name: int(name[1:])))
        self.lateral = nn.ModuleDict(
            {name: nn.Conv2d(channels[name], out_channels, 1) for name in self.inputs}
        )
        self.output = nn.ModuleDict(
            {name: nn.Conv2d(out_channels, out_channels, 3, padding=1) for name in self.inputs}
        )
        last = self.inputs[-1]
        self.extra_source = last if extra == "p6_p7_of_c5" else f"p{last[1:]}"
        width = channels[last] if extra == "p6_p7_of_c5" else out_channels
        self.extra: nn.ModuleDict = EXTRAS[extra](width, out_channels, int(last[1:]) + 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.outputs = tuple(f"p{name[1:]}" for name in self.inputs) + tuple(self.extra)

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pyramid: dict[str, Tensor] = {}
        above = self.lateral[self.inputs[-1]](features[self.inputs[-1]])
        pyramid[self.inputs[-1]] = above
        for name in reversed(self.inputs[:-1]):
            lateral = self.lateral[name](features[name])
            above = lateral + F.interpolate(above, size=lateral.shape[-2:], mode="nearest")
            pyramid[name] = above
        maps = {f"p{name[1:]}": self.output[name](pyramid[name]) for name in self.inputs}
        coarsest = {**features, **maps}[self.extra_source]
        for name, layer in self.extra.items():
            maps[name] = coarsest = layer(coarsest)
        return maps


def _p6_p7(in_channels: int, channels: int, first: int) -> nn.ModuleDict:
    p6 = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
    p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
    return nn.ModuleDict({f"p{first}": p6, f"p{first + 1}": nn.Sequential(nn.ReLU(), p7)})


# The source's channels, the pyramid's, and the first new map's number.
EXTRAS: dict[str, Callable[[int, int, int], nn.ModuleDict]] = {
    "none": lambda *_: nn.ModuleDict(),
    "pool": lambda _, __, first: nn.ModuleDict({f"p{first}": nn.MaxPool2d(1, stride=2)}),
    "p6_p7": _p6_p7,
    "p6_p7_of_c5": _p6_p7,
}
