"""The trunk that classifiers and backbones share: the stem and the stages."""

from collections.abc import Sequence

from torch import Tensor, nn

from resnets.errors import UsageError
from resnets.nn.activation_checkpointing import RecomputedStage
from resnets.nn.blocks import BLOCKS
from resnets.nn.layers import activation, convolution, normalisation
from resnets.nn.places import Place, places
from resnets.spec import Spec


class Trunk(nn.Module):
    """A network's stem and its first ``stages`` stages, all by default; keys are torchvision's.

    ``table`` says where blocks stand, stage by stage, if not where the spec has them.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        stages: int | None = None,
        table: Sequence[Sequence[Place]] | None = None,
    ) -> None:
        super().__init__()
        check_spec(spec)
        self.spec = spec
        # He et al. 2016, appendix: the first block of pre-activation nets activates the stem.
        stem_norm = spec.activation_order != "preactivation" or spec.stem_activation
        stem_activation = not spec.preactivated or spec.stem_activation
        self.conv1 = stem_convolution(spec)
        self.bn1 = normalisation(spec, spec.stem_width) if stem_norm else nn.Identity()
        self.activation = activation(spec) if stem_activation else nn.Identity()
        self.maxpool = stem_pool(spec)
        self.stage_names = tuple(f"layer{i + 1}" for i in range(len(spec.depths)))[:stages]
        for name, row in zip(self.stage_names, table or places(spec), strict=False):
            self.add_module(name, nn.Sequential(*(BLOCKS[spec.block](spec, p) for p in row)))

    @property
    def stages(self) -> list[nn.Module]:
        """The stages, first to last: ``layer1``, ``layer2``, and so on."""
        return [self.get_submodule(name) for name in self.stage_names]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What its state dict holds, under our keys; hooks may give a state dict others."""
        return {
            f"{name}.{leaf}" if name else leaf: tensor.detach()
            for name, module in self.named_modules()
            for leaf, tensor in (*module._parameters.items(), *module._buffers.items())
            if tensor is not None and leaf not in module._non_persistent_buffers_set
        }

    def recompute_stages(self) -> None:
        """Let stages keep only the inputs of blocks, and compute the rest in the backward pass.

        Results stay the same to the bit, and keys too; a step takes one forward pass more and a
        fraction of the memory (Chen et al. 2016, sec. 4).
        """
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            self.add_module(name, RecomputedStage(*stage.children()))


def check_spec(spec: object) -> None:
    """Raise UsageError for what is no spec, such as a model's name."""
    if not isinstance(spec, Spec):
        word = f'"{spec}"' if isinstance(spec, str) else '"resnet18"'
        raise UsageError(
            f"a network is made of a Spec, not of a {type(spec).__name__}",
            hint=f"create_model({word}) and create_backbone({word}) take names",
        )


def stem_convolution(spec: Spec) -> nn.Module:
    """Return what comes before the stem's norm.

    7x7 stride 2 (He et al. 2015, Table 1), 3x3 (sec. 4.2), or three 3x3, the first with stride 2
    (He et al. 2019, sec. 4.2): at half width, or growing from 3/8 over 1/2.
    """
    width, norm = spec.stem_width, not spec.preactivated or spec.stem_activation
    if spec.stem in ("7x7", "3x3"):
        size, stride = (7, 2) if spec.stem == "7x7" else (3, 1)
        return convolution(spec, spec.in_channels, width, size, stride, norm_follows=norm)
    first, second = (3 * width // 8 if spec.stem == "deep_tiered" else width // 2), width // 2
    return nn.Sequential(
        convolution(spec, spec.in_channels, first, 3, 2),
        normalisation(spec, first),
        activation(spec),
        convolution(spec, first, second, 3),
        normalisation(spec, second),
        activation(spec),
        convolution(spec, second, width, 3, norm_follows=norm),
    )


def stem_pool(spec: Spec) -> nn.Module:
    """Return the stem's pooling: 3x3 max, stride 2, or nothing."""
    if spec.stem == "3x3" or spec.stem_pool == "none":
        return nn.Identity()
    if spec.stem_pool == "zero_padded_max":
        return nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, stride=2))
    return nn.MaxPool2d(3, stride=2, padding=1)
