"""docs/evaluation.md: its commands and its Python, as they are typed."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from conftest import coloured
from exported import export
from resnets import Machine, open_model, train

pytestmark = pytest.mark.pages

PAGE = (Path(__file__).parents[1] / "docs/evaluation.md").read_text("utf-8")
SYNSETS = {"apple": "n07739125", "basil": "n12839979", "ceramic": "n03992703"}


@pytest.fixture
def place(photos, tmp_path, monkeypatch):
    """Where photos/ and more/ lie, beside a run, two seeds and an exported file."""
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(SYNSETS):
        for folder in (Path("more", name), Path("imagenet/val", SYNSETS[name])):
            folder.mkdir(parents=True)
            for number in range(3):
                coloured(label, 50 + number).save(folder / f"{number}.png")
    lines = [f"{synset} {name}\n" for name, synset in SYNSETS.items()]
    Path("words.txt").write_text("".join(lines))
    settings = ("schedule.iterations=2", "batch_size=8", "data.image_size=32")
    for seed in range(2):
        train(
            "photos",
            model="resnet8",
            settings=(*settings, f"seed={seed}"),
            out=f"runs/seeds/seed-{seed}",
            machine=Machine(quiet=True),
        )
    shutil.copytree("runs/seeds/seed-0", "runs/photos")
    export(open_model("runs/photos"), Path("model.onnx"))
    return tmp_path


SMALLER = {"320": "40", "256": "36", "384": "48", "224": "32"}


def smaller(text: str) -> str:
    """Replace the sizes in a command or in code."""
    return re.sub(r"(?<=[=(, ])\d{3}\b", lambda found: SMALLER[found[0]], text)


def type_protocols(resnets):
    """The part about how images are shown, at sizes of the run of these tests."""
    _, block = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    said = []
    for line in block.splitlines():
        _, *words = shlex.split(smaller(line), comments=True)
        code, out, err = resnets(*words, *["--size", "32"] * ("--protocol he" in line))
        assert code == 0, (words, err)
        said.append(out)
    *shown, _, named = said
    assert all("  shown " in out for out in shown)
    for name in re.findall(
        r"`([\w.-]+)`", PAGE.split("| name | what is seen |")[1].split("or each")[0]
    ):
        assert f"\n{name}: " in f"\n{named}" or name == "TenCrop"

    _, code = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict = {}
    exec(f"import resnets\n{smaller(code)}", names)
    assert names["found"].to_dict()["protocol"]["crops"] == 10


def test_what_the_page_types_can_be_typed(place, resnets):
    block, _ = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    said = []
    for line in block.splitlines():
        _, *words = shlex.split(line, comments=True)
        before = set(place.rglob("*"))
        code, out, err = resnets(*words)
        assert code == 0, (words, err)
        said.append(out)
        if "--out" not in words:
            assert set(place.rglob("*")) == before
    plain, figures, own, _, seeds, beside, synsets = said
    assert plain.startswith("all: 9 images, accuracy ")
    table = PAGE.split("## The figures")[1].split("\n## ")[0]
    keys = set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.M))
    named = {word for key in keys for word in re.findall(r"\w+", key)}
    assert named - {"uncalibrated"} <= json.loads(figures).keys()
    assert "measured on the held-out split" in own
    assert "2 models together" in seeds
    assert re.search(r"model\.onnx .*\+0\.00 points", beside)
    assert synsets.startswith("validation: 9 images, accuracy ")
    assert "left out" not in synsets
    record = json.loads((place / "results/seeds/evaluation.json").read_text())
    assert [member["name"] for member in record["members"]] == ["seed-0", "seed-1"]

    code, _ = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict = {}
    exec(code, names)
    assert names["together"].to_dict()["members"] == record["members"]
    assert [f"{names['found'].accuracy:.4f}"] == re.findall(r"accuracy (\S+)", plain)[:1]
    type_protocols(resnets)
