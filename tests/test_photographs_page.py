"""docs/photographs.md: from photographs in folders to a classifier, as it is typed."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from conftest import coloured, tiny_dataset
from resnets import Machine, train

pytestmark = pytest.mark.pages

PAGE = (Path(__file__).parents[1] / "docs/photographs.md").read_text("utf-8")


def test_the_ten_minutes_can_be_gone(photos, tmp_path, monkeypatch, resnets):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "more")
    coloured(1, 77).save("new.jpg")
    settings = ("schedule.iterations=2", "batch_size=8", "augment.padding=1")
    train(
        tiny_dataset(), model="resnet8", settings=settings, out="known", machine=Machine(quiet=True)
    )
    blocks = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.S))
    blocks = blocks.replace("torchvision.IMAGENET1K_V1", "known").replace("resnet18", "resnet8")
    said = {}
    for line in blocks.splitlines():
        _, *words = shlex.split(line, comments=True)
        if words[0] == "train":  # as it is typed, but for the length
            words += ["--set", "schedule.epochs=2", "--set", "data.image_size=32"]
        code, out, err = resnets(*words)
        assert code == 0, (words, err)
        said[tuple(words[:2])] = out + err
    assert "30" in said["data", "check"]
    assert "95 % interval" in said["evaluate", "runs/photos-resnet8"]
    assert re.search("apple|basil|ceramic", said["predict", "runs/photos-resnet8"])
    for made in ("runs/photos-resnet8/report.html", "seen.html", "runs/padded/run.json"):
        assert (tmp_path / made).exists()
