"""Trackers: told of each epoch once, whatever happens to a run; and no run minds what they do."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from runs import NARROW, left

from conftest import signal_at, tiny_dataset
from resnets.errors import Stopped, UsageError
from resnets.run_folder.directory import RunFolder
from resnets.training.recipe import load_recipe
from resnets.training.tracking import PATIENCE, config_of
from resnets.training.train import train

SETTINGS = ("schedule.epochs=3", "batch_size=8", "data.holdout=10", "optimizer.lr=0.05")
RECIPE = load_recipe("default", SETTINGS)
# A wandb that writes down what it is told, and then fails or hangs as it is asked to.
WANDB = """
import json, os, time

def told(call, **what):
    path = os.environ["CALLS"]
    with open(path, "a") as file:
        file.write(json.dumps({"call": call, "pid": os.getpid(), **what}) + "\\n")
    with open(path) as file:
        count = len(file.readlines())
    print("chatter that belongs into the log")
    if str(count) == os.environ.get("RAISES_AT"):
        raise RuntimeError("no route\\nto host")
    if call == os.environ.get("HANGS_IN"):
        time.sleep(600)

class Settings(dict):
    pass

class Run:
    def __init__(self, id):
        self.id, self.summary = id, self
    def log(self, metrics, step):
        told("log", step=step, metrics=metrics)
    def update(self, values):
        told("summary", values=values)
    def finish(self, exit_code):
        told("finish", code=exit_code)

def init(id, config, name, **options):
    told("init", id=id, config=config, name=name)
    return Run(id or "7f")
"""


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """Put this wandb where it is found, and return what it is told."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "wandb.py").write_text(WANDB)
    monkeypatch.syspath_prepend(library)
    paths = [str(library), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls.jsonl"))

    def calls() -> list[dict]:
        path = tmp_path / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return calls


def run(out: Path, quiet: bool = True, **options):
    options = {"model": NARROW, "recipe": RECIPE, "out": out, **options}
    return train(tiny_dataset(26, side=12), quiet=quiet, device="cpu", **options)


def digests(out: Path) -> dict:
    kept = left(out)
    return {key: kept[key] for key in ("weights", "state", "metrics", "ledger", "status")}


@pytest.fixture(scope="module")
def untracked(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("untracked") / "run"
    run(out)
    return digests(out)


def test_it_is_told_of_each_epoch_once_and_of_the_end(tmp_path, wandb, untracked, capsys):
    run(tmp_path / "run", track="wandb", quiet=False)
    init, *logs, summary, finish = wandb()
    assert [log["step"] for log in logs] == [2, 4, 6]
    assert digests(tmp_path / "run") == untracked
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [log["metrics"]["train/loss"] for log in logs] == [row["train_loss"] for row in rows]
    assert set(logs[0]["metrics"]) >= {"lr", "train/accuracy", "validation/accuracy", "seconds"}
    assert (init["name"], init["id"]) == ("run", None)
    assert init["config"]["optimizer.lr"] == 0.05
    assert init["config"]["data.train.count"] == 16
    assert (summary["values"]["status"], finish["code"]) == ("finished", 0)
    results = RunFolder(tmp_path / "run").read_record().results
    assert summary["values"]["results/test/accuracy"] == results.test.accuracy
    for secret in (str(tmp_path), os.uname().nodename, str(Path.home()), sys.executable):
        assert secret not in json.dumps(wandb())
    out, err = capsys.readouterr()
    assert err.count("wandb: tracked as 7f\n") == 1
    assert "chatter" not in out + err
    assert "chatter" in (tmp_path / "run/tracking/wandb.log").read_text()


@pytest.mark.parametrize("call", [1, 3, 6])
def test_one_that_raises_is_said_once_and_changes_nothing(
    tmp_path, wandb, untracked, monkeypatch, capsys, call
):
    monkeypatch.setenv("RAISES_AT", str(call))
    run(tmp_path / "run", track=("wandb",), quiet=False)
    assert len(wandb()) == call
    assert digests(tmp_path / "run") == untracked
    told = "wandb: failed, and the run goes on without it: RuntimeError: no route to host\n"
    assert capsys.readouterr().err.count(told) == 1


def test_one_that_hangs_at_the_end_is_left(tmp_path, wandb, untracked, monkeypatch, capsys):
    monkeypatch.setenv("HANGS_IN", "finish")
    run(tmp_path / "run", track=("wandb",), quiet=False)
    assert digests(tmp_path / "run") == untracked
    assert "wandb: is not done yet; it goes on for at most 2 minutes" in capsys.readouterr().err
    os.kill(wandb()[-1]["pid"], signal.SIGKILL)
    assert PATIENCE <= 5


def test_one_that_dies_without_a_word(tmp_path, wandb, untracked, capsys):
    (tmp_path / "library/wandb.py").write_text("import os\nos.abort()\n")
    run(tmp_path / "run", track=("wandb",), quiet=False)
    assert digests(tmp_path / "run") == untracked
    assert "wandb: has ended by itself (exit code -6)" in capsys.readouterr().err


def test_a_resumed_run_goes_on_in_the_same_tracked_run(tmp_path, wandb, untracked):
    for step in (2, 1):  # after three steps, and after two more: within the second epoch, the third
        with signal_at(step), pytest.raises(Stopped):
            run(tmp_path / "run", track=("wandb",), resume="auto")
    run(tmp_path / "run", track=("wandb",), resume="auto")
    calls = wandb()
    assert [call["id"] for call in calls if call["call"] == "init"] == [None, "7f", "7f"]
    assert [call["step"] for call in calls if call["call"] == "log"] == [2, 4, 6]
    assert [call["code"] for call in calls if call["call"] == "finish"] == [1, 1, 0]
    ends = [call["values"]["status"] for call in calls if call["call"] == "summary"]
    assert ends == ["stopped", "stopped", "finished"]
    kept = json.loads((tmp_path / "run/tracking/wandb.json").read_text())
    assert kept == {"id": "7f", "step": 6}
    assert digests(tmp_path / "run") == untracked


def test_a_run_begun_anew_is_another_tracked_run(tmp_path, wandb):
    for _ in range(2):
        run(tmp_path / "run", track=("wandb",), overwrite=True)
    assert [call["id"] for call in wandb() if call["call"] == "init"] == [None, None]


def test_one_that_is_not_installed_is_said_before_training(tmp_path, capsys, untracked):
    missing = [name for name in ("wandb", "mlflow", "trackio") if find_spec(name) is None]
    if not missing:
        pytest.skip("all are installed")
    run(tmp_path / "run", track=missing[:1], quiet=False)
    lines = capsys.readouterr().err.splitlines()
    said = f'{missing[0]} is not installed, and not told: pip install "resnets[{missing[0]}]"'
    assert lines.index(said) < next(i for i, line in enumerate(lines) if "epoch 1/3" in line)
    assert not (tmp_path / "run/tracking").exists()
    assert digests(tmp_path / "run") == untracked


def test_a_name_that_no_tracker_has(tmp_path):
    with pytest.raises(UsageError, match='no tracker is called "wandbs"') as caught:
        run(tmp_path / "run", track="wandbs")
    assert "wandb" in caught.value.hint
    assert not (tmp_path / "run").exists()


# The real ones, where they are installed, without a network.


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    run(out)
    return out


def installed(*names: str) -> None:
    """Skip the test where one is not; they are not imported here, as they warn of much."""
    if missing := [name for name in names if find_spec(name) is None]:
        pytest.skip(f"{missing[0]} is not installed")


def follow(name: str, folder: Path, **settings: str) -> str:
    """Let a tracker look at a run twice, as two sessions would; return its id."""
    (folder / "tracking").mkdir(exist_ok=True)
    whole = RunFolder(folder).metrics.read_text()
    for lines in (1, 3):
        RunFolder(folder).metrics.write_text("".join(whole.splitlines(keepends=True)[:lines]))
        words = [sys.executable, "-P", "-m", "resnets.training.tracking", name, str(folder)]
        done = subprocess.run(
            words, input=b"", capture_output=True, env={**os.environ, **settings}, timeout=300
        )
        assert done.returncode == 0, done
    kept = json.loads((folder / "tracking" / f"{name}.json").read_text())
    assert kept["step"] == 6
    return kept["id"]


def test_wandb_offline(tmp_path, finished):
    installed("wandb")
    name = follow("wandb", finished, WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    parts = sorted(tmp_path.glob(f"wandb/offline-run-*-{name}/run-{name}.wandb"))
    assert len(parts) == 2  # of one id, which `wandb sync` puts together
    assert b"optimizer.lr" in parts[0].read_bytes()
    assert b"results/test/accuracy" in parts[1].read_bytes()


def test_mlflow_in_a_file(tmp_path, finished):
    installed("mlflow", "sqlalchemy")
    name = follow("mlflow", finished, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    folder = RunFolder(finished)
    config = config_of(folder, folder.read_record())
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        found = database.execute("select run_uuid, name, status from runs").fetchall()
        parameters = dict(database.execute("select key, value from params").fetchall())
        rows = "select step from metrics where key = 'train/loss' order by step"
        steps = database.execute(rows).fetchall()
    assert found == [(name, "run", "FINISHED")]
    assert parameters == {key: str(value) for key, value in config.items()}
    assert steps == [(2,), (4,), (6,)]


def test_trackio_on_this_machine(tmp_path, finished):
    installed("trackio")
    name = follow("trackio", finished, TRACKIO_DIR=str(tmp_path), TRACKIO_PROJECT="mine")
    with sqlite3.connect(tmp_path / "mine.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by step")
        found = [(run, step, json.loads(values)) for run, step, values in rows]
    assert {run for run, _, _ in found} == {name}
    assert [step for _, step, values in found if "train/loss" in values] == [2, 4, 6]
