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


def resnext(depth: int, groups: int, width_per_group: int) -> Spec:
    """Return the ImageNet net of Xie et al. 2017, Table 1, with this cardinality and width."""
    name = f"resnext{depth}_{groups}x{width_per_group}d"
    return imagenet(depth, name=name, groups=groups, width_per_group=width_per_group)


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


def cifar_bottleneck(depth: int, **changes: Any) -> Spec:
    """Return the CIFAR net of bottlenecks of He et al. 2016, sec. 3: depth 9n+2, option B.

    Raises UsageError for any other depth.
    """
    n = _blocks_per_stage(depth, layers=9)
    spec = replace(CIFAR, name=f"resnet{depth}", depths=(n, n, n), block="bottleneck")
    return replace(replace(spec, shortcut="B", bottleneck_stride="1x1"), **changes)


def cifar_resnext(groups: int, width_per_group: int) -> Spec:
    """Return the 29-layer CIFAR net of Xie et al. 2017, sec. 5.3."""
    return cifar_bottleneck(
        29,
        name=f"resnext29_{groups}x{width_per_group}d",
        widths=(64, 128, 256),
        stem_width=64,
        bottleneck_stride="3x3",
        groups=groups,
        width_per_group=width_per_group,
    )


def _blocks_per_stage(depth: int, layers: int) -> int:
    """Return n of a depth ``layers`` * n + 2 (three stages, the stem and the classifier)."""
    n, rest = divmod(depth - 2, layers)
    if rest or n < 1:
        below = max(n, 1) * layers + 2
        raise _no_depth(depth, f"CIFAR nets have depth {layers}n+2", [below, below + layers])
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
        *(cifar(depth) for depth in small),
        *(cifar(d, name=f"resnet{d}_b", shortcut="B") for d in small),
        *(cifar(d, name=f"resnet{d}_c", shortcut="C") for d in small),
        *(cifar(d, name=f"plain{d}", shortcut="none") for d in (20, 32, 44, 56, 110)),
        *(cifar_bottleneck(depth) for depth in (164, 1001)),
        *(cifar_resnext(*template) for template in ((8, 64), (16, 64))),
    ]
    return {spec.name: spec for spec in specs}


ZOO: dict[str, Spec] = _table()


def _residual_by_name(match: re.Match[str]) -> Spec:
    depth, option = int(match["depth"]), match["option"]
    if depth in IMAGENET_STAGES:  # such as resnet50_c: the depth is ImageNet's with any option
        return imagenet(depth, name=match[0], shortcut=(option or "b").upper())
    # A depth that both rules fit is made of basic blocks; 9n+2 alone (29, 1001) of bottlenecks.
    if option is None and depth % 6 != 2 and depth % 9 == 2:
        return cifar_bottleneck(depth)
    return cifar(depth, name=match[0], shortcut=(option or "a").upper())


def _plain_by_name(match: re.Match[str]) -> Spec:
    depth = int(match["depth"])
    family = imagenet if depth in IMAGENET_STAGES else cifar
    return family(depth, name=match[0], shortcut="none")


# Names beyond the table, such as resnet26, resnet98_b or plain14. The table is asked first, since
# resnet164 would be 6n+2 too.
FAMILIES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], Spec]]] = [
    (re.compile(r"resnet(?P<depth>[1-9]\d{0,4})(_(?P<option>[abc]))?"), _residual_by_name),
    (re.compile(r"plain(?P<depth>[1-9]\d{0,4})"), _plain_by_name),
]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names in the table that match a shell-style pattern, in the table's order."""
    return [name for name in ZOO if fnmatchcase(name, pattern)]


def get_spec(name: str) -> Spec:
    """Return the spec of a name: from the table, or from a family that has such a depth.

    Raises UsageError, naming the nearest models, when there is none.
    """
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
    close = nearest(name.lower().replace("o", "0"), list(ZOO))  # resnet5O
    question = f"did you mean {close}?  " if close else ""
    raise UsageError(
        f'no model is called "{name}"',
        hint=f"{question}`resnets models` lists all {len(ZOO)}",
    )
