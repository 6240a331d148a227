"""The network of a spec: stem, stages, head, and how its weights start."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from resnets.nn.blocks import BLOCKS, Block
from resnets.nn.stems import stem_convolution, stem_pool
from resnets.spec import Spec


class ResNet(nn.Module):
    """A residual (or plain) network, (N, in_channels, H, W) to logits (N, num_classes).

    State-dict keys are torchvision's. ``preprocess`` turns pictures into the batches it was trained
    on and ``classes`` names its outputs; both are set where they are known.
    """

    preprocess: Callable[[Any], Tensor] | None = None
    classes: tuple[str, ...] = ()

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = stem_convolution(spec)
        self.bn1 = nn.BatchNorm2d(spec.stem_width)
        self.activation = nn.ReLU(inplace=True)
        self.maxpool = stem_pool(spec)
        in_channels = spec.stem_width
        for stage, channels in enumerate(spec.channels):
            self.add_module(f"layer{stage + 1}", build_stage(spec, stage, in_channels))
            in_channels = channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(in_channels, spec.num_classes)
        initialise(self, zero_init_residual=spec.zero_init_residual)

    @property
    def stages(self) -> list[nn.Module]:
        """The stages, first to last: ``layer1``, ``layer2``, and so on."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(len(self.spec.depths))]

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output, (N, C, H/32, W/32) for ImageNet nets."""
        x = self.maxpool(self.activation(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = stage(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes)."""
        return self.fc(self.avgpool(self.forward_features(x)).flatten(1))  # type: ignore[no-any-return]


def build_stage(spec: Spec, stage: int, in_channels: int) -> nn.Sequential:
    """Return the blocks of a stage (counted from 0); all but the first stage halve the size."""
    blocks: list[Block] = []
    for position in range(spec.depths[stage]):
        stride = 2 if stage > 0 and position == 0 else 1
        blocks.append(BLOCKS[spec.block](spec, stage, in_channels, stride))
        in_channels = blocks[-1].out_channels
    return nn.Sequential(*blocks)


def initialise(model: nn.Module, *, zero_init_residual: bool = False) -> None:
    """Draw fresh weights from torch's global generator.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015b, eq. 14); batch norms: 1 and 0;
    classifier: torch's default weights, zero bias. ``zero_init_residual`` zeroes the last batch
    norm of each block, so that it starts as its shortcut (Goyal et al. 2017, sec. 5.1).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    if zero_init_residual:
        for module in model.modules():
            if isinstance(module, Block):
                last = [m for m in module.children() if isinstance(m, nn.BatchNorm2d)][-1]
                nn.init.zeros_(last.weight)
