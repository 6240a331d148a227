"""Encoders for segmentation_models_pytorch, which calls them such as "resnets-resnet50".

It is imported by `register` alone, so that an encoder needs nothing of it.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from resnets.data.preprocess import known
from resnets.errors import ResourceError, UsageError
from resnets.models import create_backbone
from resnets.nn import Backbone
from resnets.nn.places import places
from resnets.spec import Spec
from resnets.weights.checkpoint import Source
from resnets.weights.fit import spread
from resnets.weights.load import over_channels

LEVELS = ("c1", "c2", "c3", "c4", "c5")
STRIDES = [2, 4, 8, 16, 32]
_GIVEN_LATER = {"in_channels": "in_channels=4", "output_stride": "encoder_output_stride=16"}


class Encoder(Backbone):
    """A backbone as its decoders want it, (N, C, H, W) to the image and ``depth`` maps, in a list.

    Keys are those of its own ResNetEncoder, so that models load each other's weights. As there, a
    stage that dilates for ``output_stride`` does so from its first block on.

    ``weights`` is whatever `create_backbone` takes; ``preprocess`` says how images are prepared for
    them. Raises UsageError for a network whose maps have other strides than 2, 4, 8, 16 and 32.
    """

    def __init__(
        self,
        model: str | Spec,
        *,
        depth: int = 5,
        output_stride: int = 32,
        weights: Source | None = None,
        **options: Any,
    ) -> None:
        if depth not in range(1, 6):
            raise UsageError(f"depth is {depth!r}", hint="an encoder has 1 to 5 maps")
        _checked(model, options)
        filled = create_backbone(model, levels=LEVELS, weights=weights, **options)
        spec = replace(filled.spec, output_stride=output_stride)
        table = [[replace(p, first_dilation=p.dilation) for p in row] for row in places(spec)]
        super().__init__(spec, levels=LEVELS, table=table)
        super().load_state_dict(filled.state_dict())
        self.preprocess, self.assumed = filled.preprocess, filled.assumed
        self.loaded = weights is not None
        self.outputs = LEVELS[:depth]
        self.parts = self.parts[:depth]
        self.freeze()  # nothing; what is computed is settled there

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        """Return the image, and the maps fine to coarse."""
        return [x, *super().forward(x).values()]

    @property
    def out_channels(self) -> list[int]:
        """The channels of what it returns."""
        return [self.spec.in_channels, *self.channels]

    @property
    def output_stride(self) -> int:
        """The stride of the last map."""
        return self.levels[self.outputs[-1]].stride

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Read images of so many channels: weights are spread over them, or drawn where fresh."""
        if in_channels == self.spec.in_channels:
            return
        conv = self.conv1 if isinstance(self.conv1, nn.Conv2d) else self.conv1.get_submodule("0")
        old = conv.get_parameter("weight").detach()
        new = old.new_empty(old.shape[0], in_channels, *old.shape[2:])
        if pretrained or self.loaded:
            new = spread(old, new, "sum" if in_channels == 1 else "repeat").to(old.dtype)
        else:
            nn.init.kaiming_normal_(new, mode="fan_out", nonlinearity="relu")
        conv.weight, conv.in_channels = nn.Parameter(new), in_channels  # type: ignore[assignment]
        self.spec = replace(self.spec, in_channels=in_channels)
        prepared = known(self.preprocess)
        self.preprocess = over_channels(prepared, in_channels) if prepared else None

    def get_stages(self) -> dict[int, list[nn.Module]]:
        """Return the stages by the stride that they have without dilation."""
        return dict(zip(STRIDES[1:], ([stage] for stage in self.stages), strict=True))

    def make_dilated(self, output_stride: int) -> None:
        """Do nothing: dilations are decided where it is built. Raises UsageError for others."""
        if output_stride != self.spec.output_stride:
            raise UsageError(
                f"the encoder is built for output_stride {self.spec.output_stride}",
                hint=f"build another with output_stride={output_stride}",
            )

    def load_state_dict(self, state_dict: Any, *args: Any, **options: Any) -> Any:
        """Load what a network has under the same keys, its classifier left out."""
        kept = {key: value for key, value in state_dict.items() if not key.startswith("fc.")}
        self.preprocess = None  # what it was, was said of other weights
        return super().load_state_dict(kept, *args, **options)


def register(
    model: str | Spec, *, weights: Source | None = None, name: str | None = None, **options: Any
) -> str:
    """Make a network known to segmentation_models_pytorch, and return what it is called there.

    That is "resnets-" and its name, unless ``name`` is given. Every encoder of that name starts
    with ``weights``, and ``options`` are fields of the spec. Where ours gives no weights, the
    library's own ("imagenet" and so on) can be had for networks that it has too.

    Raises UsageError for what no `Encoder` can be and for a name that is the library's,
    ResourceError where the library is not installed.
    """
    for option, argument in _GIVEN_LATER.items():
        if option in options:
            raise UsageError(
                f"{option} is no choice of an encoder",
                hint=f"give it to the model: smp.DeepLabV3(..., {argument})",
            )
    spec = _checked(model, options)
    try:
        from segmentation_models_pytorch.encoders import encoders
    except ImportError:
        raise ResourceError(
            "segmentation_models_pytorch is not installed",
            hint="pip install segmentation-models-pytorch",
        ) from None
    name = name or f"resnets-{spec.name}"
    if name in encoders and encoders[name]["encoder"] is not Encoder:
        raise UsageError(f'the library has its own encoder "{name}"', hint="choose another name")
    theirs = encoders.get(spec.name, {})
    same = "ResNetEncoder" in str(theirs.get("encoder")) and weights is None and not options
    encoders[name] = {
        "encoder": Encoder,
        "params": {"model": model, "weights": weights, **options},
        "pretrained_settings": theirs["pretrained_settings"] if same else {},
    }
    return name


def _checked(model: str | Spec, options: dict[str, Any]) -> Spec:
    """Return the spec of what is asked for; raises UsageError where it cannot be an encoder."""
    with torch.device("meta"):
        backbone = create_backbone(model, **options)
    found = [level.stride for level in backbone.levels.values()]
    if found != STRIDES:
        raise UsageError(
            f"{backbone.spec.name} has maps at strides {', '.join(map(str, found))}",
            hint="an encoder has them at 2, 4, 8, 16 and 32, as networks for ImageNet do",
        )
    return backbone.spec
