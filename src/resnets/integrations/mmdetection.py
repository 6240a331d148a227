"""A backbone class with mmdetection's constructor, ``init_weights``, keys and tuples of maps.

Many projects carry a copy of such a class; this one can stand in for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnets.errors import UsageError, nearest
from resnets.integrations.mmengine import (
    Pretrained,
    open_pretrained,
    our_key,
    their_key,
    understand,
)
from resnets.nn import Backbone
from resnets.nn.places import Place, places
from resnets.nn.resnet import initialise
from resnets.spec import Spec
from resnets.weights.load import load_checkpoint
from resnets.zoo import get_spec

DEPTHS = (18, 34, 50, 101, 152)
STYLES = {"pytorch": "", "caffe": "_v1"}  # a bottleneck's stride is on its 3x3, or its first 1x1
# By name or, as newer configurations have it, by class.
SYNCHRONISED = ("SyncBN", "SyncBatchNorm")
BATCH_NORMS = ("BN", "BN2d", "BatchNorm2d", *SYNCHRONISED)
GROUP_NORMS = ("GN", "GroupNorm")
CONVOLUTIONS = ("Conv", "Conv2d")


class ResNet(Backbone):
    """A backbone built from mmdetection's arguments, (N, in_channels, H, W) to a tuple of maps.

    ``out_indices`` counts stages from 0; maps come in the stages' order. As there, ``norm_eval``
    keeps all batch norms' statistics by default, ``norm_cfg=dict(type="BN", requires_grad=False)``
    their scales and biases, and ``with_cp`` computes blocks twice to save memory. ``strides`` and
    ``dilations`` are the stages'; ``table`` has them, and the spec does not. State dicts have
    mmdetection's keys, which are torchvision's but for deep stems and group norms; both load.

    Its relatives' arguments mean what they mean there, while the defaults stay mmdetection's:
    ``contract_dilation`` and ``multi_grid`` (mmsegmentation), ``expansion`` and ``drop_path_rate``
    (mmpretrain). ``output_stride`` is ours, in place of strides and dilations.

    Raises UsageError for what residual networks here do not have: deformable convolutions, plugins,
    other convolutions, and arguments of other names.
    """

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        stem_channels: int | None = None,
        base_channels: int = 64,
        num_stages: int = 4,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        style: str = "pytorch",
        deep_stem: bool = False,
        avg_down: bool = False,
        frozen_stages: int = -1,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = True,
        dcn: Mapping[str, Any] | None = None,
        stage_with_dcn: Sequence[bool] = (False, False, False, False),
        plugins: Sequence[Any] | None = None,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        pretrained: str | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        output_stride: int = 32,
        *,
        groups: int = 1,
        base_width: int = 4,
        expansion: int | None = None,
        drop_path_rate: float = 0.0,
        contract_dilation: bool = False,
        multi_grid: Sequence[int] | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            close = nearest(name, list(ResNet.__init__.__annotations__))
            _refuse(name, True, f"did you mean {close}?" if close else "leave it out")
        _refuse("dcn", dcn or any(stage_with_dcn or ()), "leave it out: 3x3 convolutions are plain")
        _refuse("plugins", plugins, "leave them out; the zoo has nets with attention")
        kind, options = _configured("conv_cfg", conv_cfg, "Conv2d")
        plain = kind in CONVOLUTIONS and not options
        _refuse("conv_cfg", not plain, "leave it out: there is one kind of convolution")
        _choose("num_stages", num_stages, (1, 2, 3, 4))
        _check_whole("out_indices", out_indices, 1, least=0)
        if max(out_indices) >= num_stages:
            raise UsageError(
                f"out_indices {tuple(out_indices)} of {num_stages} stages",
                hint="stages are counted from 0; there are at most 4",
            )
        blocks = _of_depth(depth, style, base_channels, expansion, groups, base_width)
        stem_width = base_channels if stem_channels is None else stem_channels
        _check_whole("stem_channels", stem_width)
        norm, norm_learns = _norm(norm_cfg)
        spec = replace(
            blocks,
            in_channels=in_channels,
            stem_width=stem_width,
            stem="deep" if deep_stem else "7x7",
            shortcut="D" if avg_down else "B",
            zero_init_residual=zero_init_residual,
            output_stride=output_stride,
            drop_path=drop_path_rate,
            **norm,
        )
        self.table = _table(spec, num_stages, strides, dilations, contract_dilation, multi_grid)
        super().__init__(
            spec,
            levels=[f"c{stage + 2}" for stage in range(num_stages)],
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            freeze_bn="none" if norm_learns else "affine",
            gradient_checkpointing=with_cp,
            table=self.table,
        )
        self.outputs = tuple(f"c{index + 2}" for index in sorted(set(out_indices)))
        if _configured("norm_cfg", norm_cfg, "BN")[0] in SYNCHRONISED:
            nn.SyncBatchNorm.convert_sync_batchnorm(self)  # type: ignore[no-untyped-call]
        self.register_state_dict_post_hook(_rename_to_theirs)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_rename_to_ours)  # type: ignore[no-untyped-call]
        self._keep(pretrained, init_cfg)

    def _keep(self, pretrained: Any, init_cfg: Any) -> None:
        """Keep what init_weights is to do; raises UsageError for what it could not."""
        if pretrained and (init_cfg or not isinstance(pretrained, str | Path)):
            raise UsageError(
                f"pretrained is {pretrained!r}" + (", and there is init_cfg" if init_cfg else ""),
                hint="give a file or an address, in one of them",
            )
        self.init_cfg = init_cfg
        starts, files = understand(init_cfg)
        _refuse("a second Pretrained in init_cfg", len(files) > 1, "only the last would count")
        self.starts = [(start, self._called(start.child)) for start in starts]
        self.pretrained = files[0].checkpoint if files else str(pretrained) if pretrained else None
        self.prefix = files[0].prefix if files else ""

    def _called(self, name: str) -> list[str]:
        """Return our modules that make up what mmdetection's network calls so; "" is all of it."""
        if not name:
            return [""]
        start = their_key("bn1." if name == "norm1" else f"{name}.", self.spec)
        found = [
            key.partition(".")[0]
            for key, _ in self.named_parameters()
            if their_key(key, self.spec).startswith(start)
        ]
        if not found:
            raise UsageError(
                f'init_cfg overrides "{name}", which is no part of the network',
                hint="parts are conv1 and norm1, or stem, and layer1 to layer4",
            )
        return list(dict.fromkeys(found))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return the maps of ``out_indices``."""
        return tuple(super().forward(x).values())

    def init_weights(self, pretrained: str | None = None) -> None:
        """Do what ``init_cfg`` says, load weights, or draw fresh ones where neither is given.

        ``pretrained`` replaces the constructor's: a file, one of mmengine's addresses such as
        torchvision://resnet50, or the name of published weights. Raises UsageError for an address
        that means nothing here, ResourceError for a file that cannot be had and CheckpointError for
        weights that do not fit.
        """
        if pretrained:
            self.pretrained, self.prefix = str(pretrained), ""
        if self.pretrained is None and self.init_cfg is None:
            initialise(self, zero_init_residual=self.spec.zero_init_residual)
        for start, names in self.starts:
            for name in names:
                self.get_submodule(name).apply(start)
        if self.pretrained is not None:
            checkpoint = open_pretrained(Pretrained(self.pretrained, self.prefix), self.spec)
            filled = Backbone(self.spec, levels=list(self.levels)[1:], table=self.table)
            load_checkpoint(filled, checkpoint, head="drop")
            self.load_state_dict(filled.state_dict())
            self.preprocess, self.assumed = filled.preprocess, filled.assumed


class ResNetV1c(ResNet):
    """The network with a deep stem, and mmsegmentation's defaults."""

    def __init__(self, depth: int, **arguments: Any) -> None:
        there = {"deep_stem": True, "stem_channels": 64, "norm_eval": False}
        super().__init__(depth, **{**there, **arguments})


class ResNetV1d(ResNet):
    """The network with a deep stem, and an average before its projections."""

    def __init__(self, depth: int, **arguments: Any) -> None:
        super().__init__(depth, **{"deep_stem": True, "avg_down": True, **arguments})


class ResNeXt(ResNet):
    """The network with ``groups`` groups of ``base_width`` channels in its first stage."""

    def __init__(self, depth: int, groups: int = 1, base_width: int = 4, **arguments: Any) -> None:
        _choose("depth", depth, DEPTHS[2:])
        super().__init__(depth, groups=groups, base_width=base_width, **arguments)


Resnet = ResNet


def _of_depth(
    depth: int, style: str, base_channels: int, expansion: int | None, groups: int, base_width: int
) -> Spec:
    """Return the spec of such stages."""
    _choose("depth", depth, DEPTHS)
    _choose("style", style, tuple(STYLES))
    _check_whole("base_channels", base_channels)
    _check_whole("groups", groups)
    _check_whole("base_width", base_width)
    basic = depth < 50
    _refuse("expansion", basic and expansion not in (None, 1), "basic blocks have none")
    _refuse("groups", basic and groups > 1, "they need bottlenecks: depth 50, 101 or 152")
    widths = tuple(base_channels * 2**stage for stage in range(4))
    spec = replace(get_spec(f"resnet{depth}{'' if basic else STYLES[style]}"), widths=widths)
    if expansion is not None:
        _check_whole("expansion", expansion)
        out_channels = tuple(width * expansion for width in widths)
        spec = replace(spec, out_channels=() if out_channels == spec.channels else out_channels)
    if groups == 1:  # whose width is the stage's, whatever base_width is
        return spec
    width, rest = divmod(base_width * 64, base_channels)
    _refuse("base_width", rest, "64 times base_width must be a multiple of base_channels")
    name = f"resnext{depth}_{groups}x{base_width}d"
    return replace(spec, name=name, groups=groups, width_per_group=width)


def _norm(norm_cfg: Any) -> tuple[dict[str, Any], bool]:
    """Return the spec's fields about norms, and whether their scales and biases learn."""
    kind, options = _configured("norm_cfg", norm_cfg, "BN")
    _choose("norm_cfg type", kind, (*BATCH_NORMS, *GROUP_NORMS))
    learns = bool(options.pop("requires_grad", True))
    fields = {"norm": "group" if kind in GROUP_NORMS else "batch"}
    known = {"eps"} if kind in GROUP_NORMS else {"eps", "momentum"}
    if kind in GROUP_NORMS:
        other = options.pop("num_groups", 32) != 32
        _refuse("norm_cfg num_groups", other, "group norms here have 32 groups")
        _refuse("norm_cfg requires_grad=False of group norms", not learns, "use frozen_stages")
    for name, value in options.items():
        _refuse(f"norm_cfg {name}", name not in known, "leave it out")
        fields[f"norm_{name}"] = value
    return fields, learns


def _table(
    spec: Spec,
    stages: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    contracts: bool,
    multi_grid: Sequence[int] | None,
) -> list[list[Place]]:
    """Return where blocks stand, stage by stage.

    A stage dilates from its first block on, whose dilation may be halved, but for the second half
    of basic blocks. Drop path rises from 0 to its rate over all blocks of the depth.
    """
    _check_whole("strides", strides, stages)
    _check_whole("dilations", dilations, stages)
    strides, dilations = tuple(strides[:stages]), tuple(dilations[:stages])
    default = strides == (1, 2, 2, 2)[:stages] and set(dilations) == {1}
    own = spec.output_stride != 32
    given = not default or contracts or multi_grid
    _refuse("output_stride beside strides or dilations", own and given, "it stands for them")
    if multi_grid:
        _check_whole("multi_grid", multi_grid, spec.depths[stages - 1])
    rates = iter(torch.linspace(0, spec.drop_path, sum(spec.depths), device="cpu").tolist())
    table: list[list[Place]] = []
    for stage, row in enumerate(places(spec)[:stages]):
        first, *others = [dilations[stage]] * len(row)
        grid = [max(first // 2, 1) if contracts else first, *others]
        if multi_grid and stage == stages - 1:
            grid = list(multi_grid)
        table.append([])
        for number, place in enumerate(row):
            placed = replace(place, drop_path=next(rates))
            stride = strides[stage] if number == 0 else 1
            table[-1].append(placed if own else _strided(spec, placed, stride, grid[number]))
    return table


def _strided(spec: Spec, place: Place, stride: int, dilation: int) -> Place:
    return replace(
        place,
        projects=stride != 1 or place.in_channels != place.out_channels,
        stride=stride,
        replaced_stride=1,
        first_dilation=dilation,
        dilation=dilation if spec.block == "bottleneck" else 1,
    )


def _rename_to_theirs(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        named = their_key(key.removeprefix(prefix), module.spec)  # type: ignore[arg-type]
        state[prefix + named] = state.pop(key)


def _rename_to_ours(_: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + our_key(key.removeprefix(prefix))] = state.pop(key)


def _configured(name: str, given: Any, default: str) -> tuple[str, dict[str, Any]]:
    """Return the type of a layer, as a word, and its options."""
    if not isinstance(given, Mapping | None):
        raise UsageError(
            f"{name} is {given!r}", hint=f'give a dict, such as dict(type="{default}")'
        )
    options = dict(given or {})
    kind = options.pop("type", default)
    return getattr(kind, "__name__", str(kind)), options


def _choose(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{name} is {value!r}", hint=f"choose from {', '.join(map(str, choices))}")


def _check_whole(name: str, given: Any, count: int = 0, *, least: int = 1) -> None:
    """Raise UsageError for what is no whole number, or not so many of them at least."""
    values = given if count else [given]
    fine = isinstance(values, list | tuple) and len(values) >= count
    if not fine or not all(type(value) is int and value >= least for value in values):
        what = f"{count} or more whole numbers" if count else "a whole number"
        raise UsageError(f"{name} is {given!r}", hint=f"give {what} from {least} on")


def _refuse(name: str, given: Any, why: str) -> None:
    if given:
        raise UsageError(f"{name} is not supported", hint=why)
