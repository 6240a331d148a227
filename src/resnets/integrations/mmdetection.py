"""A backbone class with mmdetection's constructor, ``init_weights`` and tuples of maps.

Many projects carry a copy of such a class; this one can stand in for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from resnets.errors import UsageError
from resnets.models import create_backbone
from resnets.nn import Backbone
from resnets.nn.resnet import initialise
from resnets.spec import Spec
from resnets.zoo import get_spec

DEPTHS = (18, 34, 50, 101, 152)
STYLES = {"pytorch": "3x3", "caffe": "1x1"}  # which convolution of a bottleneck has the stride
NORMS = {"BN": "batch", "SyncBN": "batch", "GN": "group"}


class ResNet(Backbone):
    """A backbone built from mmdetection's arguments, (N, in_channels, H, W) to a tuple of maps.

    ``out_indices`` counts stages from 0. As there, ``norm_eval`` keeps all batch norms' statistics
    by default, ``norm_cfg=dict(type="BN", requires_grad=False)`` their scales and biases, and
    ``with_cp`` computes blocks twice to save memory. ``output_stride`` replaces ``strides`` and
    ``dilations``. Keys are torchvision's, which are mmdetection's but for ``deep_stem``.

    Raises UsageError for what residual networks here do not have: deformable convolutions, plugins,
    other convolutions, other strides.
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
        init_cfg: Mapping[str, Any] | None = None,
        output_stride: int = 32,
    ) -> None:
        _refuse("dcn", dcn or any(stage_with_dcn), "deformable convolutions are not built here")
        _refuse("plugins", plugins, "attention is a field of the spec, not a plugin")
        _refuse("conv_cfg", conv_cfg, "there is one kind of convolution")
        straight = tuple(strides[:num_stages]) == (1, 2, 2, 2)[:num_stages]
        straight = straight and set(dilations[:num_stages]) == {1}
        _refuse("strides, dilations", not straight, "output_stride=8 or 16 dilates the last stages")
        norm = {"type": "BN", "requires_grad": True, **(norm_cfg or {})}
        spec = replace(
            _spec(depth, style, norm["type"]),
            in_channels=in_channels,
            stem_width=stem_channels or base_channels,
            widths=tuple(base_channels * 2**stage for stage in range(4)),
            stem="deep" if deep_stem else "7x7",
            shortcut="D" if avg_down else "B",
            zero_init_residual=zero_init_residual,
            output_stride=output_stride,
        )
        if not out_indices or not all(0 <= index < num_stages <= 4 for index in out_indices):
            raise UsageError(
                f"out_indices {tuple(out_indices)} of {num_stages} stages",
                hint="stages are counted from 0; there are at most 4",
            )
        super().__init__(
            spec,
            levels=[f"c{index + 2}" for index in out_indices],
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            freeze_bn="none" if norm["requires_grad"] else "affine",
            gradient_checkpointing=with_cp,
        )
        if norm["type"] == "SyncBN":
            nn.SyncBatchNorm.convert_sync_batchnorm(self)  # type: ignore[no-untyped-call]
        self.pretrained = pretrained or (init_cfg or {}).get("checkpoint")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return the maps of ``out_indices``."""
        return tuple(super().forward(x).values())

    def init_weights(self, pretrained: str | None = None) -> None:
        """Load weights, those of the constructor where none are given, or draw fresh ones.

        Raises CheckpointError for weights that do not fit.
        """
        self.pretrained = pretrained or self.pretrained
        if self.pretrained is None:
            initialise(self, zero_init_residual=self.spec.zero_init_residual)
        else:
            filled = create_backbone(self.spec, levels=self.outputs, weights=self.pretrained)
            self.load_state_dict(filled.state_dict())


Resnet = ResNet


def _spec(depth: int, style: str, norm: str) -> Spec:
    for name, value, choices in (
        ("depth", depth, DEPTHS),
        ("style", style, STYLES),
        ("norm_cfg type", norm, NORMS),
    ):
        if value not in choices:
            raise UsageError(
                f"{name} is {value!r}", hint=f"choose from {', '.join(map(str, choices))}"
            )
    changes: dict[str, Any] = {"bottleneck_stride": STYLES[style], "norm": NORMS[norm]}
    return replace(get_spec(f"resnet{depth}"), **changes)


def _refuse(name: str, given: Any, why: str) -> None:
    if given:
        raise UsageError(f"{name} is not supported", hint=why)
