"""The way from the command to the optimizer: short, and the same whatever data and weights are."""

import json
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import TensorDataset

import resnets as package
from conftest import at_step, coloured, signal_at, tiny_dataset
from resnets import Machine, create_model, open_model, save_weights, train
from resnets.data.given import as_dataset
from resnets.errors import CheckpointError, DataError, Stopped, UsageError
from resnets.training.recipe import load_recipe

SOURCES = Path(package.__file__).parent
KEPT = Path(__file__).parents[1] / "compatibility/schema-1/finished"
SETTINGS = ("schedule.epochs=2", "batch_size=8", "data.holdout=4", "augment.padding=1")
QUIET = Machine(quiet=True)


def test_at_most_seven_frames_of_ours(photos, tmp_path, resnets):
    frames = []

    def look():
        files = [Path(frame.filename) for frame in traceback.extract_stack()]
        frames.extend(file for file in files if file.is_relative_to(SOURCES))

    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ["train", photos, "--model", "resnet8", "--set", "data.image_size=8", *settings]
    with at_step(0, look):
        code, _, err = resnets(*words, "--out", tmp_path / "run")
    assert code == 0, err
    names = [str(file.relative_to(SOURCES)) for file in frames]
    assert names[:2] == ["cli/__init__.py", "cli/train.py"]
    assert names[-1] == "training/step.py"
    assert len(names) <= 7, names


# A data set in hand


def images(count: int = 24) -> list[Image.Image]:
    return [coloured(i % 3, i, 8) for i in range(count)]


class Pairs:
    def __init__(self, samples, classes=None) -> None:
        self.samples = samples
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def test_every_form_of_a_data_set_is_the_same():
    pictures = images()
    labels = [i % 3 for i in range(len(pictures))]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    tensors = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    forms = [
        Pairs(list(zip(pictures, labels, strict=True))),
        Pairs(list(zip(arrays, map(np.int64, labels), strict=True))),
        TensorDataset(tensors, torch.tensor(labels)),
        (tensors, torch.tensor(labels)),
        (arrays, np.array(labels)),
        list(zip(pictures, labels, strict=True)),
    ]
    found = [as_dataset(form) for form in forms]
    for dataset in found:
        assert dataset.classes == ("0", "1", "2")
        assert torch.equal(dataset.train.batch(torch.arange(24))[0], tensors)
        assert dataset.train.labels.tolist() == labels
        assert dataset.fingerprint == found[0].fingerprint
    named = as_dataset(Pairs(list(zip(pictures, labels, strict=True)), ["a", "b", "c", "d"]))
    assert named.classes == ("a", "b", "c", "d")
    assert named.fingerprint != found[0].fingerprint
    others = as_dataset((arrays, np.array([*labels[1:], 0])))
    assert others.fingerprint != found[0].fingerprint
    assert as_dataset(dataset) is dataset


def test_copies_of_an_image_stay_on_one_side():
    pictures = [*images(12), *images(12)]
    dataset = as_dataset([(picture, i % 2) for i, picture in enumerate(pictures)])
    assert dataset.originals.tolist() == [*range(12), *range(12)]


SQUARE = torch.zeros(3, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (7, UsageError, "data is a int"),
        ({"a": 1}, UsageError, "data is a dict"),
        ([], DataError, "the data set is empty"),
        ([SQUARE], DataError, r"sample 0 is a Tensor, not \(image, label\)"),
        ([("a.jpg", 0)], DataError, "image 0 is a str"),
        ([(SQUARE.float(), 0)], DataError, r"image 0 is float32 \(3, 8, 8\), not uint8"),
        ([(SQUARE[0], 0)], DataError, r"image 0 is uint8 \(8, 8\)"),
        ([(SQUARE.permute(1, 2, 0), 0)], DataError, "image 0 is 8 x 3 x 8"),
        (
            [(SQUARE, 0), (SQUARE[:, :6, :6], 0)],
            DataError,
            r"image 1 is 6 x 6 x 3 \(.*, and image 0 is 8 x 8",
        ),
        ([(SQUARE[:, :6], 0)], DataError, "image 0 is 6 x 8 x 3"),
        ([(SQUARE, -1)], DataError, "label 0 is -1"),
        ([(SQUARE, 0.5)], DataError, "label 0 is 0.5"),
        (Pairs([(SQUARE, 2)], ["a", "b"]), DataError, "it names 2 classes, and a label is 2"),
        ((SQUARE[None], torch.zeros(2)), DataError, "differ in number"),
        ([(SQUARE, 0), (SQUARE, 0)], DataError, "all labels are 0"),
    ],
)
def test_what_is_no_data_set(data, kind, message):
    with pytest.raises(kind, match=message) as caught:
        as_dataset(data)
    assert caught.value.exit_code == (2 if kind is UsageError else 3)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"machine": "cpu"}, "machine is a str", 'device="cpu"'),
        ({"epochs": 3}, "no argument epochs", 'settings=["schedule.epochs=3"]'),
        ({"something": 3}, "no argument something", "help(resnets.train)"),
    ],
)
def test_arguments_that_there_are_not(options, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        train("digits", **options)
    assert hint in caught.value.hint


def test_a_finished_run_is_not_said_to_be_one_of_other_data(tmp_path, capsys):
    pictures = images(36)
    data = [(picture, i % 3) for i, picture in enumerate(pictures)]
    run = train(data, out=tmp_path / "run", model="resnet8", settings=SETTINGS, machine=QUIET)
    for again in (None, data):
        capsys.readouterr()
        assert train(again, resume=tmp_path / "run").results == run.results
        assert "is finished; nothing is left to train" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"another one: the images or labels have changed\n"):
        train(data[:-1] + data[:1], resume=tmp_path / "run", machine=QUIET)


def test_training_on_tensors_stops_and_resumes_to_the_bit(tmp_path):
    pictures = images(36)
    data = [(picture, i % 3) for i, picture in enumerate(pictures)]
    options = {"model": "resnet8", "settings": SETTINGS, "machine": QUIET}
    train(data, out=tmp_path / "whole", **options)
    with signal_at(3), pytest.raises(Stopped):
        train(data, out=tmp_path / "run", **options)
    with pytest.raises(DataError, match="a data set that Python gave") as caught:
        train(resume=tmp_path / "run", machine=QUIET)
    assert "resnets.train(data, resume=" in caught.value.hint
    with pytest.raises(DataError, match="images or labels have changed"):
        train(data[:-1] + data[:1], resume=tmp_path / "run", machine=QUIET)
    train(data, resume=tmp_path / "run", machine=QUIET)
    whole, run = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[key], run[key]) for key in whole)
    command = json.loads((tmp_path / "run/run.json").read_text())["command"]
    assert command.startswith("resnets.train(data, model='resnet8'")


# Weights to start from


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    return train(tiny_dataset(), model="resnet8", settings=SETTINGS, out=path, machine=QUIET).path


def begun(tmp_path, weights, data=None, settings=("data.holdout=0",), **options):
    """The weights and the record of a run that ends before its first step has changed anything."""
    one = ["schedule.iterations=1", "batch_size=8", "augment.padding=1", "optimizer.lr=1e-30"]
    options = {"settings": [*one, *settings], "machine": QUIET, **options}
    run = train(data or tiny_dataset(), weights=weights, out=tmp_path / "run", **options)
    return load_file(run.path / "model.safetensors"), json.loads(
        (run.path / "run.json").read_text()
    )


@pytest.mark.parametrize("form", ["run", "file", "state dict"])
def test_training_starts_from_weights(trained, tmp_path, form):
    own = load_file(trained / "model.safetensors")
    weights = {"run": trained, "file": trained / "model.safetensors", "state dict": own}[form]
    model = {} if form != "state dict" else {"model": "resnet8"}
    tensors, record = begun(tmp_path, weights, **model)
    assert record["model"]["name"] == "resnet8"
    parameters = dict(create_model("resnet8", num_classes=2).named_parameters())
    assert all(torch.equal(tensors[key], own[key]) for key in parameters)
    assert record["weights"]["source"] == ("a state dict" if form == "state dict" else str(weights))
    assert len(record["weights"]["digest"]) == 64
    recipe = load_recipe(tmp_path / "run/recipe.yaml")
    assert recipe.data.normalize == ("channel" if form == "state dict" else "weights")
    if form != "state dict":
        before, after = (
            json.loads((path / "data.json").read_text())["preprocess"]
            for path in (trained, tmp_path / "run")
        )
        assert (before["mean"], before["std"]) == (after["mean"], after["std"])


def test_other_classes_get_a_new_classifier_and_channels_are_adapted(trained, tmp_path, capsys):
    own = load_file(trained / "model.safetensors")
    data = [(coloured(i % 3, i, 8).convert("L"), i % 3) for i in range(24)]
    tensors, _ = begun(tmp_path, trained, data, machine=Machine())
    assert tensors["fc.weight"].shape == (3, 64)
    assert torch.equal(tensors["layer2.0.conv1.weight"], own["layer2.0.conv1.weight"])
    torch.testing.assert_close(tensors["conv1.weight"], own["conv1.weight"].sum(1, keepdim=True))
    said = capsys.readouterr().err
    assert f"weights: {trained}, " in said
    assert "new classifier 64 -> 3" in said
    assert "conv1.weight: " in said


def test_a_classifier_is_put_into_the_order_of_the_classes(trained, tmp_path, capsys):
    """A file that names them may have them in any order; one that does not is said to."""
    network = open_model(trained)
    classes = network.classes
    with torch.no_grad():
        for tensor in (network.fc.weight, network.fc.bias):
            tensor.copy_(tensor.flip(0))
    network.classes = classes[::-1]
    save_weights(network, tmp_path / "turned.safetensors")
    tensors, record = begun(tmp_path, tmp_path / "turned.safetensors", machine=Machine())
    assert torch.equal(tensors["fc.weight"], network.fc.weight.detach().flip(0))
    assert torch.equal(tensors["fc.weight"], load_file(trained / "model.safetensors")["fc.weight"])
    assert tuple(record["data"]["classes"]) == classes
    said = capsys.readouterr().err
    assert "the classifier's outputs are put into the order of the data's classes" in said
    assert "new classifier" not in said
    unnamed = dict(network.state_dict())
    tensors, _ = begun(tmp_path / "b", unnamed, model="resnet8", machine=Machine())
    assert torch.equal(tensors["fc.weight"], unnamed["fc.weight"])
    said = capsys.readouterr().err
    assert "names no classes: its 2 outputs are taken for the data's, in their order" in said
    begun(tmp_path / "c", trained, machine=Machine())
    said = capsys.readouterr().err
    assert "order" not in said


@pytest.mark.parametrize("channels", [3, 1])
def test_weights_that_do_not_say_how_images_were_prepared(trained, tmp_path, capsys, channels):
    """What is done instead is said, and what can be typed instead; nothing of Python's."""
    own = load_file(trained / "model.safetensors")
    own["conv1.weight"] = own["conv1.weight"][:, :channels]
    data = [
        (coloured(i % 2, i, 8).convert("RGB" if channels == 3 else "L"), i % 2) for i in range(8)
    ]
    begun(tmp_path / "a", own, data, model="resnet8", machine=Machine())
    said = capsys.readouterr().err
    assert "images: normalised by each channel's own mean and deviation, as the weights" in said
    assert "model.preprocess" not in said
    assert ("--set data.normalize=imagenet" in said) == (channels == 3)
    if channels == 3:
        typed = ("data.holdout=0", "data.normalize=imagenet")
        begun(tmp_path / "b", own, data, typed, model="resnet8", machine=Machine())
        assert "images: normalised by" not in capsys.readouterr().err


def test_a_recipe_that_says_how_images_are_normalised_is_followed(trained, tmp_path):
    _, record = begun(tmp_path, trained, settings=("data.normalize=channel",))
    assert load_recipe(tmp_path / "run/recipe.yaml").data.normalize == "channel"
    assert record["weights"]["source"] == str(trained)
    with pytest.raises(UsageError, match=r"data.normalize is weights, and no weights"):
        begun(tmp_path / "none", None, model="resnet8", settings=("data.normalize=weights",))


def test_resuming_needs_the_weights_no_more_and_takes_no_others(trained, tmp_path, capsys):
    source = tmp_path / "start.safetensors"
    source.write_bytes((trained / "model.safetensors").read_bytes())
    options = {"settings": [*SETTINGS, "optimizer.lr=0.01"], "machine": QUIET}
    train(tiny_dataset(), weights=source, out=tmp_path / "whole", **options)
    with signal_at(6), pytest.raises(Stopped):
        train(tiny_dataset(), weights=source, out=tmp_path / "run", **options)
    same = {"model": "resnet8", "out": tmp_path / "run", "resume": "auto", **options}
    with pytest.raises(CheckpointError, match=r"weights: \w+ before, None now"):
        train(tiny_dataset(), **same)
    other = create_model("resnet8", num_classes=2).state_dict()
    with pytest.raises(CheckpointError, match=r"weights: \w+ before, \w+ now"):
        train(tiny_dataset(), weights=other, **same)
    source.unlink()
    train(tiny_dataset(), resume=tmp_path / "run")
    assert f"the run began from {source}" in capsys.readouterr().err
    whole, run = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[key], run[key]) for key in whole)


@pytest.mark.parametrize("form", ["file", "state dict"])
def test_killed_before_the_first_state(trained, tmp_path, form):
    own = load_file(trained / "model.safetensors")
    weights = trained / "model.safetensors" if form == "file" else own
    with at_step(0, lambda: sys.exit(9)), pytest.raises(SystemExit):
        begun(tmp_path, weights, model="resnet8")
    if form == "file":
        train(tiny_dataset(), resume=tmp_path / "run", machine=QUIET)
        tensors = load_file(tmp_path / "run/model.safetensors")
        assert torch.equal(tensors["conv1.weight"], own["conv1.weight"])
        return
    with pytest.raises(CheckpointError, match="began from a state dict"):
        train(tiny_dataset(), resume=tmp_path / "run", machine=QUIET)


def test_weights_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="is resumed"):
        train(weights="a.pth", resume=KEPT)
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        train(tiny_dataset(), model="resnet8", weights="nowhere.pth", out=tmp_path, machine=QUIET)
