"""The spec: plain data that refuses contradictions."""

import dataclasses
import json

import pytest

from resnets.errors import SpecError, UsageError
from resnets.spec import Spec
from resnets.zoo import ZOO


@pytest.mark.parametrize("name", ZOO)
def test_json_round_trip(name):
    spec = ZOO[name]
    again = Spec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.name == name
    assert hash(again) == hash(spec)


def test_frozen_and_compared_without_the_name():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Spec().block = "bottleneck"
    assert Spec(name="a") == Spec(name="b")
    assert Spec(groups=2, block="bottleneck") != Spec(block="bottleneck")


def test_repr_is_what_differs():
    assert repr(Spec()) == "Spec()"
    assert repr(ZOO["resnet34"]) == "Spec(name='resnet34', depths=(3, 4, 6, 3))"
    assert eval(repr(ZOO["resnet20_b"])) == ZOO["resnet20_b"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block": "botleneck"}, "block is 'botleneck'"),
        ({"shortcut": "E"}, "shortcut is 'E'"),
        ({"depths": (2, 2)}, "2 depths but 4 widths"),
        ({"depths": (2, 0, 2, 2)}, "depths must be positive"),
        ({"depths": ()}, "depths must be positive"),
        ({"num_classes": 0}, "num_classes must be a positive"),
        ({"num_classes": True}, "num_classes must be a positive"),
        ({"in_channels": 1.5}, "in_channels must be a positive"),
        ({"groups": 32}, "need bottleneck blocks"),
        ({"groups": 32, "block": "single"}, "need bottleneck blocks"),
        ({"norm_eps": "small"}, "norm_eps must be a number"),
        ({"drop_path": 1.0}, "drop_path must be at least 0 and below 1"),
        ({"output_stride": 4}, "output_stride is 4"),
        ({"out_channels": (64, 128)}, "4 depths but 2 out_channels"),
        ({"shortcut": "none", "gate": "exclusive"}, "no shortcut to scale, gate or drop out"),
        ({"gate": "exclusive", "shortcut_scale": 0.5}, "one of them"),
        ({"widths": (64, 32, 16, 8), "shortcut": "A"}, "can only add channels"),
        ({"block": "bottleneck", "widths": (48, 96, 192, 384), "width_per_group": 5}, "whole"),
    ],
)
def test_contradictions(fields, message):
    with pytest.raises(SpecError, match=message):
        Spec(**fields)


def test_groups_that_do_not_divide_name_the_nearest():
    with pytest.raises(SpecError) as caught:
        Spec(block="bottleneck", widths=(16, 32, 64, 128), groups=3, width_per_group=9)
    assert caught.value.hint == "nearest that do: 8 and 12"


def test_unknown_field_names_the_nearest():
    with pytest.raises(SpecError, match="unknown field") as caught:
        Spec.from_dict({"shortcuts": "A"})
    assert "shortcut" in caught.value.hint
    assert issubclass(SpecError, UsageError)
    assert issubclass(UsageError, ValueError)


@pytest.mark.parametrize("name", ZOO)
def test_depth_is_the_one_in_the_name(name):
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    # Zagoruyko & Komodakis count the three projections, but not the classifier.
    assert ZOO[name].depth + 2 * name.startswith("wrn") == int(digits[0])


def test_variant_tells_v1_from_v1_5():
    assert "v1.5, bottleneck blocks with the stride on the 3x3" in ZOO["resnet50"].variant
    assert "v1, bottleneck blocks with the stride on the 1x1" in ZOO["resnet50_v1"].variant
    assert "plain" in ZOO["plain20"].variant
