"""For torchvision's detection and segmentation models.

They ask of a backbone that it returns a dict of maps, and detectors that it has ``out_channels``.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from resnets.errors import UsageError
from resnets.nn import Backbone, FeaturePyramid
from resnets.nn.backbone import check_backbone
from resnets.nn.fpn import Extra


class PyramidBackbone(nn.Module):
    """A backbone and a feature pyramid, for FasterRCNN, MaskRCNN, RetinaNet and FCOS.

    (N, C, H, W) to {"p2": (N, out_channels, H/4, W/4), ...}: a map for each of the backbone's
    levels, and what ``extra`` adds (see `FeaturePyramid`). ``outputs`` names them. Raises
    UsageError for what is no backbone.
    """

    def __init__(
        self, backbone: Backbone, out_channels: int = 256, *, extra: Extra = "pool"
    ) -> None:
        super().__init__()
        check_backbone(backbone)
        self.backbone = backbone
        channels = dict(zip(backbone.outputs, backbone.channels, strict=True))
        self.fpn = FeaturePyramid(channels, out_channels, extra=extra)
        self.out_channels = out_channels
        self.outputs = self.fpn.outputs

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the pyramid's maps, fine to coarse."""
        return self.fpn(self.backbone(x))  # type: ignore[no-any-return]


class RenamedBackbone(nn.Module):
    """A backbone whose levels have other names, for DeepLabV3 and FCN: {"out": "c5", "aux": "c4"}.

    (N, C, H, W) to {"out": the map of c5, ...}. Raises UsageError for what is no backbone, and for
    levels that it does not return.
    """

    def __init__(self, backbone: Backbone, names: Mapping[str, str]) -> None:
        super().__init__()
        check_backbone(backbone)
        if absent := sorted({*names.values()} - {*backbone.outputs}):
            raise UsageError(
                f"the backbone does not return {', '.join(absent)}",
                hint=f"it returns {', '.join(backbone.outputs)}: "
                f"create_backbone(..., levels={tuple(sorted(names.values()))})",
            )
        self.backbone = backbone
        self.names = dict(names)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps under their new names."""
        features = self.backbone(x)
        return {new: features[level] for new, level in self.names.items()}
