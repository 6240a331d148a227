"""The code on docs/backbone.md, run in its order; and the example that it names."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import resnets

pytestmark = pytest.mark.pages

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "backbone.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the file is that the page loads."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = torch.nn.DataParallel(resnets.create_model("resnet50"))
    torch.save(model.state_dict(), "resnet50.pth")
    return tmp_path


def test_the_page(folder, capsys):
    names: dict[str, object] = {}
    printed = ""
    for language, text in BLOCKS:
        if language == "python":
            exec(text, names)  # the page is ours
            printed = capsys.readouterr().out
            for said in re.findall(r"print\(.*?\)  # (.*)", text):
                assert said in printed
        elif language == "text":
            assert printed == text
        else:
            compile(text, str(PAGE), "exec")
    assert {name for name, _ in BLOCKS} == {"python", "text", "py"}


def test_a_decoder_learns_and_gradients_reach_every_level():
    """`examples/segmentation.py`, with a smaller net for fewer steps."""
    path = ROOT / "examples" / "segmentation.py"
    specification = importlib.util.spec_from_file_location("segmentation", path)
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    model, gradients = example.train("resnet8", steps=60)
    assert list(gradients[0]) == ["c1", "c2", "c3", "c4"]
    assert all(1e-6 < norm < 1e3 for step in gradients for norm in step.values())
    scores = example.intersection_over_union(model, *example.scenes(64, seed=10**6))
    # Guessing the one for the other everywhere would give less than a half.
    assert min(scores.values()) > 0.6, scores
