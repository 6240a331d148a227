"""The whole design space of residual networks as one frozen value.

Fields are the choices on which the papers, or their implementations, differ. A spec is plain data:
it compares by value, goes to JSON and back, and prints as the fields that differ from the default.
"""

from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from math import gcd, lcm
from typing import Any, Literal, Self, get_args

from resnets.errors import SpecError, nearest

Block = Literal["basic", "bottleneck"]
Shortcut = Literal["none", "A", "B", "C"]
Stem = Literal["7x7", "3x3"]

EXPANSION: dict[Block, int] = {"basic": 1, "bottleneck": 4}
CONVOLUTIONS: dict[Block, int] = {"basic": 2, "bottleneck": 3}


@dataclass(frozen=True, repr=False)
class Spec:
    """One residual network.

    ``name`` is what it was asked for by and no part of the architecture: specs that differ only in
    name are equal. Raises SpecError when the fields contradict each other.
    """

    name: str = field(default="custom", compare=False)

    block: Block = "basic"  # He et al. 2015, Fig. 5: left basic, right bottleneck
    depths: tuple[int, ...] = (2, 2, 2, 2)  # blocks per stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels per stage, before the expansion

    # He et al. 2015, sec. 3.3 and 4.1, where the shape changes: A zero-pads the new channels,
    # B projects by 1x1 convolution; C projects everywhere; none makes a plain net.
    shortcut: Shortcut = "B"
    # Which convolution of a bottleneck carries the stride: "1x1" is the paper's (v1), "3x3" is
    # what torchvision and most published weights mean (v1.5). Same parameters, different MACs.
    bottleneck_stride: Literal["1x1", "3x3"] = "3x3"
    # Xie et al. 2017: the 3x3 convolution has `groups` groups (the cardinality) and, in a stage of
    # width 64, `width_per_group` channels in each; other stages scale with their width.
    groups: int = 1
    width_per_group: int = 64

    stem: Stem = "7x7"  # "7x7" stride 2 + max-pool (ImageNet); "3x3" stride 1 (CIFAR)
    stem_width: int = 64
    # Start each residual branch at zero (Goyal et al. 2017, sec. 5.1). Initialisation only.
    zero_init_residual: bool = False

    num_classes: int = 1000
    in_channels: int = 3
    image_size: int = 224  # the size it was designed for; other sizes work

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise SpecError(
                    f"spec: {name} is {value!r}", hint=f"choose from {', '.join(allowed)}"
                )
        for name in ("depths", "widths"):  # JSON has lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if not getattr(self, name) or not all(_positive(n) for n in getattr(self, name)):
                raise SpecError(f"spec: {name} must be positive whole numbers, one for each stage")
        for name in (
            "groups",
            "width_per_group",
            "stem_width",
            "num_classes",
            "in_channels",
            "image_size",
        ):
            if not _positive(getattr(self, name)):
                raise SpecError(f"spec: {name} must be a positive whole number")
        if not isinstance(self.zero_init_residual, bool):
            raise SpecError("spec: zero_init_residual must be true or false")
        if len(self.depths) != len(self.widths):
            raise SpecError(
                f"spec: {len(self.depths)} depths but {len(self.widths)} widths",
                hint="give one of each for every stage",
            )
        self._check_groups()
        if self.shortcut == "A" and any(a > b for a, b in pairwise(self.channels)):
            raise SpecError(
                "spec: shortcut A can only add channels, but a later stage is narrower",
                hint='use shortcut "B"',
            )

    def _check_groups(self) -> None:
        if self.block == "basic" and (self.groups, self.width_per_group) != (1, 64):
            raise SpecError(
                "spec: groups and width_per_group need bottleneck blocks",
                hint="a two-layer block with groups is a wide dense block (Xie et al. 2017, 3.3)",
            )
        # Channels in a group, width * width_per_group / 64, must be whole in every stage.
        step = lcm(*(64 // gcd(64, width) for width in self.widths))
        if self.width_per_group % step:
            below = self.width_per_group // step * step
            raise SpecError(
                f"spec: width_per_group {self.width_per_group} does not divide into whole groups "
                f"at stage widths {', '.join(map(str, self.widths))}",
                hint=f"nearest that do: {' and '.join(str(n) for n in (below, below + step) if n)}",
            )

    @property
    def expansion(self) -> int:
        """Output channels of a block over the width of its stage."""
        return EXPANSION[self.block]

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of each stage."""
        return tuple(width * self.expansion for width in self.widths)

    @property
    def depth(self) -> int:
        """Weighted layers on the main path, as the papers count them: stem, blocks, classifier."""
        return 2 + CONVOLUTIONS[self.block] * sum(self.depths)

    def inner_width(self, stage: int) -> int:
        """Channels inside the blocks of a stage (counted from 0)."""
        return self.widths[stage] * self.width_per_group // 64 * self.groups

    @property
    def variant(self) -> str:
        """What distinguishes the network from others of its depth, in words."""
        blocks = f"{self.block} blocks"
        if self.block == "bottleneck":
            version = {"1x1": "v1", "3x3": "v1.5"}[self.bottleneck_stride]
            blocks = f"{version}, {blocks} with the stride on the {self.bottleneck_stride}"
            if self.groups > 1:
                blocks += f", {self.groups} groups"
        shortcut = {
            "none": "no shortcuts (plain)",
            "A": "option A shortcuts (zero-padded where the shape changes)",
            "B": "option B shortcuts (projected where the shape changes)",
            "C": "option C shortcuts (projected everywhere)",
        }[self.shortcut]
        start = ", residual branches start at zero" if self.zero_init_residual else ""
        return f"{blocks}, {shortcut}, {self.stem} stem{start}"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from ``to_dict``'s values; raises SpecError on unknown fields and bad values."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                close = nearest(name, known)
                raise SpecError(
                    f'spec: unknown field "{name}"', hint=f"did you mean {close}?" if close else ""
                )
        return cls(**values)

    def differences(self) -> dict[str, Any]:
        """Return the fields whose value is not the default."""
        default = type(self).__dataclass_fields__
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != default[f.name].default
        }

    def __repr__(self) -> str:
        return f"Spec({', '.join(f'{k}={v!r}' for k, v in self.differences().items())})"


_CHOICES: dict[str, tuple[str, ...]] = {
    "block": get_args(Block),
    "shortcut": get_args(Shortcut),
    "stem": get_args(Stem),
    "bottleneck_stride": ("1x1", "3x3"),
}


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
