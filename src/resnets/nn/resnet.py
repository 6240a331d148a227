"""The network of a spec: trunk and head, and how its weights start."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resnets.nn.blocks import Block
from resnets.nn.freezing import FixedBatchNorm2d
from resnets.nn.layers import activation, normalisation
from resnets.nn.levels import FeatureInfo, feature_info
from resnets.nn.shortcuts import ShortcutGate
from resnets.nn.trunk import Trunk
from resnets.spec import Spec


class ResNet(Trunk):
    """A residual (or plain) network, (N, in_channels, H, W) to logits (N, num_classes).

    State-dict keys are torchvision's where it has such nets. ``preprocess`` turns pictures into the
    batches it was trained on, ``classes`` names its outputs and ``outputs`` says what they mean:
    "softmax", one of all classes, or "sigmoid", each by itself. They are set where they are known.
    ``assumed`` names the choices that nothing has shown about the weights that were loaded.
    """

    preprocess: Callable[[Any], Tensor] | None = None
    classes: tuple[str, ...] = ()
    outputs: str | None = None
    assumed: tuple[str, ...] = ()

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        # He et al. 2016, appendix: activated once more after the last addition.
        last = spec.activation_order == "preactivation"
        self.norm = normalisation(spec, spec.channels[-1]) if last else nn.Identity()
        self.last_activation = activation(spec) if spec.preactivated else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(spec.dropout) if spec.dropout else nn.Identity()
        self.fc = nn.Linear(spec.channels[-1], spec.num_classes)
        initialise(self, zero_init_residual=spec.zero_init_residual)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output, activated, (N, C, H/32, W/32) for ImageNet nets."""
        x = self.maxpool(self.activation(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = stage(x)
        return self.last_activation(self.norm(x))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (N, num_classes) of the last stage's output (N, C, H, W).

        ``pre_logits`` leaves the classifier out: pooled features (N, C).
        """
        pooled = self.dropout(self.avgpool(x).flatten(1))
        return pooled if pre_logits else self.fc(pooled)  # type: ignore[no-any-return]

    def embed(self, x: Tensor, normalize: bool = False) -> Tensor:
        """Return what the classifier reads, (N, C); each row of length 1 with ``normalize``."""
        pooled: Tensor = self.avgpool(self.forward_features(x)).flatten(1)
        return F.normalize(pooled) if normalize else pooled

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer, (N, C) to (N, num_classes)."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Give the model a fresh classifier; ``classes`` and ``outputs`` no longer hold.

        0 leaves it without one, so that it returns pooled features (N, C); its spec, which has no
        such number, keeps the last.
        """
        old = next(self.parameters())
        classifier: nn.Module = nn.Identity()
        if num_classes:
            self.spec = replace(self.spec, num_classes=num_classes)
            classifier = nn.Linear(
                self.num_features, num_classes, device=old.device, dtype=old.dtype
            )
            nn.init.zeros_(classifier.bias)
        self.add_module("fc", classifier)
        self.classes, self.outputs = (), None

    @property
    def num_features(self) -> int:
        """Channels of the last stage, which the classifier reads."""
        return self.spec.channels[-1]

    @property
    def feature_info(self) -> FeatureInfo:
        """The levels of the trunk as timm lists them: channels, reduction, module."""
        return feature_info(self)


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
        elif isinstance(module, nn.BatchNorm2d | FixedBatchNorm2d | nn.GroupNorm):
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
