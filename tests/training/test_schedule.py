"""Learning rates against values worked out by hand."""

import pytest

from resnets.training.recipe import ScheduleRecipe, load_recipe
from resnets.training.schedule import learning_rate


def test_he2015_drops_at_32k_and_48k():
    schedule = load_recipe("he2015_cifar").schedule
    rates = {step: learning_rate(schedule, 0.1, step, 64_000) for step in (0, 31_999, 32_000)}
    assert rates == {0: 0.1, 31_999: 0.1, 32_000: pytest.approx(0.01)}
    assert learning_rate(schedule, 0.1, 47_999, 64_000) == pytest.approx(0.01)
    assert learning_rate(schedule, 0.1, 48_000, 64_000) == pytest.approx(0.001)


def test_a_shorter_run_scales():
    schedule = load_recipe("he2015_cifar").schedule
    rates = [learning_rate(schedule, 0.1, step, 1200) for step in (599, 600, 899, 900, 1199)]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("shape", ["cosine", "linear", "steps"])
def test_warmup_rises_to_the_peak(shape):
    schedule = ScheduleRecipe(epochs=1, shape=shape, warmup=0.1)
    rates = [learning_rate(schedule, 1.0, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[10] == 1.0
    assert max(rates) == 1.0


def test_shapes_after_warmup():
    cosine = ScheduleRecipe(epochs=1, shape="cosine")
    linear = ScheduleRecipe(epochs=1, shape="linear")
    assert learning_rate(cosine, 2.0, 50, 100) == pytest.approx(1.0)
    assert learning_rate(cosine, 2.0, 25, 100) == pytest.approx(1 + 0.5**0.5)
    assert learning_rate(linear, 2.0, 75, 100) == pytest.approx(0.5)
    assert learning_rate(cosine, 2.0, 99, 100) == pytest.approx(0, abs=1e-3)
