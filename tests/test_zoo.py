"""Names, families and what is said when there is no such model."""

import pytest

from resnets.errors import UsageError
from resnets.zoo import ALIASES, ZOO, cifar, cifar_bottleneck, get_spec, imagenet, list_models


def test_the_core_of_the_family_is_there():
    names = [f"resnet{d}" for d in (18, 34, 50, 101, 152)]
    names += [f"resnet{d}_v1" for d in (50, 101, 152)] + ["plain18", "plain34"]
    small = (20, 32, 44, 56, 110)
    names += [f"resnet{d}{option}" for d in small for option in ("", "_b", "_c")]
    names += [f"plain{d}" for d in small]
    assert set(names) <= set(list_models())


def test_patterns():
    assert {"resnet50", "resnet50_v1"} <= set(list_models("resnet50*"))
    assert list_models("nothing*") == []
    assert all(name.startswith("plain") for name in list_models("plain*"))


def test_aliases_lead_to_the_table():
    for alias, name in ALIASES.items():
        assert alias not in ZOO
        assert get_spec(alias) == ZOO[name]
        assert get_spec(alias).name == name


def test_every_name_knows_itself():
    assert all(spec.name == name for name, spec in ZOO.items())


@pytest.mark.parametrize(
    ("name", "depths", "block", "shortcut"),
    [
        ("resnet26", (4, 4, 4), "basic", "A"),
        ("resnet98_c", (16, 16, 16), "basic", "C"),
        ("plain14", (2, 2, 2), "basic", "none"),
        ("resnet29", (3, 3, 3), "bottleneck", "B"),
        ("resnet164", (18, 18, 18), "bottleneck", "B"),
        ("resnet50", (3, 4, 6, 3), "bottleneck", "B"),
        ("resnet50_c", (3, 4, 6, 3), "bottleneck", "C"),
        ("resnet152_b", (3, 8, 36, 3), "bottleneck", "B"),
        ("plain152", (3, 8, 36, 3), "bottleneck", "none"),
        ("resnet29_v2", (3, 3, 3), "bottleneck", "B"),
        ("resnet164_v2", (18, 18, 18), "bottleneck", "B"),
        ("resnet14_b_v2", (2, 2, 2), "basic", "B"),
        ("keras_resnet8_v1", (1, 1, 1), "basic", "B"),
        ("keras_resnet20_v2", (2, 2, 2), "bottleneck", "B"),
        ("resnet101c", (3, 4, 23, 3), "bottleneck", "B"),
        ("se_resnet152d", (3, 8, 36, 3), "bottleneck", "D"),
        ("eca_resnet50t", (3, 4, 6, 3), "bottleneck", "D"),
        ("wrn22_2", (3, 3, 3), "basic", "B"),
        ("resnext38_4x16d", (4, 4, 4), "bottleneck", "B"),
    ],
)
def test_families_by_name(name, depths, block, shortcut):
    spec = get_spec(name)
    assert (spec.name, spec.depths, spec.block, spec.shortcut) == (name, depths, block, shortcut)


def test_attention_and_letters_by_name():
    spec = get_spec("seresnet152d")
    assert (spec.name, spec.attention, spec.stem) == ("se_resnet152d", "se", "deep")
    assert get_spec("resnet34d") is ZOO["resnet34d"]
    assert get_spec("resnet50b") is ZOO["resnet50"]


@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        (lambda: cifar(21), "20 or 26"),
        (lambda: cifar(2), "8 or 14"),
        (lambda: cifar(-5), "8 or 14"),
        (lambda: cifar_bottleneck(30), "29 or 38"),
        (lambda: imagenet(42), "34 or 50"),
        (lambda: get_spec("resnet21"), "20 or 26"),
        (lambda: get_spec("resnet020"), "resnet20"),
        (lambda: get_spec("plain21"), "20 or 26"),
        (lambda: get_spec("resnet42d"), "34 or 50"),
        (lambda: get_spec("keras_resnet21_v2"), "20 or 29"),
        (lambda: get_spec("keras_resnet21_v1"), "20 or 26"),
        (lambda: get_spec("wrn30_2"), "28 or 34"),
        (lambda: get_spec("resnet5O"), "resnet50"),
        (lambda: get_spec("ResNet18"), "resnet18"),
        (lambda: get_spec("vgg16"), "`resnets models` lists all"),
        (lambda: get_spec(""), "`resnets models` lists all"),
    ],
)
def test_impossible_requests_say_what_is_nearest(ask, hint):
    with pytest.raises(UsageError) as caught:
        ask()
    assert hint in caught.value.hint
