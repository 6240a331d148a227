"""The default recipe where there is little to learn from, and runs that go wrong."""

import json
from dataclasses import replace
from math import log

import pytest
import torch

from conftest import coloured, tiny_dataset
from resnets import get_spec
from resnets.errors import CheckpointError, ResourceError, UsageError
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.reading import read_run
from resnets.run_folder.record import Record
from resnets.training.divergence import find_divergence
from resnets.training.memory import check_fits
from resnets.training.recipe import load_recipe
from resnets.training.schedule import RateMemory, Schedule, fitted_rate
from resnets.training.train import train

NARROW = replace(get_spec("resnet18"), depths=(1, 1, 1, 1), widths=(16, 32, 64, 128), stem_width=16)


@pytest.fixture
def uneven(tmp_path):
    """Forty, fourteen and six images of three classes."""
    for label, (name, count) in enumerate({"most": 40, "some": 14, "few": 6}.items()):
        folder = tmp_path / "uneven" / name
        folder.mkdir(parents=True)
        for number in range(count):
            coloured(label, number, 16).save(folder / f"{number}.png")
    return tmp_path / "uneven"


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_few_dozen_steps_teach_something(uneven, tmp_path, capsys):
    """At 0.1 with a tenth of the run as warm-up, the loss jumps and ends where it began."""
    settings = ["data.image_size=16", "schedule.epochs=8", "batch_size=16"]
    run = train(uneven, model=NARROW, settings=settings, out=tmp_path / "run")
    losses = [line["train_loss"] for line in lines(run.path)]
    assert max(losses) < 1.2 * losses[0]
    assert losses[-1] < losses[0] / 2
    assert lines(run.path)[-1]["train_accuracy"] > 0.85
    assert run.results["validation"]["accuracy"] > 40 / 60
    said = capsys.readouterr().err
    recipe = load_recipe(run.path / "recipe.yaml")
    assert recipe.optimizer.lr == fitted_rate(16, 32)
    assert f"32 steps in batches of 16; rate {recipe.optimizer.lr:g}, fitted to that" in said
    assert "images are mirrored left to right" in said
    assert "mirrored</dt><dd>half of the training images" in run.report.read_text()
    assert "warning" not in said


def test_the_fitted_rate():
    assert fitted_rate(64, 600) == fitted_rate(64, 10**6) == fitted_rate(256, 2000) == 0.1
    assert fitted_rate(64, 150) == 0.05
    assert fitted_rate(16, 4000) == 0.025
    assert fitted_rate(54, 30) == 0.019


def test_warm_up_has_a_least_length_and_at_most_half_of_the_run():
    def warm_up(steps):
        schedule = Schedule(load_recipe("default").schedule, 1.0, steps, RateMemory())
        rates = [schedule.rate(step) for step in range(steps)]
        return rates.index(1.0) + 1

    assert [warm_up(steps) for steps in (30, 180, 630, 21_120)] == [15, 90, 100, 2112]


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_only_sgd_has_a_fitted_rate(kind):
    with pytest.raises(UsageError, match="lr auto belongs to sgd"):
        load_recipe("default", [f"optimizer={{kind: {kind}, lr: auto}}"])


@pytest.mark.parametrize(
    ("losses", "stretch"),
    [
        ([2.3, 2.0, 1.5], None),
        ([2.3, 5.4, 9.8], None),
        ([2.3, 5.4, 9.8, 2.2], None),
        ([2.3, 5.4, 9.8, 4.9], (2, 4)),
        ([2.3, 1.0, 5.0, 5.0, 5.0, 5.0, 1.0], (3, 6)),
        ([13.0, 9.0, 5.0, 4.0], (1, 4)),  # within its first epoch already
        ([2.4, 2.41, 2.39, 2.41, 2.39, 2.41], None),
        ([], None),
    ],
)
def test_what_is_a_divergence(losses, stretch):
    found = find_divergence(losses, log(10))
    assert (found and (found.first, found.last)) == stretch
    if found:
        assert found.start == min(losses[0], 1.5 * log(10))


def test_binary_cross_entropy_starts_between_yes_and_no():
    recipe = load_recipe("default", ["loss=binary_cross_entropy"])
    assert recipe.choices(1000) == 2
    assert find_divergence([2.0, 1.9, 1.8, 1.5], log(recipe.choices(1000))).start == 1.5 * log(2)
    assert load_recipe("default").choices(1000) == 1000


def test_a_diverging_run_says_so(tmp_path, capsys):
    settings = ["optimizer.lr=1", "schedule.warmup=0", "schedule.warmup_steps=0", "batch_size=8"]
    settings += ["schedule.epochs=5", "optimizer.clip=null", "schedule.shape=steps"]
    run = train(tiny_dataset(), model="resnet8", settings=settings, out=tmp_path / "run")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    hint = warnings[0].rpartition("--set ")[2]
    assert load_recipe("default", [hint]).optimizer.lr == 0.1
    (warning,) = read_run(run.path).warnings
    assert warning.startswith("the training loss was above its start")
    assert warning[1:] in run.report.read_text().replace("\xa0", " ")


def test_a_step_that_cannot_fit_is_refused():
    spec = replace(get_spec("resnet18"), image_size=4096)
    with pytest.raises(ResourceError, match="a step of 4,096 images of 4096x4096 takes"):
        check_fits(
            spec,
            load_recipe("default"),
            batch=4096,
            image=(3, 4681, 4681),
            device=torch.device("cpu"),
        )


@pytest.mark.parametrize(
    "setting",
    [
        "optimizer.lr=1e300",
        "optimizer.weight_decay=1e300",
        "optimizer.matrix_lr=1e300",
        "optimizer.clip=1e300",
        "augment.scale=[8, 100000]",
        "augment.padding=100000",
        "augment.cutout=100000",
        "augment.lighting=1e300",
        "augment.aspect=[1e-300, 1e300]",
        "augment.first_size=100000",
        "data.image_size=100000",
        "batch_size=1000000000000",
        "schedule.epochs=1000000000000",
    ],
)
def test_settings_have_bounds(setting):
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        load_recipe("default", [setting])


@pytest.mark.parametrize("model", [torch.nn.Linear(1, 1), 18, ["resnet18"]])
def test_a_model_is_named(model, tmp_path):
    with pytest.raises(UsageError, match="model is a "):
        train("digits", model=model, out=tmp_path / "run")
    with pytest.raises(UsageError, match="data is a int"):
        train(5, model="resnet8", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resuming_from_a_file_says_what_it_is(tmp_path):
    (tmp_path / "weights.pth").touch()
    with pytest.raises(CheckpointError, match="is a file, not a run folder"):
        train(resume=tmp_path / "weights.pth")
    RunFolder(tmp_path).write_record(Record())
    with pytest.raises(CheckpointError) as caught:
        train(resume=tmp_path / "weights.pth")
    assert caught.value.hint == f"give the folder that it is in: {tmp_path}"


def test_float16_on_a_cpu_is_said_to_be_slow(tmp_path, capsys):
    settings = ["schedule.iterations=1", "batch_size=8", "precision=float16"]
    data = tiny_dataset(16, 8)
    train(data, model="resnet8", settings=settings, out=tmp_path / "run", device="cpu")
    assert "about 100 times slower than float32" in capsys.readouterr().err
