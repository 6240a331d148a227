"""What is written down about a run: run.json, and the lines that open it on the screen."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from resnets.analysis.profiling import profile
from resnets.data.class_folders import left_out_whole
from resnets.data.classes import class_notes, sides, unevenness
from resnets.data.copies import groups_sentences
from resnets.data.dataset import Dataset
from resnets.data.given import GIVEN
from resnets.data.identity import LISTED
from resnets.data.images import printable
from resnets.data.order import epoch_length
from resnets.data.photographs import Photographs
from resnets.formatting import duration, listed, percent, plural
from resnets.machine.device import Machine
from resnets.machine.environment import environment
from resnets.machine.torchrun import launch, launched
from resnets.run_folder.record import Data, Model, Record, Stage, Taught
from resnets.spec import Spec
from resnets.training.begun import begun_from, command_of, taught_by
from resnets.training.ema import share_of_the_first
from resnets.training.feed import loss_factors
from resnets.training.prepare import Plan
from resnets.training.recipe import DistillRecipe, Recipe
from resnets.weights.calibration import fewest

SMALL = 64  # pixels: a side at which most images can still be told apart
VERY_UNEVEN = 10  # times as many images as another class, from where it is said what helps


def new_record(path: Path, plan: Plan) -> Record:
    """Return run.json as it stands when a run begins."""
    dataset, spec, recipe, cost = plan.dataset, plan.spec, plan.recipe, plan.cost
    counts = {name: len(dataset.parts.get(name, ())) for name in _PARTS}
    return Record(
        name=path.name,
        command=command_of(plan, path / "recipe.yaml", f"{path}-again"),
        status="running",
        started=timestamp(),
        seed=recipe.seed,
        model=Model(
            parameters=cost.parameters,
            macs=cost.macs,
            receptive_field=cost.receptive_field,
            stages=tuple(Stage(**asdict(stage)) for stage in cost.stages),
            name=spec.name,
            description=spec.variant,
            spec=spec.to_dict(),
        ),
        data=Data(
            name=dataset.name,
            source=plan.source,
            root=plan.root,
            fingerprint=dataset.fingerprint,
            classes=dataset.classes,
            several=dataset.several,
            image_shape=(spec.in_channels, spec.image_size, spec.image_size),
            skipped=len(dataset.skipped),
            copies=asdict(dataset.copies) if dataset.copies else None,
            notes=tuple(_notes(plan)),
            warnings=tuple(data_warnings(dataset, recipe)),
            train_classes=() if dataset.several else dataset.counts,
            **counts,
        ),
        recipe=recipe.name,
        environment=environment(plan.machine.where, plan.machine.processes, recipe.precision),
        weights=begun_from(plan),
        teacher=taught_by(plan),
        launch=launch() if launched() else None,
    )


def opening_lines(plan: Plan, where_it_is: dict[str, Any], listed: Path) -> list[str]:
    """Return what a person is told when a run begins; ``listed`` names the skipped files."""
    dataset, recipe, cost = plan.dataset, plan.recipe, plan.cost
    parts = [f"{len(split):,} {_PARTS[name]}" for name, split in dataset.parts.items()]
    if dataset.validation is None:
        parts.append("nothing held out")
    if dataset.skipped:
        parts.append(f"{len(dataset.skipped)} left out, listed in {listed}")
    on_cpu, processes = where_it_is["device"] == "cpu", where_it_is["processes"]
    where = plural(where_it_is["threads"], "thread") if on_cpu else "one GPU"
    if processes > 1:
        where = f"{processes} processes, {where} each"
    precision, known = where_it_is["precision"], where_it_is["instructions"]
    how = "channels-last" + (f", {precision}" if precision != "float32" else "")
    if on_cpu and precision == "bfloat16" and known and "bf16" not in known:
        how += " (which this processor emulates, many times slower than float32)"
    if on_cpu and precision == "float16":
        how += (
            " (about 100 times slower than float32 on a CPU, which cannot compute it: "
            "--set precision=float32 or bfloat16)"
        )
    name = dataset.name if plan.source == GIVEN else plan.source
    size = recipe.data.training_size(cost.image_size)
    trained = "" if size == cost.image_size else f", trained at {size}x{size}"
    return [
        f"{name}: {len(dataset.classes)} classes, {', '.join(parts)}",
        *([str(dataset.depth)] if dataset.depth else []),
        *_notes(plan),
        *_listed(dataset),
        *left_out_whole((each.path, each.reason) for each in dataset.skipped),
        *_cropped(dataset),
        *data_warnings(dataset, recipe),
        f"{plan.spec.name}: {plan.spec.variant}",
        f"{cost.parameters / 1e6:.2f} M parameters, {cost.macs / 1e9:.3g} G multiply-adds at "
        f"{cost.image_size}x{cost.image_size}{trained}; {where}, {how}",
        *(plan.start.lines if plan.start else ()),
        *_known(plan),
        *plan.thawing.sentences(plan.steps),
        *_fresh_note(plan),
        *_average_note(plan),
        *_unfitted(plan),
    ]


def _fresh_note(plan: Plan) -> list[str]:
    """Return a warning where what is held back has weights that nothing has trained."""
    if plan.start or not plan.thawing.holds:
        return []
    return ["warning: weights that have learnt nothing are held back: give --weights to start from"]


def _unfitted(plan: Plan) -> list[str]:
    """Return what was asked for answers one can trust, and held-out images cannot show."""
    machine, held_out = plan.machine, plan.dataset.validation
    usual = (machine.calibrate, machine.false_alarms) == (Machine.calibrate, Machine.false_alarms)
    if usual or not machine.calibrate:
        return []
    if not held_out:
        return ["no images are held out to calibrate answers on: they stay as they come"]
    if plan.dataset.several:
        return ["images may have several classes, and none: no answer is marked as unknown"]
    if not machine.false_alarms or len(held_out) >= (least := fewest(machine.false_alarms)):
        return []
    return [
        f"no answer is marked as unknown: {percent(machine.false_alarms)} of false alarms take "
        f"{least:,} held-out images, and there are {len(held_out):,}"
    ]


def _known(plan: Plan) -> list[str]:
    """Return how images are prepared, as the starting weights know it or where they do not."""
    how, kind = plan.preprocess, plan.recipe.data.normalize
    if plan.start and not plan.start.preprocess and kind == "channel":
        usual = "; --set data.normalize=imagenet: by ImageNet's" if how.channels == 3 else ""
        return [
            "images: normalised by each channel's own mean and deviation, as the weights do not "
            f"say by which{usual}"
        ]
    if plan.start is None or kind != "weights":
        return []
    scaled = ""
    if isinstance(plan.dataset.train.images, Photographs):
        middle = "" if how.resize == how.size else f", of which the middle {how.size} are seen"
        fit = "" if how.fit == "crop" else f", {how.fit}"
        scaled = f"scaled to {how.resize} pixels{middle} ({how.interpolation}{fit}), and "
    return [f"images: {scaled}normalised as the weights know it"]


def _several(plan: Plan) -> list[str]:
    """Return what it means where an image may have several classes."""
    targets = plan.dataset.train.targets
    if targets is None:
        return []
    counts = targets.sum(1)
    without = int((counts == 0).sum())
    return [
        f"an image may have several classes, {counts.double().mean():.2g} on average"
        f"{f' ({without:,} have none)' if without else ''}: each class is answered by itself, with "
        f"loss {plan.recipe.loss} (cross_entropy is for one class an image)"
    ]


def _average_note(plan: Plan) -> list[str]:
    """Return a warning where a run is too short for its average of weights to forget the first."""
    recipe = plan.recipe
    share = share_of_the_first(recipe, plan.steps, plan.batches) if recipe.ema else 0.0
    if share <= 0.1:
        return []
    return [
        f"warning: {100 * share:.0f} % of the averaged weights will be those that the average "
        f"began with: the run is short for ema {recipe.ema:g} in the form of {recipe.ema_form}; "
        "--set ema=0 averages none"
    ]


def data_warnings(dataset: Dataset, recipe: Recipe) -> list[str]:
    """Return what may make a result on a divided data set wrong."""
    notes = groups_sentences(dataset.divided_groups)
    if dataset.copies:
        together = _drawn(dataset) and dataset.originals is not None
        notes += dataset.copies.sentences(together=together)
    sizes = {name: n for name, n in zip(dataset.classes, dataset.counts, strict=True) if n}
    if empty := [name for name in dataset.classes if name not in sizes]:
        notes.append(f"no image to train on is of class {printable(listed(empty, 8))}")
    alike = recipe.class_weights != "none" or recipe.data.sampling == "balanced"
    if not (alike or dataset.several) and max(sizes.values()) >= VERY_UNEVEN * min(sizes.values()):
        notes.append(
            f"{unevenness(sizes)}; --set class_weights=balanced lets them count alike, "
            "--set data.sampling=balanced shows them equally often"
        )
    return notes + class_notes(dataset.classes)


def _drawn(dataset: Dataset) -> bool:
    """Whether the held-out split was drawn from training, and is not the data's own."""
    held = dataset.validation
    return held is not None and held.images is dataset.train.images


def _notes(plan: Plan) -> list[str]:
    """Return what is to be known of the data that makes no result wrong."""
    dataset, notes = plan.dataset, [*plan.dataset.notes]
    if changes := plan.recipe.data.classes:
        told = (f"{old} -> {new or 'left out'}" for old, new in changes.items())
        notes.append(f"classes: {printable('; '.join(told))}")
    if dataset.groups is not None and dataset.validation and _drawn(dataset):
        of = [torch.unique(dataset.groups[s.ids]) for s in (dataset.train, dataset.validation)]
        kept, held = (plural(int((groups >= 0).sum()), "group") for groups in of)
        notes.append(f"groups are not divided: {kept} to train on, {held} held out")
    mirrored = mirror_note(dataset.classes, plan.recipe.augment.mirror)
    return [*notes, *_several(plan), mirrored, *_balance_notes(dataset, plan.recipe)]


def _balance_notes(dataset: Dataset, recipe: Recipe) -> list[str]:
    """Return what counts more or less than its share: the images of the smallest class, others."""
    factors, labels = loss_factors(dataset, recipe), dataset.train.labels.cpu()
    sizes = [(n, label) for label, n in enumerate(dataset.counts) if n]
    least, label = min(sizes)
    smallest, notes = f"smallest class {printable(dataset.classes[label])} ({least:,})", []
    if recipe.data.sampling == "balanced":
        often = epoch_length(len(labels), recipe.data.repeats) / len(sizes) / least
        notes.append(
            f"{smallest}, drawn as often as any other: each image {often:.3g} times an epoch"
        )
    if factors is not None and recipe.class_weights != "none":
        times = factors[labels == label].mean().item()
        notes.append(f"{smallest}, weighted: each image {times:.3g} times, also in the loss shown")
    elif factors is not None:
        notes.append(
            f"images are weighted as the data say, {factors.min():.3g} to {factors.max():.3g} "
            "times, also in the loss shown"
        )
    return notes


def _listed(dataset: Dataset) -> list[str]:
    """Return what is not known of a set whose images have not been read."""
    if not dataset.fingerprint.startswith(LISTED):
        return []
    return [
        "its images are known by names and sizes, and are read in training; after that, or once "
        "`resnets data check` has read them, copies stay on one side of a split and no exchange "
        "goes unnoticed"
    ]


def _cropped(dataset: Dataset) -> list[str]:
    """Return what a crop to a square leaves out, where that is much."""
    if not dataset.cropped:
        return []
    of = sum(len(split) for split in dataset.parts.values())
    return [
        f"{dataset.cropped:,} of {plural(of, 'image')} lose more than a third of the area to the "
        "square that evaluation sees; data.fit=pad or data.fit=squash shows them whole"
    ]


def mirror_note(classes: Sequence[str], mirror: bool | str) -> str:
    """Return whether images are mirrored, and what that means for classes of two sides."""
    two = " and ".join(map(printable, sides(classes) or ()))
    if not mirror:
        why = f", since {two} are told apart by their side: augment.mirror=true mirrors them"
        return "images are not mirrored in training" + (why if two else "")
    share = "every other time" if mirror == "alternate" else "half of the time"
    return f"images are mirrored left to right in training, {share}" + (
        f"; {two} may then be the same: augment.mirror=false leaves them as they are" if two else ""
    )


def recipe_line(plan: Plan) -> str:
    """Return what a person is told of a recipe, and why of what was chosen here."""
    recipe = plan.recipe
    rate = f"rate {recipe.optimizer.peak:g}" + (", fitted to that" if plan.fitted else "")
    line = f"{recipe.name}: {plural(plan.steps, 'step')} in batches of {recipe.batch_size}; {rate}"
    return f"{line}; chosen because {plan.why}" if plan.why else line


def advice(spec: Spec, seconds: float) -> list[str]:
    """Return what would make a run shorter that still takes so long, where anything would."""
    if spec.image_size <= SMALL:
        return []
    share = profile(replace(spec, image_size=SMALL)).macs / profile(spec).macs
    return [
        f"this run takes about {duration(seconds)}; at --set data.image_size={SMALL}, with "
        f"{100 * share:.0f} % of the multiply-adds, about {duration(share * seconds)}"
    ]


def teacher_line(teacher: Taught, recipe: DistillRecipe) -> str:
    """Return what a person is told of a run's teacher."""
    found = teacher.accuracy
    known = "" if found is None else f", {percent(found, 2)} of the held-out images"
    labels = f"labels {1 - recipe.weight:.3g}" if recipe.weight < 1 else "labels not at all"
    return (
        f"teacher: {printable(teacher.source)} ({teacher.model}){known}; its answers, at "
        f"temperature {recipe.temperature:g}, count {recipe.weight:g}, {labels}"
    )


def timestamp() -> str:
    """Return the time as records have it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_PARTS = {"train": "train", "validation": "held out", "test": "test"}
