"""The network of a spec: trunk and head, and how its weights start."""

from torch import Tensor, nn

from resnets.nn.blocks import Block
from resnets.nn.classifier import Classifier
from resnets.nn.layers import activation, normalisation
from resnets.nn.shortcuts import ShortcutGate
from resnets.spec import Spec


class ResNet(Classifier):
    """A residual (or plain) network, (N, in_channels, H, W) to logits (N, num_classes).

    State-dict keys are torchvision's where it has such nets.
    """

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

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

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


def initialise(model: nn.Module, *, zero_init_residual: bool = False) -> None:
    """Draw fresh weights from torch's global generator.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015b, eq. 14); norms: 1; classifier:
    torch's default; all biases zero but those of gates, which are their spec's.
    ``zero_init_residual`` zeroes the last weighted layer of each residual branch, so that a block
    starts as its shortcut (Goyal et al. 2017, sec. 5.1).
    """
    if next(model.parameters()).is_meta:
        return  # there is nothing to fill, and torch would import its compiler to do so
    for module in model.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(weight, nn.Parameter) and weight.ndim == 1:  # a norm's
            nn.init.ones_(weight)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
    for module in model.modules():
        if isinstance(module, ShortcutGate) and module.gate.bias is not None:
            nn.init.constant_(module.gate.bias, module.initial_bias)
        if isinstance(module, Block) and zero_init_residual:
            nn.init.zeros_(getattr(module, module.last_weighted).weight)
