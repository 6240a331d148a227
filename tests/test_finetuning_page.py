"""docs/finetuning.md: the road from photographs in folders to a model, as it is typed."""

import re
import shlex
from pathlib import Path

import pytest

from conftest import coloured, tiny_dataset
from resnets import Machine, train

pytestmark = pytest.mark.pages

PAGE = (Path(__file__).parents[1] / "docs/finetuning.md").read_text("utf-8")
PUBLISHED = "torchvision.IMAGENET1K_V2"


@pytest.fixture
def place(photos, tmp_path, monkeypatch):
    """Where photos/ lies, beside a new image and a run that others' weights stand for."""
    monkeypatch.chdir(tmp_path)
    coloured(1, 77).save("new.jpg")
    settings = ("schedule.iterations=2", "batch_size=8", "augment.padding=1")
    train(
        tiny_dataset(), model="resnet8", settings=settings, out="known", machine=Machine(quiet=True)
    )
    return tmp_path


def test_the_road_can_be_gone(place, resnets):
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    said = {}
    for line in block.replace(PUBLISHED, "known").replace("resnet50", "resnet8").splitlines():
        _, *words = shlex.split(line, comments=True)
        if words[0] == "train":  # as it is typed, but for the length
            words += ["--set", "schedule.epochs=2", "--set", "data.image_size=32"]
        before = {path for path in place.rglob("*") if path.is_file()}
        code, out, err = resnets(*words)
        assert code == 0, (words, err)
        said[line] = out + err
        if "--plan" in words:
            assert {path for path in place.rglob("*") if path.is_file()} == before
    checked, planned, trained, _, predicted = said.values()
    assert "resnets train" in checked  # each message says what comes next
    for words in ("new classifier 64 -> 3", "chosen because a linear classifier", "3 classes"):
        assert words in planned
        assert words in trained
    assert "the classifier alone learns" in planned
    assert "resnets predict runs/photos-resnet8" in trained
    assert (place / "runs/photos-resnet8/report.html").exists()
    assert re.search("apple|basil|ceramic", predicted)
