"""Classes that are merged, renamed and left out: of every source, in training and evaluation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import tiny_dataset
from resnets.data.classes import changed
from resnets.data.dataset import Dataset, MemoryImages, whole
from resnets.data.digits import open_digits
from resnets.data.folder import open_folder
from resnets.errors import UsageError
from resnets.training.recipe import load_recipe

SHORT = ("schedule.epochs=null", "schedule.iterations=2", "batch_size=8", "data.image_size=16")


def settings(*more: str) -> list[str]:
    return [word for setting in (*SHORT, *more) for word in ("--set", setting)]


def test_names_and_their_order():
    assert changed("abc", {"a": "z", "c": None}) == (("b", "z"), [1, 0, -1])
    assert changed("cab", {"a": "z"}) == (("c", "z", "b"), [0, 1, 2])
    assert changed("abc", {"a": "b", "b": "a"}) == (("a", "b", "c"), [1, 0, 2])  # all at once
    assert changed(["\u00e9", "x"], {"e\u0301": "a"})[0] == ("a", "x")
    with pytest.raises(UsageError, match='no class is called "paprr"') as caught:
        changed(["glass", "paper"], {"paprr": None})
    assert "did you mean paper?" in caught.value.hint


def test_samples_go_with_their_classes():
    digits = open_digits()
    changes = {str(n): "even" if n % 2 == 0 else "odd" for n in range(9)} | {"9": None}
    found = digits.with_classes(changes)
    assert found.classes == ("even", "odd")
    for name, split in digits.parts.items():
        expected = [
            (number, label % 2)
            for number, label in zip(split.ids.tolist(), split.labels.tolist(), strict=True)
            if label != 9
        ]
        other = found.parts[name]
        assert [*zip(other.ids.tolist(), other.labels.tolist(), strict=True)] == expected
    assert found.fingerprint == digits.fingerprint
    assert not found.mirror


def test_sides_and_mirrors():
    hands = replace(tiny_dataset(), classes=("left", "right"), mirror=False)
    assert hands.with_classes({"left": "hand", "right": "none"}).mirror
    assert not replace(hands, classes=("top", "bottom")).with_classes({"top": "up"}).mirror


def test_one_of_several_classes_is_left_out():
    pixels = torch.zeros(3, 8, 8, 3, dtype=torch.uint8)
    truth = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 0]]).bool()
    data = Dataset("x", (*"abcd",), whole(MemoryImages(pixels), truth), None, None, "0", True)
    found = data.with_classes({"a": "b", "c": None})
    assert found.classes == ("b", "d")
    assert found.train.targets.tolist() == [[True, True], [True, False], [False, False]]
    assert found.train.labels.tolist() == [0, 0, 0]


def test_a_merged_folder_is_the_folder_with_merged_folders(photos):
    merged = open_folder(photos, side=16).with_classes({"apple": "fruit", "basil": "fruit"})
    assert merged.classes == ("ceramic", "fruit")
    names = [name.split("/")[0] for name in merged.train.images.names]
    expected = [int(name != "ceramic") for name in names]
    assert merged.train.labels.tolist() == expected


def test_a_run_evaluates_as_it_was_trained(photos, tmp_path, resnets):
    out = tmp_path / "run"
    changes = "data.classes={apple: plant, basil: plant}"
    train = ("train", photos, "--model", "resnet8", "--out", out, *settings(changes))
    code, _, said = resnets(*train)
    assert code == 0
    assert "classes: apple -> plant; basil -> plant" in said
    record = json.loads((out / "run.json").read_text())
    assert record["data"]["classes"] == ["ceramic", "plant"]
    code, said, _ = resnets("evaluate", out, photos, "--json")
    assert code == 0
    found = json.loads(said)
    assert found["split"] == "validation"  # its own data
    assert np.isclose(found["accuracy"], record["results"]["validation"]["accuracy"])
    assert resnets("audit", out)[0] == 0
    # Others have the same classes.
    (photos / "apple").rename(photos / "plant")
    code, said, _ = resnets("evaluate", out, photos, "--json")
    assert code == 0
    assert sum(each["samples"] for each in json.loads(said)["classes"]) == 30
    (photos / "plant").rename(photos / "apple")
    others = changes.replace("plant}", "null}")
    code, _, error = resnets(*train[:-1], others, "--resume", "auto")
    assert code == 2
    assert "data.classes: {'apple': 'plant', 'basil': 'plant'} before" in error


def test_an_evaluation_says_which_classes_training_has_left_out(photos, tmp_path, resnets):
    for name in ("apple", "basil", "ceramic"):
        (tmp_path / "all/test" / name).mkdir(parents=True)
        (tmp_path / "all/train").mkdir(exist_ok=True)
        for path in sorted((photos / name).iterdir())[:4]:
            path.rename(tmp_path / "all/test" / name / path.name)
        (photos / name).rename(tmp_path / "all/train" / name)
    out, data = tmp_path / "run", tmp_path / "all"
    changes = settings("data.classes={basil: null}")
    assert resnets("train", data, "--model", "resnet8", "--out", out, *changes)[0] == 0
    code, said, _ = resnets("evaluate", out, data, "--json")
    assert code == 0
    found = json.loads(said)
    assert found["left_out"]["other_classes"] == {"basil": 4}
    assert sum(each["samples"] for each in found["classes"]) == 8
    assert "4 images of 'basil'" in "".join(resnets("evaluate", out, data)[1:])


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("{aple: null}", "did you mean apple"),
        ("{apple: null, basil: null}", "leaves one class, ceramic"),
        ("{apple: null, basil: null, ceramic: null}", "leaves no class"),
        ("[apple]", "data.classes"),
        ("{apple: [1]}", "data.classes"),
        ('{apple: ""}', "data.classes"),
    ],
)
def test_changes_that_cannot_be_meant(photos, tmp_path, resnets, setting, says):
    changes = settings(f"data.classes={setting}")
    code, _, error = resnets("train", photos, "--out", tmp_path / "run", *changes)
    assert code == 2
    assert says in error
    assert error.count("error:") == 1


def test_numbers_need_no_quotes():
    recipe = load_recipe("default", ["data.classes={1: 2, 3: null}"])
    assert recipe.data.classes == {"1": "2", "3": None}
