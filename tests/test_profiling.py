"""Counts against published and independently computed ones."""

import csv
import re
from functools import cache
from pathlib import Path

import pytest
import torch

import resnets
from every_model import each_model, marks
from resnets.nn import ResNet
from resnets.zoo import ZOO

profile = cache(resnets.profile)  # many tests look at the same nets

ROWS = list(
    csv.DictReader((Path(__file__).parent / "reference/counts.csv").read_text().splitlines())
)
GOLDEN = list(
    csv.DictReader((Path(__file__).parent / "reference/zoo.csv").read_text().splitlines())
)
COUNTS = [row for row in ROWS if row["model"] in ZOO]
# They take seconds each.
DEEPEST = ("resnet1202", "resnet1202_b", "resnet1202_c", "resnet1001_v2", "keras_resnet1001_v2")


def cases(rows):
    names = [row["model"] for row in rows]
    return [
        pytest.param(row, id=name, marks=marks(name, name not in DEEPEST))
        for row, name in zip(rows, names, strict=True)
    ]


def test_every_published_count_is_tested():
    assert COUNTS == ROWS


@pytest.mark.parametrize("row", cases(GOLDEN))
def test_golden_counts(row):
    """Every zoo entry; `make table` rewrites the file, and a review looks at what changed."""
    cost = profile(row["model"])
    assert (cost.parameters, cost.macs) == (int(row["parameters"]), int(row["macs"]))


def test_golden_counts_cover_the_zoo():
    assert [row["model"] for row in GOLDEN] == list(ZOO)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("resnet50d", 25_576_264),  # timm
        ("se_resnet50", 28_088_024),  # timm
        ("eca_resnet50d", 25_576_350),  # timm
        ("wrn28_10", 36_479_194),  # Zagoruyko & Komodakis 2016, Table 4: 36.5M
        ("wrn40_4", 8_949_210),  # 8.9M
        ("resnet18_cifar", 11_173_962),  # the common CIFAR repositories
        ("keras_applications_resnet50", 25_583_592),  # Keras: 25,636,712 less 53,120 statistics
        ("keras_applications_resnet50_v2", 25_568_360),  # Keras: 25,613,800 less 45,440
    ],
)
def test_counts_of_other_sources(model, parameters):
    assert profile(model).parameters == parameters


@pytest.mark.parametrize(
    "depth", [20, 32, 44, 56, 110, pytest.param(1202, marks=marks("resnet1202_c", default=False))]
)
def test_options_b_and_c_by_formula(depth):
    """Option B adds two projections with batch norm; option C one more for every other block."""
    a, b, c = (profile(f"resnet{depth}{option}") for option in ("", "_b", "_c"))
    n = (depth - 2) // 6
    widths = (16, 32, 64)
    grown = [(16, 32), (32, 64)]
    assert b.parameters - a.parameters == sum(i * o + 2 * o for i, o in grown)
    same = [(w, n if w == 16 else n - 1) for w in widths]
    assert c.parameters - b.parameters == sum(count * (w * w + 2 * w) for w, count in same)
    maps = {16: 32 * 32, 32: 16 * 16, 64: 8 * 8}
    assert b.macs - a.macs == sum(i * o * maps[o] for i, o in grown)
    assert c.macs - b.macs == sum(count * w * w * maps[w] for w, count in same)


@pytest.mark.parametrize("row", cases(COUNTS))
def test_counts_equal_the_published(row):
    measured = profile(row["model"])
    assert measured.parameters == int(row["parameters"])
    if row["macs"]:
        assert measured.macs == int(row["macs"])
    assert sum(stage.parameters for stage in measured.stages) == measured.parameters


@pytest.mark.parametrize(
    ("model", "activations"),  # pycls, dev/model_complexity.json
    [
        ("resnet50", 11_315_688),
        ("resnet101", 16_433_640),
        ("resnet152", 22_755_816),
        ("resnext50_32x4d", 14_602_216),
        ("plain56", 532_490),
        ("resnet56_b", 544_778),
        ("resnet110_b", 1_060_874),
    ],
)
def test_activations_equal_pycls(model, activations):
    assert profile(model).activations == activations


def test_receptive_field_by_hand():
    # Three stages of three blocks of two 3x3 convolutions: 1 + 2 (stem) + 6*2*1 (stage one)
    # + 2*1 + 5*2*2 (stage two: its first convolution still steps by 1) + 2*2 + 5*2*4.
    assert profile("resnet20").receptive_field == 1 + 2 + 12 + 2 + 20 + 4 + 40
    assert profile("resnet50_v1").receptive_field == 483  # Araujo et al. 2019, Table 1


def test_options_change_the_counts():
    assert profile("resnet20", num_classes=100).parameters - 269_722 == 90 * 65
    assert profile("resnet20", in_channels=1).parameters == 269_722 - 2 * 16 * 9
    assert profile("resnet20", image_size=64).macs == 4 * (40_551_040 - 640) + 640


def test_stage_table_of_resnet50():
    stages = {stage.name: stage for stage in profile("resnet50").stages}
    assert list(stages) == ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert stages["layer3"].output == (1024, 14, 14)
    assert stages["layer3"].blocks == 6
    assert stages["layer3"].layers == "1x1, 256; 3x3, 256; 1x1, 1024"
    assert stages["conv1"].layers == "7x7, 64, stride 2; 3x3 max-pool, stride 2"


@pytest.mark.parametrize("depth", [18, 34, 20, 32, 44, 56, 110])
def test_plain_nets_have_the_parameters_of_option_a(depth):
    """Zero-padding costs nothing (He et al. 2015, sec. 3.3)."""
    option_a = f"resnet{depth}_a" if depth in (18, 34) else f"resnet{depth}"
    plain, residual = profile(f"plain{depth}"), profile(option_a)
    assert (plain.parameters, plain.macs) == (residual.parameters, residual.macs)


@pytest.mark.parametrize("depth", [50, 101, 152, 200])
def test_v1_and_v1_5_cost_the_same_parameters_and_other_macs(depth):
    paper, usual = profile(f"resnet{depth}_v1"), profile(f"resnet{depth}")
    assert paper.parameters == usual.parameters
    assert paper.macs < usual.macs


@pytest.mark.parametrize("name", each_model())
def test_the_depth_in_the_name_is_the_number_of_weighted_layers(name):
    """On the main path; Zagoruyko & Komodakis count three projections and not the classifier."""
    with torch.device("meta"):
        modules = dict(ResNet(ZOO[name]).named_modules())
    weighted = [n for n in modules if re.fullmatch(r"conv1|layer\d\.\d+\.conv\d|fc", n)]
    projections = [n for n in modules if n.endswith("downsample.0")]
    found = len(weighted) + (len(projections) - 1 if name.startswith("wrn") else 0)
    assert found == int(re.search(r"\d+", name)[0])
