"""The catalogue: every row is whole, fits its model, and is found or explained."""

import json
import string
import subprocess
import sys

import pytest

from resnets.data.preprocess import Preprocess
from resnets.errors import UsageError
from resnets.spec import Spec
from resnets.weights import catalog
from resnets.zoo import ALIASES, ZOO

ENTRIES = catalog.entries()


def test_a_name_is_looked_up_for_the_model():
    entry = catalog.find("resnet50", "torchvision.IMAGENET1K_V2")
    assert entry.files[0].address == "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
    assert entry.files[0].sha256.startswith("11ad3fa6")
    assert (entry.preprocess["resize"], entry.preprocess["size"]) == (232, 224)
    assert entry.accuracy["top1"] == 80.858
    assert entry.classes[0] == "tench"
    assert len(entry.classes) == 1000
    other = catalog.find("resnet18", "torchvision.IMAGENET1K_V1")
    assert other.files[0].name == "resnet18-f37072fd.pth"


def test_the_names_that_are_promised():
    for model in ("resnet18", "resnet34", "resnet101", "wide_resnet50_2", "resnext101_64x4d"):
        assert catalog.find(model, "torchvision.IMAGENET1K_V1").model == model
    for tag in ("a1_in1k", "a2_in1k", "a3_in1k", "gluon_in1k", "tv_in1k", "tv2_in1k", "ra_in1k"):
        assert catalog.find("resnet50", f"timm.{tag}").files[-1].name == "model.safetensors"
    for alias, tag in (
        ("seresnet50", "ra2_in1k"),
        ("ecaresnet50d", "miil_in1k"),
        ("resnetv2_50", "a1h_in1k"),
    ):
        assert catalog.find(ALIASES[alias], f"timm.{tag}")
    assert catalog.find("resnet110", "akamaster.cifar10").changes == {"zero_pad": "both"}
    assert len(catalog.find("resnet56_b", "chenyaofo.cifar100").classes) == 100
    assert catalog.find("keras_applications_resnet50_v2", "keras.imagenet").files[0].sha256 == ""


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_every_row_is_whole(entry):
    spec = ZOO[entry.model]
    classes = {"imagenet": 1000, "cifar10": 10, "cifar100": 100}[entry.class_set]
    assert spec.num_classes in (classes, 10)
    trained = Spec.from_dict({**spec.to_dict(), "num_classes": classes, **entry.changes})
    preprocess = Preprocess.from_dict(dict(entry.preprocess))
    assert preprocess.channels == trained.in_channels
    assert len(entry.classes) == len(set(entry.classes)) or entry.class_set == "imagenet"
    assert len(entry.classes) == trained.num_classes
    assert entry.interpolation in ("bilinear", "bicubic")
    assert entry.channel_order in ("rgb", "bgr")
    assert entry.source
    if entry.accuracy:
        assert 60 < entry.accuracy["top1"] < entry.accuracy.get("top5", 100) <= 100
    for file in entry.files:
        assert file.address.startswith("https://")
        assert file.name
        algorithm, _, digits = file.digest.partition(":")
        length = {"sha256": (8, 64), "md5": (32,), "": (0,)}[algorithm]
        assert len(digits) in length
        assert set(digits) <= set(string.hexdigits.lower())
        if algorithm == "sha256":  # what is published is in the name, and nothing else is claimed
            assert f"-{digits[:8]}." in file.name


def test_no_two_rows_have_the_same_name():
    names = [str(entry) for entry in ENTRIES]
    assert len(names) == len(set(names)) > 100


def test_what_the_caffe_nets_were_fed():
    """Blue, green, red in 0..255 minus a mean: as red, green, blue in 0..1, exactly that."""
    entry = catalog.find("resnet50_v1", "detectron2.MSRA")
    assert entry.channel_order == "bgr"
    mean, std = entry.preprocess["mean"], entry.preprocess["std"]
    for m, s, value in zip(mean, std, (123.675, 116.28, 103.53), strict=True):
        assert (200 / 255 - m) / s == pytest.approx(200 - value, abs=1e-6)


def test_a_file_is_recognised_by_its_digest():
    whole = "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"
    entry = catalog.by_digest(whole.upper())
    assert str(entry) == "torchvision.IMAGENET1K_V1 of resnet50"
    assert catalog.by_digest("0676ba61" + "0" * 56) is None  # all digits are known: all must agree
    assert str(catalog.by_digest("4118986f" + "0" * 56)) == "chenyaofo.cifar10 of resnet20_b"
    assert catalog.by_digest("0" * 64) is None


def test_patterns():
    assert {e.name for e in catalog.entries("akamaster*")} == {"akamaster.cifar10"}
    assert {e.model for e in catalog.entries("resnet18")} == {"resnet18"}
    assert catalog.entries("nothing*") == []


@pytest.mark.parametrize(
    ("model", "name", "said"),
    [
        ("resnet50", "torchvision.IMAGENET1K_V3", "did you mean torchvision.IMAGENET1K_V2"),
        ("resnet50", "timm.a1in1k", "timm.a1_in1k"),
        ("resnet18", "torchvision.IMAGENET1K_V2", "not for resnet18"),
        ("resnet18", "torchvision.IMAGENET1K_V2", "torchvision.IMAGENET1K_V1"),
        ("resnet50", "detectron2.MSRA", "for resnet50_v1, resnet101_v1"),
        ("plain20", "torchvision.IMAGENET1K_V1", "there are none for plain20"),
        ("resnet20", "chenyaofo.cifar10", "akamaster.cifar10"),
    ],
)
def test_an_unknown_name_lists_what_there_is(model, name, said):
    with pytest.raises(UsageError) as caught:
        catalog.find(model, name)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_class_names():
    assert catalog.class_names("cifar10")[3] == "cat"
    assert list(catalog.class_names("cifar100")) == sorted(catalog.class_names("cifar100"))
    with pytest.raises(UsageError, match="imagenet, cifar10"):
        catalog.class_names("imagenet21k")


def test_one_line_for_each_row():
    """So that a change of the file can be read."""
    lines = catalog.DATA.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith('  {"name"') for line in lines) == len(ENTRIES)
    assert json.loads(catalog.DATA.read_text(encoding="utf-8"))


def test_it_needs_no_torch():
    code = (
        "import sys, resnets.weights.catalog, resnets.weights.fetch; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
