"""docs/trust.md: its commands, as they are typed."""

import json
import re
import shlex
from pathlib import Path

import pytest

from conftest import coloured

pytestmark = pytest.mark.pages

PAGE = (Path(__file__).parents[1] / "docs/trust.md").read_text("utf-8")
SHORT = ("--set", "schedule.epochs=1", "--set", "data.image_size=32", "--model", "resnet8")


def _commands(title):
    """Return the commands of a section, without what they say."""
    section = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, re.S | re.M)[1]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_calibration(photos, monkeypatch, resnets):
    monkeypatch.chdir(photos.parent)
    for place, words in enumerate(_commands("Calibrated probabilities")):
        code, out, err = resnets(*words, *SHORT, "--out", f"run-{place}")
        assert code == 0, err
        said = "calibrated: " in out or "probabilities are as they come" in out
        assert said == ("--no-calibrate" not in words)


def test_label_sets(photos, monkeypatch, resnets):
    monkeypatch.chdir(photos.parent)
    run = ["--set", "data.holdout=0.5", "--out", "runs/photos-resnet18"]
    assert resnets("train", photos, *SHORT, *run)[0] == 0
    Path("new").symlink_to(photos)
    coloured(0, 0).save("new.jpg")
    for words in _commands("Label sets"):
        code, out, err = resnets(*words)
        assert code == 0, err
        assert "--out" in words or re.search(r"   {.*}$", out)
    assert "label_set" in Path("new.csv").read_text("utf-8").splitlines()[0]


def test_label_errors(photos, monkeypatch, resnets):
    monkeypatch.chdir(photos.parent)
    coloured(0, 50).save(photos / "basil/wrong.png")
    searched, applied, trained = _commands("Label errors")
    run = ("--out", "runs/photos-resnet18", "--set", "augment.padding=2")
    settings = ("--set", "schedule.epochs=6", "--set", "data.image_size=32", "--model", "resnet8")
    code, _, err = resnets("train", "photos", *settings, *run, "--set", "batch_size=8")
    assert code == 0, err
    code, out, err = resnets(*searched, "--folds", "2")
    assert (code, "basil/wrong.png" in out) == (0, True), err
    table = photos.parent / "runs/photos-resnet18/suspects/suspects.csv"
    table.write_text(re.sub(r"(basil/wrong.png,.*),$", r"\1,x", table.read_text(), flags=re.M))
    code, out, err = resnets(*applied)
    assert (code, "1 label changed" in out) == (0, True), err
    code, _, err = resnets(*trained, *SHORT, "--out", "again")
    assert code == 0, err
    again = json.loads(Path("again/run.json").read_text())["data"]
    first = json.loads(Path("runs/photos-resnet18/run.json").read_text())["data"]
    assert (again["train"], again["validation"]) == (first["train"], first["validation"])
    assert again["fingerprint"] != first["fingerprint"]


def test_none_of_these_and_new_images(photos, monkeypatch, resnets):
    monkeypatch.chdir(photos.parent)
    trained, predicted = _commands("None of these")
    run = ("--set", "data.holdout=20", "--out", "runs/photos-resnet18")
    code, out, err = resnets(*trained, *SHORT, *run)
    assert (code, "answers are marked unknown" in out) == (0, True), err
    coloured(0, 0).save("bridge.jpg")
    code, out, err = resnets(*predicted, "--json")
    assert (code, type(json.loads(out)[0]["unknown"])) == (0, bool), err
    Path("photos-of-june").symlink_to(photos)
    (compared,) = _commands("Do new images differ?")
    code, out, err = resnets(*compared)
    assert (code, "Nothing shows that the new images differ" in out) == (0, True), err
    assert Path("runs/photos-resnet18/new-images.html").exists()
