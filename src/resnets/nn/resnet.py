"""The network of a spec: stem, stages, head, and how its weights start."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from resnets.nn.blocks import BLOCKS, Block, Place
from resnets.nn.layers import activation, normalisation
from resnets.nn.shortcuts import ShortcutGate
from resnets.nn.stems import stem_convolution, stem_pool
from resnets.spec import Spec


class ResNet(nn.Module):
    """A residual (or plain) network, (N, in_channels, H, W) to logits (N, num_classes).

    State-dict keys are torchvision's where it has such nets. ``preprocess`` turns pictures into the
    batches it was trained on and ``classes`` names its outputs; both are set where they are known.
    """

    preprocess: Callable[[Any], Tensor] | None = None
    classes: tuple[str, ...] = ()

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        # He et al. 2016, appendix: pre-activation nets leave the stem's activation to the first
        # block, and activate once more after the last addition.
        pre = spec.activation_order == "preactivation"
        stem_norm = not pre or spec.stem_activation
        stem_activation = not spec.preactivated or spec.stem_activation
        self.conv1 = stem_convolution(spec)
        self.bn1 = normalisation(spec, spec.stem_width) if stem_norm else nn.Identity()
        self.activation = activation(spec) if stem_activation else nn.Identity()
        self.maxpool = stem_pool(spec)
        for stage, blocks in enumerate(build_stages(spec)):
            self.add_module(f"layer{stage + 1}", blocks)
        self.norm = normalisation(spec, spec.channels[-1]) if pre else nn.Identity()
        self.last_activation = activation(spec) if spec.preactivated else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(spec.dropout) if spec.dropout else nn.Identity()
        self.fc = nn.Linear(spec.channels[-1], spec.num_classes)
        initialise(self, zero_init_residual=spec.zero_init_residual)

    @property
    def stages(self) -> list[nn.Module]:
        """The stages, first to last: ``layer1``, ``layer2``, and so on."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(len(self.spec.depths))]

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output, activated, (N, C, H/32, W/32) for ImageNet nets."""
        x = self.maxpool(self.activation(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = stage(x)
        return self.last_activation(self.norm(x))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of the last stage's output (N, C, H, W)."""
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))


def build_stages(spec: Spec) -> list[nn.Sequential]:
    """Return the stages; beyond ``output_stride`` they dilate instead of shrinking the maps."""
    stages = []
    in_channels, total = spec.stem_width, sum(spec.depths)
    reached = 1 if spec.stem == "3x3" else 2 if spec.stem_pool == "none" else 4
    dilation, done = 1, 0
    for stage, channels in enumerate(spec.channels):
        blocks: list[Block] = []
        for position, stride in enumerate(spec.strides(stage)):
            first_dilation = dilation
            if stride > 1 and reached * stride > spec.output_stride:
                dilation, stride = dilation * stride, 1
            reached *= stride
            done += 1
            place = Place(
                stage=stage,
                position=position,
                in_channels=in_channels,
                stride=stride,
                dilation=dilation,
                first_dilation=first_dilation,
                drop_path=spec.drop_path * done / total,
            )
            blocks.append(BLOCKS[spec.block](spec, place))
            in_channels = channels
        stages.append(nn.Sequential(*blocks))
    return stages


def initialise(model: nn.Module, *, zero_init_residual: bool = False) -> None:
    """Draw fresh weights from torch's global generator.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015b, eq. 14), zero bias; norms: 1
    and 0; classifier: torch's default weights, zero bias; gates: their spec's bias.
    ``zero_init_residual`` zeroes the last weighted layer of each residual branch, so that a block
    starts as its shortcut (Goyal et al. 2017, sec. 5.1).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, ShortcutGate) and module.gate.bias is not None:
            nn.init.constant_(module.gate.bias, module.initial_bias)
        if isinstance(module, Block) and zero_init_residual:
            weighted = [name for name in module.sequence if name.startswith(("conv", "bn"))]
            nn.init.zeros_(module.get_submodule(weighted[-1]).get_parameter("weight"))
