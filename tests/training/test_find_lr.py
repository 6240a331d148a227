"""The learning-rate finder: a run's own first steps, a curve, and what is read off it."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import NARROW

from conftest import tiny_dataset
from resnets import create_model, find_lr
from resnets.errors import NonFiniteError, UsageError
from resnets.training.find_lr import read, steepest, sweep, valley
from resnets.training.train import train

SETTINGS = ("batch_size=8", "data.holdout=10", "augment.padding=2")


@pytest.fixture(autouse=True)
def _one_thread():
    """For so little, one is faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def geometric(low, high, steps):
    return [low * (high / low) ** (number / steps) for number in range(steps)]


def found(**options):
    options.setdefault("settings", SETTINGS)
    return find_lr(tiny_dataset(), model=NARROW, quiet=True, **options)


@pytest.mark.parametrize("sharpest", [0.5, 4.0, 300.0])
def test_a_quadratic_blows_up_beyond_its_largest_stable_rate(sharpest):
    """Gradient descent on c w^2 / 2 is stable up to rate 2 / c."""
    weight = torch.ones(1, dtype=torch.float64)

    def step(rate):
        loss = float(sharpest * weight**2 / 2)
        weight.mul_(1 - rate * sharpest)
        return loss

    rates = geometric(1e-5 / sharpest, 50 / sharpest, 100)
    curve = sweep(step, rates)
    first_unstable = next(i for i, rate in enumerate(rates) if rate > 2 / sharpest)
    assert np.argmin(curve.losses) == first_unstable  # whose own step makes it larger
    assert curve.ended == f"the loss blew up at rate {curve.rates[-1]:.2g}"
    rate, reason, _ = read(curve, 100)
    assert 0.01 / sharpest < rate < 2 / sharpest
    assert reason.startswith("there the loss has come half way from")


def test_the_average_is_without_the_bias_of_its_beginning():
    losses = [3.0, 2.0, 4.0, 1.0]
    curve = sweep(lambda rate: losses[rate - 1], [1, 2, 3, 4])
    for count, value in enumerate(curve.smoothed, start=1):
        weights = 0.98 ** np.arange(count)[::-1]
        assert value == pytest.approx(np.average(losses[:count], weights=weights))
    assert (curve.losses, curve.ended) == (tuple(losses), "rate 4 was the last to try")


def test_a_loss_that_is_not_finite_ends_the_curve():
    def step(rate):
        if rate > 1:
            raise NonFiniteError("the loss is nan")
        return 2.0

    curve = sweep(step, [0.25, 0.5, 1, 2, 4])
    assert (curve.rates, curve.ended) == ((0.25, 0.5, 1), "the loss is nan at rate 2")
    with pytest.raises(NonFiniteError, match="the loss is nan"):
        sweep(step, [2, 4])


@pytest.mark.parametrize("seed", range(5))
def test_curves_are_read_as_fastai_reads_them(seed):
    """The longest strictly falling series by all its members, and gradients by numpy."""
    noise = np.random.default_rng(seed).normal(0, 0.05, 60)
    losses = (2 - np.linspace(0, 1.5, 60) + noise).tolist()
    rates = geometric(1e-6, 1, 60)
    tails = [[loss] for loss in losses]
    for i, loss in enumerate(losses):
        for before in tails[:i]:
            if before[-1] > loss and len(before) + 1 > len(tails[i]):
                tails[i] = [*before, loss]
    length = max(map(len, tails))
    end = next(i for i, series in enumerate(tails) if len(series) == length)
    assert valley(losses) == end - length + int(length / 3) + int(length / 3 / 2)
    slopes = np.diff(losses) / np.diff(np.log(rates))
    assert steepest(rates, losses) == slopes.argmin()


def test_steps_are_those_of_the_run(tmp_path):
    """At one rate, the losses are those that a run of so many steps has recorded."""
    curve = found(steps=20, low=0.05, high=0.05 * (1 + 1e-9)).curve
    settings = [*SETTINGS, "optimizer.lr=0.05", "schedule.iterations=20", "schedule.shape=steps"]
    run = train(
        tiny_dataset(),
        model=NARROW,
        settings=[*settings, "schedule.warmup=0"],
        out=tmp_path / "run",
        quiet=True,
    )
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    sizes = [8] * 5  # of 40 training samples
    for number, line in enumerate(lines):
        mine = curve.losses[5 * number : 5 * number + 5]
        assert line["train_loss"] == pytest.approx(np.average(mine, weights=sizes), rel=1e-4)


def test_it_is_deterministic_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = found(steps=30)
    assert first == found(steps=30)
    assert first != found(steps=30, settings=[*SETTINGS, "seed=1"])
    assert list(tmp_path.iterdir()) == []
    rate, curve = first.rate, first.curve
    assert first.settings == (f"optimizer.lr={rate:g}",)
    averages = curve.smoothed[3:-5]
    place = int(np.abs(np.log(np.array(curve.rates[3:-5]) / rate)).argmin())
    assert averages[place] == pytest.approx((averages[0] + min(averages)) / 2, rel=0.1)
    assert first.others["minimum"] == curve.rates[3 + int(np.argmin(averages))] / 10


def test_where_nothing_can_be_suggested_it_says_so():
    flat = found(steps=30, low=1e-12, high=1e-10)
    assert flat.rate is None
    assert flat.settings == ()
    assert "no rate can be suggested: the loss falls at none of them" in flat.reason
    weights = create_model(replace(NARROW, num_classes=2)).state_dict()
    weights["fc.bias"] = torch.full_like(weights["fc.bias"], torch.nan)
    with pytest.raises(NonFiniteError, match="the loss is nan"):
        found(weights=weights)
    for wrong in ({"steps": 5}, {"low": 0}, {"low": 2, "high": 1}):
        with pytest.raises(UsageError, match="make no curve"):
            found(**wrong)


def test_all_learns_that_learns_in_the_end():
    plain = found(steps=30)
    later = found(steps=30, settings=[*SETTINGS, "finetune.head_epochs=2", "finetune.thaw=1"])
    assert later.curve.losses == pytest.approx(plain.curve.losses, rel=1e-3)
    head = found(steps=30, settings=[*SETTINGS, "finetune.freeze=all"])
    assert head.curve.losses[-1] != pytest.approx(plain.curve.losses[-1], rel=1e-3)


def test_both_rates_of_muon_rise_together():
    muon = found(
        steps=30,
        settings=[*SETTINGS, "optimizer.kind=muon", "optimizer.nesterov=false", "optimizer.lr=0.1"],
    )
    rate, matrices = (float(setting.partition("=")[2]) for setting in muon.settings)
    assert [setting.partition("=")[0] for setting in muon.settings] == [
        "optimizer.lr",
        "optimizer.matrix_lr",
    ]
    assert matrices == pytest.approx(0.5 * rate, rel=0.01)  # 0.05 / 0.1, as in the recipe


def test_the_command_says_the_command(photos, tmp_path, monkeypatch, resnets):
    monkeypatch.chdir(tmp_path)
    words = ["train", "photos", "--model", "resnet8", "--set", "data.image_size=8"]
    words += ["--set", "schedule.epochs=1", "--set", "batch_size=8", "--no-cuda-graph"]
    code, out, err = resnets(*words, "--find-lr")
    assert code == 0, err
    assert [path.name for path in tmp_path.glob("runs/*")] == ["photos-resnet8-find-lr.html"]
    page = (tmp_path / "runs/photos-resnet8-find-lr.html").read_text()
    command = out.splitlines()[-1].removeprefix("train with: ")
    assert command in page.replace("&#39;", "'")
    rate = out.split()[2].rstrip(":")
    assert shlex.split(command) == ["resnets", *words[:-1], "--set", f"optimizer.lr={rate}"]
    code, out, _ = resnets(*words, "--find-lr", "--json", "--out", "runs/mine", "--plan")
    values = json.loads(out)
    assert f"{values['rate']:g}" == rate
    assert values["command"].endswith(f"--out runs/mine --set optimizer.lr={rate}")
    assert len(values["rates"]) == len(values["losses"]) == len(values["smoothed"])
    assert (tmp_path / values["page"]).exists()
    assert not (tmp_path / "runs/mine").exists()
    (tmp_path / "file").touch()  # no place for the page takes nothing of what was found
    code, out, err = resnets(*words, "--find-lr", "--out", "file/run")
    assert code == 7
    assert out.startswith(f"learning rate {rate}: ")
    assert "cannot be" in err
    assert resnets(*shlex.split(command)[1:])[0] == 0
    assert f"lr: {rate}" in (tmp_path / "runs/photos-resnet8/recipe.yaml").read_text()
    code, _, err = resnets("train", "--resume", "runs/photos-resnet8", "--find-lr")
    assert (code, "has its rate" in err) == (2, True)
