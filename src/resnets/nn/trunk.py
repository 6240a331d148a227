"""The trunk that classifiers and backbones share: the stem and the stages."""

from torch import nn

from resnets.nn.blocks import BLOCKS, Block, Place
from resnets.nn.layers import activation, normalisation
from resnets.nn.recomputation import RecomputedStage
from resnets.nn.stems import stem_convolution, stem_pool
from resnets.spec import Spec


class Trunk(nn.Module):
    """A network's stem and its first ``stages`` stages, all by default; keys are torchvision's."""

    def __init__(self, spec: Spec, *, stages: int | None = None) -> None:
        super().__init__()
        self.spec = spec
        # He et al. 2016, appendix: pre-activation nets leave the stem's activation to the first
        # block.
        stem_norm = spec.activation_order != "preactivation" or spec.stem_activation
        stem_activation = not spec.preactivated or spec.stem_activation
        self.conv1 = stem_convolution(spec)
        self.bn1 = normalisation(spec, spec.stem_width) if stem_norm else nn.Identity()
        self.activation = activation(spec) if stem_activation else nn.Identity()
        self.maxpool = stem_pool(spec)
        self.stage_names = tuple(f"layer{i + 1}" for i in range(len(spec.depths)))[:stages]
        for name, blocks in zip(self.stage_names, build_stages(spec, stages), strict=True):
            self.add_module(name, blocks)

    @property
    def stages(self) -> list[nn.Module]:
        """The stages, first to last: ``layer1``, ``layer2``, and so on."""
        return [self.get_submodule(name) for name in self.stage_names]

    def recompute_stages(self) -> None:
        """Let stages keep only the inputs of blocks, and compute the rest again on the way back.

        Results stay the same to the bit, and so do keys; a training step takes one more forward
        pass and a fraction of the memory (Chen et al. 2016, sec. 4).
        """
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            self.add_module(name, RecomputedStage(*stage.children()))


def build_stages(spec: Spec, count: int | None = None) -> list[nn.Sequential]:
    """Return the first stages; beyond ``output_stride`` they dilate instead of shrinking maps."""
    stages = []
    in_channels, total = spec.stem_width, sum(spec.depths)
    reached = 1 if spec.stem == "3x3" else 2 if spec.stem_pool == "none" else 4
    dilation, done = 1, 0
    for stage, channels in enumerate(spec.channels[:count]):
        blocks: list[Block] = []
        for position, stride in enumerate(spec.strides(stage)):
            before, replaced = dilation, 1
            if stride > 1 and reached * stride > spec.output_stride:
                dilation, stride, replaced = dilation * stride, 1, stride
            reached *= stride
            done += 1
            unit, first_dilation = 1, before
            if spec.multi_grid and stage == len(spec.depths) - 1:
                # Chen et al. 2017, sec. 3.3: every convolution has the stage's rate times its unit.
                unit, first_dilation = spec.multi_grid[position], dilation
            place = Place(
                stage=stage,
                position=position,
                in_channels=in_channels,
                stride=stride,
                dilation=dilation * unit,
                first_dilation=first_dilation * unit,
                drop_path=spec.drop_path * done / total,
                replaced_stride=replaced,
                input_dilation=before,
            )
            blocks.append(BLOCKS[spec.block](spec, place))
            in_channels = channels
        stages.append(nn.Sequential(*blocks))
    return stages
