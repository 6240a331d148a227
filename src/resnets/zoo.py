"""Names for specs: a table of the published nets and the families that any valid depth belongs to.

Each entry is the spec of a family's function or a `replace()` of another; nothing is built here.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from resnets.errors import UsageError, nearest
from resnets.spec import Block, Spec

# He et al. 2015, Table 1: the depth is the name, the stages are the choice.
IMAGENET_STAGES: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),  # He et al. 2016, sec. 4
}


def imagenet(depth: int, **changes: Any) -> Spec:
    """Return the ImageNet net of He et al. 2015, Table 1, with option B and stride on the 3x3.

    Raises UsageError for a depth that the table does not have.
    """
    if depth not in IMAGENET_STAGES:
        raise _no_depth(depth, "He et al. 2015, Table 1", list(IMAGENET_STAGES))
    block, depths = IMAGENET_STAGES[depth]
    return replace(Spec(name=f"resnet{depth}", block=block, depths=depths), **changes)


def preactivated(spec: Spec, name: str) -> Spec:
    """Return the full pre-activation form of a net (He et al. 2016, Fig. 4e)."""
    return replace(spec, name=name, activation_order="preactivation")


def timm_preactivated(depth: int) -> Spec:
    """Return timm's pre-activation net of basic blocks; its first block adds the raw stem."""
    spec = preactivated(imagenet(depth), f"timm_resnet{depth}_v2")
    return replace(spec, first_shortcut_input="raw")


def resnext(depth: int, groups: int, width_per_group: int) -> Spec:
    """Return the ImageNet net of Xie et al. 2017, Table 1, with this cardinality and width."""
    name = f"resnext{depth}_{groups}x{width_per_group}d"
    return imagenet(depth, name=name, groups=groups, width_per_group=width_per_group)


# He et al. 2019, Fig. 2, and the stems that timm adds: s is wider, t grows and is narrower.
TWEAKS: dict[str, dict[str, Any]] = {
    "c": {"stem": "deep"},
    "d": {"stem": "deep", "shortcut": "D"},
    "s": {"stem": "deep", "stem_width": 128},
    "t": {"stem": "deep_tiered", "shortcut": "D"},
}


def tweaked(depth: int, letter: str, **changes: Any) -> Spec:
    """Return an ImageNet net with the stem and shortcuts of ResNet-C, -D, -S or -T."""
    return imagenet(depth, **{"name": f"resnet{depth}{letter}", **TWEAKS[letter], **changes})


CIFAR = Spec(
    block="basic",
    depths=(3, 3, 3),
    widths=(16, 32, 64),
    shortcut="A",
    stem="3x3",
    stem_width=16,
    num_classes=10,
    image_size=32,
)


def cifar(depth: int, **changes: Any) -> Spec:
    """Return the CIFAR net of basic blocks of He et al. 2015, sec. 4.2: depth 6n+2, option A.

    Raises UsageError for any other depth.
    """
    n = _blocks_per_stage(depth, layers=6)
    return replace(replace(CIFAR, name=f"resnet{depth}", depths=(n, n, n)), **changes)


def cifar_single(depth: int, **changes: Any) -> Spec:
    """Return the CIFAR net of single layers of He et al. 2016, Table 3: depth 3n+2, option A.

    Raises UsageError for any other depth.
    """
    n = _blocks_per_stage(depth, layers=3)
    spec = replace(CIFAR, name=f"resnet{depth}_1layer", depths=(n, n, n), block="single")
    return replace(spec, **changes)


def cifar_bottleneck(depth: int, **changes: Any) -> Spec:
    """Return the CIFAR net of bottlenecks of He et al. 2016, sec. 4: depth 9n+2, option B.

    Raises UsageError for any other depth.
    """
    n = _blocks_per_stage(depth, layers=9)
    spec = replace(CIFAR, name=f"resnet{depth}", depths=(n, n, n), block="bottleneck")
    return replace(replace(spec, shortcut="B", bottleneck_stride="1x1"), **changes)


def cifar_resnext(depth: int, groups: int, width_per_group: int) -> Spec:
    """Return the CIFAR net of Xie et al. 2017, sec. 5.3; depth 9n+2."""
    return cifar_bottleneck(
        depth,
        name=f"resnext{depth}_{groups}x{width_per_group}d",
        widths=(64, 128, 256),
        stem_width=64,
        bottleneck_stride="3x3",
        groups=groups,
        width_per_group=width_per_group,
    )


def wide_cifar(depth: int, factor: int) -> Spec:
    """Return WRN-depth-factor of Zagoruyko & Komodakis 2016, Table 1: depth 6n+4.

    Their depth counts the three projections and not the classifier.
    """
    n, rest = divmod(depth - 4, 6)
    if rest or n < 1:
        below = max(n, 1) * 6 + 4
        raise _no_depth(depth, "wide CIFAR nets have depth 6n+4", [below, below + 6])
    widths = tuple(factor * width for width in CIFAR.widths)
    spec = replace(CIFAR, depths=(n, n, n), widths=widths, shortcut="B")
    return preactivated(spec, f"wrn{depth}_{factor}")


KERAS_NORM: dict[str, Any] = {"norm_eps": 1e-3, "norm_momentum": 0.01}


def keras_v1(depth: int) -> Spec:
    """Return the Keras CIFAR example's v1 net: depth 6n+2, biased, projections without norm."""
    return cifar(
        depth,
        name=f"keras_resnet{depth}_v1",
        shortcut="B",
        projection_norm=False,
        conv_bias="all",
        padding="same",
        **KERAS_NORM,
    )


def keras_v2(depth: int) -> Spec:
    """Return the Keras CIFAR example's v2 net: depth 9n+2, with its own bottleneck widths."""
    return cifar_bottleneck(
        depth,
        name=f"keras_resnet{depth}_v2",
        activation_order="preactivation",
        widths=(16, 64, 128),  # a stage is as wide inside as the stage before it outside
        out_channels=(64, 128, 256),
        stem_activation=True,
        projection_input="raw",
        conv_bias="all",
        **KERAS_NORM,
    )


def keras_applications(depth: int, version: int) -> Spec:
    """Return keras.applications' ResNet, or its V2, which strides in a stage's last block."""
    norm: dict[str, Any] = {"norm_eps": 1.001e-5, "norm_momentum": 0.01}
    name = f"keras_applications_resnet{depth}"
    if version == 1:
        return imagenet(depth, name=name, bottleneck_stride="1x1", conv_bias="all", **norm)
    return imagenet(
        depth,
        name=f"{name}_v2",
        activation_order="preactivation",
        conv_bias="without_norm",
        stride_position="last",
        stem_pool="zero_padded_max",
        **norm,
    )


def _blocks_per_stage(depth: int, layers: int) -> int:
    """Return n of a depth ``layers`` * n + 2 (three stages, the stem and the classifier)."""
    n, rest = divmod(depth - 2, layers)
    if rest or n < 1:
        below = max(n, 1) * layers + 2
        raise _no_depth(depth, f"such CIFAR nets have depth {layers}n+2", [below, below + layers])
    return n


def _no_depth(depth: int, rule: str, depths: list[int]) -> UsageError:
    closest = sorted(sorted(depths, key=lambda d: abs(d - depth))[:2])
    return UsageError(
        f"no net of depth {depth}: {rule}",
        hint=f"nearest valid depth: {' or '.join(map(str, closest))}",
    )


def _table() -> dict[str, Spec]:
    basic, bottleneck = (18, 34), (50, 101, 152, 200)
    small = (20, 32, 44, 56, 110, 1202)
    specs = [
        *(imagenet(depth) for depth in (*basic, *bottleneck)),
        *(imagenet(d, name=f"resnet{d}_v1", bottleneck_stride="1x1") for d in bottleneck),
        *(preactivated(imagenet(d), f"resnet{d}_v2") for d in (*basic, *bottleneck)),
        *(timm_preactivated(depth) for depth in basic),
        *(imagenet(d, name=f"resnet{d}_a", shortcut="A") for d in basic),
        *(imagenet(d, name=f"resnet{d}_c", shortcut="C") for d in basic),
        *(imagenet(d, name=f"plain{d}", shortcut="none") for d in (18, 34, 50)),
        # Xie et al. 2017, Tables 3 and 4
        *(resnext(50, *template) for template in ((32, 4), (2, 40), (4, 24), (8, 14))),
        *(resnext(101, *template) for template in ((32, 4), (32, 8), (64, 4), (2, 64))),
        resnext(152, 32, 4),
        imagenet(101, name="resnet101_1x100d", width_per_group=100),
        imagenet(50, name="wide_resnet50_2", width_per_group=128),
        imagenet(101, name="wide_resnet101_2", width_per_group=128),
        *(tweaked(50, letter) for letter in "cst"),
        *(tweaked(depth, "d") for depth in (18, 34, 50, 101, 152, 200)),
        *(imagenet(d, name=f"se_resnet{d}", attention="se") for d in (18, 34, 50, 101, 152)),
        replace(resnext(50, 32, 4), name="se_resnext50_32x4d", attention="se"),
        *(tweaked(d, "d", name=f"eca_resnet{d}d", attention="eca") for d in (50, 101)),
        *(keras_applications(depth, 1) for depth in (50, 101, 152)),
        *(keras_applications(depth, 2) for depth in (50, 101, 152)),
        *(cifar(depth) for depth in small),
        *(cifar(d, name=f"resnet{d}_b", shortcut="B") for d in small),
        *(cifar(d, name=f"resnet{d}_c", shortcut="C") for d in small),
        *(preactivated(cifar(d), f"resnet{d}_v2") for d in (20, 56, 110)),
        *(preactivated(cifar(d, shortcut="B"), f"resnet{d}_b_v2") for d in (20, 56, 110)),
        *(cifar(d, name=f"plain{d}", shortcut="none") for d in (20, 32, 44, 56, 110)),
        cifar_single(110),
        preactivated(cifar_single(110), "resnet110_1layer_v2"),
        *(cifar_bottleneck(depth) for depth in (164, 1001)),
        *(preactivated(cifar_bottleneck(d), f"resnet{d}_v2") for d in (164, 1001)),
        *(cifar_resnext(29, *template) for template in ((8, 64), (16, 64))),
        *(wide_cifar(*size) for size in ((16, 8), (28, 10), (40, 4))),
        *(on_cifar(imagenet(depth)) for depth in (18, 34, 50, 101, 152)),
        *(keras_v1(depth) for depth in (20, 32, 44, 56, 110)),
        *(keras_v2(depth) for depth in (20, 29, 56, 110, 164, 1001)),
    ]
    return {spec.name: spec for spec in specs}


def on_cifar(spec: Spec) -> Spec:
    """Return an ImageNet net with the stem, size and classes of CIFAR."""
    return replace(spec, name=f"{spec.name}_cifar", stem="3x3", num_classes=10, image_size=32)


ZOO: dict[str, Spec] = _table()


# What other libraries call nets that are here under another name.
ALIASES: dict[str, str] = {
    **{f"resnet{d}b": f"resnet{d}" for d in (50, 101, 152)},  # ResNet-B: the stride on the 3x3
    **{f"seresnet{d}": f"se_resnet{d}" for d in (18, 34, 50, 101, 152)},
    "seresnext50_32x4d": "se_resnext50_32x4d",
    **{f"ecaresnet{d}d": f"eca_resnet{d}d" for d in (50, 101)},
    **{f"resnetv2_{d}": f"timm_resnet{d}_v2" for d in (18, 34)},
    **{f"resnetv2_{d}": f"resnet{d}_v2" for d in (50, 101, 152)},
    **{f"tv_resnet{d}": f"resnet{d}" for d in (34, 50, 101, 152)},
    **{
        f"{prefix}ResNet{d}{version}": f"keras_applications_resnet{d}{suffix}"
        for d in (50, 101, 152)
        for prefix, version, suffix in (
            ("keras.applications.", "", ""),
            ("keras.applications.", "V2", "_v2"),
            ("", "V2", "_v2"),
        )
    },
}


def _residual_by_name(match: re.Match[str]) -> Spec:
    depth, option = int(match["depth"]), match["option"]
    if depth in IMAGENET_STAGES:  # such as resnet50_c: the depth is ImageNet's with any option
        spec = imagenet(depth, name=match[0], shortcut=(option or "b").upper())
    # A depth that both rules fit is made of basic blocks, but for the papers' 164; 9n+2 alone
    # (29, 1001) of bottlenecks.
    elif depth == 164 or (option is None and depth % 6 != 2 and depth % 9 == 2):
        spec = cifar_bottleneck(depth, name=match[0], shortcut=(option or "b").upper())
    else:
        spec = cifar(depth, name=match[0], shortcut=(option or "a").upper())
    return preactivated(spec, match[0]) if match["v2"] else spec


def _tweaked_by_name(match: re.Match[str]) -> Spec:
    """Such as resnet101c, se_resnet152d; timm writes seresnet152d."""
    depth, letter = int(match["depth"]), match["letter"] or ""
    attention = (match["attention"] or "none").rstrip("_")
    prefix = "" if attention == "none" else f"{attention}_"
    name = f"{prefix}resnet{depth}{letter}"
    return imagenet(depth, name=name, attention=attention, **TWEAKS.get(letter, {}))


def _plain_by_name(match: re.Match[str]) -> Spec:
    depth = int(match["depth"])
    family = imagenet if depth in IMAGENET_STAGES else cifar
    return family(depth, name=match[0], shortcut="none")


def _single_by_name(match: re.Match[str]) -> Spec:
    spec = cifar_single(int(match["depth"]), name=match[0])
    return preactivated(spec, match[0]) if match["v2"] else spec


def _keras_by_name(match: re.Match[str]) -> Spec:
    return (keras_v1 if match["version"] == "1" else keras_v2)(int(match["depth"]))


def _resnext_by_name(match: re.Match[str]) -> Spec:
    depth, groups, width = (int(match[key]) for key in ("depth", "groups", "width"))
    return (resnext if depth in IMAGENET_STAGES else cifar_resnext)(depth, groups, width)


# Names beyond the table, such as resnet26, resnet98_b, plain14 or wrn22_2; the table comes first.
_DEPTH = r"(?P<depth>[1-9]\d{0,4})"
FAMILIES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], Spec]]] = [
    (re.compile(rf"resnet{_DEPTH}(_(?P<option>[abc]))?(?P<v2>_v2)?"), _residual_by_name),
    (re.compile(rf"((?P<attention>se|eca)_?)?resnet{_DEPTH}(?P<letter>[cdst])?"), _tweaked_by_name),
    (re.compile(rf"plain{_DEPTH}"), _plain_by_name),
    (re.compile(rf"resnet{_DEPTH}_1layer(?P<v2>_v2)?"), _single_by_name),
    (re.compile(rf"keras_resnet{_DEPTH}_v(?P<version>[12])"), _keras_by_name),
    (re.compile(rf"resnext{_DEPTH}_(?P<groups>\d+)x(?P<width>\d+)d"), _resnext_by_name),
    (
        re.compile(rf"wrn{_DEPTH}_(?P<factor>[1-9]\d?)"),
        lambda match: wide_cifar(int(match["depth"]), int(match["factor"])),
    ),
]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names in the table that match a shell-style pattern, in the table's order.

    Raises UsageError for what is no pattern, such as a list of some.
    """
    if not isinstance(pattern, str):
        raise UsageError(
            f"a pattern is a text, not a {type(pattern).__name__}", hint='list_models("resnext*")'
        )
    return [name for name in ZOO if fnmatchcase(name, pattern)]


def get_spec(name: str) -> Spec:
    """Return the spec of a name: from the table, by an alias, or from a family with such a depth.

    The spec's own name is the canonical one. Raises UsageError, naming the nearest models, when
    there is none.
    """
    name = ALIASES.get(name, name)
    if name in ZOO:
        return ZOO[name]
    for pattern, family in FAMILIES:
        if match := pattern.fullmatch(name):
            try:
                return family(match)
            except UsageError as error:
                raise UsageError(
                    f'no model is called "{name}": {error.message}', hint=error.hint
                ) from None
    word, _, tag = name.rpartition("/")[2].partition(".")  # timm/resnet50.a1_in1k
    word = word.lower()
    longer = [] if word in ZOO else [n for n in ZOO if n.startswith(f"{word}_")]  # resnext50
    close = ", ".join(longer[:3]) or nearest(word.replace("o", "0"), list(ZOO))  # resnet5O
    question = f"did you mean {close}?  " if close else ""
    if tag and is_named(word):
        question = f'create_model("{word}", weights="timm.{tag}") has weights of timm\'s; '
    raise UsageError(
        f'no model is called "{name}"',
        hint=f"{question}`resnets models` lists all {len(ZOO)}",
    )


def is_named(word: str) -> bool:
    """Whether a word is the name of a model."""
    try:
        get_spec(word)
    except UsageError:
        return False
    return True


def asked_spec(model: str | Spec, **changes: Any) -> Spec:
    """Return the spec of a name, or the one given, with those of the changes that are not None.

    Raises UsageError for an unknown name and for anything else.
    """
    if isinstance(model, str):
        model = get_spec(model)
    elif not isinstance(model, Spec):
        has_one = isinstance(getattr(model, "spec", None), Spec)
        raise UsageError(
            f"{type(model).__name__} is no model's name and no spec",
            hint="model.spec is one" if has_one else "give a name such as resnet50, or a Spec",
        )
    return replace(model, **{name: value for name, value in changes.items() if value is not None})


def provenance(spec: Spec) -> list[str]:
    """Return sentences about a spec: its papers first, then what other libraries do differently.

    They follow from the spec's fields, so that they hold for nets without a name too.
    """
    return [text for applies, text in _facts(spec) if applies]


def _facts(spec: Spec) -> list[tuple[bool, str]]:
    original = spec.activation_order == "original"
    keras = spec.conv_bias != "none"
    bottleneck = spec.block == "bottleneck" and original and not keras and spec.attention == "none"
    preactivated = spec.activation_order == "preactivation" and not keras
    cifar = spec.stem == "3x3"
    plain = spec.shortcut == "none"
    return [
        (original and spec.groups == 1, "He et al. 2015, Deep Residual Learning"),
        (plain, "a plain net: what residual learning was measured against"),
        (not original, "He et al. 2016, Identity Mappings, Fig. 4"),
        (
            spec.block == "single",
            "He et al. 2016, Identity Mappings, Table 3: a skip at each layer",
        ),
        (spec.gate != "none" or spec.scaled, "He et al. 2016, Identity Mappings, Table 1"),
        (spec.groups > 1, "Xie et al. 2017, Aggregated Residual Transformations"),
        (spec.stem in ("deep", "deep_tiered"), "He et al. 2019, Bag of Tricks, Fig. 2"),
        (spec.attention == "se", "Hu et al. 2018, Squeeze-and-Excitation Networks"),
        (spec.attention == "eca", "Wang et al. 2020, ECA-Net"),
        (
            spec.width_per_group == 128 or (cifar and spec.widths[0] > spec.stem_width),
            "Zagoruyko & Komodakis 2016, Wide Residual Networks",
        ),
        (
            spec.groups == 1 and spec.width_per_group not in (64, 128),
            "Xie et al. 2017, Table 4: a wider net to compare cardinality with",
        ),
        (
            bottleneck and not cifar and spec.bottleneck_stride == "3x3",
            "stride on the 3x3 (v1.5), as torchvision, timm and fb.resnet.torch; the paper's Caffe "
            "models and keras.applications have it on the 1x1 (v1): same parameters, other outputs",
        ),
        (
            bottleneck and not cifar and spec.bottleneck_stride == "1x1" and spec.groups == 1,
            "stride on the 1x1 (v1), as the paper's Caffe models; torchvision and timm have it on "
            "the 3x3 (v1.5): same parameters, other outputs",
        ),
        (
            spec.shortcut == "A" and spec.zero_pad == "end",
            "fb.resnet.torch: the same; akamaster's CIFAR nets put half of the zero channels first",
        ),
        (
            (spec.shortcut, spec.block, spec.widths[0]) == ("B", "basic", 16)
            and original
            and not keras,
            "option B; the paper's CIFAR nets use option A",
        ),
        (
            preactivated
            and not cifar
            and spec.block == "basic"
            and spec.first_shortcut_input == "activated",
            "timm's resnetv2_18 and _34 add the raw stem in the first block, the paper the "
            "activated one: same parameters, other outputs",
        ),
        (
            preactivated and spec.block == "bottleneck" and not cifar,
            "timm's resnetv2: the same; keras.applications' V2 strides in a stage's last block",
        ),
        (
            keras and cifar,
            "Keras's CIFAR example: convolutions with bias, projections without norm",
        ),
        (
            spec.padding == "same",
            "TensorFlow's padding: stride 2 pads bottom and right only",
        ),
        (
            keras and not cifar,
            "keras.applications: convolutions with bias, batch-norm epsilon 1.001e-5",
        ),
    ]
