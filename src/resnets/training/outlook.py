"""What a run would do, in words and in numbers, from a few steps that are forgotten."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import count as count_up
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import torch

from resnets.data.given import GIVEN
from resnets.data.photographs import Photographs
from resnets.evaluation.network import evaluate
from resnets.formatting import duration, percent, plural, speed
from resnets.machine.available import peak_growth
from resnets.machine.environment import environment
from resnets.run_folder.directory import RunFolder
from resnets.training.computing import initial_state
from resnets.training.feed import Batch, build_feed
from resnets.training.memory import free_memory, step_memory
from resnets.training.opening import opening_lines, recipe_line
from resnets.training.prepare import Plan
from resnets.training.recipe import Recipe
from resnets.training.seeds import check_count, seeds_out
from resnets.training.state import RunState
from resnets.training.step import training_step
from resnets.training.train import default_out, planned

_STEPS = 4  # of each phase; the first, which is slower, is not counted
_LONG = 20.0  # seconds, after which fewer do
_RATE = 1e-6  # of these steps: what comes of them is of no interest, but has to be finite


@dataclass(frozen=True)
class Phase:
    """Steps in which the same parts of the network learn."""

    learns: str
    begins: int  # its first step, counted from 0
    steps: int
    seconds: float  # that a step took here

    @property
    def total(self) -> float:
        """Its seconds."""
        return self.steps * self.seconds


@dataclass(frozen=True)
class Outlook:
    """What a run would do, and what it would take here; in seconds, bytes and images a second."""

    lines: tuple[str, ...] = field(repr=False)  # what the run would say when it begins
    out: str
    data: dict[str, Any] = field(repr=False)
    weights: dict[str, Any] | None
    recipe: dict[str, Any] = field(repr=False)  # every setting, with what was chosen
    why: str  # those settings were chosen that the recipe had left open
    epochs: float
    steps: int
    phases: tuple[Phase, ...]
    evaluation: float  # seconds, of all evaluations
    reading: float | None  # images a second, when nothing else is computed; None: in memory
    network: float  # images a second, in the slowest phase
    memory: int  # of the largest step, counted
    grown: int | None  # by how much the process grew at its peak in these steps, where known
    free: int
    seeds: int | None = None  # runs like this one, one after another

    @property
    def seconds(self) -> float:
        """The whole run's."""
        return sum(phase.total for phase in self.phases) + self.evaluation

    @property
    def total(self) -> float:
        """The seconds of the runs of all seeds."""
        return self.seconds * (self.seeds or 1)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {**asdict(self), "seconds": self.seconds, "total": self.total}

    def sentences(self) -> list[str]:
        """Say it all."""
        return [
            *self.lines,
            *self._phases(),
            self._time(),
            self._memory(),
            self._reading(),
            self._end,
        ]

    def _phases(self) -> Iterator[str]:
        batches = self.steps / self.epochs
        for phase in self.phases:
            first, last = phase.begins / batches, (phase.begins + phase.steps) / batches
            yield (
                f"from epoch {first:.4g} to {last:.4g}: {phase.learns}; "
                f"{plural(phase.steps, 'step')} of {phase.seconds:.2g} s, {duration(phase.total)}"
            )

    def _time(self) -> str:
        most = "about" if self.recipe["schedule.patience"] is None else "at most about"
        return (
            f"time: {most} {duration(self.seconds)} on this machine as busy as it is now, "
            f"{duration(self.evaluation)} of them to evaluate"
            + (f"; {plural(self.seeds, 'seed')}: {duration(self.total)}" if self.seeds else "")
        )

    def _memory(self) -> str:
        grown = "" if self.grown is None else f", and the process grew by {_size(self.grown)}"
        return f"memory: a step takes {_size(self.memory)}{grown}; {_size(self.free)} are free"

    def _reading(self) -> str:
        if self.reading is None:
            return "reading: the images are in memory"
        waits = "training waits for images" if self.reading < self.network else "nothing waits"
        return (
            f"reading: {speed(self.reading)} images/s, the network takes {speed(self.network)}: "
            f"{waits}"
        )

    @property
    def _end(self) -> str:
        what = "the run would be" if self.seeds is None else "the runs would be in"
        return f"nothing was written; without --plan {what} {self.out}"


def plan(
    data: Any,
    *,
    out: str | Path | None = None,
    seeds: int | None = None,
    images: int | None = None,
    **options: Any,
) -> Outlook:
    """Say what `train` would do with the same arguments, and how long it would take here.

    A few steps of each phase are taken on copies of the network, with the run's own images, and
    forgotten. No folder is made, and no file but what caches remember of images and weights. With
    ``seeds``, of `train_seeds`, the first is looked at, and the time of all is said. Of larger
    batches than ``images`` the steps have so many images, and times are those of whole batches.
    Raises what `train` raises before its first step.
    """
    if seeds is not None:
        check_count(seeds)
    with planned(data, **options) as (prepared, _):
        source = prepared.dataset if prepared.source == GIVEN else prepared.source
        usual = default_out(source, prepared.spec, prepared.recipe)
        usual = usual if seeds is None else seeds_out(usual)
        found = look_ahead(prepared, usual if out is None else Path(out), images)
        return replace(found, seeds=seeds)


def look_ahead(plan: Plan, out: Path, images: int | None = None) -> Outlook:
    """Measure a few steps of each phase of a run that would be in the folder ``out``.

    Steps have at most so many ``images``, and times are those of the whole batches.
    """
    recipe, machine, dataset = plan.recipe, plan.machine, plan.dataset
    state = initial_state(plan)
    feed = build_feed(dataset, recipe, plan.preprocess, machine.where)
    count = len(feed.indices(0)[0])
    shown = count if images is None else min(count, images)
    whole = (
        index[:shown]
        for epoch in count_up()
        for index in feed.indices(epoch)
        if len(index) == count
    )
    mine = machine.processes.part(shown)
    steps = (feed.step(0, index, mine, feed.augment.size) for index in whole)
    with (
        torch.random.fork_rng([feed.device] if feed.device.type == "cuda" else []),
        peak_growth() as grown,
        closing(feed.batches(steps)) as batches,
    ):
        began = time.perf_counter()
        next(batches)
        waited = time.perf_counter() - began
        phases = tuple(
            _measured(plan, state, batches, count / shown, *part) for part in _parts(plan)
        )
        evaluation = _evaluation(plan, state)
    sizes = torch.bincount(dataset.train.labels, minlength=len(dataset.classes))
    share, taken = (len(range(n)[machine.processes.part(n)]) for n in (count, shown))
    trained = replace(plan.spec, image_size=recipe.data.training_size(plan.spec.image_size))
    step = step_memory(
        trained, recipe, share, checkpointing=machine.checkpointing, teacher=plan.teacher
    )
    where = environment(machine.where, machine.processes, recipe.precision)
    lines = opening_lines(plan, where, RunFolder(out).data)
    return Outlook(
        lines=(*lines, recipe_line(plan), f"augmentation: {augmentation(recipe)}"),
        out=str(out),
        data={
            "source": plan.source,
            "classes": list(dataset.classes),
            **{part: len(split) for part, split in dataset.parts.items()},
            "smallest_class": {
                "name": dataset.classes[int(sizes.argmin())],
                "images": int(sizes.min()),
            },
            "skipped": len(dataset.skipped),
            "copies": asdict(dataset.copies) if dataset.copies else None,
        },
        weights={"source": plan.start.source, "digest": plan.start.digest} if plan.start else None,
        recipe=recipe.flat(),
        why=plan.why,
        epochs=plan.steps / plan.batches,
        steps=plan.steps,
        phases=phases,
        evaluation=evaluation,
        reading=taken / waited if isinstance(dataset.train.images, Photographs) else None,
        network=share / max(phase.seconds for phase in phases),
        memory=step.peak.total,
        grown=grown[0] if grown else None,
        free=free_memory(machine.where),
    )


def _parts(plan: Plan) -> Iterator[tuple[int, int, int]]:
    """Yield how many parts of the network are frozen, from which step on, for how many steps."""
    thawing = plan.thawing
    begins = sorted({0, *(int(start) for start in thawing.starts if start < plan.steps)})
    for begin, end in pairwise([*begins, plan.steps]):
        yield thawing.frozen(begin), begin, end - begin


def _measured(
    plan: Plan,
    state: RunState,
    batches: Iterator[Batch],
    times: float,
    frozen: int,
    begins: int,
    steps: int,
) -> Phase:
    thawing = plan.thawing
    seconds: list[float] = []
    thawing.freeze(state.model, frozen)
    thawing.train(state.model, frozen)
    while len(seconds) < _STEPS and sum(seconds) < _LONG:
        began = time.perf_counter()
        training_step(
            state.model,
            state.optimizer,
            *next(batches),
            lr=_RATE,
            recipe=plan.recipe,
            scaler=state.scaler,
            teacher=plan.teacher,
        )
        seconds.append(time.perf_counter() - began)
    step = times * median(seconds[1:] or seconds)
    return Phase(_learning(frozen, thawing.stages), begins, steps, step)


def _learning(frozen: int, stages: int) -> str:
    if not frozen:
        return "everything learns"
    if frozen > stages:
        return "the classifier alone learns"
    from_ = f"stage {stages}" if frozen == stages else f"stages {frozen} to {stages}"
    return f"{from_} and the classifier learn"


def _evaluation(plan: Plan, state: RunState) -> float:
    """Return the seconds that a run evaluates: after each epoch, and at the end."""
    parts = [(plan.dataset.validation, 1 + ceil(plan.steps / plan.batches)), (plan.dataset.test, 1)]
    seconds = 0.0
    for split, times in parts:
        if split is not None:
            some = split.subset(torch.arange(min(len(split), 2 * plan.recipe.batch_size)))
            began = time.perf_counter()
            evaluate(
                state.model,
                some.to(plan.machine.where),
                plan.preprocess,
                batch_size=plan.recipe.batch_size,
            )
            seconds += (time.perf_counter() - began) * times * len(split) / len(some)
    return seconds


def augmentation(recipe: Recipe) -> str:
    """Say in a sentence what becomes of an image in training."""
    augment = recipe.augment
    mirrored = "every other time" if augment.mirror == "alternate" else "half of the time"
    said = {
        f"crops of {_percents(augment.area)} of the area": augment.area,
        f"crops of the image at {augment.scale} pixels": augment.scale,
        f"moved by up to {percent(augment.shift, 0)}": augment.shift,
        f"moved by up to {plural(augment.padding, 'pixel')}": augment.padding,
        f"mirrored {mirrored}": augment.mirror,
        f"policy {augment.policy}": augment.policy,
        f"jitter of colours {augment.jitter}": augment.jitter,
        f"lighting {augment.lighting:g}": augment.lighting,
        f"a square of {augment.cutout} pixels hidden": augment.cutout,
        f"a box erased in {percent(augment.erasing, 0)} of the images": augment.erasing,
        f"mixup {augment.mixup:g}": augment.mixup,
        f"cutmix {augment.cutmix:g}": augment.cutmix,
        f"growing from {augment.first_size} pixels": augment.first_size,
        f"labels smoothed by {recipe.label_smoothing:g}": recipe.label_smoothing,
    }
    return ", ".join(words for words, value in said.items() if value) or "none"


def _size(count: int) -> str:
    return f"{count / 1e9:.2g} GB"


def _percents(limits: tuple[float, float] | None) -> str:
    return "{:.0f} to {:.0f} %".format(*(100 * share for share in limits or (0, 0)))
