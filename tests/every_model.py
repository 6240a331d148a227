"""Which models a test of the whole zoo is run on: some by default, all of them, or those of a day.

``make test`` runs it on some that hold every kind of block, ``make zoo`` on all of them, and
``make zoo-sample`` on a few of each family, which change with the date: each model has its turn
within DAYS days.
"""

import re
from collections.abc import Collection
from datetime import date

import pytest

from resnets.zoo import ZOO

# Together they hold every order, stem, shortcut and attention, and every block but single layers,
# whose one net has 108 of them (small ones are in tests/nn and tests/weights).
EVERY_KIND = (
    *("resnet18", "resnet18_a", "resnet18_c", "resnet18d", "resnet18_v2", "timm_resnet18_v2"),
    *("plain18", "se_resnet18", "resnet50t", "eca_resnet50d", "resnext50_32x4d"),
    *("resnet20", "resnet20_b", "resnet20_c", "resnet20_v2", "resnet20_b_v2", "plain20"),
    *("keras_resnet20_v1", "keras_resnet20_v2"),
    *("keras_applications_resnet50", "keras_applications_resnet50_v2"),
)
DAYS = 14
# A model belongs to the first that its name fits.
FAMILIES = {
    "plain": r"plain",
    "single layers": r"resnet\d+_1layer",
    "more than 1000 layers": r"(keras_)?resnet1\d\d\d",
    "Keras's applications": r"keras_applications",
    "Keras's example": r"keras",
    "squeeze and excitation": r"se_",
    "ECA": r"eca_",
    "ResNeXt": r"resnext|resnet101_1x100d",
    "wide": r"wide|wrn",
    "stems of C, D, S and T": r"resnet\d+[cdst]$",
    "v1": r"resnet\d+_v1",
    "ImageNet's on CIFAR": r"resnet\d+_cifar",
    "basic blocks": r"resnet(18|34)(_[ac])?$",
    "bottlenecks": r"resnet(50|101|152|200)$",
    "v2 with basic blocks": r"(timm_)?resnet(18|34)_v2$",
    "v2 with bottlenecks": r"resnet(50|101|152|200|164)_v2$",
    "v2 on CIFAR": r"resnet\d+(_b)?_v2$",
    "CIFAR": r"resnet\d+(_[bc])?$",
}


def each_model(default: Collection[str] = EVERY_KIND) -> list:
    """Return the cases of a test of every model, of which only ``default`` ones are not slow."""
    return [pytest.param(name, marks=marks(name, name in default)) for name in ZOO]


def marks(name: str, default: bool) -> list[pytest.MarkDecorator]:
    """Return the marks of the case of one model."""
    return [pytest.mark.zoo(name), *[pytest.mark.slow] * (not default)]


def families() -> dict[str, list[str]]:
    """Return the models of each family, of which every model has one."""
    found: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name in ZOO:
        found[next(f for f, pattern in FAMILIES.items() if re.match(pattern, name))].append(name)
    return found


def of_the_day(day: date) -> list[str]:
    """Return some models of each family, the next ones on the next day."""
    chosen = []
    for names in families().values():
        share = -(-len(names) // DAYS)
        first = share * day.toordinal()
        chosen += [names[(first + i) % len(names)] for i in range(share)]
    return chosen
