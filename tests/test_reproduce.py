"""results/reproduce.py: what is there is passed over, or trained again and compared."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "results/reproduce.py"


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


def test_again_trains_and_compares(reproduce, capsys, tmp_path):
    assert reproduce("fast", "--again") == (0, ["resnet20-fast_cifar"])
    out = capsys.readouterr().out
    assert "resnet20-fast_cifar: 91.00 ± 0.40 % here, 90.00 % in results" in out
    assert (tmp_path / "runs/again/resnet20-fast_cifar").exists()
    kept = tmp_path / "results/resnet20-fast_cifar/seeds.json"
    assert json.loads(kept.read_text())["mean"] == 0.9
