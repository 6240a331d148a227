"""Images that are not square and have more than 8 bits: the same everywhere from training on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exporting.networks import network
from resnets import evaluate, export, open_model, predict, train
from resnets.data import open_dataset
from resnets.data.framing import Frame

BRIGHT = 4095


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """Strips of 12 bits, noise but for a patch in the first third: black or white, the class."""
    folder = tmp_path_factory.mktemp("wide")
    for label, name in enumerate(("black", "white")):
        (folder / name).mkdir()
        for number in range(20):
            random = np.random.default_rng(100 * label + number)
            values = random.integers(1500, 2500, (16, 64)).astype(np.uint16)
            left = random.integers(0, 10)
            values[2:14, left : left + 11] = BRIGHT * label
            Image.fromarray(values).save(folder / name / f"{number}.png")
    return folder


def test_a_crop_does_not_see_it(wide):
    """The middle is the same noise in both classes: nothing could be learnt of it."""
    dataset = open_dataset(wide, frame=Frame(16, 16), channels=1)
    images, _ = dataset.train.batch(dataset.train.ids)
    assert images.min() >= 1500 * 255 // BRIGHT
    assert images.max() <= 2500 * 255 // BRIGHT + 1


@pytest.fixture(scope="module")
def run(wide, tmp_path_factory):
    """A run that sees the strips whole."""
    settings = (
        *("data.fit=pad", "data.image_size=16", "data.holdout=0.2", "augment.padding=0"),
        *("batch_size=8", "optimizer.lr=0.02", "schedule.epochs=8"),
    )
    out = tmp_path_factory.mktemp("runs") / "wide"
    return train(wide, model="resnet8", settings=settings, out=out, quiet=True)


def test_padding_sees_it(run):
    assert run.results["validation"]["samples"] == 8
    assert run.results["validation"]["accuracy"] == 1


def test_what_was_trained_is_what_is_predicted_and_evaluated(run, wide):
    model = open_model(run.path)
    assert (model.preprocess.fit, model.preprocess.range) == ("pad", (0, BRIGHT))
    assert (model.preprocess.resize, model.preprocess.size, model.preprocess.version) == (16, 16, 2)
    again = evaluate(run.path, wide)
    assert again.part == "validation"
    assert again.loss == pytest.approx(run.results["validation"]["loss"], rel=1e-5)
    assert again.accuracy == 1
    files = sorted(wide.rglob("*.png"))
    answers = [answer.classes[0] for answer in predict(run.path, files, batch_size=8)]
    assert answers == [file.parent.name for file in files]


def test_the_opening_lines_say_the_range(wide, tmp_path, capsys):
    settings = ["data.image_size=16", "schedule.iterations=1", "data.range=[0,2000]"]
    train(wide, model="resnet8", settings=settings, out=tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "40 of 40 images lose more than a third of the area to the square" in said
    assert "40 images of more than 8 bits: 12 of 16 bits used (0 to 4095)" in said
    assert "0 becomes black, 2000 white; in 40 images values beyond are clipped" in said


def test_exported_files_do_alike(wide, tmp_path):
    model = network()
    model.preprocess = replace(model.preprocess, resize=16, size=16, fit="pad", range=(0, BRIGHT))
    path = export(model, tmp_path / "x.pt2", to="torch", input="pictures").path
    pictures = [wide / "black" / "0.png", wide / "white" / "0.png"]
    Image.fromarray(np.full((70, 30), 700, np.uint16)).save(tmp_path / "high.tif")
    pictures.append(tmp_path / "high.tif")
    expected = model(model.preprocess(pictures)).softmax(1).detach()
    for picture, row in zip(predict(path, pictures, top=3), expected, strict=True):
        found = dict(zip(picture.classes, picture.probabilities, strict=True))
        assert torch.tensor([found[name] for name in model.classes]).allclose(row, atol=2e-3)
    certificate = json.loads(path.with_name("x.pt2.certificate.json").read_text())
    assert certificate["passed"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["data.fit=pad", "augment.padding=0", "augment.scale=[20,24]"], "augment.scale cuts"),
        (["data.fit=stretch"], "data.fit"),
    ],
)
def test_what_does_not_go_together(resnets, wide, tmp_path, settings, reason):
    words = [word for s in ["data.image_size=16", *settings] for word in ("--set", s)]
    code, _, err = resnets("train", wide, "--model", "resnet8", *words, "--out", tmp_path / "run")
    assert code == 2
    assert reason in err


def test_whole_pictures_of_a_data_set_are_not_cut(resnets, tmp_path):
    words = ("--set", "data.fit=squash", "--set", "data.image_size=16", "--out", tmp_path / "run")
    code, _, err = resnets("train", "digits", "--model", "resnet8", *words)
    assert code == 2
    assert "shows whole images, but those of digits are stored at 32" in err
