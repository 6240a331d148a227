"""docs/studies.md: lesions, paths and landscapes as they are typed, on small nets."""

import json
import re
import shlex
from pathlib import Path

import pytest

pytestmark = pytest.mark.pages

PAGE = (Path(__file__).parents[2] / "docs/studies.md").read_text("utf-8")
SHORT = ("schedule.iterations=40", "batch_size=32", "data.holdout=0.2", "augment.padding=2")


def commands(title):
    """Return the commands of a section, as words after the program's name."""
    section = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, re.S | re.M)[1]
    lines = re.search(r"```sh\n(.*?)```", section, re.S)[1].splitlines()
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.fixture
def runs(folder, monkeypatch, resnets):
    """A residual and a plain net on digits, under the names that the page has."""
    monkeypatch.chdir(folder)
    for name, model in (("resnet20", "resnet8"), ("plain20", "plain8")):
        if not (folder / "runs" / name).exists():
            settings = [word for setting in SHORT for word in ("--set", setting)]
            out = ("--model", model, "--out", f"runs/{name}")
            code, _, err = resnets("train", "digits", *settings, *out)
            assert code == 0, err
    return folder / "runs"


def kept(name):
    return json.loads(Path(f"runs/study-{name}/{name}.json").read_text("utf-8"))


def test_lesion(runs, resnets):
    (words,) = commands("Without some of its blocks")
    code, out, err = resnets(*words, "--draws", "2")
    assert code == 0, err
    found = kept("lesion")
    assert out.splitlines()[:-1] == found["found"]
    assert found["made_of"]["command"] == f"resnets {shlex.join(words)} --draws 2"
    page = Path("runs/study-lesion/lesion.html").read_text("utf-8")
    assert page.count("<svg") == 2  # no two blocks of nets as small as these can change places
    for net, name in zip(found["numbers"]["nets"], ("resnet20", "plain20"), strict=True):
        code, out, err = resnets("evaluate", f"runs/{name}", "digits", "--json")
        assert code == 0, err
        assert net["error"] == 1 - json.loads(out)["accuracy"]
    assert [row["error"] is None for row in net["dropped"]] == [False, True, True]


def test_paths(runs, resnets):
    (words,) = commands("Which paths carry the gradient")
    code, out, err = resnets(*words, "--images", "20")
    assert code == 0, err
    (net,) = kept("paths")["numbers"]["nets"]
    assert net["paths"] == [1, 3, 3, 1]
    assert sum(net["share"]) == pytest.approx(1)
    assert sum(net["contribution"]) == pytest.approx(1)
    code, out, err = resnets("study", "paths", "runs/plain20")
    assert (code, out) == (2, "")
    assert "plain8: has no shortcuts, and so one path" in err


def test_landscape(runs, resnets):
    own, square, line = commands("The loss around a net")
    small = ("--images", "64")
    code, out, err = resnets(*square, *small, "--steps", "5")
    assert code == 0, err
    folder = Path("runs/study-landscape")
    before = kept("landscape")
    assert [len(net["losses"]) for net in before["numbers"]["nets"]] == [5, 5]
    page = (folder / "landscape.html").read_text("utf-8")
    assert page.count("<svg") == 4
    for file in folder.glob("points-*.jsonl"):  # as after a kill
        lines = file.read_text("utf-8").splitlines(keepends=True)
        file.write_text("".join(lines[:12]) + lines[12][:7], "utf-8")
    code, out, err = resnets(*square, *small, "--steps", "5")
    assert code == 0, err
    assert kept("landscape") == before
    assert (folder / "landscape.html").read_text("utf-8") == page
    code, out, err = resnets(*line[:-1], "7", *small)
    assert code == 0, err
    for net, whole in zip(
        kept("landscape")["numbers"]["nets"], before["numbers"]["nets"], strict=True
    ):
        assert [len(row) for row in net["losses"]] == [7]
        assert net["centre"] == whole["centre"]
    code, out, err = resnets(*own, *small, "--steps", "5", "--out", "own")
    assert code == 0, err
    nets = json.loads(Path("own/landscape.json").read_text("utf-8"))["numbers"]["nets"]
    assert [net["name"] for net in nets] == ["resnet20", "plain20"]
    code, out, err = resnets(*square, "--steps", "20")
    assert (code, out) == (2, "")
    assert "hint: --steps 21" in err
