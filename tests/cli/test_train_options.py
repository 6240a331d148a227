"""`resnets train`: its options, and what several processes say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import tiny_dataset
from resnets.errors import DataError, Stopped
from resnets.machine.processes import PeerLost
from resnets.training import experiment
from resnets.training import seeds as repetition
from resnets.training import train as runs

RESULTS = {
    "train": {"images_per_second": 100.0},
    "validation": None,
    "test": {"samples": 20, "loss": 0.5, "accuracy": 0.75},
}


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """Collect what `train` is asked for, instead of training."""
    calls = []

    def train(data, **options):
        calls.append({"data": data, **options})
        return experiment.Run(Path("runs/it"), RESULTS)

    monkeypatch.setattr(runs, "train", train)
    return calls


def test_options_reach_the_run(resnets, asked):
    words = ["digits", "--compile", "--save-every", "2.5", "--device", "cpu", "--set", "seed=3"]
    code, out, _ = resnets("train", *words)
    assert (code, out) == (0, "test accuracy 0.7500 (20 pictures; 95 % interval 53.1 to 88.8 %)\n")
    assert resnets("train", "digits")[0] == 0
    assert [asked[0][key] for key in ("data", "compile", "save_minutes", "device", "settings")] == [
        "digits",
        True,
        2.5,
        "cpu",
        ["seed=3"],
    ]
    assert [asked[1][key] for key in ("compile", "save_minutes")] == [False, 10]


def test_an_accuracy_comes_with_what_it_is_worth(resnets, monkeypatch):
    """One answer to nearly everything; the names of the classes are a stranger's."""
    scores = {"samples": 36, "loss": 2.0, "accuracy": 11 / 36, "confusion": [[11, 1], [24, 0]]}
    found = experiment.Run(Path("runs/it"), RESULTS | {"test": scores}, ("dog", "b\x1b[2J"))
    monkeypatch.setattr(runs, "train", lambda *_, **__: found)
    cautions = [
        "this is no better than always answering b\\x1b[2J (66.7 %)",
        "the model answers dog for 35 of 36 pictures",
    ]
    _, out, _ = resnets("train", "digits")
    figure = "test accuracy 0.3056 (36 pictures; 95 % interval 18.0 to 46.9 %)"
    assert out.splitlines() == [figure, *(f"  {line}" for line in cautions)]
    assert json.loads(resnets("train", "digits", "--json")[1])["cautions"] == {"test": cautions}


def test_options_reach_every_seed(resnets, monkeypatch):
    calls = []

    def train(data, model, recipes, outs, **options):
        calls.append({"model": model, "outs": outs, **options})
        raise DataError("enough", hint="none")

    monkeypatch.setattr(repetition, "train_side_by_side", train)
    words = ["--seeds", 2, "--compile", "--save-every", 3, "--resume", "auto", "--model", "resnet8"]
    assert resnets("train", "digits", *words)[0] == 3
    assert [calls[0][key] for key in ("compile", "save_minutes", "resume", "model")] == [
        True,
        3,
        True,
        "resnet8",
    ]
    assert calls[0]["outs"] == [Path("runs/digits-resnet8-seeds/seed-0")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--save-every", "0"], "states cannot be 0 minutes apart"),
        (["--save-every", "-1"], "states cannot be -1 minutes apart"),
        (["--save-every", "nan"], "states cannot be nan minutes apart"),
        (["--seeds", "0"], "0 seeds are none"),
        (["--seeds", "2", "--resume", "runs/x"], "runs/x is one run"),
    ],
)
def test_what_cannot_be_meant(resnets, asked, words, said):
    code, out, err = resnets("train", "digits", *words)
    assert (code, out, asked) == (2, "", [])
    assert err.startswith(f"error: {said}")
    assert err.splitlines()[1].startswith(" hint: ")


def test_states_are_saved_as_often_as_asked(resnets, monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "open_dataset", lambda *_, **__: tiny_dataset())
    words = ["train", "digits", "--model", "resnet8", "--set", "batch_size=8"]
    words += ["--set", "schedule.epochs=2", "--set", "data.holdout=0"]
    assert resnets(*words, "--save-every", "1e-9", "--out", tmp_path / "often")[0] == 0
    assert resnets(*words, "--out", tmp_path / "seldom")[0] == 0
    states = [
        sorted(p.name for p in (tmp_path / n / "state").iterdir()) for n in ("often", "seldom")
    ]
    epoch = json.loads((tmp_path / "seldom/ledger.jsonl").read_text().splitlines()[0])["steps"]
    assert states[0] == [f"step-{step:08d}.safetensors" for step in (2 * epoch - 1, 2 * epoch)]
    assert states[1] == [f"step-{step:08d}.safetensors" for step in (epoch, 2 * epoch)]


@pytest.fixture
def process(monkeypatch):
    """Be one process of several, as torchrun has them."""

    def become(rank, count):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(count))

    return become


def raising(error):
    def train(*_, **__):
        raise error

    return train


@pytest.mark.parametrize(
    ("error", "rank", "count", "said"),
    [
        (Stopped("stopped", hint="go on"), 0, 2, "stopped\n hint: go on\n"),
        (Stopped("stopped", hint="go on"), 1, 2, ""),
        (DataError("no data", hint="give some"), 0, 1, "error: no data\n hint: give some\n"),
        (DataError("no data", hint="x"), 0, 2, "rank 0: error: no data\n hint: x\n"),
        (DataError("no data"), 3, 4, "rank 3: error: no data\n"),
        (PeerLost("another is gone"), 1, 2, f"rank 1: another is gone ({PeerLost().hint})\n"),
    ],
)
def test_errors_say_whose_they_are(resnets, monkeypatch, process, error, rank, count, said):
    monkeypatch.setattr(runs, "train", raising(error))
    process(rank, count)
    assert resnets("train", "digits") == (error.exit_code, "", said)


def test_only_the_first_process_prints_results(resnets, asked, process):
    process(1, 2)
    assert resnets("train", "digits") == (0, "", "")
    assert resnets("train", "digits", "--json") == (0, "", "")
    process(0, 2)
    assert resnets("train", "digits")[1].startswith("test accuracy")
    assert json.loads(resnets("train", "digits", "--json")[1])["results"] == RESULTS


@pytest.mark.parametrize("command", ["train", "audit"])
def test_help_is_light(command):
    code = (
        "import sys; from resnets.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy', 'safetensors', 'yaml'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, command, "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert f"Examples:\n    resnets {command} " in result.stdout
