"""The levels of a trunk, c1 the stem and c2 to c5 its stages: channels, stride, what they see."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from resnets.nn.receptive_field import View
from resnets.nn.trunk import Trunk


@dataclass(frozen=True)
class Level:
    """One map that a trunk computes on its way, (N, channels, H / stride, W / stride).

    ``activated`` says whether an activation was the last that happened to it.
    """

    name: str
    channels: int
    stride: int
    receptive_field: int  # pixels of the input that one position sees, along one side
    module: str  # whose output it is
    activated: bool


def level_names(stages: int) -> tuple[str, ...]:
    """Return c1 for the stem and one name for each stage."""
    return tuple(f"c{i + 1}" for i in range(stages + 1))


def describe(trunk: Trunk) -> dict[str, Level]:
    """Return every level that a trunk has. c1 is the stem before its pooling."""
    spec = trunk.spec
    stem = View().through_all(trunk.conv1)
    views, view = [stem], stem.through_all(trunk.maxpool)
    for stage in trunk.stages:
        view = view.through_all(stage)
        views.append(view)
    modules = ["activation", *trunk.stage_names]
    channels = [spec.stem_width, *spec.channels]
    activated = [not spec.preactivated or spec.stem_activation]
    # The last of a block's steps, He et al. 2016, Fig. 4.
    activated += [spec.activation_order in ("original", "bn_after_addition")] * len(trunk.stages)
    names = level_names(len(trunk.stages))
    return {
        name: Level(name, wide, view.stride, view.field, module, active)
        for name, wide, view, module, active in zip(
            names, channels[: len(names)], views, modules, activated, strict=True
        )
    }


class FeatureInfo(list[dict[str, Any]]):
    """Levels as timm lists them, dicts of num_chs, reduction and module, with its methods."""

    def channels(self) -> list[int]:
        return [entry["num_chs"] for entry in self]

    def reduction(self) -> list[int]:
        return [entry["reduction"] for entry in self]

    def module_name(self) -> list[str]:
        return [entry["module"] for entry in self]


def feature_info(trunk: Trunk, names: Iterable[str] | None = None) -> FeatureInfo:
    """Return the levels of these names, by default all, as timm lists them."""
    known = describe(trunk)
    chosen = known.values() if names is None else [known[name] for name in names]
    return FeatureInfo(
        {"num_chs": level.channels, "reduction": level.stride, "module": level.module}
        for level in chosen
    )
