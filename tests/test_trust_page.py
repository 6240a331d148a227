"""docs/trust.md: its commands, as they are typed."""

import re
import shlex
from pathlib import Path

from conftest import coloured

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
