"""Any model on any labelled images: what is counted, what is said, what is refused."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import resnets as package
from conftest import coloured, scramble
from exported import convert, export, metadata
from resnets import create_model, evaluate, predict, save_weights
from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError, DataError, UsageError

NAMES = ("ash", "birch", "cedar", "doum", "elm", "fir", "ginkgo")
PREPARED = Preprocess(3, 18, 16, (0.5,) * 3, (0.25,) * 3)


def network(names=NAMES, outputs: int = len(NAMES)):
    torch.manual_seed(0)
    model = scramble(create_model("resnet8", num_classes=outputs, image_size=16)).eval()
    model.preprocess, model.classes, model.outputs = PREPARED, tuple(names), "softmax"
    pictures = [coloured(label, number, 20) for label in range(7) for number in range(3)]
    with torch.no_grad():  # so that it does not answer one class to everything
        model.fc.bias -= model(PREPARED(pictures)).mean(0)
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same network in every kind of file."""
    folder = tmp_path_factory.mktemp("models")
    model = network()
    save_weights(model, folder / "model.safetensors")
    onnx = export(model, folder / "model.onnx")
    convert(onnx, folder / "model.xml", json.dumps(metadata(model)))
    export(model, folder / "model.pt2")
    return folder


def trees(root: Path, counts: dict[str, int]) -> Path:
    """A folder with so many images in each class folder; the names may be paths."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            coloured(label, number, 20).save(root / name / f"{number}.png")
    return root


def right(model, root: Path) -> dict[str, tuple[int, int]]:
    """By the answers to each image alone: how many of each class there are, and are right."""
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        answers = [next(predict(model, file)).classes[0] for file in sorted(folder.glob("*.png"))]
        found[folder.name] = (len(answers), answers.count(folder.name))
    return found


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "model.xml", "model.pt2"])
def test_every_kind_of_model_counts_what_it_answers(files, tmp_path, name):
    """Two classes are missing, one is empty and one is not the model's."""
    counts = {"ash": 3, "birch": 4, "cedar": 0, "elm": 5, "ginkgo": 1, "yew": 2}
    root = trees(tmp_path / "more", counts)
    (root / "elm" / "9.png").write_text("no image")
    (root / "readme.txt").write_text("no image either")
    coloured(0, 0).save(root / "loose.png")
    found = evaluate(files / name, root)
    expected = right(network(), trees(tmp_path / "sound", counts))
    values = found.to_dict()
    seen = {c["name"]: (c["samples"], c["right"]) for c in values["classes"] if c["samples"]}
    assert seen == {name: expected[name] for name in ("ash", "birch", "elm", "ginkgo")}
    assert found.accuracy == sum(hits for _, hits in seen.values()) / 13
    assert len(set(found.predicted.tolist())) > 1
    assert values["split"] == "all"
    assert values["without_pictures"] == ["cedar", "doum", "fir"]
    assert values["left_out"]["other_classes"] == {"yew": 2}
    assert values["left_out"]["broken"] == [
        {"path": "elm/9.png", "reason": "is text, not an image"}
    ]
    assert values["left_out"]["outside_of_classes"] == 1
    assert found.sentences() == [
        "2 images of 'yew', which the model does not have, are left out",
        "1 image is left out, such as elm/9.png: is text, not an image",
        "1 image outside of the class folders is left out",
        "no images of 3 of the model's 7 classes: cedar, doum, fir",
    ]


def test_loss_and_top5_are_those_of_the_logits(tmp_path, files):
    root = trees(tmp_path / "t", dict.fromkeys(NAMES[:6], 2))
    model, pictures = network(), sorted(root.rglob("*.png"))
    with torch.no_grad():
        logits = model(PREPARED(pictures)).double()
    labels = torch.tensor([NAMES.index(path.parent.name) for path in pictures])
    for name in ("model.onnx", "model.safetensors"):
        found = evaluate(files / name, root)
        loss = torch.nn.functional.cross_entropy(logits, labels).item()
        assert found.loss == pytest.approx(loss, rel=1e-4)
        best = logits.topk(5).indices
        assert found.top5 == int((best == labels[:, None]).any(1).sum())
        confidence = logits.softmax(1).amax(1).numpy()
        np.testing.assert_allclose(found.confidence, confidence, rtol=1e-3)


@pytest.mark.parametrize(
    ("counts", "part", "samples"),
    [
        ({"ash": 2}, "all", 2),
        ({"test/ash": 2, "test/birch": 1}, "test", 3),
        ({"val/ash": 2, "val/elm": 1}, "validation", 3),
        ({"train/ash": 4, "train/birch": 1, "test/ash": 2}, "test", 2),
        ({"train/ash": 4, "valid/birch": 1, "misc/ash": 3}, "validation", 1),
        ({"Testing/birch": 1, "Training/birch": 2}, "test", 1),
        ({"ash": 1, "test/inside": 2}, "all", 1),  # a class folder called as a part is
        ({"ash/spring": 2, "ash/autumn": 1}, "all", 3),
    ],
)
def test_layouts(files, tmp_path, counts, part, samples):
    found = evaluate(files / "model.onnx", trees(tmp_path / "photos", counts))
    assert (found.part, len(found.labels)) == (part, samples)
    missing = "no images of" if part == "all" else f"no images in the {part} split of"
    assert found.sentences()[-1].startswith(missing)
    in_torch = evaluate(files / "model.safetensors", tmp_path / "photos")
    assert in_torch.confusion == found.confusion
    assert in_torch.part == part


def test_a_part_is_chosen(files, tmp_path):
    root = trees(tmp_path / "photos", {"train/ash": 3, "train/elm": 1, "val/ash": 1, "test/elm": 2})
    for part, samples in (("train", 4), ("validation", 1), ("test", 2)):
        for name in ("model.onnx", "model.safetensors"):
            found = evaluate(files / name, root, split=part)
            assert (found.part, len(found.labels)) == (part, samples)
    with pytest.raises(UsageError, match="no split"):
        evaluate(files / "model.onnx", root, split="tset")
    (tmp_path / "one" / "ash").mkdir(parents=True)
    with pytest.raises(DataError, match="has no validation split"):
        evaluate(files / "model.onnx", tmp_path / "one", split="validation")


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
@pytest.mark.parametrize(
    ("counts", "message", "hint"),
    [
        ({"Ash": 1, "yew": 1}, "the images are of Ash, yew; the model knows ash", "'ash'"),
        ({"birch ": 1}, "the images are of birch ;", "'birch ' may be the model's 'birch'"),
        ({"2024/ash": 1, "2025/ash": 1}, "are of 2024, 2025", "folders"),
        ({"ash": 0, "elm": 0}, "no images in its class folders", "images"),
        ({}, "no class folders", "names of folders"),
    ],
)
def test_what_cannot_be_meant_is_refused(files, tmp_path, name, counts, message, hint):
    root = trees(tmp_path / "photos", counts)
    root.mkdir(exist_ok=True)
    with pytest.raises(DataError) as caught:
        evaluate(files / name, root)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_only_names_that_differ_are_listed(files, tmp_path):
    """Not two lists that are cut before they differ."""
    names = [f"class {i:02}" for i in range(20)]
    model = network(names, 20)
    found = evaluate(model, trees(tmp_path / "a", dict.fromkeys((*names[:-1], "class 99"), 1)))
    assert found.strange == (("class 99", 1),)
    assert found.absent == ("class 19",)


def test_a_folder_of_a_class_is_told_from_one_of_classes(files, tmp_path):
    root = trees(tmp_path / "photos", {"ash": 2})
    with pytest.raises(DataError) as caught:
        evaluate(files / "model.onnx", root / "ash")
    assert str(root) in caught.value.hint
    assert evaluate(files / "model.onnx", root).accuracy in (0, 0.5, 1)


def test_unicode_forms_of_a_name_are_one(tmp_path):
    model = network(("frêne", "hêtre"), 2)
    root = trees(tmp_path / "photos", {"fre\u0302ne": 2, "hêtre": 1})
    found = evaluate(model, root)
    assert found.counts == [2, 1]


@pytest.mark.parametrize(
    ("folders", "labels", "assumed"),
    [
        (("0", "2", "6"), (0, 2, 6), False),
        (("00", "01", "02", "03", "04", "05", "06"), range(7), False),
        (("5",), (5,), False),
        (("a", "b", "c", "d", "e", "f", "g"), range(7), True),
    ],
)
def test_without_class_names(tmp_path, folders, labels, assumed):
    root = trees(tmp_path / "photos", dict.fromkeys(folders, 1))
    found = evaluate(network(names=()), root)
    assert sorted(found.labels.tolist()) == list(labels)
    assert len(found.notes) == assumed
    if assumed:
        assert "in alphabetical order" in found.notes[0]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("a", "b"), "nothing in the model's file names its 7 outputs, and the data has 2 classes"),
        (("1", "2", "3", "4", "5", "6", "7"), "numbers up to 7, the model's outputs are 0 to 6"),
        (("0", "1", "b"), "the data has 3 classes"),
    ],
)
def test_without_class_names_or_a_way_to_tell(tmp_path, folders, message):
    root = trees(tmp_path / "photos", dict.fromkeys(folders, 1))
    with pytest.raises(DataError) as caught:
        evaluate(network(names=()), root)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_named_set_in_its_own_order(tmp_path):
    """What owners of foreign checkpoints need: its classes have no names, digits' are numbers."""
    torch.manual_seed(0)
    model = scramble(create_model("resnet8", image_size=8, in_channels=1))
    torch.save(model.state_dict(), tmp_path / "foreign.pth")
    opened = package.open_model(tmp_path / "foreign.pth", "resnet8")
    with pytest.raises(CheckpointError, match="how images must be prepared"):
        evaluate(opened, "digits")
    opened.preprocess = Preprocess(1, 8, 8, (0.3,), (0.4,))
    found = evaluate(opened, "digits")
    assert (found.part, found.counts) == ("test", [36, 36, 36, 36, 37, 36, 36, 36, 35, 36])


def test_the_command(resnets, files, tmp_path):
    root = trees(tmp_path / "photos", {"ash": 3, "yew": 1})
    code, out, err = resnets("evaluate", files / "model.onnx", root)
    first, *rest = out.splitlines()
    assert (code, err) == (0, "")
    assert first.startswith("all: 3 images, accuracy ")
    assert "  1 image of 'yew', which the model does not have, is left out" in rest
    code, out, _ = resnets("evaluate", files / "model.safetensors", root, "--json")
    assert json.loads(out)["left_out"]["other_classes"] == {"yew": 1}
    code, _, err = resnets("evaluate", files / "model.onnx", root, "--model", "resnet8")
    assert (code, "leave out --model" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [
        ("mean=0.49,0.48,0.45 std=0.2,0.21,0.22", (0.49, 0.48, 0.45), (0.2, 0.21, 0.22)),
        ("mean=0 std=1", (0.0,) * 3, (1.0,) * 3),
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_preparations_for_foreign_checkpoints(resnets, tmp_path, text, mean, std):
    torch.save(network().state_dict(), tmp_path / "foreign.pth")
    root = trees(tmp_path / "photos", {str(i): 1 for i in range(7)})
    words = ["evaluate", tmp_path / "foreign.pth", root, "--model", "resnet8"]
    assert resnets(*words)[0] == 4
    code, out, err = resnets(*words, "--preprocess", text, "--json")
    assert code == 0, err
    model = package.open_model(tmp_path / "foreign.pth", "resnet8")
    size = model.spec.image_size
    model.preprocess = Preprocess(3, size, size, mean, std)
    assert math.isclose(json.loads(out)["loss"], evaluate(model, root).loss, rel_tol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        *("caffe", "mean=0.5", "mean=0.5 std=0", "mean=1,2 std=1", "mean=125 std=60", "a=b"),
        *("mean=0.5 std=0.5 size=big", "mean=nan std=1", "mean=0.5 std=1 crop=3"),
    ],
)
def test_preparations_that_are_none(resnets, files, tmp_path, text):
    root = trees(tmp_path / "photos", {"ash": 1})
    words = ["evaluate", files / "model.safetensors", root, "--preprocess", text]
    code, _, err = resnets(*words)
    assert (code, len(err.splitlines())) == (2, 2)


def test_exported_files_need_no_torch(files, tmp_path):
    root = trees(tmp_path / "photos", {"ash": 3, "elm": 1})
    code = "import sys; sys.modules['torch'] = None\nfrom resnets.cli import main\nmain()"
    words = [sys.executable, "-c", code, "evaluate", str(files / "model.onnx"), str(root), "--json"]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["samples"] == 4


def test_the_runs_own_pictures_keep_their_parts(files, tmp_path):
    """A run's held-out split is that of the run, for its exported file as well."""
    root = trees(tmp_path / "photos", dict.fromkeys(NAMES, 4))
    from resnets.data import open_dataset

    dataset = open_dataset(root, side=18)
    made = {
        "data": {
            "fingerprint": dataset.fingerprint,
            "source": str(root),
            "train": 21,
            "validation": 7,
            "test": 0,
            "skipped": 0,
        },
        "recipe": {"data": {"holdout": 0.25, "split_seed": 0, "broken": "error"}},
    }
    model = network()
    save_weights(model, tmp_path / "run.safetensors", made=made)
    text = json.dumps({**metadata(model), "made": made})
    export(model, tmp_path / "run.onnx", text)
    found = [evaluate(tmp_path / name, root) for name in ("run.safetensors", "run.onnx")]
    assert [(f.part, len(f.labels)) for f in found] == [("validation", 7)] * 2
    assert found[0].confusion == found[1].confusion
    held = (
        "measured on the held-out split of the data that the model was trained on: 7 of 28 images"
    )
    assert [f.sentences() for f in found] == [[held]] * 2
    learnt = evaluate(tmp_path / "run.onnx", root, split="train")
    assert learnt.sentences() == [
        "measured on the very images that the model was trained on: 21 of 28 images"
    ]
    coloured(0, 77).save(root / "ash" / "new.png")
    for name in ("run.safetensors", "run.onnx"):
        changed = evaluate(tmp_path / name, root)
        assert (changed.part, len(changed.labels)) == ("all", 29)
        assert "has changed since the model was trained on it" in changed.notes[0]
