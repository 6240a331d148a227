"""The weights that come with the package: whole, honest about themselves, and usable offline."""

import json

import pytest

from conftest import coloured
from resnets import create_model
from resnets.errors import UsageError
from resnets.weights.native import understand
from resnets.weights.shipped import DEFAULT, FOLDER, names, shipped
from resnets.weights.tensors import read_tensors

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def metadata():
    files = sorted(FOLDER.iterdir())
    return {path.stem: understand(path, *read_tensors(path))[1] for path in files}


def test_resnet20_for_cifar():
    model = create_model("resnet20", weights="cifar10")
    assert model.classes == CIFAR
    assert model.spec.name == "resnet20"
    assert model.preprocess.size == 32
    other = create_model("resnet20", weights="cifar10", num_classes=3)
    assert other.fc.out_features == 3
    assert other.conv1.weight.equal(model.conv1.weight)


def test_all_metadata_say_how_the_weights_were_made(metadata):
    assert set(metadata) == {"resnet20.cifar10"}
    made = metadata["resnet20.cifar10"].made
    assert made["recipe"]["name"] == "fast_cifar"
    assert made["data"]["name"] == "cifar10"
    assert made["data"]["train"] == 50_000
    assert made["results"]["test"]["samples"] == 10_000
    assert made["results"]["test"]["accuracy"] >= 0.9125  # the paper's resnet20


def test_names():
    assert names("resnet20") == ["cifar10"]
    assert names("resnet2") == []
    assert shipped(*DEFAULT).stat().st_size < 1.2e6
    with pytest.raises(UsageError, match='no weights of resnet20 are called "cifar"') as caught:
        create_model("resnet20", weights="cifar")
    assert "did you mean cifar10?" in caught.value.hint


def test_predict_needs_nothing_but_a_picture(tmp_path, resnets):
    coloured(0, 0).save(tmp_path / "photo.png")
    code, out, err = resnets("predict", tmp_path / "photo.png", "--json")
    assert code == 0
    (answer,) = json.loads(out)
    assert {row["class"] for row in answer["predictions"]} <= set(CIFAR)
    assert "resnet20 for cifar10, which comes with the package" in err
    code, _, err = resnets("predict", "runs/none")
    assert code == 2
    assert "there is no image to look at" in err
