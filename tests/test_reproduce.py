"""results/reproduce.py: what is there is passed over, or trained again and compared."""

import json
import runpy
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import tiny_dataset
from resnets.machine.device import Machine
from resnets.papers.published import Published, Row, Table
from resnets.run_folder.reading import read_run
from resnets.studies.reproduction import reproduce as trained

SCRIPT = Path(__file__).parents[1] / "results/reproduce.py"
KEPT = ("run.json", "recipe.yaml", "metrics.jsonl", "ledger.jsonl")
QUIET = Machine(quiet=True, calibrate=None, false_alarms=0)
PAPER = Published("Tiny 2020", "1", "cifar10", "test", iterations=64_000, recipe="he2015_cifar")
ROW = Row("8 layers", replace(PAPER, model="resnet8", error_percent=9.0))


@pytest.fixture
def reproduce(tmp_path, monkeypatch):
    """Run the script on results of its own, with a training that only says what it found."""
    loaded = runpy.run_path(str(SCRIPT))
    main = loaded["main"]
    kept = tmp_path / "results" / "resnet20-fast_cifar"
    kept.mkdir(parents=True)
    (kept / "seeds.json").write_text(json.dumps({"mean": 0.9, "n": 1}))
    (tmp_path / "results" / "README.md").write_text("")
    trained = []

    def run(trial, runs, device, deadline):
        trained.append(trial.name)
        (runs / trial.name).mkdir(parents=True)
        found = {"mean": 0.91, "sd": 0.004, "n": 3}
        (runs / trial.name / "seeds.json").write_text(json.dumps(found))
        return 0

    monkeypatch.setitem(main.__globals__, "run", run)
    monkeypatch.setitem(main.__globals__, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *words])
        return main(), trained

    return call


def test_what_is_there_is_passed_over(reproduce, capsys):
    assert reproduce("fast") == (0, [])
    assert "already (--again)" in capsys.readouterr().out


def test_a_table_is_kept_as_text_without_places(reproduce, capsys, tmp_path, monkeypatch):
    """Of a tiny run: no weights, none of this machine's paths, and --kept finds it again."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "my runs" / "table"
    command = shlex.join(["resnets", "reproduce", "tiny", "--root", str(tmp_path / "a b")])
    table = Table("tiny.table1", "Tiny nets", "nothing", (ROW,))
    given = {"settings": ("batch_size=8", "data.holdout=10"), "machine": QUIET, "out": out}
    data = replace(tiny_dataset(), name="cifar10")
    made = trained(table, scale="1/32000", data=data, command=command, **given)
    kept = tmp_path / "results/table"
    for _ in range(2):
        assert reproduce("--keep", str(out)) == (0, [])
    assert capsys.readouterr().out.splitlines()[-1] == "kept in results/table"
    files = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    runs = "resnet8-he2015_cifar-2x8-holdout10"
    assert files == {
        *("table.json", "table.md", "table.html", f"{runs}/seeds.json"),
        *(f"{runs}/seed-0/{name}" for name in KEPT),
    }
    for path in files:
        text = (kept / path).read_text("utf-8")
        assert str(tmp_path) not in text, path
    assert "resnets reproduce tiny --root 'a b'" in (kept / "table.md").read_text("utf-8")
    (row,) = made.values()["rows"]
    test = read_run(kept / runs / "seed-0").results.test
    assert [1 - test.accuracy] == list(row["measured"]["errors"])


def test_what_is_no_table_is_not_kept(reproduce, tmp_path, capsys):
    (tmp_path / "resnet20-fast_cifar").mkdir()
    for table in (False, True):
        if table:
            (tmp_path / "resnet20-fast_cifar/table.json").write_text("{}")
        with pytest.raises(SystemExit) as refused:
            reproduce("--keep", str(tmp_path / "resnet20-fast_cifar"))
        assert refused.value.code == 2
    err = capsys.readouterr().err
    assert "has no table.json" in err
    assert "is kept of something else" in err
    assert (tmp_path / "results/resnet20-fast_cifar/seeds.json").exists()


PLACES = {
    "/home/me/nets/a.pth": "a.pth",
    "/home/me/my nets/a b.pth": "a b.pth",
    "not trained here: /home/me/a.pth, torchvision.IMAGENET1K_V1": "not trained here: a.pth, "
    "torchvision.IMAGENET1K_V1",
    "resnets reproduce t --weights-for 'r=/a b/c.pth' --out /x/runs/y": "resnets reproduce t "
    "--weights-for r=c.pth --out y",
    "resnets.train(recipe='/home/me/a b/c.yaml', out='/x/y')": "resnets.train(recipe='c.yaml', "
    "out='y')",
    "runs/results/a": "runs/results/a",
    "1 / 2 of a/b": "1 / 2 of a/b",
}


def test_places_become_names():
    without_places = runpy.run_path(str(SCRIPT))["without_places"]
    assert {text: without_places([{"a": text}])[0]["a"] for text in PLACES} == PLACES


def test_again_trains_and_compares(reproduce, capsys, tmp_path):
    assert reproduce("fast", "--again") == (0, ["resnet20-fast_cifar"])
    out = capsys.readouterr().out
    assert "resnet20-fast_cifar: 91.00 ± 0.40 % here, 90.00 % in results" in out
    assert (tmp_path / "runs/again/resnet20-fast_cifar").exists()
    kept = tmp_path / "results/resnet20-fast_cifar/seeds.json"
    assert json.loads(kept.read_text())["mean"] == 0.9
