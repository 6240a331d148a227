"""A table's rows as they are to be trained: network, recipe at some length, name, jobs."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import floor
from pathlib import Path

from resnets.data.cifar import LAYOUTS, data_root
from resnets.data.dataset import Dataset
from resnets.data.order import batch_bounds
from resnets.errors import UsageError, check_name
from resnets.papers.published import IMAGES, Row, Small, Table
from resnets.run_folder.reading import RunRecord
from resnets.spec import Spec
from resnets.training.recipe import Recipe, load_recipe
from resnets.weights.stated_spec import read_spec


@dataclass(frozen=True)
class Asked:
    """What of a table is reproduced, and what is changed on purpose."""

    table: Table
    scale: Fraction = Fraction(1)  # of the paper's iterations
    seeds: int = 1
    rows: tuple[str, ...] = ()  # their keys; empty: all
    small: bool = False
    settings: tuple[str, ...] = ()  # of every recipe

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"{self.seeds} seeds are none", hint="give 1 or more, such as 5")
        if self.settings:  # which some row's recipe may not have: said before any is trained
            for each in experiments(self):
                _ = each.recipe

    def check(self, rows: Collection[str], images: "Images") -> None:
        """Raise UsageError for weights of rows, or images, that nothing here is asked of."""
        for row in rows:
            check_name(f"row of {self.table.key}", row, [each.key for each in self.chosen])
        given = images.data is not None and not isinstance(images.data, Dataset)
        if given and all(each.dataset != "imagenet" for each in experiments(self)):
            raise UsageError(
                f"{images.data}: no row that is asked for is of ImageNet",
                hint="leave out --data; --root is where CIFAR's files are",
            )

    @property
    def stand_in(self) -> Small | None:
        """The table's, where that is asked for."""
        return self.table.small if self.small else None

    @property
    def chosen(self) -> tuple[Row, ...]:
        """The rows. Raises UsageError for a key of none."""
        return self.table.chosen(self.rows, small=self.small)

    @property
    def changes(self) -> list[str]:
        """In sentences, what makes this another experiment than the paper's, as every output says.

        What differs in single rows is said there.
        """
        sentences = [
            self.scale != 1
            and f"Scaled: {share(self.scale)} of the paper's iterations, with "
            f"drops and warm-up at the same fractions of the run{self._waiting}.",
            self.stand_in and f"A stand-in: {self.stand_in.says}.",
            self.settings and f"Changed in every recipe: {', '.join(self.settings)}.",
        ]
        return [sentence for sentence in sentences if sentence]

    @property
    def _waiting(self) -> str:
        """What of the schedules `scaled` leaves as it is, as the end of a sentence."""
        schedules = [each.paper.schedule for each in experiments(self)]
        waits = [
            any(each.warmup_until_error for each in schedules)
            and "a warm-up that waits for an error",
            any(each.plateau_factor for each in schedules)
            and "drops that wait for epochs without progress",
        ]
        told = " and ".join(each for each in waits if each)
        return f", but for {told}" if told else ""

    @property
    def options(self) -> list[str]:
        """The words of the command that ask for this, but for how many seeds of which rows."""
        words = ["--scale", str(self.scale)] if self.scale != 1 else []
        words += ["--small"] if self.small else []
        for setting in self.settings:
            words += ["--set", setting]
        return words


@dataclass(frozen=True)
class Experiment:
    """A row that is trained, or evaluated: all its seeds are one folder."""

    row: Row
    asked: Asked

    @property
    def dataset(self) -> str:
        """What it is trained on, as papers call it."""
        small = self.asked.stand_in
        return (small and small.dataset) or self.row.figure.dataset

    @cached_property
    def spec(self) -> Spec:
        """The network. Raises UsageError where the design space does not have it."""
        small = self.asked.stand_in
        return small.spec(self.row) if small else self.row.spec

    @cached_property
    def paper(self) -> Recipe:
        """The row's recipe at its whole length."""
        small = self.asked.stand_in
        name = (small and small.recipe) or self.row.recipe or self.row.figure.recipe
        return load_recipe(name, () if small and small.recipe else self.row.settings)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as it is followed. Raises UsageError for settings that there are not."""
        recipe = scaled(self.paper, self.asked.scale, IMAGES[self.dataset])
        return load_recipe(recipe, self.asked.settings)

    @property
    def iterations(self) -> int:
        """How many steps it has; of ImageNet, on all of its images."""
        return iterations(self.recipe, IMAGES[self.dataset])

    @property
    def name(self) -> str:
        """What its folder is called: network, recipe, and whatever is not the recipe's own."""
        parts = [self.spec.name, self.paper.name, "" if self.asked.small else self.row.apart]
        if self.asked.scale != 1:
            parts.append(str(self.iterations))
        name = "-".join(filter(None, parts))
        for setting in self.asked.settings:
            key, _, value = setting.partition("=")
            own = {"batch_size": f"x{value}", "precision": f"-{value}"}
            name += own.get(key, f"-{key.rpartition('.')[2]}{value}")
        return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in name)

    def is_of(self, run: RunRecord, recipe: Recipe) -> bool:
        """Whether a run is one of this experiment's seeds."""
        own = self.recipe.flat() | {"seed": recipe.seed}
        # Sets with a name have one view, which earlier versions did not write down.
        here, there = ({**flat, "data.view": ""} for flat in (own, recipe.flat()))
        return (
            run.status == "finished"
            and run.data.name == self.dataset
            and read_spec(run.model.spec) == self.spec
            and here == there
        )


@dataclass(frozen=True)
class Images:
    """Where there are images: CIFAR's files below ``root``, ImageNet's in ``data``."""

    data: str | Path | Dataset | None = None
    root: str | Path | None = None

    def of(self, dataset: str) -> str | Path | Dataset | None:
        """Return what is trained on; None where it is not known."""
        if isinstance(self.data, Dataset) or dataset == "imagenet":
            return self.data
        root = data_root(None if self.root is None else Path(self.root))
        folders = [each.folder for each in LAYOUTS[dataset]]
        return dataset if any(root.name == f or (root / f).exists() for f in folders) else None

    def lacking(self, dataset: str) -> str:
        """Say how there will be images of a data set."""
        if dataset == "imagenet":
            return "no images of ImageNet: name their folder with --data"
        return f"no {dataset} here: resnets data get {dataset}"


def scaled(recipe: Recipe, scale: Fraction, images: int) -> Recipe:
    """Return a recipe with so many of its iterations; drops and warm-up are fractions of them.

    What counts epochs or errors, as a plateau's patience and a warm-up by error do, stays.
    """
    if scale == 1:
        return recipe
    steps = max(1, floor(iterations(recipe, images) * scale + Fraction(1, 2)))
    return load_recipe(recipe, [f"schedule.iterations={steps}"])


def iterations(recipe: Recipe, images: int) -> int:
    """Return how many steps a recipe has, of which some of so many images may be held out."""
    if recipe.schedule.iterations:
        return recipe.schedule.iterations
    holdout = 0 if images == IMAGES["imagenet"] else recipe.data.holdout
    held = round(holdout * images) if holdout < 1 else int(holdout)
    batches = len(batch_bounds(images - held, recipe.batch_size, recipe.data.repeats))
    return int(recipe.schedule.epochs or 0) * batches


def share(scale: Fraction) -> str:
    """Write a fraction as it is said: a 160th, half, 2.7 %."""
    if scale.numerator != 1:
        return f"{float(100 * scale):.3g} %"
    number = scale.denominator
    known = {1: "all", 2: "half", 3: "a third", 4: "a quarter"}
    if number in known:
        return known[number]
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    first = f"{number:,}".partition(",")[0]
    article = "an" if first[0] == "8" or first in ("11", "18") else "a"
    return f"{article} {number:,}{ending}"


def parse_scale(text: str) -> Fraction:
    """Return what ``--scale`` says, the part of a schedule. Raises UsageError."""
    try:  # of an exponent of many digits the power would be computed
        found = Fraction(text if re.fullmatch(r"[\d./]+(e-?\d\d?)?", text) else 0)
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if not 0 < found <= 1 or found.denominator > 10**6:
        raise UsageError(
            f'"{text}" is no part of a schedule',
            hint="--scale is a fraction above 0 and at most 1, such as 1/160 or 0.025",
        )
    return found


def experiments(asked: Asked) -> list[Experiment]:
    """Return the rows as experiments, those that lack something too."""
    return [Experiment(row, asked) for row in asked.chosen]


def jobs(found: Sequence[Experiment], seeds: int) -> list[tuple[int, Experiment]]:
    """Return what is to be trained, in its order: one seed of all rows first, then the next.

    Rows of one training, which differ in how it is measured, are one job.
    """
    trained = {each.name: each for each in found if not each.row.lacks}
    return [(seed, each) for seed in range(seeds) for each in trained.values()]
