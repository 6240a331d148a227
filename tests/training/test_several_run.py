"""A run whose images may have several classes, from its data to what it leaves."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import forked, launched_together
from runs import left, run, timeless, watch
from safetensors.torch import load_file

import resnets
from conftest import several_dataset
from resnets import create_model, save_weights
from resnets.cli.train import print_seeds
from resnets.data.holdout import divide
from resnets.data.preprocess import imagenet
from resnets.errors import UsageError
from resnets.evaluation.network import evaluate
from resnets.evaluation.several import best_threshold
from resnets.formatting import percent
from resnets.models import open_model
from resnets.run_folder.directory import RunFolder
from resnets.training.audit import audit
from resnets.training.seeds import train_seeds

MORE = ("data.holdout=12", "schedule.warmup_rate=null", "schedule.warmup_until_error=null")
MORE += ("class_weights=none",)  # which are of one class an image


def sitting(out: Path, *settings: str, step: int | None = None, **options) -> dict:
    """Run; at a step, counted from 0, the process is killed."""
    steps = []

    def reached(name: str) -> None:
        steps.extend([name] if name == "step" else [])
        if name == "step" and len(steps) - 1 == step:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(out, reached)
    return run(out, *MORE, *settings, data=several_dataset(), save_minutes=0, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("several") / "run"
    found = forked(sitting, out)
    assert isinstance(found, dict), found
    return out


def test_what_it_leaves(whole):
    folder = RunFolder(whole)
    record = json.loads(folder.record.read_text())
    assert record["data"]["several"] is True
    recipe = folder.recipe.read_text()
    assert "loss: binary_cross_entropy" in recipe
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert all(0 <= line["validation_map"] <= 1 for line in lines)
    test = record["results"]["test"]
    assert set(test) == {"samples", "loss", "accuracy", "map", "f1_micro", "f1_macro", "classes"}
    assert len(test["classes"]) == 3
    network = open_model(whole)
    assert network.outputs == "sigmoid"
    assert list(network.thresholds) == [each["threshold"] for each in test["classes"]]


def test_thresholds_are_those_of_the_held_out_split(whole):
    """They are chosen there, and applied to the test split as to everything else."""
    dataset = divide(several_dataset(), 12, 0)
    network = open_model(whole)
    record = json.loads(RunFolder(whole).record.read_text())
    assert dataset.validation is not None
    assert dataset.test is not None
    held = evaluate(network, dataset.validation, network.preprocess, batch_size=8).several
    for c, threshold in enumerate(network.thresholds):
        best = best_threshold(held.targets[:, c], held.probabilities[:, c])
        assert threshold == pytest.approx(0.5 if best is None else best, abs=1e-6)
    tested = evaluate(network, dataset.test, network.preprocess, batch_size=8)
    wanted = timeless(json.loads(json.dumps(tested.to_dict())))
    for key, value in record["results"]["test"].items():
        assert key == "classes" or value == pytest.approx(wanted[key], abs=1e-6)
    counts = [[each[k] for k in ("samples", "right", "predicted")] for each in wanted["classes"]]
    found = record["results"]["test"]["classes"]
    assert counts == [[each[k] for k in ("samples", "right", "predicted")] for each in found]


def test_best_weights_are_those_of_the_highest_map(whole):
    lines = RunFolder(whole).metrics.read_text().splitlines()
    best = max(json.loads(line)["validation_map"] for line in lines)
    record = json.loads(RunFolder(whole).record.read_text())
    # Statistics are measured anew at the end, so the figure is near and not equal.
    tensors = load_file(RunFolder(whole).states()[0])
    assert any(key.startswith("best/") for key in tensors)
    assert record["results"]["validation"]["map"] == pytest.approx(best, abs=0.2)


@pytest.mark.parametrize("step", [2, 7])
def test_killed_it_ends_as_if_it_had_not_been(whole, tmp_path, step):
    out = tmp_path / "run"
    assert forked(partial(sitting, step=step), out) is signal.SIGKILL
    found = forked(partial(sitting, resume="auto"), out)
    assert isinstance(found, dict), found
    assert left(out) == left(whole)


def test_two_processes_are_one(tmp_path):
    few = "schedule.epochs=1", "optimizer.accumulate=1"  # parts are of each process's own batch
    one, two = tmp_path / "one", tmp_path / "two"
    alone, together = forked(sitting, one, *few), launched_together(2, sitting, two, *few)
    assert timeless(together[0]) == timeless(together[1])
    assert left(one)["ledger"] == left(two)["ledger"]
    ours, theirs = load_file(RunFolder(one).weights), load_file(RunFolder(two).weights)
    for key, tensor in ours.items():  # in float32 sums over processes round in another order
        x, y = tensor.double(), theirs[key].double()
        assert (x - y).norm() <= 1e-5 * y.norm(), key
    for part in ("validation", "test"):
        for key in ("samples", "accuracy"):
            assert alone[part][key] == together[0][part][key]
        assert alone[part]["map"] == pytest.approx(together[0][part]["map"], rel=1e-5)
    assert open_model(one).thresholds == pytest.approx(open_model(two).thresholds, rel=1e-4)


def test_asymmetric_loss_trains(tmp_path):
    found = forked(sitting, tmp_path / "run", "loss=asymmetric")
    assert isinstance(found, dict), found
    assert 0 < found["test"]["map"] <= 1


def test_one_class_of_all_is_refused_where_it_is_meant(tmp_path):
    with pytest.raises(UsageError, match="loss is cross_entropy, of one class an image") as refused:
        resnets.train(
            several_dataset(), settings=["loss=cross_entropy"], out=tmp_path / "run", quiet=True
        )
    assert "loss=asymmetric" in str(refused.value.hint)
    assert not (tmp_path / "run").exists()


def test_the_bias_begins_at_the_frequencies(tmp_path):
    data = several_dataset()
    settings = ["optimizer.lr=1e-9", "schedule.iterations=1", "data.holdout=0", "batch_size=8"]
    resnets.train(data, model="resnet8", settings=settings, out=tmp_path / "run", quiet=True)
    p = (data.train.truth.sum(0) + 1) / (len(data.train) + 2)
    bias = load_file(RunFolder(tmp_path / "run").weights)["fc.bias"]
    assert (bias - (p / (1 - p)).log()).abs().max() < 1e-6


def test_so_does_that_of_a_new_classifier_and_no_other(tmp_path):
    """Of weights that know other classes; those of the same classes stay as they are."""
    data = several_dataset()
    source = create_model("resnet8", num_classes=5, image_size=12)
    source.preprocess = imagenet(3, 12)
    save_weights(source, tmp_path / "other.safetensors")
    settings = ["optimizer.lr=1e-9", "schedule.iterations=1", "data.holdout=0", "batch_size=8"]
    options = {"recipe": "default", "settings": settings, "quiet": True}
    first, second = tmp_path / "first", tmp_path / "second"
    resnets.train(data, weights=tmp_path / "other.safetensors", out=first, **options)
    p = (data.train.truth.sum(0) + 1) / (len(data.train) + 2)
    bias = load_file(RunFolder(first).weights)["fc.bias"]
    assert (bias - (p / (1 - p)).log()).abs().max() < 1e-6
    model = open_model(first)
    with torch.no_grad():
        model.fc.bias.fill_(0.25)
    save_weights(model, tmp_path / "same.safetensors")
    resnets.train(data, weights=tmp_path / "same.safetensors", out=second, **options)
    assert (load_file(RunFolder(second).weights)["fc.bias"] - 0.25).abs().max() < 1e-6


def test_seeds_are_summarised_by_map(tmp_path, capsys):
    settings = ["schedule.epochs=1", "data.holdout=12", "batch_size=8"]
    found = train_seeds(
        several_dataset(), 2, model="resnet8", settings=settings, out=tmp_path / "s", quiet=True
    )
    maps = [run.results["test"]["map"] for run in found.runs]
    kept = json.loads((tmp_path / "s/seeds.json").read_text())
    assert (kept["measure"], kept["median"]) == ("mAP", sum(maps) / 2)
    assert [seed["map"] for seed in kept["seeds"]] == maps
    assert kept["published"] == []
    print_seeds(found, as_json=False)
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert said[1] == "mAP"
    assert f"median {percent(sum(maps) / 2, 2)}" in said
    assert "accuracy" not in " ".join(said[:5])
    assert audit(tmp_path / "s").differences == []
    kept["seeds"][1]["map"] /= 2
    (tmp_path / "s/seeds.json").write_text(json.dumps(kept))
    assert "seeds.json: seed-1: map" in str(audit(tmp_path / "s").differences)


def test_inspect_lists_thresholds(whole, resnets):
    code, out, _ = resnets("inspect", whole, "--json")
    assert code == 0
    network = open_model(whole)
    listed = json.loads(out)["thresholds"]
    assert listed == dict(zip(network.classes, network.thresholds, strict=True))
    (line,) = [line for line in resnets("inspect", whole)[1].splitlines() if "thresholds" in line]
    assert all(f"{name} {level}" in line for name, level in listed.items())


@pytest.mark.parametrize("setting", ["class_weights=balanced", "data.sampling=balanced"])
def test_what_balances_one_class_an_image_is_refused(tmp_path, setting):
    with pytest.raises(UsageError, match="balance one class an image, and those of several may h"):
        resnets.train(several_dataset(), settings=[setting], out=tmp_path / "run", quiet=True)


def test_a_net_learns_several_classes(tmp_path):
    """Vectors of 0 and 1 in hand, a tiny net, and each half of the image is told by itself."""
    parts = several_dataset(200)
    images = parts.train.images.batch(parts.train.ids).permute(0, 2, 3, 1).numpy()
    labels = parts.train.truth.numpy().astype(np.int64)
    found = resnets.train(
        (images, labels),
        model="resnet8",
        settings=["schedule.epochs=10", "batch_size=16", "data.holdout=0.25"],
        out=tmp_path / "run",
        quiet=True,
    )
    assert found.results["validation"]["map"] > 0.8
    assert RunFolder(tmp_path / "run").report.exists()
