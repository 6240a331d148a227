"""Learning rates and image sizes against values worked out by hand."""

import json
from dataclasses import asdict
from itertools import groupby
from math import inf, nan

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from resnets.training.recipe import AugmentRecipe, ScheduleRecipe, load_recipe
from resnets.training.schedule import RateMemory, Schedule, image_size


def schedule(peak: float, steps: int, **recipe) -> Schedule:
    return Schedule(ScheduleRecipe(epochs=1, **recipe), peak, steps, RateMemory())


def test_torchvisions_warmup_and_cosine_are_of_epochs():
    """LinearLR and CosineAnnealingLR in sequence, one step an epoch, as it trains."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    warming = LinearLR(optimizer, start_factor=0.01, total_iters=5)
    cosine = CosineAnnealingLR(optimizer, T_max=30 - 5)
    theirs = SequentialLR(optimizer, [warming, cosine], milestones=[5])
    wanted = []
    for _ in range(30):
        wanted.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    recipe = ScheduleRecipe(
        epochs=30, shape="cosine", warmup_epochs=5, warmup_from=0.01, interval="epoch"
    )
    ours = Schedule(recipe, 0.5, 30 * 7, RateMemory(), 7)
    rates = [ours.rate(step) for step in range(30 * 7)]
    assert rates == pytest.approx(np.repeat(wanted, 7).tolist(), rel=1e-9, abs=1e-12)


def test_timms_cosine_begins_with_the_run():
    """Its CosineLRScheduler: epochs, no prefix for the warm-up, from 1e-4 and down to 1e-6."""
    peak, first, last, epochs = 5e-3, 1e-4, 1e-6, 20
    wanted = [
        first + epoch * (peak - first) / 5
        if epoch < 5
        else last + 0.5 * (peak - last) * (1 + np.cos(np.pi * epoch / epochs))
        for epoch in range(epochs)
    ]
    recipe = ScheduleRecipe(
        epochs=epochs,
        shape="cosine",
        shape_from="start",
        warmup_epochs=5,
        warmup_from=first / peak,
        end=last / peak,
        interval="epoch",
    )
    ours = Schedule(recipe, peak, epochs * 3, RateMemory(), 3)
    rates = [ours.rate(step) for step in range(epochs * 3)]
    assert rates == pytest.approx(np.repeat(wanted, 3).tolist(), rel=1e-12)


def test_ffcvs_triangle_is_of_iterations():
    """Between the rates of whole epochs, 1e-4 of the peak, the peak at the second, and nothing."""
    epochs, batches = 16, 9
    knots = np.interp(np.arange(epochs + 1), [0, 2, epochs], [1.7e-4, 1.7, 0])
    wanted = [
        np.interp(np.arange(batches), [0, batches], knots[epoch : epoch + 2])
        for epoch in range(epochs)
    ]
    recipe = ScheduleRecipe(epochs=16, shape="linear", warmup_epochs=2, warmup_from=1e-4)
    ours = Schedule(recipe, 1.7, epochs * batches, RateMemory(), batches)
    rates = [ours.rate(step) for step in range(epochs * batches)]
    assert rates == pytest.approx(np.concatenate(wanted).tolist(), rel=1e-12)


@pytest.mark.parametrize(("epochs", "warm"), [(3, 15), (10, 50), (16, 50)])
def test_a_warmup_of_epochs_is_no_more_than_half_of_a_run(epochs, warm):
    recipe = ScheduleRecipe(epochs=epochs, shape="linear", warmup_epochs=5)
    ours = Schedule(recipe, 1.0, 10 * epochs, RateMemory(), 10)
    rates = [ours.rate(step) for step in range(10 * epochs)]
    assert rates.index(1.0) == warm - 1


def test_he2015_drops_at_32k_and_48k():
    paper = Schedule(load_recipe("he2015_cifar").schedule, 0.1, 64_000, RateMemory())
    rates = {step: paper.rate(step) for step in (0, 31_999, 32_000, 47_999, 48_000)}
    assert rates == {
        0: 0.1,
        31_999: 0.1,
        32_000: pytest.approx(0.01),
        47_999: pytest.approx(0.01),
        48_000: pytest.approx(0.001),
    }


def test_a_shorter_run_scales():
    paper = Schedule(load_recipe("he2015_cifar").schedule, 0.1, 1200, RateMemory())
    rates = [paper.rate(step) for step in (599, 600, 899, 900, 1199)]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("shape", ["cosine", "linear", "steps"])
def test_warmup_rises_to_the_peak(shape):
    warmed = schedule(1.0, 100, shape=shape, warmup=0.1)
    rates = [warmed.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[10] == 1.0
    assert max(rates) == 1.0


def test_shapes_after_warmup():
    cosine, linear = (schedule(2.0, 100, shape=shape) for shape in ("cosine", "linear"))
    assert cosine.rate(50) == pytest.approx(1.0)
    assert cosine.rate(25) == pytest.approx(1 + 0.5**0.5)
    assert linear.rate(75) == pytest.approx(0.5)
    assert cosine.rate(99) == pytest.approx(0, abs=1e-3)


def test_a_warmup_may_be_constant():
    constant = schedule(0.1, 1000, warmup=0.4, warmup_rate=0.1, milestones=(0.5,))
    rates = [constant.rate(step) for step in range(1000)]
    lengths = [(pytest.approx(rate), len(list(run))) for rate, run in groupby(rates)]
    assert lengths == [(0.01, 400), (0.1, 100), (0.01, 500)]


def test_each_milestone_may_have_its_own_factor():
    keras = schedule(1e-3, 200, milestones=(0.4, 0.6, 0.8, 0.9), factor=(0.1, 0.01, 0.001, 0.0005))
    rates = [keras.rate(step) for step in (0, 79, 80, 119, 120, 159, 160, 179, 180, 199)]
    expected = [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6, 5e-7, 5e-7]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_warmup_ends_for_good_when_a_window_of_100_steps_errs_less():
    warming = schedule(0.1, 1000, warmup_rate=0.1, warmup_until_error=0.8)

    def go(steps: int, correct: int) -> None:
        for _ in range(steps):
            warming.after_step(10, correct)

    go(100, 2)  # an error of 0.8 is not below it
    assert warming.rate(100) == pytest.approx(0.01)
    go(50, 10)
    go(49, 0)
    assert warming.rate(199) == pytest.approx(0.01)  # low enough, but the window is not over
    go(1, 0)
    assert warming.rate(200) == 0.1
    go(300, 0)
    assert warming.rate(500) == 0.1
    assert warming.memory.warm_steps == 200


def test_windows_do_not_overlap():
    warming = schedule(0.1, 1000, warmup_rate=0.1, warmup_until_error=0.5)
    for correct in (0, 10, 0):  # 100 steps in a row are right, but no window is
        for _ in range(50 if correct == 0 else 100):
            warming.after_step(10, correct)
    assert not warming.memory.warm


def test_a_shape_begins_where_the_warmup_by_error_ended():
    linear = schedule(1.0, 500, shape="linear", warmup_rate=0.1, warmup_until_error=0.5)
    for _ in range(100):
        linear.after_step(1, 1)
    assert linear.rate(100) == 1.0
    assert linear.rate(300) == pytest.approx(0.5)


def keras_rates(losses: list[float], rate: float, floor: float) -> list[float]:
    """The rates that ReduceLROnPlateau(factor=0.5, patience=2, min_lr=floor) leaves."""
    best, wait, rates = inf, 0, []
    for loss in losses:
        if loss < best - 1e-4:
            best, wait = loss, 0
        else:
            wait += 1
            if wait >= 2 and rate > floor:
                rate, wait = max(rate * 0.5, floor), 0
        rates.append(rate)
    return rates


@pytest.mark.parametrize(
    "losses",
    [
        [1.0, 0.9, 0.9, 0.9, 0.9, 0.8, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7],
        [nan, 1.0, 0.99995, 0.9999, 0.9998, 0.9998, inf, nan, nan, nan],
        [1.0] * 12,
    ],
)
def test_plateau_is_kerass(losses):
    plateau = schedule(0.1, 100, plateau_factor=0.5, plateau_patience=2, plateau_floor=0.02)
    rates = []
    for loss in losses:
        plateau.after_epoch(loss)
        rates.append(plateau.rate(50))
    assert rates == pytest.approx(keras_rates(losses, 0.1, 0.02))
    assert rates[-1] < 0.1


def test_plateau_comes_on_top_and_its_floor_raises_nothing():
    recipe = {"plateau_factor": 0.1, "plateau_patience": 1, "plateau_floor": 0.005}
    plateau = schedule(0.1, 100, milestones=(0.5, 0.75), **recipe)
    plateau.after_epoch(1.0)
    plateau.after_epoch(1.0)
    rates = [plateau.rate(step) for step in (0, 50, 75)]
    assert rates == pytest.approx([0.01, 0.005, 0.001])


def test_without_a_held_out_loss_or_a_plateau_the_rate_stays():
    for recipe, loss in (({"plateau_factor": 0.1, "plateau_patience": 1}, None), ({}, 1.0)):
        still = schedule(0.1, 100, **recipe)
        for _ in range(10):
            still.after_epoch(loss)
        assert still.memory == RateMemory()
        assert still.rate(99) == 0.1


def test_memory_survives_json():
    recipe = ScheduleRecipe(
        epochs=1, warmup_rate=0.1, warmup_until_error=0.5, plateau_factor=0.5, plateau_patience=2
    )
    kept, reread = RateMemory(), RateMemory()
    for step in range(230):
        reread = RateMemory(**json.loads(json.dumps(asdict(reread))))
        for memory in (kept, reread):
            plan = Schedule(recipe, 0.1, 1000, memory)
            plan.after_step(3, step % 3)
            if step % 20 == 0:
                plan.after_epoch(1.0)
    assert kept == reread
    assert (kept.warm_steps, kept.steps, kept.best) == (230, 30, 1.0)
    assert kept.scale < 1


def test_pictures_grow_in_equal_times():
    augment = AugmentRecipe(first_size=20, full_size_from=0.6)
    sizes = [image_size(augment, 32, step, 100) for step in range(100)]
    assert [(s, len(list(run))) for s, run in groupby(sizes)] == [
        (20, 20),
        (24, 20),
        (28, 20),
        (32, 40),
    ]


@pytest.mark.parametrize("steps", [1, 7, 100, 997])
@pytest.mark.parametrize("start", [0.0, 0.29, 0.5, 0.55, 0.999])
def test_sizes_rise_to_the_full_one_which_need_not_be_a_multiple(steps, start):
    augment = AugmentRecipe(first_size=8, full_size_from=start)
    sizes = [image_size(augment, 31, step, steps) for step in range(steps)]
    assert sizes == sorted(sizes)
    assert set(sizes) <= {8, 12, 16, 20, 24, 28, 31}
    assert sizes.count(31) == steps - round(start * steps)
    if start and steps >= 7:
        assert sizes[0] == 8


@pytest.mark.parametrize(("epochs", "start", "end", "full"), [(16, 11, 13, 12), (88, 65, 76, 71)])
def test_ffcvs_sizes(epochs, start, end, full):
    """Between two epochs, the multiple of 32 next to a line from 160 to 192."""
    lines = np.interp(np.arange(epochs), [start, end], [160, 192])
    wanted = [int(np.round(side / 32)) * 32 for side in lines]
    augment = AugmentRecipe(first_size=160, size_step=32, full_size_from=full / epochs)
    assert [image_size(augment, 192, step, epochs) for step in range(epochs)] == wanted


@pytest.mark.parametrize("first", [None, 32, 40])
def test_there_is_nothing_to_grow(first):
    assert image_size(AugmentRecipe(first_size=first), 32, 0, 100) == 32
