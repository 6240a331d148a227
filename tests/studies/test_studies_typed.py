"""docs/studies.md: its commands as they are typed, on small nets."""

import json
import re
import shlex
import signal
from pathlib import Path

import pytest

from resnets.errors import Stopped
from resnets.studies import landscape

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


@pytest.fixture
def deeper(runs, folder, resnets):
    """Two more, of 56 layers: those that degradation trains."""
    words = (*commands("Degradation")[0], "--scale", "1/100", "--seeds", "1")
    if not (runs / "plain56").exists():
        code, _, err = resnets(*words)
        assert code == 0, err
        for name in ("plain56", "resnet56"):
            (runs / name).symlink_to(f"study-degradation/runs/digits-{name}-2")
    return words


def kept(name):
    return json.loads(Path(f"runs/study-{name}/{name}.json").read_text("utf-8"))


def test_degradation(deeper, resnets):
    _, given = commands("Degradation")
    assert {net["model"] for net in kept("degradation")["numbers"]["models"]} == {
        *("plain20", "plain56", "resnet20", "resnet56")
    }
    weights = sorted(Path("runs/study-degradation/runs").glob("*/seed-0/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    assert len(before) == 4
    code, out, err = resnets(*deeper)
    assert code == 0, err
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert out.splitlines()[:-1] == kept("degradation")["found"]
    code, out, err = resnets(*given)
    assert code == 0, err
    found = kept("degradation")
    assert [net["model"] for net in found["numbers"]["models"]] == [
        *("plain8", "plain56", "resnet8", "resnet56")
    ]
    assert "Their recipes differ" in " ".join(found["made_of"]["assumed"])
    assert Path("runs/study-degradation/degradation.html").read_text("utf-8").count("<svg") == 2
    code, out, err = resnets(*given[:3])
    assert (code, out) == (2, "")
    assert "one model shows nothing of depth" in err


def test_responses(deeper, resnets):
    (words,) = commands("How much a layer changes the signal")
    code, out, err = resnets(*words, "--images", "20")
    assert code == 0, err
    found = kept("responses")
    assert [len(net["layers"]) for net in found["numbers"]["nets"]] == [
        7,
        54,
        7,
        54,
    ]  # stems are 7x7 there
    assert out.splitlines()[:-1] == found["found"]
    assert any(line.startswith("resnet56 has") and "plain56" in line for line in found["found"])


def test_gradients(deeper, resnets):
    fresh, trained = commands("Gradients: do they vanish, or shatter?")
    quick = ("--images", "4", "--draws", "1", "--points", "9")
    code, out, err = resnets(*fresh, *quick)
    assert code == 0, err
    nets = kept("gradients")["numbers"]["nets"]
    assert len(nets) == 14
    assert all(net["correlation"][0] == [0, pytest.approx(1)] for net in nets)
    code, out, err = resnets(*trained[:-2], *quick)
    assert code == 0, err
    found = kept("gradients")
    assert [net["condition"] for net in found["numbers"]["nets"]] == 2 * [
        *("trained", "fresh weights")
    ]
    assert out.splitlines()[:-1] == found["found"]


def test_depth(runs, resnets):
    small = ("--scale", "1/100", "--seeds", "1")
    for words in commands("Stochastic depth"):
        code, out, err = resnets(*words, *small)
        assert code == 0, err
        found = kept("depth")
        assert out.splitlines()[:-1] == found["found"]
    assert [each["survival"] for each in found["numbers"]["survivals"]] == [1, 0.5]
    trained = [f"runs/study-depth/runs/digits-resnet32{name}-2" for name in ("", "-0.5")]
    code, out, err = resnets("study", "depth", *trained)
    assert code == 0, err
    again = kept("depth")["numbers"]["survivals"]
    assert [each["errors"] for each in again] == [
        each["errors"] for each in found["numbers"]["survivals"]
    ]


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


def test_a_landscape_that_is_asked_to_stop_keeps_its_points(runs, tmp_path):
    def stop(done, total):
        signal.raise_signal(signal.SIGTERM)

    given = {"out": tmp_path, "images": 8, "steps": 5, "line": True}
    with pytest.raises(Stopped) as stopped:
        landscape.study([runs / "resnet20"], **given, on_progress=stop)
    assert stopped.value.exit_code == 75
    (points,) = tmp_path.glob("points-*.jsonl")
    first = points.read_text().splitlines()
    assert len(first) == 2
    landscape.study([runs / "resnet20"], **given)
    assert points.read_text().splitlines()[:2] == first
