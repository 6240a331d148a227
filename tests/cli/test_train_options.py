"""`resnets train`: its options, and what several processes say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from resnets.cli.train import print_run
from resnets.errors import DataError, Stopped
from resnets.machine.device import Machine
from resnets.machine.processes import PeerLost
from resnets.run_folder.directory import RunFolder
from resnets.training import seeds
from resnets.training import train as runs
from resnets.training.run import Run

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
        return Run(Path("runs/it"), RESULTS)

    assert seeds.train is runs.train  # loaded before, lest it keep what stands here meanwhile
    monkeypatch.setattr(runs, "train", train)
    return calls


def test_options_reach_the_run(resnets, asked):
    words = ["digits", "--compile", "--save-every", "2.5", "--device", "cpu", "--set", "seed=3"]
    code, out, _ = resnets("train", *words)
    assert (code, out) == (0, "test accuracy 0.7500 (20 images; 95 % interval 53.1 to 88.8 %)\n")
    assert resnets("train", "digits")[0] == 0
    assert (asked[0]["data"], asked[0]["settings"]) == ("digits", ["seed=3"])
    assert asked[0]["machine"] == Machine(device="cpu", compile=True, save_minutes=2.5)
    assert asked[1]["machine"] == Machine()
    words = ["--cuda-graph", "--checkpointing", "--weights", "a.pth"]
    assert resnets("train", "digits", *words)[0] == 0
    assert asked[2]["machine"] == Machine(cuda_graph=True, checkpointing=True)
    assert asked[2]["weights"] == "a.pth"


@pytest.mark.parametrize("word", ["--capture", "--no-capture"])
def test_an_option_of_earlier_versions_says_its_name_now(resnets, asked, word):
    code, _, err = resnets("train", "digits", word)
    assert code == 0
    assert "--no-capture are called --cuda-graph and --no-cuda-graph now\n" in err
    assert asked[0]["machine"].cuda_graph == (word == "--capture")


def test_an_accuracy_comes_with_what_it_is_worth(capsys):
    """One answer to nearly everything; the names of the classes are a stranger's."""
    scores = {"samples": 36, "loss": 2.0, "accuracy": 11 / 36, "confusion": [[11, 1], [24, 0]]}
    found = Run(Path("runs/it"), RESULTS | {"test": scores}, ("dog", "b\x1b[2J"))
    cautions = [
        "this is no better than always answering b\\x1b[2J (66.7 %)",
        "the model answers dog for 35 of 36 images",
    ]
    print_run(found, as_json=False)
    out = capsys.readouterr().out
    figure = "test accuracy 0.3056 (36 images; 95 % interval 18.0 to 46.9 %)"
    assert out.splitlines() == [figure, *(f"  {line}" for line in cautions)]
    print_run(found, as_json=True)
    assert json.loads(capsys.readouterr().out)["cautions"] == {"test": cautions}


def test_options_reach_every_seed(resnets, photos, tmp_path):
    words = ["--seeds", 2, "--save-every", "1e-9", "--model", "resnet8", "--set", "batch_size=8"]
    words += ["--set", "schedule.epochs=1", "--set", "data.image_size=8", "--out", tmp_path / "all"]
    assert resnets("train", photos, *words, "--set", "augment.padding=1")[0] == 0
    for seed in range(2):
        steps = [path.stem for path in RunFolder(tmp_path / f"all/seed-{seed}").states()]
        assert steps == ["step-00000004", "step-00000003"]  # one after every step


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


def test_states_are_saved_as_often_as_asked(resnets, photos, tmp_path):
    words = ["train", photos, "--model", "resnet8", "--set", "batch_size=8"]
    words += ["--set", "data.image_size=8", "--set", "augment.padding=1"]
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
def test_errors_say_whose_they_are(failing, process, error, rank, count, said):
    process(rank, count)
    assert failing(error) == (error.exit_code, "", said)


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
