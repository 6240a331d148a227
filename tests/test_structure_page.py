"""The code, the table, the messages and the picture of docs/structure.md."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from resnets import ResnetsError, create_model, load_weights

pytestmark = pytest.mark.pages

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "structure.md").read_text("utf-8")
BLOCKS = {
    language: re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    for language in ("python", "sh", "text")
}


def test_the_page_and_its_picture(resnets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for text in BLOCKS["python"]:
        exec(text, names)  # the page is ours
    [line] = BLOCKS["sh"][0].splitlines()
    code, out, _ = resnets(*line.split()[1:])
    assert (code, out) == (0, BLOCKS["text"][0])
    monkeypatch.syspath_prepend(DOCS)
    import draw_alignment

    shown = json.loads(resnets(*line.split()[1:], "--json")[1])
    drawn = draw_alignment.drawing(shown["alignment"])
    assert drawn == (DOCS / "pictures" / "alignment.svg").read_text("utf-8")


def third_norm(state):
    return {**state, **{k.replace("bn2", "bn3"): t for k, t in state.items() if ".bn2." in k}}


def slopes(state):
    return {**state, **{f"layer{i}.0.alpha": torch.ones(1) for i in (1, 2, 3)}}


def channelwise(state):
    def branch(*before):
        own = nn.Conv2d(24, 24, 3, groups=24), nn.BatchNorm2d(24)
        return nn.Sequential(*before, *own, nn.Conv2d(24, 24, 1), nn.BatchNorm2d(24))

    def unit():
        before = nn.Conv2d(24, 24, 1), nn.BatchNorm2d(24), nn.ReLU()
        return nn.ModuleDict({"branch1": branch(), "branch2": branch(*before)})

    stem = nn.Sequential(nn.Conv2d(3, 24, 3), nn.BatchNorm2d(24))
    stages = {f"stage{i}": nn.Sequential(unit(), unit()) for i in (2, 3)}
    return nn.ModuleDict({"conv1": stem, **stages, "fc": nn.Linear(24, 10)}).state_dict()


def no_blocks(state):
    layers, inputs = [], 3
    for outputs in (16, 16, 32, 32, 64, 64):
        layers += [nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers).state_dict()


def swapped(state):
    parts = ("conv1.", "bn1.", "conv2.", "bn2.", "downsample.")
    inner = [f"layer{stage}.0.{part}" for stage in (1, 2, 3) for part in parts]
    result = {}
    for module in ["conv1.", "bn1.", *inner, "fc."]:
        theirs = re.sub(r"(?<=0\.bn)\d", lambda number: str(3 - int(number[0])), module)
        for key in state:
            if key.startswith(module):
                result[key.replace(module, theirs).replace("layer", "s")] = state[key]
    return result


def two(state):
    keys = {key: key.replace("layer", "s") for key in state}
    return {f"{side}.{keys[key]}": state[key] for side in ("left", "right") for key in state}


def eight_bits(state):
    return {**state, "layer2.0.conv1.weight": state["layer2.0.conv1.weight"].to(torch.int8)}


CHANGES = [third_norm, slopes, channelwise, no_blocks, swapped, two, eight_bits]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_refused_says_what_the_page_says(change):
    model = create_model("resnet8_b")
    messages = re.findall(r"^\|.*\| `(.*)` \|$", PAGE, re.MULTILINE)
    message = messages[CHANGES.index(change)]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ResnetsError, match=re.escape(message)):
        load_weights(model, change(model.state_dict()))
    assert all(model.state_dict()[key].equal(tensor) for key, tensor in before.items())
