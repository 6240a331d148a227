"""Our own network in Keras's words: the steps of its blocks, and the order of its layers."""

from dataclasses import dataclass

from resnets.nn.blocks import Place, sequences
from resnets.nn.shortcuts import is_projection
from resnets.spec import CONVOLUTIONS, Spec
from resnets.weights.keras.steps import ACTIVATION, AVERAGE_POOL, CONVOLUTION, MAX_POOL, NORM


@dataclass(frozen=True)
class OurStep:
    """One step: its kind as in keras_steps, and the module that it is where it has weights."""

    kind: str
    module: str = ""


@dataclass(frozen=True)
class OurBlock:
    """One block: what runs since the addition before it, and on its two branches."""

    lead: list[OurStep]
    residual: list[OurStep]
    shortcut: list[OurStep]


def our_blocks(spec: Spec) -> list[OurBlock]:
    """Return the steps of our blocks; the first one's lead begins with the stem."""
    blocks = []
    lead = _stem(spec)
    in_channels = spec.stem_width
    for stage, out_channels in enumerate(spec.channels):
        for position, stride in enumerate(spec.strides(stage)):
            where = f"layer{stage + 1}.{position}"
            place = Place(stage, position, in_channels, stride, 1, 1, 0.0)
            before, residual, after = (
                [_step(where, name) for name in names]
                for names in sequences(spec, place, CONVOLUTIONS[spec.block])
            )
            shortcut = _shortcut(spec, f"{where}.downsample", in_channels, out_channels, stride)
            blocks.append(OurBlock(lead + before, residual, shortcut))
            lead, in_channels = after, out_channels
    return blocks


def our_tail(spec: Spec) -> list[OurStep]:
    """Return the steps between the last addition and the pooling."""
    where = f"layer{len(spec.depths)}.{spec.depths[-1] - 1}"
    place = Place(len(spec.depths) - 1, spec.depths[-1] - 1, spec.channels[-1], 1, 1, 1, 0.0)
    after = [_step(where, name) for name in sequences(spec, place, CONVOLUTIONS[spec.block])[2]]
    if spec.activation_order == "preactivation":
        after.append(OurStep(NORM, "norm"))
    return [*after, OurStep(ACTIVATION)] if spec.preactivated else after


def _step(where: str, name: str) -> OurStep:
    kind = name.rstrip("123").removeprefix("raw_")
    return OurStep(kind, f"{where}.{name}" if kind in (CONVOLUTION, NORM) else "")


def _stem(spec: Spec) -> list[OurStep]:
    stem = [OurStep(CONVOLUTION, "conv1")]
    if spec.stem in ("deep", "deep_tiered"):
        stem = [
            *(OurStep(CONVOLUTION, "conv1.0"), OurStep(NORM, "conv1.1"), OurStep(ACTIVATION)),
            *(OurStep(CONVOLUTION, "conv1.3"), OurStep(NORM, "conv1.4"), OurStep(ACTIVATION)),
            OurStep(CONVOLUTION, "conv1.6"),
        ]
    if spec.activation_order != "preactivation" or spec.stem_activation:
        stem.append(OurStep(NORM, "bn1"))
    if not spec.preactivated or spec.stem_activation:
        stem.append(OurStep(ACTIVATION))
    if spec.stem != "3x3" and spec.stem_pool != "none":
        stem.append(OurStep(MAX_POOL))
    return stem


def _shortcut(
    spec: Spec, where: str, in_channels: int, out_channels: int, stride: int
) -> list[OurStep]:
    """Return the steps of our shortcut between these shapes."""
    if not is_projection(spec, in_channels, out_channels, stride):
        return [OurStep(MAX_POOL)] if stride > 1 else []
    number = int(spec.shortcut == "D")
    found = [OurStep(AVERAGE_POOL)] if spec.shortcut == "D" and stride > 1 else []
    found.append(OurStep(CONVOLUTION, f"{where}.{number}"))
    if spec.projection_norm and not spec.preactivated:
        found.append(OurStep(NORM, f"{where}.{number + 1}"))
    return found


def layer_order(spec: Spec) -> list[tuple[str, str]]:
    """Return our modules in the order in which a Keras model lists such layers, and their kinds.

    Kinds are "conv2d", "batch_normalization" and "dense". Keras lists layers by how far they are
    from the output, and of two that are equally far first the one on an addition's first input,
    which is the shortcut wherever such networks are published.
    """
    kinds = {CONVOLUTION: "conv2d", NORM: "batch_normalization"}
    order: list[OurStep] = []
    for block in our_blocks(spec):
        distant = [
            (-distance, branch, step)
            for branch, steps in enumerate((block.shortcut, block.residual))
            for distance, step in enumerate(reversed(steps))
        ]
        order += block.lead
        order += [step for _, _, step in sorted(distant, key=lambda found: found[:2])]
    order += our_tail(spec)
    return [*((step.module, kinds[step.kind]) for step in order if step.module), ("fc", "dense")]
