"""The sizes of a Keras network as a spec: widths, strides, padding, biases, and the constants."""

from dataclasses import replace
from math import prod
from typing import Any

from resnets.errors import CheckpointError
from resnets.nn.places import places
from resnets.spec import CONVOLUTIONS, EXPANSION, Block, Shortcut, Spec
from resnets.weights.keras.head import Head
from resnets.weights.keras.keras_blocks import BlockSteps, Body
from resnets.weights.keras.steps import (
    ACTIVATION,
    AVERAGE_POOL,
    CONVOLUTION,
    MAX_POOL,
    NORM,
    Step,
    unsupported,
)

KERNELS: dict[Block, list[int]] = {"single": [3], "basic": [3, 3], "bottleneck": [1, 3, 1]}


def read_sizes(body: Body, head: Head) -> Spec:
    """Return a spec with everything but the order of norms and activations.

    Raises CheckpointError, naming the layer, for sizes that no network here has.
    """
    block = _block_type(body.blocks)
    stages = _stages(body.blocks)
    strided_within = any(_stride(b) > 1 for b in stages[0])
    fields: dict[str, Any] = {
        "block": block,
        "depths": tuple(len(stage) for stage in stages),
        **_widths(block, stages),
        "bottleneck_stride": _bottleneck_stride(block, body.blocks),
        "stride_position": "last" if strided_within else "first",
        **_stem(body.blocks[0].lead),
        **_constants([*(s for b in body.blocks for p in b.paths for s in p), *head.after]),
        "conv_bias": _biases(body.blocks),
        "padding": _padding(body),
        "projection_norm": _projection_norm(body.blocks),
        "dropout": head.dropout,
        **_input_and_output(body, head),
    }
    spec = _with_shortcut(Spec(**fields), body.blocks)
    _check_strides(spec, stages)
    return spec


def _with_shortcut(spec: Spec, blocks: list[BlockSteps]) -> Spec:
    """Return the spec with the option whose projections are where the blocks have theirs."""
    averages = any(step.kind == AVERAGE_POOL for block in blocks for step in block.shortcut)
    options: tuple[Shortcut, ...] = ("D",) if averages else ("B", "C")
    theirs = [_projects(block) for block in blocks]
    for option in options:
        if _projections(candidate := replace(spec, shortcut=option)) == theirs:
            return candidate
    ours = _projections(replace(spec, shortcut=options[0]))
    odd = next(b for b, mine in zip(blocks, ours, strict=True) if _projects(b) != mine)
    raise unsupported(odd.convolutions[0].node, "in a block with such a shortcut")


def _block_type(blocks: list[BlockSteps]) -> Block:
    kernels = [step.size for step in blocks[0].convolutions]
    if kernels not in KERNELS.values():
        raise unsupported(blocks[0].convolutions[0].node, f"in a block of kernels {kernels}")
    (name,) = (name for name, known in KERNELS.items() if known == kernels)
    for block in blocks:
        if [step.size for step in block.convolutions] != kernels:
            raise unsupported(block.convolutions[0].node, f"in a net of {name} blocks")
    return name


def _stages(blocks: list[BlockSteps]) -> list[list[BlockSteps]]:
    """Return the blocks by stages: channels change, or a projection shrinks the map."""
    stages: list[list[BlockSteps]] = []
    for block in blocks:
        if not stages or _filters(block) != _filters(stages[-1][0]) or _shrinks(block):
            stages.append([])
        stages[-1].append(block)
    return stages


def _shrinks(block: BlockSteps) -> bool:
    return _projects(block) and _stride(block) > 1


def _filters(block: BlockSteps) -> int:
    return block.convolutions[-1].filters


def _stride(block: BlockSteps) -> int:
    return prod(step.stride for step in block.convolutions)


def _projects(block: BlockSteps) -> bool:
    return any(step.kind == CONVOLUTION for step in block.shortcut)


def _widths(block: Block, stages: list[list[BlockSteps]]) -> dict[str, Any]:
    """Return widths, out_channels, groups and width_per_group."""
    outs = [_filters(stage[0]) for stage in stages]
    inner = [stage[0].convolutions[0].filters for stage in stages]
    middle = [step for stage in stages for b in stage for step in b.convolutions[1:-1]]
    for stage, width in zip(stages, inner, strict=True):
        for step in (step for b in stage for step in b.convolutions[:-1]):
            if step.filters != width:
                raise unsupported(step.node, f"with {step.filters} filters in a stage of {width}")
    groups = {int(step.node.config.get("groups", 1) or 1) for step in middle} or {1}
    if len(groups) != 1:
        raise unsupported(middle[0].node, f"with {sorted(groups)} groups")
    expansion, (count,) = EXPANSION[block], groups
    # 64 channels in each group of a stage as wide as a quarter of its output is the plain net.
    ratios = {64 * w * expansion / out / count for w, out in zip(inner, outs, strict=True)}
    per_group = ratios.pop() if len(ratios) == 1 else 0.0
    if per_group.is_integer() and per_group and not any(out % expansion for out in outs):
        widths = tuple(out // expansion for out in outs)
        return {"widths": widths, "groups": count, "width_per_group": int(per_group)}
    if count > 1:
        raise unsupported(middle[0].node, f"with {count} groups of unequal width")
    return {"widths": tuple(inner), "out_channels": tuple(outs)}


def _bottleneck_stride(block: Block, blocks: list[BlockSteps]) -> str:
    """Return which convolution strides; the others must not."""
    found = set()
    for b in blocks:
        strides = [step.stride for step in b.convolutions]
        strided = [position for position, stride in enumerate(strides) if stride > 1]
        if strided and (len(strided) > 1 or strided[0] == CONVOLUTIONS[block] - 1):
            raise unsupported(b.convolutions[strided[-1]].node, f"in a block of strides {strides}")
        found |= set(strided)
    if len(found) > 1:
        raise unsupported(blocks[-1].convolutions[0].node, "in blocks that stride differently")
    return "1x1" if block == "bottleneck" and found == {0} else "3x3"


def _stem(lead: list[Step]) -> dict[str, Any]:
    convolutions = [step for step in lead if step.kind == CONVOLUTION]
    shape = [(step.size, step.stride) for step in convolutions]
    width = convolutions[-1].filters
    if shape == [(7, 2)]:
        fields: dict[str, Any] = {"stem": "7x7"}
    elif shape == [(3, 1)]:
        fields = {"stem": "3x3"}
    elif shape == [(3, 2), (3, 1), (3, 1)]:
        tiered = [step.filters for step in convolutions[:2]] == [3 * width // 8, width // 2]
        fields = {"stem": "deep_tiered" if tiered else "deep"}
        if not tiered and {step.filters for step in convolutions[:2]} != {width // 2}:
            raise unsupported(convolutions[0].node, "of such a width in the stem")
    else:
        raise unsupported(convolutions[0].node, f"in a stem of kernels and strides {shape}")
    return {**fields, "stem_width": width, "stem_pool": _stem_pool(lead)}


def _stem_pool(lead: list[Step]) -> str:
    pools = [position for position, step in enumerate(lead) if step.kind == MAX_POOL]
    if not pools:  # which nets with a 3x3 stem never have
        return "none" if lead[0].stride > 1 else "max"
    pool = lead[pools[0]]
    if len(pools) > 1 or (pool.size, pool.stride, pool.zero_padded) != (3, 2, True):
        raise unsupported(pool.node, "that is not 3x3 with stride 2 and padding 1")
    before = lead[pools[0] - 1]
    # Zeros are no larger than what a ReLU lets through: then both kinds of padding agree.
    return "max" if before.activation == "relu" else "zero_padded_max"


def _constants(steps: list[Step]) -> dict[str, Any]:
    """Return the activation and the constants of norms, which must be the same everywhere."""
    fields: dict[str, Any] = {}
    activations = [step for step in steps if step.kind == ACTIVATION]
    for step in activations:
        if step.activation != activations[0].activation:
            raise unsupported(step.node, f"in a net of {activations[0].activation}")
        fields["activation"] = step.activation
    norms = [step for step in steps if step.kind == NORM]
    for step in norms:
        epsilon = float(step.node.config.get("epsilon", 1e-3))
        if fields.setdefault("norm_eps", epsilon) != epsilon:
            raise unsupported(step.node, f"with epsilon {epsilon:g} beside {fields['norm_eps']:g}")
    if norms:  # Keras's is the share that the old value keeps
        kept = float(norms[0].node.config.get("momentum", 0.99))
        fields["norm_momentum"] = round(1 - kept, 12)
    return fields


def _biases(blocks: list[BlockSteps]) -> str:
    """Return which convolutions need a bias; with "all", some may lack it in Keras: zero."""
    found = {
        (step.biased, following is not None and following.kind == NORM)
        for block in blocks
        for path in block.paths
        for step, following in zip(path, [*path[1:], None], strict=False)
        if step.kind == CONVOLUTION
    }
    if not any(biased for biased, _ in found):
        return "none"
    return "without_norm" if found == {(True, False), (False, True)} else "all"


def _padding(body: Body) -> str:
    steps = [step for step in body.main if step.padding]
    for step in steps:
        if step.padding != steps[0].padding:
            raise unsupported(step.node, f"with padding {step.padding}, unlike {steps[0].node}")
    return "same" if steps and steps[0].padding == "same" else "symmetric"


def _projection_norm(blocks: list[BlockSteps]) -> bool:
    projections = [b for b in blocks if _projects(b)]
    return not projections or any(s.kind == NORM for b in projections for s in b.shortcut)


def _projections(spec: Spec) -> list[bool]:
    return [place.projects for stage in places(spec) for place in stage]


def _check_strides(spec: Spec, stages: list[list[BlockSteps]]) -> None:
    for number, stage in enumerate(stages):
        for block, stride in zip(stage, spec.strides(number), strict=True):
            step = block.convolutions[0]
            if _stride(block) != stride:
                raise unsupported(step.node, f"in a block of stride {_stride(block)}")
            sizes = {MAX_POOL: [(1, stride)], AVERAGE_POOL: [(2, 2)]}
            for other in block.shortcut:
                known = sizes.get(other.kind, [(1, 1), (1, stride)])
                if other.kind in (CONVOLUTION, *sizes) and (other.size, other.stride) not in known:
                    raise unsupported(other.node, "of such a size in a shortcut")


def _input_and_output(body: Body, head: Head) -> dict[str, Any]:
    shape = input_shape(body)
    height, channels = shape[1::-1] if is_channels_first(body) else shape[::2]
    first = body.blocks[0].lead[0]
    fields: dict[str, Any] = {}
    if head.classifier:
        fields["num_classes"] = int(head.classifier.config["units"])
    fields["in_channels"] = channels or 3
    fields["image_size"] = height or (32 if (first.size, first.stride) == (3, 1) else 224)
    return fields


def is_channels_first(body: Body) -> bool:
    """Tell whether images are (C, H, W), as its first convolution has them."""
    return body.blocks[0].lead[0].node.config.get("data_format") == "channels_first"


def input_shape(body: Body) -> list[int | None]:
    """Return the sizes of an image in front of the stem, unknown ones None: the last three axes.

    What a model within the model says goes before what the outer one says.
    """
    found: list[int | None] = [None] * 3
    for source in body.sources:
        shape = source.config.get("batch_shape") or source.config.get("batch_input_shape")
        shape = shape or [None] * 4
        if len(shape) != 4 or not all(n is None or (isinstance(n, int) and n > 0) for n in shape):
            raise CheckpointError(f"{source} is no image's: its shape is {shape}")
        found = [inner or outer for inner, outer in zip(shape[1:], found, strict=True)]
    return found


def map_side(body: Body) -> int | None:
    """Return the side of the maps after the last block; None where images have any size."""
    shape = input_shape(body)
    side, width = shape[1:] if is_channels_first(body) else shape[:2]
    if side is None or side != width:
        return None
    for step in body.main:
        if step.kind in (CONVOLUTION, MAX_POOL):
            side = -(-side // step.stride)
    return side
