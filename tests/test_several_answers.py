"""What a model of several classes answers: in Python, by command, exported, on the page."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import several_dataset
from resnets import evaluate, export, predict, save_weights, train
from resnets.data.preprocess import identity
from resnets.errors import DataError, UsageError
from resnets.models import create_model, open_model
from resnets.run_folder.directory import RunFolder
from resnets.zoo import get_spec

NARROW = replace(get_spec("resnet8"), widths=(4, 8, 16), stem_width=4)
CLASSES = ("lower", "red", "upper")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Return a folder of images with a table of their classes."""
    folder = tmp_path_factory.mktemp("several") / "photos"
    folder.mkdir()
    data, rows = several_dataset(60, 20), ["file,labels,split"]
    for name, split in data.parts.items():
        images = split.images.batch(split.ids).permute(0, 2, 3, 1).numpy()
        for i, (image, true) in enumerate(zip(images, split.truth.tolist(), strict=True)):
            Image.fromarray(image).save(folder / f"{name}{i:02}.png")
            own = [word for word, there in zip(data.classes, true, strict=True) if there]
            rows.append(f"{name}{i:02}.png,{'|'.join(own)},{name}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(photos) -> Path:
    out = photos.parent / "run"
    settings = ["schedule.epochs=2", "batch_size=16", "data.holdout=0.3", "data.image_size=12"]
    train(photos, model=NARROW, settings=settings, out=out, quiet=True)
    return out


@pytest.fixture(scope="module")
def exported(run) -> Path:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return export(run, run.parent / "model.onnx", to="onnx").path


def files(photos: Path) -> list[str]:
    return [str(path) for path in sorted(photos.glob("test*.png"))]


def answered(run: Path, photos: Path) -> dict[str, set[str]]:
    """Return the classes of each test image by the network and its thresholds alone."""
    network = open_model(run)
    assert network.classes == CLASSES
    found = {}
    for file in files(photos):
        with torch.no_grad():
            p = network(network.preprocess([file]))[0].double().sigmoid().tolist()
        levels = zip(CLASSES, p, network.thresholds, strict=True)
        found[file] = {name for name, value, level in levels if value >= level}
    return found


def test_predictions_are_the_classes_above_their_thresholds(run, photos):
    wanted = answered(run, photos)
    for prediction in predict(run, files(photos)):
        assert set(prediction.classes) == wanted[prediction.path]
        assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
    few = [len(prediction.classes) for prediction in predict(run, files(photos), top=1)]
    assert few == [min(1, len(wanted[file])) for file in files(photos)]


def test_an_exported_file_answers_as_its_run(run, exported, photos):
    wanted = answered(run, photos)
    assert {p.path: set(p.classes) for p in predict(exported, files(photos))} == wanted
    ours, theirs = (evaluate(model, photos).to_dict() for model in (run, exported))
    for key in ("samples", "accuracy", "map", "f1_micro", "f1_macro", "loss"):
        assert theirs[key] == pytest.approx(ours[key], abs=1e-5)


def test_evaluation_is_the_runs_own(run, photos):
    found = evaluate(run, photos)
    own = json.loads(RunFolder(run).record.read_text())["results"]["test"]
    values = found.to_dict()
    assert found.part == "test"
    for key in ("samples", "accuracy", "map", "f1_micro", "f1_macro"):
        assert values[key] == pytest.approx(own[key], abs=1e-9)
    assert [each["name"] for each in values["classes"]] == list(CLASSES)
    wanted = answered(run, photos)
    table = list(csv.DictReader((photos / "labels.csv").read_text().splitlines()))
    exact = [
        wanted[str(photos / row["file"])] == set(filter(None, row["labels"].split("|")))
        for row in table
        if row["split"] == "test"
    ]
    assert found.accuracy == pytest.approx(np.mean(exact))


def test_a_table_has_as_many_classes_as_an_image(resnets, run, photos, tmp_path):
    wanted = answered(run, photos)
    out = tmp_path / "answers.csv"
    assert resnets("predict", run, *files(photos), "--out", out)[0] == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    most = max(map(len, wanted.values()))
    assert [name for name in rows[0] if name.startswith("class_")] == [
        f"class_{i}" for i in range(1, most + 1)
    ]
    for row in rows:
        assert {v for k, v in row.items() if k.startswith("class_") and v} == wanted[row["path"]]


def test_the_command_says_when_no_class_is_there(resnets, run, photos, tmp_path):
    network = open_model(run)
    network.thresholds = (1.0,) * 3
    save_weights(network, tmp_path / "silent.safetensors")
    code, out, _ = resnets("predict", tmp_path / "silent.safetensors", files(photos)[0])
    assert (code, out) == (0, f"{files(photos)[0]}   none of its classes\n")


def test_the_page_has_the_classes_and_their_thresholds(run):
    page = RunFolder(run).report.read_text()
    assert "test mAP" in page
    assert "average precision" in page
    assert "Confusion" not in page
    for threshold in open_model(run).thresholds:
        assert f"{threshold:.3f}" in page


def test_a_model_of_one_class_an_image_is_no_match(photos, tmp_path):
    network = create_model(NARROW, num_classes=3)
    network.classes, network.outputs = CLASSES, "softmax"
    network.preprocess = identity(3, 12)
    save_weights(network, tmp_path / "one.safetensors")
    with pytest.raises(DataError, match="an image several classes, and the model answers one of"):
        evaluate(tmp_path / "one.safetensors", photos)
    network.outputs = "sigmoid"
    save_weights(network, tmp_path / "each.safetensors")
    found = evaluate(tmp_path / "each.safetensors", photos)
    assert found.several.thresholds.tolist() == [0.5] * 3
    assert "a class is an answer from a probability of 0.5 on" in " ".join(found.notes)


@pytest.mark.parametrize("thresholds", [(0.5,), (0.1, 0.2, 1.5), (0.1, 0.2, float("nan"))])
def test_thresholds_that_cannot_be_meant_are_refused(tmp_path, thresholds):
    network = create_model(NARROW, num_classes=3)
    network.classes, network.outputs, network.thresholds = CLASSES, "sigmoid", thresholds
    with pytest.raises(UsageError, match="thresholds are no probabilities of 3 classes"):
        save_weights(network, tmp_path / "bad.safetensors")
    assert not (tmp_path / "bad.safetensors").exists()


def test_an_unfinished_run_answers_from_one_half_on(run, photos, tmp_path):
    for name in ("run.json", "data.json", "recipe.yaml"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "state").mkdir()
    state = RunFolder(run).states()[0]
    (tmp_path / "state" / state.name).write_bytes(state.read_bytes())
    network = open_model(tmp_path)
    assert network.outputs == "sigmoid"
    assert network.thresholds == (0.5,) * 3


def test_several_models_of_several_classes(run, exported, photos, tmp_path):
    """Each label by itself: the mean of probabilities, at the mean of thresholds."""
    alone = [evaluate(each, photos) for each in (run, exported)]
    found = evaluate([run, exported], photos, out=tmp_path / "out")
    mean = (alone[0].probabilities + alone[1].probabilities) / 2
    np.testing.assert_allclose(found.probabilities, mean, atol=1e-6)
    values, first = found.to_dict(), alone[0].to_dict()
    assert values["map"] == pytest.approx(first["map"])  # an exported file answers the same
    assert values["accuracy"] == pytest.approx(first["accuracy"])
    targets, p = found.targets, found.probabilities
    assert values["brier"] == pytest.approx(((p - targets) ** 2).mean())
    assert values["log_loss"] == pytest.approx(-np.log(np.where(targets, p, 1 - p)).mean())
    assert [each["brier"] for each in values["classes"]] == pytest.approx(
        ((p - targets) ** 2).mean(0)
    )
    assert values["ece"] == pytest.approx(np.mean([each["ece"] for each in values["classes"]]))
    assert values["members"][1]["against_first"]["difference"] == 0
    levels = [each["threshold"] for each in values["classes"]]
    assert levels == pytest.approx([each["threshold"] for each in first["classes"]])
    again = evaluate([run, exported], photos, out=tmp_path / "out", on_progress=computed_nothing)
    assert again.to_dict() == values
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "mAP on" in page
    assert "average precision" in page


def computed_nothing(done: int, total: int) -> None:
    raise AssertionError("what is kept is not computed again")
