"""The network without its head: a map for every level, frozen as far as one wishes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from resnets.errors import UsageError
from resnets.nn.activation_checkpointing import uncounted
from resnets.nn.freezing import (
    FreezeBatchNorm,
    Freezing,
    affine_parameters,
    fix_statistics,
    release_statistics,
    without_graph,
)
from resnets.nn.layers import activation, normalisation
from resnets.nn.levels import FeatureInfo, Level, describe, feature_info, level_names
from resnets.nn.places import Place
from resnets.nn.resnet import ResNet, initialise
from resnets.nn.trunk import Trunk, check_spec
from resnets.spec import Spec


@dataclass(frozen=True)
class Part:
    """Modules that run one after the other and end in a level.

    ``activates`` names the level before and the norm, inside the first of them, that it is
    activated with.
    """

    level: str
    stage: int  # that it is frozen with; 0 is the stem
    modules: tuple[str, ...]
    activates: tuple[tuple[str, str], ...] = ()


class Backbone(Trunk):
    """A network's levels, (N, in_channels, H, W) to {"c2": (N, C, H/4, W/4), ...}.

    ``levels`` are those it returns, by default every stage's; stages after the last of them are not
    built. Its attribute ``levels`` describes all that it has, c1 (the stem before its pooling)
    included. Keys are the classifier's without the head.

    ``activated`` is about pre-activation nets, whose stages end before an activation: False returns
    what the stages end with, True what the network's next norm and activation make of it. Where
    pooling comes next, as after c1 of ImageNet nets, there is no such activation.

    ``frozen_stages``, ``norm_eval`` and ``freeze_bn`` are explained at `Freezing`. They hold
    through train(), requires_grad_(), deepcopy, loading and conversion. ``gradient_checkpointing``
    computes blocks twice to save memory. ``table`` has the blocks' places where they are not the
    spec's, as other frameworks stride and dilate.

    Raises UsageError for levels that the network does not have and freezing that cannot be meant.
    """

    preprocess: Callable[[Any], Tensor] | None = None
    assumed: tuple[str, ...] = ()  # choices that nothing has shown about the weights in it

    def __init__(
        self,
        spec: Spec,
        *,
        levels: Sequence[str] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        freeze_bn: FreezeBatchNorm = "none",
        activated: bool = False,
        gradient_checkpointing: bool = False,
        table: Sequence[Sequence[Place]] | None = None,
    ) -> None:
        check_spec(spec)
        outputs = _outputs(levels, spec)
        built = max(level_names(len(spec.depths)).index(name) for name in outputs)
        super().__init__(spec, stages=built, table=table)
        self.outputs = outputs
        self.levels: dict[str, Level] = describe(self)
        # Not in place: the next stage may have kept the map.
        self.level_activation = activation(spec, inplace=False)
        self.parts = self._plain_parts()
        if activated and spec.preactivated:
            self._activate()
        initialise(self, zero_init_residual=spec.zero_init_residual)
        if gradient_checkpointing:
            self.recompute_stages()
        self.freeze(frozen_stages, norm_eval=norm_eval, freeze_bn=freeze_bn)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = {}
        with without_graph(x):
            x = self._walk(self._frozen_parts, x, features)
        self._walk(self._learning_parts, x, features)
        return {name: features[name] for name in self.outputs}

    def _walk(self, parts: Sequence[Part], x: Tensor, features: dict[str, Tensor]) -> Tensor:
        for part in parts:
            for level, norm in part.activates:
                features[level] = self._activated(norm, x)
            for name in part.modules:
                x = self.get_submodule(name)(x)
            features[part.level] = x
        return x

    def _activated(self, norm: str, x: Tensor) -> Tensor:
        """Return what the next stage, which normalises x again, will make of it."""
        module = self.get_submodule(norm)
        with uncounted(module):
            return self.level_activation(module(x))  # type: ignore[no-any-return]

    def freeze(
        self,
        frozen_stages: int = -1,
        *,
        norm_eval: bool = False,
        freeze_bn: FreezeBatchNorm = "none",
    ) -> None:
        """Freeze this, and nothing else, from now on.

        Parameters stay the same objects, so that an optimizer made before leaves the frozen ones
        alone and takes those up that are frozen no longer. All others will require gradients.
        Raises UsageError.
        """
        freezing = Freezing(frozen_stages, norm_eval, freeze_bn)
        freezing.check(len(self.spec.depths))
        self.freezing = freezing
        self._frozen_parts = [part for part in self.parts if part.stage <= frozen_stages]
        self._learning_parts = self.parts[len(self._frozen_parts) :]
        release_statistics(self)
        fix_statistics(self, [self] if freezing.statistics else self._frozen_modules())
        super().requires_grad_(True)
        self._hold()
        for parameter in self.frozen_parameters():
            parameter.grad = None  # an optimizer with momentum would go on moving it

    def frozen_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that do not learn."""
        if self.freezing.affine:
            yield from affine_parameters(self)
        for module in self._frozen_modules():
            yield from module.parameters()

    def _frozen_modules(self) -> list[nn.Module]:
        return [self.get_submodule(name) for part in self._frozen_parts for name in part.modules]

    def _hold(self) -> None:
        for module in self._frozen_modules():
            module.eval()
        for parameter in self.frozen_parameters():
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what is not frozen."""
        super().train(mode)
        self._hold()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let what is not frozen require gradients, or not."""
        super().requires_grad_(requires_grad)
        self._hold()
        return self

    @property
    def left_out(self) -> frozenset[str]:
        """The keys of the whole network, classifier included, that have no place here."""
        with torch.device("meta"):
            whole = ResNet(self.spec)
        return frozenset(whole.tensors.keys() - self.tensors.keys())

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of the maps that it returns."""
        return tuple(self.levels[name].channels for name in self.outputs)

    @property
    def feature_info(self) -> FeatureInfo:
        """The maps that it returns as timm lists them: channels, reduction, module."""
        return feature_info(self, self.outputs)

    def _plain_parts(self) -> list[Part]:
        stem = Part("c1", 0, ("conv1", "bn1", "activation"))
        stages = [
            Part(f"c{stage + 1}", stage, ("maxpool", name) if stage == 1 else (name,))
            for stage, name in enumerate(self.stage_names, start=1)
        ]
        return [stem, *stages]

    def _activate(self) -> None:
        """Have every level activated by the norm that follows it, and own it where it is last."""
        pooled = not isinstance(self.maxpool, nn.Identity)
        first = 1 if pooled or self.spec.stem_activation else 0
        self.norm: nn.Module = nn.Identity()  # what there is without one, or replaced
        for stage in range(first, len(self.stage_names) + 1):
            level = f"c{stage + 1}"
            self.levels[level] = replace(self.levels[level], activated=True)
            if stage < len(self.stage_names):
                part = self.parts[stage + 1]
                self.parts[stage + 1] = replace(part, activates=((level, self._norm_after(stage)),))
            else:
                self._build_norm_after(stage)
                frozen_with = min(stage + 1, len(self.spec.depths))
                modules = (self._norm_after(stage), "level_activation")
                self.parts.append(Part(level, frozen_with, modules))

    def _norm_after(self, stage: int) -> str:
        """Return the norm that a pre-activation net applies to a stage's output, 0 the stem's."""
        inside = self.spec.activation_order == "preactivation" and stage < len(self.spec.depths)
        return f"layer{stage + 1}.0.bn1" if inside else "norm"

    def _build_norm_after(self, stage: int) -> None:
        if self.spec.activation_order != "preactivation":
            return
        norm = normalisation(self.spec, self.levels[f"c{stage + 1}"].channels)
        if stage == len(self.spec.depths):
            self.norm = norm
            return
        block = nn.Module()  # of the next stage's first block, the norm alone
        block.add_module("bn1", norm)
        self.add_module(f"layer{stage + 1}", nn.Sequential(block))


def check_backbone(thing: object) -> None:
    """Raise UsageError for what is no backbone, such as a network's name or a classifier."""
    if not hasattr(thing, "levels") or not hasattr(thing, "outputs"):
        raise UsageError(
            f"a {type(thing).__name__} is no backbone",
            hint='resnets.create_backbone("resnet18") makes one',
        )


def _outputs(levels: Sequence[str] | None, spec: Spec) -> tuple[str, ...]:
    names = level_names(len(spec.depths))
    if levels is None:
        return names[1:]
    if isinstance(levels, str) or not levels or len(set(levels)) < len(levels):
        raise UsageError(f"levels is {levels!r}", hint=f"give some of {', '.join(names)}")
    for level in levels:
        if level not in names:
            raise UsageError(
                f'{spec.name} has no level "{level}"', hint=f"its levels are {', '.join(names)}"
            )
    return tuple(levels)
