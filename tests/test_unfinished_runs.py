"""A run that has not ended is of use: every command reads its newest state, and says so."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import resnets as package
from resnets.errors import CheckpointError
from resnets.training.recipe import load_recipe
from resnets.training.train import train

SETTINGS = ("schedule.epochs=2", "batch_size=8", "data.image_size=16", "data.holdout=6")
KINDS = {"last": (), "average": ("ema=0.9",), "best": ("selection=best",)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """For each kind of weights that a run may keep, a finished run, and it without its end."""
    folder = tmp_path_factory.mktemp("runs")
    generator = np.random.default_rng(0)
    for name in ("ash", "elm"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            picture = generator.integers(0, 255, (18, 18, 3)).astype(np.uint8)
            picture[..., 0] //= 1 + (name == "ash")
            Image.fromarray(picture).save(folder / "photos" / name / f"{number}.png")
    for kind, settings in KINDS.items():
        recipe = load_recipe("default", [*SETTINGS, *settings])
        train(folder / "photos", model="resnet8", recipe=recipe, out=folder / kind, quiet=True)
        stopped = folder / f"{kind}-stopped"
        shutil.copytree(folder / kind, stopped)
        (stopped / "model.safetensors").unlink()
        become(stopped, "stopped")
    return folder


def become(run: Path, status: str, **changes) -> None:
    """Let run.json say that a run is at another place of its life."""
    record = json.loads((run / "run.json").read_text()) | {"status": status, **changes}
    (run / "run.json").write_text(json.dumps(record))


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_what_finishing_would_keep(runs, kind, capsys):
    finished = package.open_model(runs / kind)
    capsys.readouterr()
    before = everything_in(runs / f"{kind}-stopped")
    found = package.open_model(runs / f"{kind}-stopped")
    said = capsys.readouterr().err
    assert everything_in(runs / f"{kind}-stopped") == before
    assert said.startswith(f"{runs / kind}-stopped was stopped at step 6 of 6: its newest state")
    assert ("average" in said, "best" in said) == (kind == "average", kind == "best")
    assert (found.spec, found.classes) == (finished.spec, finished.classes)
    assert found.preprocess == finished.preprocess
    for name, tensor in finished.state_dict().items():
        assert found.state_dict()[name].equal(tensor), name


def test_every_command_takes_it(runs, resnets, tmp_path):
    run, photos = runs / "last-stopped", runs / "photos"
    picture = photos / "ash" / "0.png"
    commands = {
        "predict": ["predict", run, picture],
        "evaluate": ["evaluate", run, photos, "--json"],
        "features": ["features", picture, "--model", run, "--out", tmp_path / "page.html"],
        "embed": ["embed", photos, "--model", run, "--out", tmp_path / "t.npz"],
        "export": ["export", run, "--to", "torch", "--out", tmp_path / "m.pt2"],
    }
    outs = {}
    for name, words in commands.items():
        code, outs[name], err = resnets(*words)
        assert code == 0, err
        said = f"{run} was stopped at step 6 of 6: its newest state is used"
        assert err.splitlines().count(said) == 1, name
    finished = json.loads(resnets("evaluate", runs / "last", photos, "--json")[1])
    assert finished.pop("label_sets")  # the end of a run fits them
    assert json.loads(outs["evaluate"]) == finished
    assert json.loads(outs["evaluate"])["split"] == "validation"  # the run's own held-out split
    record = json.loads((tmp_path / "m.pt2.certificate.json").read_text())
    assert record["network"]["unfinished"] == {"step": 6, "steps": 6, "weights": "model"}
    assert "was stopped at step 6" in resnets("inspect", run)[1]
    model = package.create_model("resnet8", num_classes=2)
    assert any("was stopped at" in note for note in package.load_weights(model, run).notes)


def test_a_run_that_goes_on_and_a_state_by_name(runs, tmp_path, capsys):
    run = shutil.copytree(runs / "last-stopped", tmp_path / "run")
    states = sorted((run / "state").glob("*.safetensors"))
    become(run, "running", progress={})
    package.open_model(run)
    assert "run has not ended, last saved at step 6: its newest state is used" in (
        capsys.readouterr().err
    )
    older = package.open_model(states[0])
    assert f"its state {states[0].name} is used" in capsys.readouterr().err
    with torch.no_grad():
        assert not older.fc.weight.equal(package.open_model(run).fc.weight)
    states[-1].write_bytes(states[-1].read_bytes()[:-7])  # damaged: the one before is used
    capsys.readouterr()
    assert package.open_model(run).fc.weight.equal(older.fc.weight)
    said = capsys.readouterr().err
    assert f"its state {states[0].name}, as one that is newer cannot be read ({states[1]}: " in said


def test_a_flipped_bit_of_a_state_is_found_wherever_it_lies(runs, resnets, tmp_path):
    run = shutil.copytree(runs / "last-stopped", tmp_path / "run")
    state = max((run / "state").iterdir())
    alone = tmp_path / "alone.safetensors"
    shutil.copy(state, alone)
    for file in (run, state, alone):
        code, out, _ = resnets("verify", file)
        assert (code, "whole: " in out, "each with its SHA-256" in out) == (0, True, True)
    content = bytearray(state.read_bytes())
    content[-1000] ^= 1
    for file in (state, alone):
        file.write_bytes(content)
    for words in (["verify", run], ["verify", state], ["verify", alone], ["inspect", state]):
        code, out, err = resnets(*words)
        assert (code, "damaged: optimizer/momentum_buffer/layer" in out + err) == (4, True), words
    code, _, err = resnets("inspect", alone, "--container", "model")
    assert (code, "does not have its SHA-256" in err, "hint: copy" in err) == (4, True, True)


def test_states_of_a_finished_run(runs, resnets, tmp_path, capsys):
    run = shutil.copytree(runs / "last", tmp_path / "run")
    last, earlier = sorted((run / "state").glob("*.safetensors"), reverse=True)
    unfinished = {"step": 3, "steps": 6, "weights": "model"}
    for state, step, said in ((last, 6, {}), (earlier, 3, {"unfinished": unfinished})):
        out = tmp_path / f"{step}.safetensors"
        code, _, err = resnets("export", state, "--to", "safetensors", "--out", out)
        assert code == 0
        assert f"has finished; saved at step {step} of 6: its state {state.name} is used" in err
        record = json.loads((tmp_path / f"{out.name}.certificate.json").read_text())
        assert {k: v for k, v in record["network"].items() if k == "unfinished"} == said


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("failed", "the run has failed before its first state"),
        ("stopped", "the run was stopped before its first state"),
        ("running", "the run is before its first state"),
        ("finished", "its model.safetensors is gone, and its states are too"),
    ],
)
def test_a_run_without_a_state(runs, resnets, tmp_path, status, message):
    run = shutil.copytree(runs / "last-stopped", tmp_path / "run")
    shutil.rmtree(run / "state")
    (run / "metrics.jsonl").unlink()
    become(run, status)
    code, _, err = resnets("predict", run, runs / "photos" / "ash" / "0.png")
    assert code == 4
    assert message in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_states_that_are_lost_are_not_said_to_be_resumable(runs, resnets, tmp_path, damage):
    run = shutil.copytree(runs / "last-stopped", tmp_path / "run")
    for state in (run / "state").iterdir():
        state.write_bytes(state.read_bytes()[:-9])
        if damage == "removed":
            state.unlink()
    code, _, err = resnets("predict", run, runs / "photos" / "ash" / "0.png")
    assert (code, len(err.splitlines())) == (4, 2)
    assert "damaged" in err if damage == "cut" else "its states are gone" in err
    assert "--resume" not in err
    assert resnets("train", "--resume", run)[0] == 4


def test_damage_is_said(runs, resnets, tmp_path):
    run = shutil.copytree(runs / "last-stopped", tmp_path / "run")
    lone = tmp_path / "state" / "step-00000006.safetensors"
    lone.parent.mkdir()
    shutil.copy(run / "state" / lone.name, lone)
    with pytest.raises(CheckpointError, match="a state alone does not say") as caught:
        package.open_model(lone)
    assert "run folder" in caught.value.hint
    for text in ("", "[]", '{"data": 3}', '{"status": "stopped", "model": {"spec": {}}}'):
        (run / "run.json").write_text(text)
        code, _, err = resnets(
            "embed", runs / "photos", "--model", run, "--out", tmp_path / "t.npz"
        )
        assert (code, "damaged" in err, len(err.splitlines())) == (4, True, 2), text


def test_a_run_of_an_earlier_version_does_not_know_its_preprocessing(runs, resnets, tmp_path):
    run = shutil.copytree(runs / "last-stopped", tmp_path / "run")
    (run / "data.json").write_text('{"skipped": []}')
    words = ["predict", run, runs / "photos" / "ash" / "0.png"]
    code, _, err = resnets(*words)
    assert (code, "--preprocess" in err) == (4, True)
    assert resnets(*words, "--preprocess", "mean=0.5 std=0.2")[0] == 0
