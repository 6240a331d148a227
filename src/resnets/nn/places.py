"""Where each block of a network stands, and the shapes, stride and dilation it has there.

Plain numbers that follow from the spec; nothing of torch is needed.
"""

from dataclasses import dataclass

from resnets.spec import PROJECTING, Spec


@dataclass(frozen=True)
class Place:
    """Where a block stands: what follows for it from the spec and the blocks before it."""

    is_first: bool  # the very first block
    in_channels: int
    width: int  # channels inside a bottleneck
    out_channels: int
    projects: bool  # whether the shortcut is a convolution
    drop_path: float
    stride: int
    replaced_stride: int  # the stride that dilation stands in for, else 1
    dilation: int  # of the 3x3 convolutions, but for the one that would carry the stride:
    first_dilation: int
    input_dilation: int  # how far apart what were neighbours are in the block's input


def places(spec: Spec) -> list[list[Place]]:
    """Return the place of every block, stage by stage.

    Beyond ``output_stride`` stages dilate instead of shrinking their maps: a stride becomes 1, and
    every later convolution steps over the pixels that it would have dropped, so that weights see
    what they would have seen (Chen et al. 2017, sec. 3.1).
    """
    stages: list[list[Place]] = []
    reached = 1 if spec.stem == "3x3" else 2 if spec.stem_pool == "none" else 4
    dilation, in_channels, done = 1, spec.stem_width, 0
    for stage, out_channels in enumerate(spec.channels):
        multi_grid = spec.multi_grid if stage == len(spec.depths) - 1 else ()
        stages.append([])
        for position, full_stride in enumerate(spec.strides(stage)):
            stride = full_stride if reached * full_stride <= spec.output_stride else 1
            replaced = full_stride // stride
            input_dilation, dilation = dilation, dilation * replaced
            reached *= stride
            done += 1
            # Chen et al. 2017, sec. 3.2.1: a 3x3 has the stage's dilation times its block's unit.
            unit = multi_grid[position] if multi_grid else 1
            # keras.applications' V2 nets subsample where only the size changes.
            shrinks = full_stride > 1 and spec.stride_position == "first"
            changes = in_channels != out_channels or shrinks
            place = Place(
                is_first=done == 1,
                in_channels=in_channels,
                width=spec.inner_width(stage),
                out_channels=out_channels,
                projects=spec.shortcut == "C" or (spec.shortcut in PROJECTING and changes),
                drop_path=spec.drop_path * done / sum(spec.depths),
                stride=stride,
                replaced_stride=replaced,
                dilation=dilation * unit,
                first_dilation=dilation * unit if multi_grid else input_dilation,
                input_dilation=input_dilation,
            )
            stages[-1].append(place)
            in_channels = out_channels
    return stages
