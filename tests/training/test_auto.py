"""Recipe auto: what is chosen, by what, and that it is chosen once."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from conftest import signal_at, tiny_dataset
from resnets import Machine, create_model, get_spec, save_weights, train, train_seeds
from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError, NonFiniteError, Stopped, UsageError
from resnets.training.auto import Probe, choose, left_out, probe
from resnets.training.recipe import load_recipe

SETTINGS = ("batch_size=8", "data.holdout=4", "augment.padding=1")
QUIET = Machine(quiet=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that the tests start from, which can tell top from bottom."""
    path = tmp_path_factory.mktemp("trained") / "run"
    settings = [*SETTINGS, "schedule.epochs=1"]
    return train(tiny_dataset(), model="resnet8", settings=settings, out=path, machine=QUIET).path


def recipe_of(run):
    return load_recipe(run.path / "recipe.yaml")


def begin(out, weights, *settings, **options):
    """Train no longer than a step, by the recipe that is meant where none is named."""
    short = [*SETTINGS, "optimizer.lr=1e-9", *settings]
    options = {"weights": weights, "out": out, "settings": short, "machine": QUIET, **options}
    return train(tiny_dataset(), **options)


# The probe


def test_each_sample_is_answered_by_a_fit_to_all_others():
    count, width, classes, penalties = 30, 50, 3, [10.0**power for power in range(-6, 3)]
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    targets = F.one_hot(labels).double()
    noise = torch.randn(count, width, dtype=torch.float64, generator=generator)
    features = 3 + noise + 2 * F.one_hot(labels, width)
    scale = (features - features.mean(0)).square().sum() / count

    def one_by_one(penalty: float) -> torch.Tensor:
        rows = []
        for i in range(count):
            others = torch.arange(count) != i
            x, y = features[others], targets[others]
            centred = x - x.mean(0)
            normal = centred.T @ centred + penalty * scale * torch.eye(width, dtype=torch.float64)
            slopes = torch.linalg.solve(normal, centred.T @ (y - y.mean(0)))
            rows.append((features[i] - x.mean(0)) @ slopes + y.mean(0))
        return torch.stack(rows)

    expected = min(map(one_by_one, penalties), key=lambda e: float((e - targets).square().sum()))
    torch.testing.assert_close(left_out(features, targets), expected)


def test_the_probe_tells_weights_that_know_from_images_of_noise():
    dataset = tiny_dataset(400)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create_model(replace(get_spec("resnet8"), num_classes=2))
    preprocess = Preprocess(3, 8, 8, (0.5,) * 3, (0.25,) * 3)
    known = probe(network, dataset.train, preprocess)
    assert known.images == 400
    assert known.largest == 0.5
    assert known.gain > 0.9  # a bright half is seen by any filters
    generator = torch.Generator().manual_seed(1)
    shuffled = dataset.train.labels[torch.randperm(400, generator=generator)]
    unknown = probe(network, replace(dataset.train, labels=shuffled), preprocess)
    assert unknown.gain < 0.15
    assert probe(network, dataset.train, preprocess) == known
    assert "400 training images" in str(known)


def test_of_several_classes_any_is_right():
    split = tiny_dataset(100).train
    both = F.one_hot(split.labels, 3).bool()
    both[:, 2] = True
    network = create_model("resnet8", num_classes=3)
    preprocess = Preprocess(3, 8, 8, (0.5,) * 3, (0.25,) * 3)
    found = probe(network, replace(split, targets=both), preprocess)
    assert (found.accuracy, found.largest) == (1.0, 1.0)  # the third is everywhere
    assert found.gain == 0


def test_weights_that_make_nothing_of_images_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = create_model("resnet8", num_classes=2).state_dict()
    broken["conv1.weight"][0] = float("nan")
    with pytest.raises(NonFiniteError, match="make NaN or infinity of these images"):
        begin("run", broken, model="resnet8")
    assert not list(tmp_path.iterdir())


def test_of_many_images_a_thousand_are_looked_at():
    network = create_model(replace(get_spec("resnet8"), num_classes=2))
    preprocess = Preprocess(3, 8, 8, (0.5,) * 3, (0.25,) * 3)
    assert probe(network, tiny_dataset(1300).train, preprocess).images == 1000


# The rule


@pytest.mark.parametrize(
    ("accuracy", "images", "finetune", "epochs"),
    [
        (1.0, 2000, (1.0, 0.7), 13),
        (0.6, 2000, (1.0, 0.93), 26),
        (0.6, 90, (1.0, 0.93), 30),
        (0.25, 3000, (0.0, 1.0), 25),
        (1.0, 100_000, (1.0, 0.7), 12),
    ],
)
def test_the_rule(accuracy, images, finetune, epochs):
    values, why = choose(Probe(1000, accuracy, 0.2), images, 10, 32)
    assert (values["finetune"]["head_epochs"], values["finetune"]["layer_decay"]) == finetune
    assert values["schedule"] == {"epochs": epochs}
    assert "1,000 training images" in why


def test_it_is_finetune_but_for_what_is_chosen():
    auto, fixed = (load_recipe(name).flat() for name in ("auto", "finetune"))
    differ = {key for key in auto if auto[key] != fixed[key]}
    assert {key: auto[key] for key in differ - {"name"}} == {
        "finetune.head_epochs": "auto",
        "finetune.layer_decay": "auto",
        "schedule.epochs": "auto",
    }


# In a run


def test_what_is_chosen_is_written_down_and_said(trained, tmp_path, capsys):
    run = begin(tmp_path / "run", trained, "schedule.iterations=1", machine=Machine())
    recipe, said = recipe_of(run), capsys.readouterr().err
    assert recipe.name == "auto"
    assert not any(recipe.open.values())
    assert "chosen because a linear classifier on the weights' features is right on" in said
    assert recipe.source.removeprefix("ours; ") in said
    assert json.loads((run.path / "run.json").read_text())["recipe"] == "auto"


def test_what_is_set_by_hand_is_not_chosen(trained, tmp_path):
    settings = ("schedule.epochs=1", "finetune.layer_decay=0.5", "finetune.head_epochs=0.5")
    recipe = recipe_of(begin(tmp_path / "run", trained, *settings))
    assert recipe.schedule.epochs == 1
    assert (recipe.finetune.layer_decay, recipe.finetune.head_epochs) == (0.5, 0.5)


def test_any_recipe_may_leave_a_setting_open(trained, tmp_path):
    settings = ("schedule.iterations=1", "finetune.layer_decay=auto")
    run = begin(tmp_path / "run", trained, *settings, recipe="default")
    assert recipe_of(run).finetune.layer_decay != "auto"


def test_without_weights_there_is_nothing_to_choose_by(tmp_path):
    with pytest.raises(UsageError, match=r"finetune\.layer_decay.*there are none") as caught:
        begin(tmp_path / "run", None, model="resnet8", recipe="auto")
    assert "--weights" in caught.value.hint
    assert not (tmp_path / "run").exists()
    assert recipe_of(
        begin(tmp_path / "run", None, "schedule.iterations=1", model="resnet8")
    ).name == ("default")


def test_a_run_goes_on_with_what_was_chosen(trained, tmp_path):
    with signal_at(2), pytest.raises(Stopped):
        begin(tmp_path / "run", trained, "schedule.iterations=4")
    path = tmp_path / "run/recipe.yaml"
    text = path.read_text()
    decay = load_recipe(path).finetune.layer_decay
    path.write_text(text.replace(f"layer_decay: {decay}", "layer_decay: 0.123"))
    # Other than what the state was made by: so this very value was taken, and none was chosen.
    with pytest.raises(CheckpointError, match=rf"layer_decay: {decay} before, 0.123 now"):
        begin(tmp_path / "run", trained, "schedule.iterations=4", resume="auto")
    path.write_text(text)
    begin(tmp_path / "run", trained, "schedule.iterations=4", resume="auto")
    assert path.read_text() == text


def test_a_run_of_an_earlier_version_goes_on_by_its_recipe(trained, tmp_path):
    with signal_at(2), pytest.raises(Stopped):
        begin(tmp_path / "run", trained, "schedule.iterations=4", recipe="default")
    run = begin(tmp_path / "run", trained, "schedule.iterations=4", resume="auto")
    assert recipe_of(run).name == "default"


def test_seeds_differ_in_nothing_but_their_seed(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = [*SETTINGS, "schedule.iterations=1"]
    options = {"weights": trained, "settings": settings, "machine": QUIET}
    found = train_seeds(tiny_dataset(), 2, **options)
    assert found.path.name == "tiny-resnet8-seeds"
    first, second = (recipe_of(run).flat() for run in found.runs)
    assert {key for key in first if first[key] != second[key]} == {"seed"}


# How images are prepared


def test_scaling_and_cut_are_those_of_the_weights(photos, trained, tmp_path):
    network = create_model("resnet8", num_classes=3)
    network.preprocess = Preprocess(3, 40, 32, (0.4,) * 3, (0.2,) * 3, interpolation="bicubic")
    save_weights(network, tmp_path / "known.safetensors")
    short = [*SETTINGS, "schedule.iterations=1", "data.image_size=24"]

    def prepared(name, *settings):
        out = tmp_path / name
        options = {"settings": [*short, *settings], "out": out, "machine": QUIET}
        train(photos, weights=tmp_path / "known.safetensors", **options)
        return json.loads((out / "data.json").read_text())["preprocess"]

    known = prepared("as-known")
    assert (known["size"], known["resize"], known["interpolation"]) == (24, 30, "bicubic")
    said = prepared("as-said", "data.resize=24", "data.interpolation=bilinear")
    assert (said["size"], said["resize"], said["interpolation"]) == (24, 24, "bilinear")
