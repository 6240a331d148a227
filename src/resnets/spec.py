"""The whole design space of residual networks as one frozen value.

Fields are the choices on which the papers, or their implementations, differ. A spec is plain data:
it compares by value, goes to JSON and back, and prints as the fields that differ from the default.
"""

from dataclasses import asdict, dataclass, field, fields
from functools import cache
from itertools import pairwise
from math import gcd, lcm
from operator import index
from sys import float_info
from typing import Any, Literal, Self, get_args, get_type_hints

from resnets.errors import SpecError, nearest

Block = Literal["single", "basic", "bottleneck"]
ActivationOrder = Literal[
    "original",
    "bn_after_addition",
    "relu_before_addition",
    "relu_only_preactivation",
    "preactivation",
]
Shortcut = Literal["none", "A", "B", "C", "D"]

PROJECTING: tuple[Shortcut, ...] = ("B", "C", "D")  # shortcuts with weights
POOLING: tuple[Shortcut, ...] = ("D",)  # those that average before they project

EXPANSION: dict[Block, int] = {"single": 1, "basic": 1, "bottleneck": 4}
CONVOLUTIONS: dict[Block, int] = {"single": 1, "basic": 2, "bottleneck": 3}


def told(default: Any, *words: str) -> Any:
    """Return a field, and in words what it means to weights; where there are none, keys show it.

    - size: keys and shapes show it, and it is no choice between functions;
    - unseen: neither shows it, and weights made for one value compute nonsense with another;
    - free: given weights compute the same, or show it where it is theirs (classes, channels);
    - tolerated: weights made for another value are loaded: it is carried over or folded exactly,
      or is without influence on what trained weights compute;
    - later: added when files of digests were about: left out of them where it is the default;
    - open: implementations of the nets of one name differ in it, so that a file may decide.
    """
    return field(default=default, metadata={"weights": words})


@dataclass(frozen=True, repr=False)
class Spec:
    """One residual network.

    ``name`` is what it was asked for by and no part of the architecture: specs that differ only in
    name are equal. Raises SpecError when the fields contradict each other.
    """

    name: str = field(default="custom", compare=False, metadata={"weights": ("free",)})

    # He et al. 2015, Fig. 5: left basic, right bottleneck; single layers: He et al. 2016, Table 3.
    block: Block = "basic"
    depths: tuple[int, ...] = told((2, 2, 2, 2), "size")  # blocks per stage
    # Channels per stage, before the expansion.
    widths: tuple[int, ...] = told((64, 128, 256, 512), "size")
    # Output channels per stage where they are not width times expansion (4 bottleneck, else 1).
    out_channels: tuple[int, ...] = told((), "size")

    # He et al. 2015, sec. 3.3 and 4.1, where the shape changes: A zero-pads the new channels,
    # B projects by 1x1 convolution, D averages before it projects (He et al. 2019, Fig. 2c);
    # C projects in every block; none makes a plain net.
    shortcut: Shortcut = "B"
    # Option A's zero channels: all behind the others, or half of them before (as some published
    # weights have it): the same function up to the order of channels.
    zero_pad: Literal["end", "both"] = told("end", "unseen", "open")
    # 1x1 is the papers'; many a tutorial projects by 3x3.
    projection_size: Literal["1x1", "3x3"] = told("1x1", "later")
    projection_norm: bool = True  # batch norm after a projection; never in pre-activation nets
    # He et al. 2016, Table 1: shortcut and residual times a constant, gated, or dropped out.
    shortcut_scale: float = told(1.0, "unseen")
    residual_scale: float = told(1.0, "unseen")
    gate: Literal["none", "exclusive", "shortcut_only"] = "none"
    gate_bias: float = told(0.0, "free")  # where the gate's bias starts
    shortcut_dropout: float = told(0.0, "unseen", "tolerated")

    # He et al. 2016, Table 2 and Fig. 4: where batch norm and ReLU stand in a block.
    activation_order: ActivationOrder = "original"
    # In pre-activation nets, what projections, and the shortcut of the very first block, read: the
    # activated input (He et al. 2016, appendix) or the raw one (Keras's example; timm's first).
    projection_input: Literal["activated", "raw"] = told("activated", "unseen", "open")
    first_shortcut_input: Literal["activated", "raw"] = told("activated", "unseen", "open")
    # In pre-activation nets, who activates the stem: the first block, or the stem itself.
    stem_activation: bool = False

    # Which convolution of a bottleneck carries the stride: "1x1" is the paper's (v1), "3x3" is
    # what torchvision and most published weights mean (v1.5). Same parameters, different MACs.
    bottleneck_stride: Literal["1x1", "3x3"] = told("3x3", "unseen")
    # Which block of a stage carries the stride. "last": keras.applications' V2, whose last stage
    # has none and whose first stage has one.
    stride_position: Literal["first", "last"] = told("first", "unseen")
    # Xie et al. 2017: the 3x3 convolution has `groups` groups (the cardinality) and, in a stage of
    # width 64, `width_per_group` channels in each; other stages scale with their width.
    groups: int = 1
    width_per_group: int = 64

    # "7x7" stride 2 and "3x3" stride 1 (CIFAR) are He et al. 2015's. "deep" is three 3x3
    # (He et al. 2019, Fig. 2b); "deep_tiered" lets their widths grow.
    stem: Literal["7x7", "3x3", "deep", "deep_tiered"] = "7x7"
    stem_width: int = told(64, "size")  # channels after the stem
    # 3x3 max-pool, stride 2, after a 7x7 or deep stem. keras.applications pads with zeros, which
    # are larger than what pre-activation nets may have there.
    stem_pool: Literal["max", "zero_padded_max", "none"] = told("max", "unseen", "open")

    attention: Literal["none", "se", "eca"] = "none"  # Hu et al. 2018 (se); Wang et al. 2020 (eca)
    attention_reduction: int = 16  # se: channels over this many in the middle
    norm: Literal["batch", "group", "frozen_batch"] = "batch"
    norm_eps: float = told(1e-5, "unseen", "tolerated")
    # Of the new batch in the running statistics.
    norm_momentum: float = told(0.1, "free", "tolerated")
    activation: Literal["relu", "leaky_relu", "silu", "gelu"] = told("relu", "unseen")
    # Convolutions with a bias: none, all, or those that no batch norm follows.
    conv_bias: Literal["none", "all", "without_norm"] = told("none", "tolerated")
    # "same": as TensorFlow pads; at stride 2 it pads bottom and right only.
    padding: Literal["symmetric", "same"] = told("symmetric", "unseen", "open")
    # Of an ImageNet net: 16 and 8 dilate the last stages instead.
    output_stride: int = told(32, "free")
    # Chen et al. 2017, sec. 3.2.1: what each block of the last stage multiplies its dilation by.
    multi_grid: tuple[int, ...] = told((), "free")

    # Huang et al. 2016: of the last block; falls linearly to the first.
    drop_path: float = told(0.0, "free")
    dropout: float = told(0.0, "free")  # before the classifier
    # Start each residual branch at zero (Goyal et al. 2017, sec. 5.1). Initialisation only.
    zero_init_residual: bool = told(False, "free")

    num_classes: int = told(1000, "free")
    in_channels: int = told(3, "free")
    image_size: int = told(224, "free")  # the size it was designed for; other sizes work

    def __post_init__(self) -> None:
        for name, hint in _types(Spec).items():
            self._check_type(name, hint)
        for name in ("widths", "out_channels"):
            given = getattr(self, name)
            if given and len(given) != len(self.depths):
                hint = "give one of each for every stage"
                raise _wrong(f"{len(self.depths)} depths but {len(given)} {name}", hint)
        if not self.norm_eps > 0 or not 0 <= self.norm_momentum <= 1:
            raise _wrong("norm_eps must be above 0, and norm_momentum from 0 to 1")
        for name in ("drop_path", "dropout", "shortcut_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise _wrong(f"{name} must be at least 0 and below 1")
        self._check_groups()
        self._check_shortcut()
        if self.multi_grid and len(self.multi_grid) != self.depths[-1]:
            units, blocks = len(self.multi_grid), self.depths[-1]
            message = f"multi_grid has {units} units for the last stage's {blocks} blocks"
            raise _wrong(message, "give one unit a block, such as 1, 2, 4")
        if self.output_stride not in (8, 16, 32):
            raise _wrong(f"output_stride is {self.output_stride}", "8, 16 or 32")

    def _check_type(self, name: str, hint: Any) -> None:
        value, choices = getattr(self, name), get_args(hint)
        if hint is int:
            object.__setattr__(self, name, value := _whole(value))
        if choices == (int, ...):
            whole = isinstance(value, list | tuple) and all(_positive(_whole(n)) for n in value)
            if not whole or (name in ("depths", "widths") and not value):
                raise _wrong(f"{name} must be positive whole numbers, one for each stage")
            object.__setattr__(self, name, tuple(map(_whole, value)))  # JSON has lists only
        elif choices and value not in choices:
            raise _wrong(f"{name} is {value!r}", f"choose from {', '.join(choices)}")
        elif hint is int and not _positive(value):
            without = "model.reset_classifier(0) leaves a network without its classifier"
            raise _wrong(
                f"{name} must be a positive whole number, not {value!r}",
                without if name == "num_classes" and value in (0, None) else "",
            )
        elif hint is float and not _finite(value):
            raise _wrong(f"{name} must be a number")
        elif hint is bool and not isinstance(value, bool):
            raise _wrong(f"{name} must be true or false")

    def _check_groups(self) -> None:
        if self.block != "bottleneck" and (self.groups, self.width_per_group) != (1, 64):
            hint = "a two-layer block with groups is a wide dense block (Xie et al. 2017, 3.3)"
            raise _wrong("groups and width_per_group need bottleneck blocks", hint)
        # Channels in a group, width * width_per_group / 64, must be whole in every stage.
        step = lcm(*(64 // gcd(64, width) for width in self.widths))
        if self.width_per_group % step:
            below = self.width_per_group // step * step
            raise _wrong(
                f"width_per_group {self.width_per_group} does not divide into whole groups at "
                f"stage widths {', '.join(map(str, self.widths))}",
                f"nearest that do: {' and '.join(str(n) for n in (below, below + step) if n)}",
            )

    def _check_shortcut(self) -> None:
        if self.shortcut == "A" and any(a > b for a, b in pairwise(self.channels)):
            message = "shortcut A can only add channels, but a later stage is narrower"
            raise _wrong(message, 'use shortcut "B"')
        altered = self.scaled or self.gate != "none" or self.shortcut_dropout
        if self.shortcut == "none" and altered:
            raise _wrong("a plain net has no shortcut to scale, gate or drop out")
        if sum([self.gate != "none", self.scaled, self.shortcut_dropout > 0]) > 1:
            raise _wrong("a shortcut is scaled, gated or dropped out: one of them")

    @property
    def scaled(self) -> bool:
        """Whether shortcut or residual are multiplied by a constant."""
        return (self.shortcut_scale, self.residual_scale) != (1, 1)

    @property
    def preactivated(self) -> bool:
        """Whether blocks activate their input rather than their output."""
        return self.activation_order in ("preactivation", "relu_only_preactivation")

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of each stage."""
        return self.out_channels or tuple(w * EXPANSION[self.block] for w in self.widths)

    @property
    def depth(self) -> int:
        """Weighted layers on the main path, as the papers count them: stem, blocks, classifier."""
        return 2 + CONVOLUTIONS[self.block] * sum(self.depths)

    def inner_width(self, stage: int) -> int:
        """Channels inside the blocks of a stage (counted from 0)."""
        return self.widths[stage] * self.width_per_group // 64 * self.groups

    def strides(self, stage: int) -> list[int]:
        """Return the stride of each block of a stage (counted from 0), before any dilation."""
        strides = [1] * self.depths[stage]
        if self.stride_position == "last" and stage < len(self.depths) - 1:
            strides[-1] = 2
        elif self.stride_position == "first" and stage > 0:
            strides[0] = 2
        return strides

    @property
    def variant(self) -> str:
        """What distinguishes the network from others of its depth, in words."""
        blocks = "basic blocks" if self.block == "basic" else "blocks of a single layer"
        if self.block == "bottleneck":
            versions = {"1x1": "v1, ", "3x3": "v1.5, "}
            version = "" if self.preactivated else versions[self.bottleneck_stride]
            blocks = f"{version}bottleneck blocks with the stride on the {self.bottleneck_stride}"
        parts = [
            blocks,
            self.groups > 1 and f"{self.groups} groups",
            _ORDERS.get(self.activation_order),
            _SHORTCUTS[self.shortcut],
            self.projection_size == "3x3" and "3x3 projections",
            self.scaled
            and f"shortcut x {self.shortcut_scale:g}, residual x {self.residual_scale:g}",
            self.gate != "none"
            and f"{self.gate.replace('_', '-')} gate, bias from {self.gate_bias:g}",
            self.shortcut_dropout and f"shortcut dropout {self.shortcut_dropout:g}",
            f"{self.stem.replace('_', '-')} stem",
            {"se": "squeeze-and-excitation", "eca": "ECA"}.get(self.attention),
            self.conv_bias != "none" and "biased convolutions",
            self.padding == "same" and "TensorFlow's padding",
            self.zero_init_residual and "residual branches start at zero",
        ]
        return ", ".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from ``to_dict``'s values; raises SpecError on unknown fields and bad values."""
        known = [f.name for f in fields(cls)]
        for name in (name for name in values if name not in known):
            close = nearest(name, known)
            raise _wrong(f'unknown field "{name}"', f"did you mean {close}?" if close else "")
        return cls(**values)

    def differences(self) -> dict[str, Any]:
        """Return the fields whose value is not the default."""
        values = {f: getattr(self, f.name) for f in fields(self)}
        return {f.name: value for f, value in values.items() if value != f.default}

    def __repr__(self) -> str:
        return f"Spec({', '.join(f'{k}={v!r}' for k, v in self.differences().items())})"


_ORDERS = {
    "bn_after_addition": "batch norm after the addition",
    "relu_before_addition": "ReLU before the addition",
    "relu_only_preactivation": "ReLU-only pre-activation",
    "preactivation": "pre-activation (v2)",
}
_SHORTCUTS = {
    "none": "no shortcuts (plain)",
    "A": "option A shortcuts (zero-padded where the shape changes)",
    "B": "option B shortcuts (projected where the shape changes)",
    "C": "option C shortcuts (projected everywhere)",
    "D": "option D shortcuts (averaged, then projected, where the shape changes)",
}


def _wrong(what: str, hint: str = "") -> SpecError:
    return SpecError(f"spec: {what}", hint=hint)


@cache
def fields_told(*words: str) -> tuple[str, ...]:
    """Return the fields that mean one of these to weights (see `told`)."""
    return tuple(f.name for f in fields(Spec) if {*words} & {*f.metadata.get("weights", ())})


_types = cache(get_type_hints)


def _whole(value: Any) -> Any:
    """Return a whole number of another kind, such as NumPy's, as Python's; all else as it is."""
    try:
        return value if isinstance(value, bool) else index(value)
    except TypeError:
        return value


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= float_info.max  # a whole number may be larger, and no infinity
