"""The published recipes against what was published, written down here a second time."""

from itertools import groupby

import pytest

from resnets.training.recipe import ScheduleRecipe, load_recipe
from resnets.training.schedule import RateMemory, Schedule

HE2015 = {
    "batch_size": 128,
    "data.holdout": 5000,
    "data.normalize": "pixel_mean",
    "augment.padding": 4,
    "augment.fill": "mean",
    "augment.mirror": True,
    "optimizer.kind": "sgd",
    "optimizer.lr": 0.1,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "optimizer.momentum_form": "caffe",
    "optimizer.weight_decay": 0.0001,
    "optimizer.decay": "convolutions",
    "schedule.epochs": None,
    "schedule.iterations": 64_000,
    "schedule.plateau_factor": None,
}
PUBLISHED = {
    "he2015_cifar": HE2015 | {"schedule.warmup": 0, "schedule.warmup_until_error": None},
    "he2015_cifar_110": HE2015 | {"schedule.warmup": 0, "schedule.warmup_until_error": 0.8},
    "he2016_cifar": HE2015
    | {"schedule.warmup_until_error": None, "optimizer.momentum_form": "torch"},
    "resnext_cifar": HE2015
    | {
        "data.holdout": 0,
        "data.normalize": "channel",
        "optimizer.nesterov": True,
        "optimizer.momentum_form": "torch",
        "optimizer.weight_decay": 0.0005,
        "optimizer.decay": "all",
        "schedule.epochs": 300,
        "schedule.iterations": None,
    },
    "akamaster_cifar": HE2015
    | {
        "optimizer.momentum_form": "torch",
        "data.holdout": 0,
        "data.normalize": "imagenet",
        "augment.fill": "black",
        "optimizer.decay": "all",
        "schedule.epochs": 200,
        "schedule.iterations": None,
    },
    "keras_cifar": {
        "batch_size": 32,
        "data.holdout": 5000,
        "data.normalize": "pixel_mean",
        "augment.padding": 0,
        "augment.shift": 0.1,
        "augment.mirror": True,
        "optimizer.kind": "adam",
        "optimizer.lr": 0.001,
        "optimizer.momentum": 0.9,
        "optimizer.second_momentum": 0.999,
        "optimizer.epsilon": 1e-07,
        "optimizer.weight_decay": 2 * 0.0001,  # the derivative of 0.0001 w^2, over w
        "optimizer.decay": "convolutions",
        "schedule.epochs": 200,
        "schedule.iterations": None,
        "schedule.plateau_factor": pytest.approx(0.1**0.5, rel=1e-15),
        "schedule.plateau_patience": 5,
        "schedule.plateau_floor": 0.5e-6,
    },
    "he2015_imagenet": {
        "batch_size": 256,
        "data.image_size": 224,
        "data.normalize": "pixel_mean",
        "augment.padding": 0,
        "augment.scale": (256, 480),
        "augment.mirror": True,
        "augment.lighting": 0.1,
        "optimizer.kind": "sgd",
        "optimizer.lr": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": False,
        "optimizer.momentum_form": "caffe",
        "optimizer.weight_decay": 0.0001,
        "optimizer.decay": "convolutions",
        "schedule.epochs": None,
        "schedule.iterations": 600_000,
        "schedule.plateau_factor": 0.1,
        "schedule.plateau_floor": 0,
    },
    "torchvision_v1_imagenet": {
        "batch_size": 8 * 32,
        "sync_batch_norm": False,
        "data.image_size": 224,
        "data.normalize": "imagenet",
        "augment.padding": 0,
        "augment.area": (0.08, 1.0),
        "augment.aspect": (3 / 4, 4 / 3),
        "augment.mirror": True,
        "augment.lighting": 0,
        "optimizer.kind": "sgd",
        "optimizer.lr": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": False,
        "optimizer.weight_decay": 0.0001,
        "optimizer.decay": "all",
        "schedule.epochs": 90,
        "schedule.iterations": None,
        "schedule.plateau_factor": None,
    },
}
# What came later than these papers, or was not theirs.
NONE_OF_IT = {
    "label_smoothing": 0,
    "ema": 0,
    "precise_batch_norm": 0,
    "selection": "last",
    "precision": "float32",
    "augment.cutout": 0,
    "augment.mixup": 0,
    "augment.cutmix": 0,
    "augment.first_size": None,
    "optimizer.clip": None,
    "optimizer.accumulate": 1,
    "schedule.shape": "steps",
}

# Steps of an epoch, and how long each rate lasts: of the 45,000 images that are not held out,
# of CIFAR's 50,000 and of ImageNet's 1,281,167.
RATES = {
    "he2015_cifar": (1, [(32_000, 0.1), (16_000, 0.01), (16_000, 0.001)]),
    "he2016_cifar": (1, [(400, 0.01), (31_600, 0.1), (16_000, 0.01), (16_000, 0.001)]),
    "resnext_cifar": (391, [(150, 0.1), (75, 0.01), (75, 0.001)]),
    "akamaster_cifar": (391, [(100, 0.1), (50, 0.01), (50, 0.001)]),
    "keras_cifar": (1407, [(80, 1e-3), (40, 1e-4), (40, 1e-5), (20, 1e-6), (20, 5e-7)]),
    "torchvision_v1_imagenet": (5005, [(30, 0.1), (30, 0.01), (30, 0.001)]),
}


def length(recipe: ScheduleRecipe, per_epoch: int) -> int:
    return recipe.iterations or recipe.epochs * per_epoch


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_are_the_published_ones(name):
    recipe = load_recipe(name)
    for key, wanted in (NONE_OF_IT | PUBLISHED[name]).items():
        found = recipe
        for part in key.split("."):
            found = getattr(found, part)
        assert found == wanted, key
    assert recipe.source


@pytest.mark.parametrize("name", RATES)
def test_rates_last_as_long_as_published(name):
    recipe, (per_epoch, wanted) = load_recipe(name), RATES[name]
    steps = length(recipe.schedule, per_epoch)
    schedule = Schedule(recipe.schedule, recipe.optimizer.lr, steps, RateMemory())
    runs = groupby(map(schedule.rate, range(steps)))
    found = [(sum(1 for _ in run) / per_epoch, rate) for rate, run in runs]
    assert found == [(count, pytest.approx(rate, rel=1e-12)) for count, rate in wanted]


def test_the_110_layers_warm_up_until_they_err_less_than_80_percent():
    recipe = load_recipe("he2015_cifar_110")
    schedule = Schedule(recipe.schedule, recipe.optimizer.lr, 64_000, RateMemory())
    rates = []
    for step in range(64_000):
        rates.append(schedule.rate(step))
        schedule.after_step(128, 10 if step < 300 else 30)
    found = [(sum(1 for _ in run), rate) for rate, run in groupby(rates)]
    wanted = [(400, 0.01), (31_600, 0.1), (16_000, 0.01), (16_000, 0.001)]
    assert found == [(count, pytest.approx(rate, rel=1e-12)) for count, rate in wanted]


def test_the_110_layers_may_warm_up_for_400_iterations():
    settings = ["schedule.warmup_until_error=null", "schedule.warmup=0.00625"]
    fixed = load_recipe("he2015_cifar_110", settings)
    assert fixed.schedule == load_recipe("he2016_cifar").schedule


def test_akamasters_deep_nets_warm_up_for_an_epoch():
    settings = ["schedule.warmup=0.005", "schedule.warmup_rate=0.1"]
    schedule = load_recipe("akamaster_cifar", settings).schedule
    plan = Schedule(schedule, 0.1, 200 * 391, RateMemory())
    assert [plan.rate(step) for step in (0, 390, 391)] == pytest.approx([0.01, 0.01, 0.1])


def test_the_imagenet_rate_is_divided_by_ten_on_a_plateau():
    recipe = load_recipe("he2015_imagenet")
    schedule = Schedule(recipe.schedule, 0.1, 600_000, RateMemory())
    rates = []
    for epoch in range(12):
        schedule.after_epoch(2.0 if epoch else 3.0)
        rates.append(schedule.rate(5005 * (epoch + 1)))
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 5 + [0.001])


def test_kerass_plateau_lowers_the_first_rate_and_not_the_last():
    recipe = load_recipe("keras_cifar")
    schedule = Schedule(recipe.schedule, 1e-3, 200, RateMemory())
    for _ in range(11):
        schedule.after_epoch(1.0)
    rates = [schedule.rate(epoch) for epoch in (0, 80, 160, 180)]
    assert rates == pytest.approx([1e-4, 1e-5, 5e-7, 5e-7])
