"""A backbone shaped as Hugging Face's AutoBackbone: ``channels``, and ``feature_maps`` out."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from resnets.nn import Backbone
from resnets.nn.backbone import check_backbone


@dataclass
class BackboneOutput:
    """What the models that read a backbone look at; the maps are fine to coarse."""

    feature_maps: tuple[Tensor, ...]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class AutoBackbone(nn.Module):
    """A backbone under Hugging Face's names: "stem" is c1, "stage1" is c2, and so on.

    ``out_features`` are the names of the maps, ``out_indices`` their places in ``stage_names``,
    ``channels`` their channels. "stem" is the map before the pooling; Hugging Face's own ResNet has
    the one after it. Raises UsageError for what is no backbone.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        check_backbone(backbone)
        self.backbone = backbone
        count = len(backbone.spec.depths)
        self.stage_names = ["stem", *(f"stage{i + 1}" for i in range(count))]
        self.out_indices = [int(name[1:]) - 1 for name in backbone.outputs]
        self.out_features = [self.stage_names[index] for index in self.out_indices]
        self.num_features = [level.channels for level in backbone.levels.values()]
        self.channels = list(backbone.channels)

    @property
    def out_feature_channels(self) -> dict[str, int]:
        """The channels of each map by its name."""
        return dict(zip(self.out_features, self.channels, strict=True))

    def forward(self, pixel_values: Tensor) -> BackboneOutput:
        """Return the maps of images (N, C, H, W)."""
        return BackboneOutput(tuple(self.backbone(pixel_values).values()))

    def forward_with_filtered_kwargs(self, pixel_values: Tensor, **_: Any) -> BackboneOutput:
        """Return the maps; what a ResNet does not know, such as output_attentions, is left out."""
        return self(pixel_values)  # type: ignore[no-any-return]
