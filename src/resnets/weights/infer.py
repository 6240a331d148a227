"""Which net tensors belong to, as far as their names and shapes can tell."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from resnets.errors import SpecError, UsageError
from resnets.spec import CONVOLUTIONS, EXPANSION, PROJECTING, Block, Spec, fields_told
from resnets.weights.stated_spec import Shapes, convolutions
from resnets.zoo import ZOO, get_spec

Convolutions = Mapping[tuple[int, int, int], tuple[int, ...]]  # by stage, block and number

UNSEEN, _FREE = fields_told("unseen"), fields_told("free")


@dataclass(frozen=True)
class Guess:
    """What tensors look like."""

    spec: Spec | None  # unseen fields as the hints say, or as the net of that name has them
    name: str  # the zoo's, or "custom"
    names: tuple[str, ...]  # all nets of the zoo that cannot be told apart by these tensors
    unknown: tuple[str, ...]  # fields of the spec that keys, shapes and hints leave open
    words: str


class _Unreadable(Exception):
    """Shapes that no spec describes; the message says why."""


def looks_like(tensors: Mapping[str, Tensor], hints: Mapping[str, Any] | None = None) -> Guess:
    """Return the net that tensors under our keys belong to; only their shapes are read.

    ``hints`` are fields that are known otherwise. Parts of a net are recognised where the rest is
    missing: no classifier, or the first stages only.
    """
    known = hints or {}  # of what no spec says, too
    shapes = {key: shape for key, t in tensors.items() if _is_sound(key, shape := tuple(t.shape))}
    try:
        spec = Spec(**{**_seen(shapes), **_of_spec(known)})
    except (_Unreadable, SpecError) as error:
        reason = getattr(error, "message", str(error))
        return Guess(None, "custom", (), (), f"no net that a spec describes: {reason}")
    return _guess(spec, shapes, known)


def described(spec: Spec, tensors: Mapping[str, Tensor], known: Mapping[str, Any]) -> Guess:
    """Return what is said of tensors whose spec is stated; ``known`` is what is certain of it."""
    return _guess(spec, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, known)


def _guess(spec: Spec, shapes: Shapes, known: Mapping[str, Any]) -> Guess:
    hints = _of_spec(known)
    told = {name: value for name, value in hints.items() if name not in _FREE}
    agreeing: dict[int, list[Spec]] = {}  # by how many hints they agree with
    for net in _alike(spec):
        count = sum(getattr(net, name) == value for name, value in told.items())
        agreeing.setdefault(count, []).append(net)
    named = agreeing[max(agreeing)] if agreeing else []
    stages = len(spec.depths)
    if named:
        sizes = {"in_channels": spec.in_channels}
        if "fc.weight" in shapes:
            sizes["num_classes"] = spec.num_classes
        spec = replace(named[0], **{**sizes, **hints})
    names = tuple(candidate.name for candidate in named)
    unknown = tuple(_unknown(spec, shapes, known))
    if "shortcut" in unknown and not named:
        spec = replace(spec, shortcut="A")  # likelier than none, of which nothing tells it
    return Guess(spec, spec.name, names, unknown, _words(spec, named, unknown, stages))


def _of_spec(known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if name in Spec.__dataclass_fields__}


def _is_sound(key: str, shape: tuple[int, ...]) -> bool:
    """Tell whether a tensor can be what it is called: no empty one, no flat convolution."""
    if key == "fc.weight":
        return len(shape) == 2 and all(shape)
    if key.endswith((".fc1.weight", "gate.weight")) or re.search(r"conv\d(\.[036])?\.weight$", key):
        return len(shape) == 4 and all(shape)
    return all(shape)


def _seen(shapes: Shapes) -> dict[str, Any]:
    """Return the fields of the spec that keys and shapes show."""
    found = {place: shapes[key] for place, key in convolutions(shapes).items()}
    depths = _depths({(stage, block) for stage, block, _ in found})
    block = block_of(shapes)
    order = _activation_order(shapes, found)
    result: dict[str, Any] = {"block": block, "depths": depths, "activation_order": order}
    result |= _widths(found, len(depths), block)
    result |= _stem(shapes, found, order)
    result |= _shortcut(shapes, result)
    result |= _biases(shapes, order)
    result |= _attention(shapes)
    if "layer1.0.join.gate.weight" in shapes:
        result["gate"] = "exclusive"
    if "fc.weight" in shapes:
        result["num_classes"] = shapes["fc.weight"][0]
    has_statistics = any(key.endswith(".running_mean") for key in shapes)
    if not has_statistics and any(key.endswith((".bn1.weight", ".bn2.weight")) for key in shapes):
        result["norm"] = "group"
    return result


def block_of(keys: Iterable[str]) -> Block:
    """Return the type of blocks by the most convolutions that keys of ours show of one."""
    numbers = (number for _, _, number in convolutions(keys))
    most = max(numbers, default=CONVOLUTIONS["basic"])
    return next((block for block, count in CONVOLUTIONS.items() if count >= most), "bottleneck")


def _depths(blocks: set[tuple[int, int]]) -> tuple[int, ...]:
    if not blocks:
        raise _Unreadable("there are no blocks")
    count = Counter(stage for stage, _ in blocks)
    if set(count) != set(range(1, len(count) + 1)):
        raise _Unreadable("stages are missing before others")
    if any(block >= count[stage] for stage, block in blocks):
        raise _Unreadable("blocks are missing before others")
    return tuple(count[stage] for stage in sorted(count))


def _first(convolutions: Convolutions, stage: int, number: int) -> tuple[int, ...]:
    """Return the shape of a convolution in a stage's first block."""
    if (stage, 0, number) not in convolutions:
        raise _Unreadable(f"layer{stage}.0.conv{number}.weight is missing")
    return convolutions[stage, 0, number]


def _widths(convolutions: Convolutions, stages: int, block: str) -> dict[str, Any]:
    """Return widths, output channels, groups and the width of a group."""
    numbers = range(1, stages + 1)
    middle = [_first(convolutions, stage, 1 if block == "single" else 2) for stage in numbers]
    if block != "bottleneck":
        return {"widths": tuple(shape[0] for shape in middle)}
    out = tuple(_first(convolutions, stage, 3)[0] for stage in numbers)
    inner = tuple(shape[0] for shape in middle)
    groups = inner[0] // middle[0][1]
    if any(shape[0] != groups * shape[1] for shape in middle):
        raise _Unreadable("stages whose 3x3 convolutions have different numbers of groups")
    widths = tuple(channels // EXPANSION["bottleneck"] for channels in out)
    per_group = 64 * inner[0] // max(widths[0] * groups, 1)
    if all(64 * i == w * groups * per_group for i, w in zip(inner, widths, strict=True)):
        return {"widths": widths, "groups": groups, "width_per_group": per_group}
    # Not four times as wide outside as inside: both are said.
    return {"widths": tuple(i // groups for i in inner), "out_channels": out, "groups": groups}


def _activation_order(shapes: Shapes, convolutions: Convolutions) -> str:
    """Tell nets whose norms come first, by their last norm or by a first norm's channels."""
    if "norm.weight" in shapes:
        return "preactivation"
    for (stage, block, number), shape in convolutions.items():
        norm = shapes.get(f"layer{stage}.{block}.bn{number}.weight")
        if norm and shape[0] != shape[1] and number == 1:
            if norm[0] == shape[0]:
                return "original"
            if "fc.weight" in shapes:
                raise _Unreadable("pre-activation blocks without a norm after the last addition")
            return "preactivation"
    return "original"


def _stem(shapes: Shapes, convolutions: Convolutions, order: str) -> dict[str, Any]:
    first, last = shapes.get("conv1.weight"), shapes.get("conv1.6.weight")
    result: dict[str, Any] = {}
    if first and first[2:] in ((7, 7), (3, 3)):
        small = first[2] == 3
        result = {"stem": "3x3" if small else "7x7", "stem_width": first[0]}
        result |= {"in_channels": first[1], "image_size": 32 if small else 224}
    elif last and "conv1.0.weight" in shapes:
        start = shapes["conv1.0.weight"]
        stem = "deep" if start[0] * 2 == last[0] else "deep_tiered"
        result = {"stem": stem, "stem_width": last[0], "in_channels": start[1]}
    elif first:
        raise _Unreadable(f"a stem of {first[2]}x{first[3]}")
    else:  # a part of a net: the default stem, as wide as the first block wants it
        result = {"stem_width": _first(convolutions, 1, 1)[1]}
    if order == "preactivation" and "bn1.weight" in shapes:
        result["stem_activation"] = True
    return result


def _shortcut(shapes: Shapes, seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the option; where none leaves a key, none: that it may be A is said elsewhere."""
    weighted = {key for key in shapes if ".downsample." in key and key.endswith(".weight")}
    if not weighted:
        return {"shortcut": "none"}
    pools = not any(key.endswith(".downsample.0.weight") for key in weighted)
    spec = Spec(**{key: seen[key] for key in ("block", "widths", "depths")})
    channels = seen.get("out_channels") or spec.channels
    everywhere = any(int(key.split(".")[1]) > 0 for key in weighted) or (
        channels[0] == seen["stem_width"] and any(key.startswith("layer1.0.") for key in weighted)
    )
    normed = any(key.endswith(f".downsample.{1 + pools}.weight") for key in weighted)
    preactivated = seen["activation_order"] == "preactivation"
    sizes = {shapes[key][2:] for key in weighted if len(shapes[key]) == 4}
    if len(sizes) != 1 or not sizes <= {(1, 1), (3, 3)}:
        raise _Unreadable("projections of several sizes")
    return {
        "shortcut": "D" if pools else "C" if everywhere else "B",
        "projection_size": "3x3" if (3, 3) in sizes else "1x1",
        "projection_norm": normed or preactivated,
    }


def _biases(shapes: Shapes, order: str) -> dict[str, Any]:
    """Return which convolutions have a bias; biases of a few that norms follow do not count."""
    places = [key.removesuffix(".weight") for key in convolutions(shapes).values()]
    biased = [place for place in places if f"{place}.bias" in shapes]
    if places and len(biased) == len(places):
        return {"conv_bias": "all"}
    last = max((place[-1] for place in places), default="")
    final = [place for place in places if place[-1] == last]
    if order == "preactivation" and biased and set(biased) == set(final):
        return {"conv_bias": "without_norm"}
    return {}


def _attention(shapes: Shapes) -> dict[str, Any]:
    if "layer1.0.se.conv.weight" in shapes:
        return {"attention": "eca"}
    squeezes = [shape for key, shape in shapes.items() if key.endswith(".se.fc1.weight")]
    if not squeezes:
        return {}
    for reduction in (16, 8, 4, 2, 32, 64):
        if all(middle == max(8, int(c / reduction + 4) // 8 * 8) for middle, c, *_ in squeezes):
            return {"attention": "se", "attention_reduction": reduction}
    raise _Unreadable(f"squeeze-and-excitation from {squeezes[0][1]} to {squeezes[0][0]} channels")


def _visible(spec: Spec) -> dict[str, Any]:
    """Return what keys and shapes show of a spec, sizes of input and output left out."""
    hidden = {*UNSEEN, *_FREE}
    result = {f.name: getattr(spec, f.name) for f in fields(Spec) if f.name not in hidden}
    result |= {"out_channels": spec.channels, "widths": None, "width_per_group": None}
    result["inner"] = tuple(spec.inner_width(stage) for stage in range(len(spec.depths)))
    if spec.block != "bottleneck":
        result["inner"] = ()
    if spec.shortcut not in PROJECTING:
        result |= {"shortcut": "none or A", "projection_norm": True, "projection_size": "1x1"}
    if spec.norm == "frozen_batch":
        result["norm"] = "batch"
    return result


def _alike(spec: Spec) -> list[Spec]:
    """Return the nets with a name that keys and shapes cannot tell from this one."""
    stages, visible = len(spec.depths), _visible(spec)
    for known in (ZOO.values(), _families(spec)):
        deep = [candidate for candidate in known if len(candidate.depths) >= stages]
        if alike := [c for c in deep if _visible(_first_stages(c, stages)) == visible]:
            return alike
    return []


def _families(spec: Spec) -> Iterator[Spec]:
    """Yield the nets of this spec's depth that are in no table but have a name."""
    depth = spec.depth
    for name in (
        *(f"resnet{depth}{option}{v2}" for v2 in ("", "_v2") for option in ("", "_b", "_c")),
        *(f"resnet{depth}_1layer", f"resnet{depth}_1layer_v2"),
        *(f"plain{depth}", f"keras_resnet{depth}_v1", f"keras_resnet{depth}_v2"),
        f"resnext{depth}_{spec.groups}x{spec.width_per_group}d",
        f"wrn{depth + 2}_{spec.widths[0] // 16}",
    ):
        try:
            yield get_spec(name)
        except UsageError:
            continue


def _first_stages(spec: Spec, stages: int) -> Spec:
    return replace(
        spec,
        depths=spec.depths[:stages],
        widths=spec.widths[:stages],
        out_channels=spec.out_channels[:stages],
    )


def _unknown(spec: Spec, shapes: Shapes, hints: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields that are open: what is not there, then what cannot be seen."""
    preactivation = spec.activation_order == "preactivation"
    projects = any(".downsample." in key for key in shapes)
    plain = not projects and spec.shortcut not in PROJECTING
    open_fields = {
        "num_classes": "fc.weight" not in shapes,
        "stem": not any(key.startswith("conv1.") for key in shapes),
        "shortcut": plain,
        "zero_pad": plain and len(spec.depths) > 1,
        "bottleneck_stride": spec.block == "bottleneck" and len(spec.depths) > 1,
        "projection_input": preactivation and projects,
        "first_shortcut_input": preactivation and "layer1.0.downsample.0.weight" not in shapes,
        "gate": spec.gate != "none",
        "norm_eps": True,
        "norm_groups": spec.norm == "group",
        "padding": True,
        "activation": True,
        "shortcut_scale": spec.gate == "none",
        "residual_scale": spec.gate == "none",
        "stride_position": len(spec.depths) > 1,
        "output_stride": spec.stem != "3x3" and len(spec.depths) > 2,
        "stem_pool": True,
        "stem_stride": True,
        "stem_padding": spec.stem == "3x3",
        "shortcut_dropout": False,  # which trained weights do not feel
    }
    for name in UNSEEN:  # of any other choice that cannot be seen nothing is known either
        open_fields.setdefault(name, True)
    yield from (name for name, is_open in open_fields.items() if is_open and name not in hints)


def _words(spec: Spec, named: list[Spec], unknown: tuple[str, ...], stages: int) -> str:
    """Put a guess in words, such as "resnet101, stride on the 1x1 or 3x3 unknown, 10 classes"."""
    names = _unlike(named, unknown)
    if names:
        parts = [" or ".join(names)]
        parts += [
            f"{f.name} {value}"
            for f in fields(Spec)
            if f.name not in _FREE and (value := getattr(spec, f.name)) != getattr(named[0], f.name)
        ]
    else:
        parts = [f"{spec.block} blocks {'-'.join(map(str, spec.depths))} of no named net"]
        if spec.activation_order == "preactivation":
            parts.append("pre-activation")
    if stages < len(spec.depths):
        parts.append(f"its first {stages} of {len(spec.depths)} stages")
    if "shortcut" in unknown:
        parts.append("option A or no shortcuts unknown")
    if "bottleneck_stride" in unknown:
        parts.append("stride on the 1x1 or 3x3 unknown")
    if spec.in_channels != 3:
        parts.append(f"{spec.in_channels} input channels")
    parts.append("no classifier" if "num_classes" in unknown else f"{spec.num_classes} classes")
    return ", ".join(parts)


def _unlike(named: list[Spec], unknown: tuple[str, ...]) -> list[str]:
    """Return the names that differ by more than what the words call unknown."""
    said = {"shortcut", "zero_pad", "bottleneck_stride"} & set(unknown)
    result: dict[str, str] = {}
    for spec in named:
        visible = {k: v for k, v in spec.to_dict().items() if k not in (*_FREE, *said)}
        result.setdefault(repr(visible), spec.name)
    return list(result.values())
