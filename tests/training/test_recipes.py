"""The published recipes against what was published, written down here a second time."""

from dataclasses import replace
from itertools import groupby
from math import cos, pi

import pytest

from conftest import tiny_dataset
from resnets import get_spec, open_model
from resnets.data.preprocess import imagenet
from resnets.nn import ResNet
from resnets.training.recipe import DistillRecipe, ScheduleRecipe, list_recipes, load_recipe
from resnets.training.schedule import RateMemory, Schedule
from resnets.training.train import train

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
NEW = {
    "sync_batch_norm": False,
    "data.normalize": "imagenet",
    "augment.padding": 0,
    "augment.area": (0.08, 1.0),
    "augment.aspect": (3 / 4, 4 / 3),
    "augment.mirror": True,
    "optimizer.kind": "sgd",
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "schedule.iterations": None,
    "schedule.warmup": 0,
    "schedule.warmup_steps": 0,
    "schedule.warmup_rate": None,
}
STRIKES_BACK = NEW | {
    "batch_size": 2048,
    "loss": "binary_cross_entropy",
    "precision": "float16",
    "zero_init_residual": True,
    "data.resize": int(224 / 0.95),
    "data.interpolation": "bicubic",
    "augment.interpolation": "random",
    "augment.policy": "timm",
    "augment.policy_noise": 0.5,
    "augment.policy_operations": 2,
    "augment.policy_probability": 0.5,
    "augment.fill": "mean",
    "augment.cutmix": 1,
    "augment.partner": "next",
    "optimizer.kind": "lamb",
    "optimizer.second_momentum": 0.999,
    "optimizer.epsilon": 1e-6,
    "optimizer.trust_clip": False,
    "optimizer.decay": "weights",
    "optimizer.clip": 1,
    "schedule.shape": "cosine",
    "schedule.shape_from": "start",
    "schedule.interval": "epoch",
    "schedule.warmup_epochs": 5,
}
PUBLISHED |= {
    "torchvision_v2_imagenet": NEW
    | {
        "batch_size": 8 * 128,
        "label_smoothing": 0.1,
        "ema": 0.99998,
        "ema_every": 32,
        "ema_form": "torchvision",
        "data.image_size": 176,
        "data.eval_size": 224,
        "data.resize": 232,
        "data.interpolation": "bilinear",
        "data.repeats": 4,
        "augment.policy": "trivialaugment",
        "augment.policy_bins": 31,
        "augment.fill": "black",
        "augment.erasing": 0.1,
        "augment.erasing_area": (0.02, 0.33),
        "augment.erasing_aspect": (0.3, 3.3),
        "augment.mixup": 0.2,
        "augment.cutmix": 1,
        "augment.partner": "next",
        "optimizer.lr": 0.5,
        "optimizer.weight_decay": 0.00002,
        "optimizer.decay": "biases",
        "schedule.epochs": 600,
        "schedule.shape": "cosine",
        "schedule.interval": "epoch",
        "schedule.warmup_epochs": 5,
        "schedule.warmup_from": 0.01,
        "schedule.end": 0,
    },
    "timm_a1_imagenet": STRIKES_BACK
    | {
        "label_smoothing": 0.1,
        "drop_path": 0.05,
        "data.image_size": 224,
        "data.repeats": 3,
        "augment.policy_magnitude": 7,
        "augment.mixup": 0.2,
        "optimizer.lr": 0.005,
        "optimizer.weight_decay": 0.01,
        "schedule.epochs": 600,
    },
    "timm_a2_imagenet": STRIKES_BACK
    | {
        "target_threshold": 0.2,
        "drop_path": 0.05,
        "data.image_size": 224,
        "data.repeats": 3,
        "augment.policy_magnitude": 7,
        "augment.mixup": 0.1,
        "optimizer.lr": 0.005,
        "optimizer.weight_decay": 0.02,
        "schedule.epochs": 300,
    },
    "timm_a3_imagenet": STRIKES_BACK
    | {
        "target_threshold": 0.2,
        "data.image_size": 160,
        "data.eval_size": 224,
        "augment.policy_magnitude": 6,
        "augment.mixup": 0.1,
        "optimizer.lr": 0.008,
        "optimizer.weight_decay": 0.02,
        "schedule.epochs": 100,
    },
    "ffcv_imagenet": NEW
    | {
        "batch_size": 8 * 512,
        "label_smoothing": 0.1,
        "precision": "float16",
        "data.image_size": 192,
        "data.eval_size": 256,
        "augment.first_size": 160,
        "augment.size_step": 32,
        "augment.full_size_from": 12 / 16,
        "optimizer.lr": 1.7,
        "optimizer.weight_decay": 0.0001,
        "optimizer.decay": "biases",
        "schedule.epochs": 16,
        "schedule.shape": "linear",
        "schedule.warmup_epochs": 2,
        "schedule.warmup_from": 0.0001,
    },
}
# What came later than a paper, or was not its.
NONE_OF_IT = {
    "loss": "cross_entropy",
    "target_threshold": None,
    "drop_path": None,
    "zero_init_residual": None,
    "data.eval_size": None,
    "data.resize": None,
    "data.repeats": 1,
    "data.interpolation": "bilinear",
    "augment.interpolation": "bilinear",
    "augment.policy": None,
    "augment.jitter": None,
    "augment.partner": "any",
    "augment.lighting": 0,
    "augment.erasing": 0,
    "schedule.interval": "step",
    "schedule.shape_from": "warmup",
    "schedule.warmup_epochs": 0,
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


def cosine(peak: float, epochs: float, done: float, end: float = 0.0) -> float:
    """Of an epoch, from the peak to the end."""
    return end + (peak - end) * (1 + cos(pi * done / epochs)) / 2


# The rates of whole epochs, as published: torchvision's cosine begins after the warm-up, timm's
# with the run, ffcv's line is of iterations.
OF_EPOCHS = {
    "torchvision_v2_imagenet": (
        1251,
        {0: 0.005, 1: 0.104, 4: 0.401, 5: 0.5, 300: cosine(0.5, 595, 295)},
    ),
    "timm_a1_imagenet": (
        626,
        {0: 1e-4, 1: 1.08e-3, 5: cosine(5e-3, 600, 5, 1e-6), 599: cosine(5e-3, 600, 599, 1e-6)},
    ),
    "timm_a2_imagenet": (626, {0: 1e-4, 1: 1.08e-3, 150: (5e-3 + 1e-6) / 2}),
    "timm_a3_imagenet": (626, {0: 1e-4, 1: 1.68e-3, 50: (8e-3 + 1e-6) / 2}),
    "ffcv_imagenet": (313, {0: 1.7e-4, 1: (1.7 + 1.7e-4) / 2, 2: 1.7, 9: 0.85}),
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


@pytest.mark.parametrize("name", OF_EPOCHS)
def test_rates_of_epochs_are_the_published_ones(name):
    recipe, (batches, wanted) = load_recipe(name), OF_EPOCHS[name]
    steps = recipe.schedule.epochs * batches
    schedule = Schedule(recipe.schedule, recipe.optimizer.lr, steps, RateMemory(), batches)
    found = {epoch: schedule.rate(epoch * batches) for epoch in wanted}
    assert found == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in list_recipes() if name.endswith("_imagenet")])
def test_recipes_for_imagenet_train(name, tmp_path):
    """Something small; that they resume to the bit is recorded in tests/golden."""
    recipe, small = load_recipe(name), get_spec("resnet8")
    settings = ["schedule.iterations=2", "batch_size=8", "data.image_size=12", "data.resize=null"]
    settings += ["data.holdout=8", "precision=float32"]
    settings += ["data.eval_size=16"] if recipe.data.eval_size else []
    settings += ["augment.scale=[12,16]"] if recipe.augment.scale else []
    settings += ["augment.first_size=8"] if recipe.augment.first_size else []
    recipe = load_recipe(recipe, settings)
    small, data = replace(small, widths=(4, 8, 8), stem_width=4), tiny_dataset(32, 8, side=16)
    teacher = ResNet(replace(small, num_classes=2)) if recipe.distill != DistillRecipe() else None
    if teacher:
        teacher.preprocess = imagenet(3, 12)
    train(data, model=small, recipe=recipe, teacher=teacher, out=tmp_path / "run", quiet=True)
    model = open_model(tmp_path / "run")
    assert model.preprocess.size == (16 if recipe.data.eval_size else 12)
    assert model.spec.drop_path == (recipe.drop_path or 0)
    assert model.spec.zero_init_residual == bool(recipe.zero_init_residual)


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
