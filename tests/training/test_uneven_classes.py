"""Runs on classes of unequal size: what is weighted and drawn, said, audited and resumed."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from conftest import signal_at, tiny_dataset
from resnets import audit
from resnets.data.dataset import REPEAT
from resnets.data.preprocess import measure
from resnets.errors import Stopped, UsageError
from resnets.run_folder.reading import read_run
from resnets.training.feed import Feed, build_feed
from resnets.training.recipe import Recipe, load_recipe
from resnets.training.train import train

SETTINGS = ("schedule.epochs=2", "batch_size=8", "data.holdout=0.2", "optimizer.lr=0.05")
WEIGHTED = ("class_weights=balanced",)
DRAWN = ("data.sampling=balanced", "data.repeats=2", "augment.mixup=0.3")


def recipe(*settings: str) -> Recipe:
    return load_recipe("default", [*SETTINGS, *settings])


def uneven(count: int = 60, every: int = 12, weights: bool = False):
    """Of every so many images one is of class bottom."""
    data = tiny_dataset(2 * count)
    labels = data.train.labels
    chosen = torch.arange(2 * count)
    rare = (chosen // 2) % every == 0
    train = data.train.subset(chosen[(labels == 0) ^ rare])
    if weights:
        train = replace(train, weights=torch.linspace(0, 2, len(train)))
    return replace(data, train=train)


def feed(*settings: str, **options) -> Feed:
    data = uneven(**options)
    return build_feed(
        data, recipe(*settings), measure(data.train, 8, "channel"), torch.device("cpu")
    )


def tensors(path):
    return load_file(path / "model.safetensors")


@pytest.mark.parametrize(
    ("settings", "weights", "notes"),
    [
        (WEIGHTED, False, ["smallest class bottom (4), weighted: each image 6 times"]),
        (WEIGHTED, True, ["smallest class bottom (4), weighted: each image"]),
        (DRAWN, False, ["smallest class bottom (4), drawn as often as any other: each image 6 t"]),
        ((), True, ["images are weighted as the data say, 0 to"]),
    ],
    ids=["weighted", "weighted twice", "drawn", "weighted by the data"],
)
def test_a_run_says_what_it_weighs_resumes_and_is_proven(tmp_path, settings, weights, notes):
    def run(out, **options):
        data = uneven(weights=weights)
        given = {"model": "resnet8", "recipe": recipe(*settings), "quiet": True} | options
        return train(data, out=out, **given)

    run(tmp_path / "whole")
    with signal_at(3), pytest.raises(Stopped):
        run(tmp_path / "parts")
    run(tmp_path / "parts", resume="auto")
    whole, parts = (tensors(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    result = audit(tmp_path / "parts")
    assert result.ok, result.differences
    samples = next(check.found for check in result.checks if check.name == "samples")
    assert ("48 draws each, of any class alike" in samples) == (settings == DRAWN)
    record = json.loads((tmp_path / "parts/run.json").read_text())
    assert record["data"]["train_classes"] == [44, 4]
    said = [note for note in record["data"]["notes"] if not note.startswith("images are not")]
    assert len(said) == len(notes)
    assert all(note.startswith(begin) for note, begin in zip(said, notes, strict=True))
    assert said == [n for n in read_run(tmp_path / "parts").data.notes if n in said]


def test_a_ledger_of_other_draws_is_found(tmp_path):
    train(uneven(), model="resnet8", recipe=recipe(*DRAWN), out=tmp_path / "run", quiet=True)
    path = tmp_path / "run/run.json"
    record = json.loads(path.read_text())
    record["data"]["train_classes"] = [43, 5]
    path.write_text(json.dumps(record))
    assert "other samples were used" in audit(tmp_path / "run").differences[0]


def test_very_uneven_classes_are_told_what_helps(tmp_path):
    train(uneven(), model="resnet8", recipe=recipe(), out=tmp_path / "run", quiet=True)
    (warning,) = read_run(tmp_path / "run").data.warnings
    assert warning.startswith("classes are uneven: 44 training images of top, 4 of bottom (11 : 1)")
    for word in warning.split("--set ")[1:]:
        setting = word.split(" ")[0]
        train(uneven(), model="resnet8", recipe=recipe(setting), out=tmp_path / setting, quiet=True)
        assert not read_run(tmp_path / setting).data.warnings


def test_both_at_once_are_refused():
    with pytest.raises(UsageError, match="set class_weights to none"):
        recipe(*WEIGHTED, *DRAWN)


def test_a_batch_has_the_factors_of_its_samples():
    made, data = feed(*WEIGHTED), uneven()
    labels = data.train.labels
    batch = made.batch(torch.arange(60), 0)
    assert torch.equal(batch.labels, labels)
    wanted = 60 / (2 * labels.bincount()[labels])
    torch.testing.assert_close(batch.weights, wanted)
    together = replace(made, ahead=3)
    steps = [together.step(0, index, slice(None), 8) for index in together.indices(0)]
    for batch, index in zip(together.batches(steps), together.indices(0), strict=True):
        torch.testing.assert_close(batch.weights, wanted[index])
    assert feed().batch(torch.arange(3), 0).weights is None


def test_what_is_drawn_again_is_augmented_anew():
    made = feed("data.sampling=balanced", "augment.padding=3", "augment.cutout=2")
    index = torch.cat(made.indices(1))
    sample = index % 60
    assert len(index) == 60
    again = sample == sample.mode().values
    images = made.batch(index, 1).images[again]
    assert len(images) > 3
    assert len(images.unique(dim=0)) == len(images)
    ids = made.split.draws(index)[again]
    assert (ids % REPEAT).unique().numel() == 1
    assert (ids // REPEAT).tolist() == list(range(len(images)))
    assert torch.equal(made.batch(index, 1).labels, made.split.labels[sample])
    assert len(set(made.split.names(index[again]))) == 1


def test_partners_are_of_any_class_alike():
    """Beyond 5 standard deviations once in a million."""
    made = feed("data.sampling=balanced", "augment.mixup=1.0", count=600)
    rare = torch.zeros(())
    for epoch in range(20):
        batch = made.batch(torch.arange(600), epoch)
        own = torch.nn.functional.one_hot(batch.labels, 2)
        rare += ((batch.targets - own)[:, 1] > 0).sum()
    common = 20 * (made.split.labels == 0).sum()
    assert abs(rare - common / 2) < 5 * (common / 4).sqrt()
