"""The learning-rate finder: a run's own first steps, at rates that rise until the loss blows up."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import inf, log
from typing import Any

import torch

from resnets.errors import NonFiniteError, UsageError
from resnets.formatting import plural
from resnets.training.computing import computing, initial_state, steps_of
from resnets.training.feed import build_feed
from resnets.training.prepare import Plan
from resnets.training.progress import RunProgress
from resnets.training.step import seed_dropout, training_step
from resnets.training.train import planned

BETA = 0.98  # of the moving average; this and the next are fastai's
BLOWN_UP = 4.0  # times the lowest average
LEAST_FALL = 0.02  # of the loss at the beginning: less than that is no fall
FEWEST = 10  # points of a curve from which something can be read


@dataclass(frozen=True)
class Curve:
    """The loss of each step, and its moving average, at rates that rise geometrically."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    ended: str  # why no step came after these


@dataclass(frozen=True)
class FoundRate:
    """What the finder suggests, and why; ``rate`` is None where nothing can be suggested."""

    rate: float | None
    reason: str
    settings: tuple[str, ...]  # that let a run use it
    others: dict[str, float]  # what fastai's ways to choose suggest, by their names
    planned: float  # the recipe's own rate
    model: str
    data: str
    recipe: str
    curve: Curve = field(repr=False)

    @property
    def beside(self) -> str:
        """Other rates to compare it with."""
        known = ", ".join(f"{name} {rate:.2g}" for name, rate in self.others.items())
        return f"fastai's ways to choose: {known}; the recipe has {self.planned:g}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        values = asdict(self)
        curve: dict[str, Any] = values.pop("curve")
        return values | curve


def find_lr(
    data: Any, *, steps: int = 100, low: float = 1e-6, high: float = 10.0, **options: Any
) -> FoundRate:
    """Suggest ``optimizer.lr`` for the run that `train` would make of the same data and options.

    Its first ``steps`` steps, data, augmentation, weights, optimizer and all, are taken at rates
    from ``low`` to ``high`` (Smith 2017) and forgotten; no file is written.

    Raises what `train` raises, and NonFiniteError where the loss is NaN from the beginning.
    """
    if steps < 2 * FEWEST or not 0 < low < high < inf:
        raise UsageError(
            f"{plural(steps, 'step')} at rates from {low:g} to {high:g} make no curve",
            hint=f"give {2 * FEWEST} steps or more, and rates above 0 that rise",
        )
    rates = [low * (high / low) ** (number / steps) for number in range(steps)]
    with planned(data, **options) as (plan, progress):
        progress.say(
            f"{plan.spec.name} by {plan.recipe.name}: the first {steps} steps, at rates from "
            f"{low:g} to {high:g}; nothing of them is kept"
        )
        with _first_steps(plan, steps) as step:
            curve = sweep(step, rates, progress)
    rate, reason, others = read(curve, steps)
    return FoundRate(
        rate,
        reason,
        _settings(plan, rate),
        others,
        plan.recipe.optimizer.peak,
        plan.spec.name,
        plan.dataset.name,
        plan.recipe.name,
        curve,
    )


@contextmanager
def _first_steps(plan: Plan, steps: int) -> Iterator[Callable[[float], float]]:
    """Yield what takes the plan's next step at a rate, and returns the mean loss of its batch."""
    recipe, processes, state = plan.recipe, plan.machine.processes, initial_state(plan)
    feed = build_feed(plan.dataset, recipe, plan.preprocess, plan.machine.where)
    thawing = plan.thawing
    frozen = thawing.frozen(max(steps, plan.steps) - 1)  # the peak is for what learns in the end
    thawing.freeze(state.model, frozen)

    with (
        torch.random.fork_rng([feed.device] if feed.device.type == "cuda" else []),
        computing(plan, state.model) as network,
        closing(feed.batches(steps_of(plan, feed, 0, steps))) as batches,
    ):
        thawing.train(state.model, frozen)
        numbered = enumerate(batches)

        def step(rate: float) -> float:
            number, batch = next(numbered)
            seed_dropout(recipe.seed, number, processes.rank)
            outcome = training_step(
                network,
                state.optimizer,
                *batch,
                lr=rate,
                recipe=recipe,
                scaler=state.scaler,
                processes=processes,
                teacher=plan.teacher,
            )
            assert outcome is not None  # only a CUDA graph tells nothing
            return outcome.loss

        yield step


def sweep(
    step: Callable[[float], float], rates: Sequence[float], progress: RunProgress | None = None
) -> Curve:
    """Return the losses of steps at these rates, until they have blown up.

    They are averaged exponentially, without the bias of a beginning at 0. What ``step`` raises as
    NonFiniteError ends the curve too; the very first step's is raised.
    """
    losses: list[float] = []
    smoothed: list[float] = []
    average, ended = 0.0, f"rate {rates[-1]:.2g} was the last to try"
    for rate in rates:
        try:
            losses.append(step(rate))
        except NonFiniteError as error:
            if not losses:
                raise
            ended = f"{error.message} at rate {rate:.2g}"
            break
        average = BETA * average + (1 - BETA) * losses[-1]
        smoothed.append(average / (1 - BETA ** len(losses)))
        if progress:
            text = f"rate {rate:.2g}   loss {smoothed[-1]:.3f}"
            progress.step("learning rate", len(losses), len(rates), text)
        if smoothed[-1] > BLOWN_UP * min(smoothed):
            ended = f"the loss blew up at rate {rate:.2g}"
            break
    return Curve(tuple(rates[: len(losses)]), tuple(losses), tuple(smoothed), ended)


def read(curve: Curve, steps: int) -> tuple[float | None, str, dict[str, float]]:
    """Return the rate that a curve of at most ``steps`` steps suggests, why, and other choices.

    It is where the loss has come half way down. fastai's default, the valley, is too careful for
    recipes that warm up and fall: six epochs of resnet8 on the digits come to 97 % of the held-out
    images at ours, 0.13, and to 56 % at the valley's 0.01.
    """
    # The average of the first tenth has hardly begun, and the last five have blown up (fastai).
    rates, losses = curve.rates[steps // 10 : -5], curve.smoothed[steps // 10 : -5]
    if why := _unreadable(curve, losses):
        return None, f"no rate can be suggested: {why}; {curve.ended}", {}
    lowest = min(range(len(losses)), key=losses.__getitem__)
    half = (losses[0] + losses[lowest]) / 2
    halfway = next(number for number, loss in enumerate(losses) if loss <= half)
    reason = (
        f"there the loss has come half way from {losses[0]:.3g} down to {losses[lowest]:.3g}, "
        f"which it has at rate {rates[lowest]:.2g}; {curve.ended}"
    )
    others = {
        "valley": rates[valley(losses)],
        "steep": rates[steepest(rates, losses)],
        "minimum": rates[lowest] / 10,
    }
    return float(f"{rates[halfway]:.2g}"), reason, others


def _unreadable(curve: Curve, losses: Sequence[float]) -> str:
    """Say why nothing can be read off a curve; ``losses`` are the averages that count."""
    if len(losses) < FEWEST:
        return f"the loss could be followed for {plural(len(curve.rates), 'step')} only"
    fall = losses[0] - min(losses)
    until = curve.smoothed.index(min(losses)) + 1
    # Of a batch's loss, by differences, which a slow fall does not enter.
    steps = [(after - before) ** 2 for before, after in pairwise(curve.losses[:until])]
    chance = (sum(steps) / len(steps) / 2) ** 0.5
    if fall < max(LEAST_FALL * losses[0], chance):
        return (
            f"the loss falls at none of them, beyond what batches differ by: {losses[0]:.3g} "
            f"before, {min(losses):.3g} at best"
        )
    return ""


def _settings(plan: Plan, rate: float | None) -> tuple[str, ...]:
    """Return the settings that give a plan's optimizer a rate."""
    if rate is None:
        return ()
    optimizer = plan.recipe.optimizer
    settings = [f"optimizer.lr={rate:g}"]
    if optimizer.kind == "muon":  # whose two rates have risen together
        settings.append(f"optimizer.matrix_lr={optimizer.matrix_lr * rate / optimizer.peak:.2g}")
    return tuple(settings)


def valley(losses: Sequence[float]) -> int:
    """Return the middle of the longest fall of the losses, as fastai counts it.

    A fall is the longest series, perhaps with others between, in which each is below the last.
    """
    lengths: list[int] = []
    for number, loss in enumerate(losses):
        above = (lengths[i] for i in range(number) if losses[i] > loss)
        lengths.append(1 + max(above, default=0))
    last = lengths.index(max(lengths))
    third = lengths[last] / 3  # as if the series stood side by side
    return last - lengths[last] + int(third) + int(third / 2)


def steepest(rates: Sequence[float], losses: Sequence[float]) -> int:
    """Return where the losses fall most steeply over the logarithm of the rate."""

    def slope(i: int) -> float:
        return (losses[i + 1] - losses[i]) / log(rates[i + 1] / rates[i])

    return min(range(len(rates) - 1), key=slope)
