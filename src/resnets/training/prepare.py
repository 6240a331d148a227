"""What is decided before the first step: data, network, recipe, preprocessing, weights, cost."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import torch

from resnets.analysis.profiling import Profile, profile
from resnets.data import NAMES, open_dataset
from resnets.data.dataset import Dataset
from resnets.data.framing import Frame
from resnets.data.given import GIVEN, as_dataset
from resnets.data.holdout import divide
from resnets.data.identity import LISTED
from resnets.data.order import batch_bounds
from resnets.data.preprocess import Preprocess, measure, stored_side
from resnets.errors import DataError, UsageError
from resnets.formatting import printable
from resnets.machine.available import available_memory
from resnets.machine.device import Machine
from resnets.machine.processes import Processes
from resnets.models import ReadingOptions
from resnets.run_folder.directory import RunFolder
from resnets.spec import Spec
from resnets.training.auto import settle
from resnets.training.distillation import Teacher, TeacherSource, open_teacher
from resnets.training.feasible import check
from resnets.training.feed import loss_factors, sees_originals, sees_whole
from resnets.training.memory import check_fits
from resnets.training.progress import RunProgress
from resnets.training.recipe import DistillRecipe, Recipe, read_recipe
from resnets.training.schedule import fitted_rate
from resnets.training.starting import Start, as_known, fit_start, open_start, with_statistics
from resnets.training.thawing import Thawing
from resnets.weights.checkpoint import Source
from resnets.zoo import get_spec


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first step of a run; its identity follows from it."""

    source: str  # a name, or a folder's whole path, or GIVEN
    root: str | None
    dataset: Dataset  # divided: with its held-out split
    spec: Spec
    recipe: Recipe  # with what was left to be fitted to the data
    preprocess: Preprocess
    cost: Profile
    machine: Machine
    start: Start | None = None  # None: fresh weights, drawn with the seed
    teacher: Teacher | None = None  # whose answers are learnt beside the labels
    fitted: bool = False  # whether the recipe's rate was fitted to its length
    why: str = ""  # those settings were chosen that the recipe had left open

    @property
    def batches(self) -> int:
        """The number of batches in an epoch."""
        return _batches(self.recipe, self.dataset)

    @property
    def steps(self) -> int:
        """The number of optimizer steps that the recipe asks for."""
        return _steps(self.recipe, self.dataset)

    @property
    def thawing(self) -> Thawing:
        """What of the network learns when, and how fast."""
        return Thawing(self.recipe.finetune, self.spec, self.batches)

    @property
    def ignorant_loss(self) -> float:
        """The loss, at most, of a network to which all classes are equally probable."""
        distill, loss = self.recipe.distill, log(self.recipe.choices(self.spec.num_classes))
        if self.teacher:  # which at its surest is as far from that as a label
            loss *= 1 - distill.weight + distill.weight * distill.temperature**2
        return loss

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change when a run is resumed, flat, so that a change can be named."""
        identity = identity_of(
            self.recipe,
            self.spec.to_dict(),
            self.dataset.fingerprint,
            self.start.digest if self.start else None,
            self.teacher.digest if self.teacher else None,
        )
        if not self.recipe.sync_batch_norm or self.recipe.optimizer.accumulate > 1:
            identity["processes"] = self.machine.processes.count  # batch norm depends on it
        return identity


def identity_of(
    recipe: Recipe,
    spec: Mapping[str, Any],
    fingerprint: str,
    weights: str | None,
    teacher: str | None,
) -> dict[str, Any]:
    """Return what makes a run the one that it is, flat.

    ``weights`` is the digest of its start, ``teacher`` that of whose answers it learns.
    """
    settings = {key: v for key, v in recipe.flat().items() if key not in ("name", "source")}
    model = {f"model.{key}": value for key, value in spec.items()}
    given = {"weights": weights, "teacher": teacher}
    given = {key: digest for key, digest in given.items() if digest}
    return {**settings, **model, "data": fingerprint, **given}


def prepare(
    data: Any,
    model: str | Spec,
    recipe: Recipe,
    *,
    machine: Machine,
    progress: RunProgress,
    root: str | Path | None = None,
    weights: Source | Start | None = None,
    reading: ReadingOptions | None = None,
    teacher: TeacherSource | None = None,
    folder: RunFolder | None = None,
    resume: bool = False,
) -> Plan:
    """Open data and weights, and decide everything that a run needs before its first step.

    ``folder`` is where the run will be; ``resume`` says that it holds this run already. Raises
    UsageError, DataError, CheckpointError and ResourceError where things do not go together.
    """
    spec = get_spec(model) if isinstance(model, str) else model
    named = isinstance(data, str) and data in NAMES
    source = GIVEN
    if isinstance(data, str | Path):
        source = str(data) if named else str(Path(data).resolve())  # to be resumed from anywhere
    is_folder = not named and source != GIVEN
    if is_folder and folder and folder.path.resolve().is_relative_to(source):
        raise UsageError(
            f"{folder.path}: a run folder inside {data} would become a part of the data",
            hint="give another --out",
        )
    before = _prepared(folder) if resume and folder else None
    # How earlier versions prepared images, where one has begun the run.
    version = 1 if before is not None and before.get("version") != 2 else 2
    begun = folder.read_record().data.fingerprint if resume and folder else ""
    kept = read_recipe(folder.recipe) if resume and folder and folder.recipe.exists() else None
    if before is not None and kept and "view" not in recipe.data.model_fields_set:
        recipe = recipe.having("data", view=kept.data.view)
    opened = None
    if weights is not None and not isinstance(weights, Start):
        opened = open_start(weights, model, spec, reading or {})
        spec = opened.spec
        recipe = as_known(recipe, opened.checkpoint.preprocess, spec, kept, framed=is_folder)
    if source != GIVEN:
        if is_folder:
            progress.say(f"reading {data}")
        with machine.processes.first_alone():  # which remembers for the others what it reads
            dataset = open_dataset(
                data,
                root=Path(root) if root is not None else None,
                broken=recipe.data.broken,
                broken_limit=recipe.data.broken_limit,
                frame=_frame(recipe, spec, cuts=3 - version),
                scale=recipe.data.range or ("measured" if version == 2 else "own"),
                scaled=not sees_originals(recipe),
                content=False if begun.startswith(LISTED) else None,
                memory=available_memory() // 2 // machine.processes.count,
                report=progress.reading,
            )
    else:
        dataset = as_dataset(data)
    if begun:  # as it was then, when an earlier version has begun the run
        dataset = dataset.known_as(begun) or dataset
    if recipe.data.classes:
        dataset = dataset.with_classes(recipe.data.classes)
        if len(dataset.classes) == 1 and not dataset.several:
            raise UsageError(
                f"data.classes leaves one class, {printable(dataset.classes[0])}",
                hint="there is nothing to tell apart",
            )
    if recipe.augment.mirror == "auto":
        recipe = recipe.having("augment", mirror=dataset.mirror)
    if dataset.several and recipe.loss == "cross_entropy":
        if "loss" in recipe.model_fields_set:
            raise UsageError(
                f"loss is cross_entropy, of one class an image, and those of {dataset.name} may "
                "have several",
                hint="--set loss=binary_cross_entropy or --set loss=asymmetric",
            )
        recipe = recipe.model_copy(update={"loss": "binary_cross_entropy"})
    dataset = divide(dataset, recipe.data.holdout, recipe.data.split_seed)
    _check_same_everywhere(dataset, machine.processes)
    channels, side, _ = dataset.train.images.shape
    if recipe.data.eval_size and recipe.data.image_size is None:
        recipe = recipe.having("data", image_size=spec.image_size if is_folder else side)
    size = recipe.data.seen_size or (spec.image_size if is_folder else side)
    spec = replace(spec, num_classes=len(dataset.classes), in_channels=channels, image_size=size)
    start = weights if isinstance(weights, Start) else None
    if opened:
        spec, start = fit_start(opened, spec, dataset.classes, recipe.seed)
    for key in ("drop_path", "zero_init_residual"):
        if (value := getattr(recipe, key)) is not None:
            spec = replace(spec, **{key: value})
    trained = replace(spec, image_size=recipe.data.training_size(size))
    check(recipe, dataset, profile(trained), machine.processes.count)
    loss_factors(dataset, recipe)  # which may refuse the data set's weights
    batch = min(recipe.batch_size, len(dataset.train))
    fits = partial(
        check_fits,
        trained,
        recipe,
        batch=-(-batch // machine.processes.count),
        image=dataset.train.images.shape,
        device=machine.where,
        checkpointing=machine.checkpointing,
    )
    fits()
    preprocess = replace(
        _preprocess(dataset, size, recipe, start, before, progress.reading),
        version=version,
        interpolation=recipe.data.interpolation,
    )
    start = with_statistics(start, spec, dataset.train, preprocess, machine)
    recipe, why = settle(recipe, kept, start, spec, dataset, preprocess, machine)
    fitted = recipe.optimizer.lr == "auto"
    if fitted:
        recipe = recipe.having("optimizer", lr=fitted_rate(batch, _steps(recipe, dataset)))
    taught_by = None
    if teacher is not None:
        taught_by = open_teacher(teacher, dataset, preprocess, trained.image_size)
        taught_by.to(machine.where, memory_format=torch.channels_last)  # type: ignore[call-overload]
        fits(teacher=taught_by)
    elif recipe.distill != DistillRecipe():
        raise UsageError(
            f"recipe {recipe.name}: distill says how to learn from a teacher, and there is none",
            hint="give --teacher, or `resnets distill TEACHER DATA`",
        )
    return Plan(
        source=source,
        root=None if root is None else str(Path(root).resolve()),
        dataset=dataset,
        spec=spec,
        recipe=recipe,
        preprocess=preprocess,
        cost=profile(spec),
        machine=machine,
        start=start,
        teacher=taught_by,
        fitted=fitted,
        why=why,
    )


def _steps(recipe: Recipe, dataset: Dataset) -> int:
    epochs = int(recipe.schedule.epochs or 0)
    return recipe.schedule.iterations or epochs * _batches(recipe, dataset)


def _batches(recipe: Recipe, dataset: Dataset) -> int:
    return len(batch_bounds(len(dataset.train), recipe.batch_size, recipe.data.repeats))


def _prepared(folder: RunFolder) -> dict[str, Any] | None:
    """Return how a run has prepared its images; empty where an early version did not say.

    None where it has not begun. Raises CheckpointError for a damaged data.json.
    """
    return folder.read_preparation().preprocess or {} if folder.data.exists() else None


def _frame(recipe: Recipe, spec: Spec, cuts: int) -> Frame:
    """Return how images of a folder are kept: of a side that is enough for every crop."""
    size, how = recipe.data.seen_size or spec.image_size, recipe.data.interpolation
    if recipe.data.fit != "crop":
        return Frame(size, size, recipe.data.fit, how, cuts)
    side = recipe.data.resize or stored_side(size)
    if recipe.augment.scale and not sees_whole(recipe):
        side = max(side, recipe.augment.scale[1])
    return Frame(side, size, "crop", how, cuts)


def _preprocess(
    dataset: Dataset,
    size: int,
    recipe: Recipe,
    start: Start | None,
    before: Mapping[str, Any] | None,
    report: Callable[[int, int], None],
) -> Preprocess:
    """Return how the images are normalised: as measured, or as the starting weights know them."""
    kind, train = recipe.data.normalize, dataset.train
    depth = dataset.depth.scale if dataset.depth else recipe.data.range
    limits = depth if isinstance(depth, tuple) else None
    if kind != "weights":
        return measure(train, size, kind, fit=recipe.data.fit, range=limits, report=report)
    known = start.preprocess if start else None
    if known is None and before:
        known = Preprocess.from_dict(dict(before))
    if known is None:
        raise UsageError(
            "data.normalize is weights, and no weights say how their images were normalised",
            hint="--set data.normalize=channel, or give --weights that know it",
        )
    channels, side, _ = train.images.shape
    return Preprocess(
        channels, side, size, known.mean, known.std, fit=recipe.data.fit, range=limits
    )


def _check_same_everywhere(dataset: Dataset, processes: Processes) -> None:
    """Raise DataError when the processes read different data."""
    digest = hashlib.sha256(dataset.fingerprint.encode()).digest()
    digests = processes.gather(torch.tensor([list(digest)], dtype=torch.uint8))
    if (digests != digests[0]).any():
        raise DataError(
            "the processes have read different images or labels",
            hint="give all of them the same files",
        )
