"""The audit: what an honest run proves, and that nothing else passes."""

import hashlib
import json
import shutil
import struct
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import at_step, signal_at, tiny_dataset
from resnets.data.holdout import divide
from resnets.data.order import epoch_order
from resnets.errors import CheckpointError, Stopped
from resnets.run_folder.ledger import Ledger
from resnets.training import audit as auditing
from resnets.training.audit import audit
from resnets.training.recipe import load_recipe
from resnets.training.train import train

RECIPE = load_recipe(
    "default", ["schedule.iterations=12", "batch_size=8", "data.holdout=10", "optimizer.lr=0.05"]
)  # epochs of five steps


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run that was stopped once, killed once, and finished."""
    path = tmp_path_factory.mktemp("finished") / "run"
    with signal_at(3), pytest.raises(Stopped):
        run(path)
    kept = []

    def killed():
        kept.append((path / "run.json").read_bytes())
        raise SystemExit(9)

    with at_step(5, killed), pytest.raises(SystemExit):
        run(path)
    (path / "run.json").write_bytes(kept[0])  # a killed process writes nothing more
    run(path)
    return path


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def run(path, *, recipe=RECIPE, data=None):
    """Train, or resume."""
    data = data or tiny_dataset()
    return train(data, model="resnet8", recipe=recipe, out=path, resume="auto", quiet=True)


def found(path) -> dict[str, str]:
    return {check.name: check.found for check in audit(path).checks}


def failed(path) -> set[str]:
    return {check.name for check in audit(path).checks if not check.ok}


def edit(path, change) -> None:
    """Change the values of a JSON file, or the lines of a JSON Lines file."""
    lines = path.suffix == ".jsonl"
    text = path.read_text()
    values = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    change(values)
    path.write_text("".join(json.dumps(v) + "\n" for v in values) if lines else json.dumps(values))


def test_a_stopped_and_killed_run_is_proven(finished):
    result = audit(finished)
    assert result.ok, result.differences
    assert found(finished) == {
        "recipe": "default, seed 0, on 40 images of tiny",
        "data": "not looked at: they were given in Python",
        "samples": "2 epochs, 40 images each, every one exactly once; then 16 of them",
        "steps": "12 of 12, in 3 epochs without gap or overlap",
        "metrics": "3 lines that agree with the ledger",
        "sessions": "3 sessions, from step 0 to 12; 1 killed",
        "weights": "44 tensors, each with its SHA-256; recipe, data and results are the run's",
        "test": "20 images, each counted once, in the last evaluation only",
    }
    record = json.loads((finished / "run.json").read_text())
    assert [s["from_step"] for s in record["sittings"]] == [0, 4, 5]


class Watched:
    """Images that know in which batches they were asked for, by their numbers."""

    names = ()

    def __init__(self, images):
        self.images, self.shape, self.asked = images, images.shape, []

    def __len__(self):
        return len(self.images)

    def batch(self, ids):
        self.asked.append(ids.tolist())
        return self.images.batch(ids)


def test_the_ledger_holds_what_the_steps_really_used(tmp_path):
    data = tiny_dataset()
    watched = Watched(data.train.images)
    run(tmp_path / "run", data=replace(data, train=replace(data.train, images=watched)))
    kept = divide(data, 10, RECIPE.data.split_seed).train.ids.tolist()
    used = [[kept.index(i) for i in ids] for ids in watched.asked if {*ids} <= {*kept}]
    assert used[0] == list(range(40))  # whose mean and deviation are measured first
    del used[0]
    assert len(used) == 12
    lines = [json.loads(line) for line in (tmp_path / "run/ledger.jsonl").read_text().splitlines()]
    for line, steps in zip(lines, (used[:5], used[5:10], used[10:12]), strict=True):
        link = ""
        for positions in steps:
            packed = struct.pack(f"<{len(positions)}q", *positions)
            link = hashlib.sha256(link.encode() + packed).hexdigest()
        assert line["sha256"] == link
        assert (line["steps"], line["samples"]) == (len(steps), sum(map(len, steps)))
    for epoch in (used[:5], used[5:10]):
        assert sorted(chain(*epoch)) == list(range(40))
    assert used[:5] != used[5:10]


@given(st.lists(st.lists(st.integers(0, 2**40), max_size=5), max_size=6), st.data())
def test_any_other_use_has_another_digest(steps, data):
    def link(batches):
        ledger = Ledger()
        for positions in batches:
            ledger.add(torch.tensor(positions, dtype=torch.int64))
        return ledger.link

    other = data.draw(st.permutations(steps) | st.just(steps[:-1]) | st.just(steps + steps[-1:]))
    assert (link(steps) == link(other)) == (list(steps) == list(other))


@pytest.mark.parametrize(("epoch", "steps"), [(0, 5), (2, 2)])
def test_a_loop_that_repeats_a_batch_is_found(copy, epoch, steps):
    """By the line that it writes."""
    batches = epoch_order(40, RECIPE.seed, epoch).split(8)[:steps]

    def write(batches):
        ledger = Ledger()
        for batch in batches:
            ledger.add(batch)
        edit(copy / "ledger.jsonl", lambda lines: lines[epoch].update(sha256=ledger.link))
        return audit(copy).differences

    assert write(batches) == []
    assert write([batches[1], *batches[1:]]) == [
        f"samples: epoch {epoch + 1}: other samples were used than the recipe and its seed say"
    ]


def test_an_order_that_is_none_is_found(finished, monkeypatch):
    monkeypatch.setattr(auditing, "epoch_order", lambda n, *_: torch.arange(n).clamp(max=n - 2))
    assert "epoch 1: its order does not have every image once" in audit(finished).differences[0]


@pytest.mark.parametrize("step", [2, 4, 11])
def test_a_stopped_run_is_audited_as_far_as_it_came(tmp_path, step, resnets):
    with signal_at(step), pytest.raises(Stopped):
        run(tmp_path)
    result = audit(tmp_path)
    assert result.ok, result.differences
    done, epochs = {2: (0, 0), 4: (5, 1), 11: (12, 3)}[step]
    words = found(tmp_path)
    assert words["steps"].startswith(f"{done} of 12, in {epochs} epoch")
    assert words["test"] == "not evaluated: the run is stopped"
    assert resnets("audit", tmp_path)[0] == 0


def flip(path, byte):
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


TAMPERED = [
    ("ledger.jsonl", lambda lines: lines[1].update(sha256="0" * 64), {"samples"}),
    ("ledger.jsonl", lambda lines: lines[1].update(samples=41), {"samples", "metrics"}),
    ("ledger.jsonl", lambda lines: lines[1].update(steps=4), {"steps", "metrics"}),
    ("ledger.jsonl", lambda lines: lines[1].update(epoch=3), {"steps"}),
    ("ledger.jsonl", lambda lines: lines.pop(), {"steps", "metrics"}),
    ("ledger.jsonl", lambda lines: lines.pop(0), {"samples", "steps", "metrics"}),
    ("ledger.jsonl", lambda lines: lines.append(lines[-1]), {"steps", "metrics"}),
    ("ledger.jsonl", lambda lines: lines.reverse(), {"samples", "steps", "metrics"}),
    ("metrics.jsonl", lambda lines: lines[1].update(step=9), {"metrics"}),
    ("metrics.jsonl", lambda lines: lines[2].update(samples=40), {"metrics"}),
    ("metrics.jsonl", lambda lines: lines[2].update(epoch=3.0), {"metrics"}),
    ("metrics.jsonl", lambda lines: lines.pop(1), {"metrics"}),
    ("metrics.jsonl", lambda lines: lines[0].update(test_accuracy=0.9), {"test"}),
    ("run.json", lambda r: r["sittings"][2].update(from_step=6), set()),  # after a killed one
    ("run.json", lambda r: r["sittings"][1].update(from_step=5), {"sessions"}),
    ("run.json", lambda r: r["sittings"][0].update(from_step=1), {"sessions"}),
    ("run.json", lambda r: r["sittings"][2].update(to_step=11), {"sessions"}),
    ("run.json", lambda r: r["sittings"].pop(), {"sessions"}),
    ("run.json", lambda r: r["sittings"][0].update(status="finished"), {"sessions"}),
    ("run.json", lambda r: r.pop("sittings"), {"sessions"}),
    ("run.json", lambda r: r["progress"].update(step=11), {"steps", "sessions"}),
    ("run.json", lambda r: r["progress"].update(steps=13), {"steps"}),
    ("run.json", lambda r: r.update(status="stopped"), {"sessions", "test"}),
    ("run.json", lambda r: r.update(seed=1), {"recipe"}),
    ("run.json", lambda r: r["data"].update(fingerprint="f" * 64), {"weights"}),
    ("run.json", lambda r: r["data"].update(test=21), {"test"}),
    ("run.json", lambda r: r["data"].update(train=39), {"samples"}),
    ("run.json", lambda r: r["model"]["spec"].update(num_classes=3), {"weights"}),
    ("run.json", lambda r: r["results"]["test"].update(accuracy=0.999), {"weights", "test"}),
    ("run.json", lambda r: r["results"]["test"].update(loss=0.0), {"weights"}),
    ("run.json", lambda r: r["results"]["test"]["confusion"][0].__setitem__(0, 99), {"test"}),
    ("run.json", lambda r: r["results"].update(validation=None), {"weights", "test"}),
    ("run.json", lambda r: r["results"].pop("test"), {"weights", "test"}),
]


@pytest.mark.parametrize(("name", "change", "checks"), TAMPERED)
def test_whatever_is_changed_is_found(copy, name, change, checks):
    edit(copy / name, change)
    assert failed(copy) == checks


def test_files_that_are_damaged_or_gone(copy):
    for name, checks in (
        ("ledger.jsonl", {"samples", "steps", "metrics"}),
        ("metrics.jsonl", {"metrics", "test"}),
        ("model.safetensors", {"weights"}),
    ):
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        assert failed(copy) == checks
        (copy / name).write_bytes(content[: len(content) // 2])
        assert failed(copy) >= checks - {"test"}
        (copy / name).write_bytes(content)
    assert failed(copy) == set()
    flip(copy / "model.safetensors", -1)
    assert [d.partition(" does not")[0] for d in audit(copy).differences] == [
        f"weights: {copy / 'model.safetensors'}: damaged: {last_tensor(copy)}"
    ]


def last_tensor(path) -> str:
    """The tensor whose bytes end the file, by the header of safetensors."""
    content = (path / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header.pop("__metadata__")
    return max(header, key=lambda name: header[name]["data_offsets"][1])


def test_another_recipe_is_found(copy):
    text = (copy / "recipe.yaml").read_text()
    for old, new, checks in (
        ("seed: 0", "seed: 1", {"recipe", "samples", "weights"}),
        ("lr: 0.05", "lr: 0.06", {"weights"}),
        ("iterations: 12", "iterations: 13", {"samples", "steps", "weights"}),
        ("batch_size: 8", "batch_size: 0", {"recipe", "samples", "steps", "metrics", "weights"}),
    ):
        assert old in text
        (copy / "recipe.yaml").write_text(text.replace(old, new, 1))
        assert failed(copy) == checks


def test_weights_of_another_run_are_found(copy, tmp_path):
    other = run(tmp_path / "other", recipe=load_recipe(RECIPE, ["seed=1"])).path
    shutil.copy(other / "model.safetensors", copy)
    assert "weights: its recipe is not recipe.yaml" in audit(copy).differences
    assert failed(copy) == {"weights"}


def test_the_command(copy, resnets, tmp_path):
    code, out, _ = resnets("audit", copy)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        [name, "ok"]
        for name in (
            "recipe",
            "data",
            "samples",
            "steps",
            "metrics",
            "sessions",
            "weights",
            "test",
        )
    ]
    edit(copy / "ledger.jsonl", lambda lines: lines.reverse())
    code, out, err = resnets("audit", copy)
    assert code == 4
    assert err.startswith(f"error: {copy}: not as it should be: samples: epoch 1: samples is 16")
    assert "samples   not  epoch 1: samples is 16, not 40; " in out
    code, out, _ = resnets("audit", copy, "--json")
    assert code == 4
    values = json.loads(out)
    assert values["ok"] is False
    assert {check["name"] for check in values["checks"] if not check["ok"]} == failed(copy)


def test_what_is_no_run(resnets, tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        audit(tmp_path)
    code, _, err = resnets("audit", tmp_path / "nothing")
    assert code == 4
    assert "not a run folder" in err
