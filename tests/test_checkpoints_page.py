"""The code on docs/checkpoints.md, run in its order: a user's journey."""

import argparse
import os
import re
import shlex
from pathlib import Path

import pytest
import torch

import resnets
from resnets import cli

pytestmark = pytest.mark.pages

PAGE = Path(__file__).parents[1] / "docs" / "checkpoints.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the friend's file and some images are."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = torch.nn.DataParallel(resnets.create_model("resnet50", num_classes=10))
    parameters = [next(model.parameters())]
    checkpoint = {
        "epoch": 89,
        "arch": "resnet50",
        "state_dict": model.state_dict(),
        "best_prec1": torch.tensor(76.1),
        "optimizer": torch.optim.SGD(parameters, 0.1, momentum=0.9).state_dict(),
        "args": argparse.Namespace(lr=0.1),
    }
    torch.save(checkpoint, "model_best.pth.tar")
    from PIL import Image

    Path("photos").mkdir()
    for i in range(2):
        Image.new("RGB", (64, 64), (90 * i, 40, 10)).save(f"photos/{i}.png")
    return tmp_path


def run(line: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(shlex.split(line)[1:])
    return caught.value.code or 0


def test_the_journey(folder, capsys, monkeypatch):
    names: dict[str, object] = {}
    printed = ""
    for language, text in BLOCKS:
        if language == "python":
            exec(text, names)  # the page is ours
            printed = capsys.readouterr().out
            for said in re.findall(r"print\(.*?\)  # (.*)", text):
                for part in said.split("..."):
                    assert part.strip() in printed
        elif language == "text":
            assert printed == text
        elif language == "sh":
            for line in text.splitlines():
                assert run(line) == 0, line
                printed = capsys.readouterr().out
                assert printed
    assert {"detector.pth", "backbone.pth", "resnet50.pth", "own.safetensors"} <= set(os.listdir())
    official = torch.load("resnet50.pth", weights_only=True)
    friends = torch.load("model_best.pth.tar", weights_only=False)["state_dict"]
    assert all(official[key.removeprefix("module.")].equal(friends[key]) for key in friends)
