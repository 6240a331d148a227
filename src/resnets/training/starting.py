"""The weights that a run starts from: read, fitted to its network, and what they know of images."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from resnets.data.dataset import Split
from resnets.data.preprocess import Preprocess, stored_side
from resnets.errors import UsageError
from resnets.evaluation.network import some
from resnets.formatting import plural
from resnets.machine.device import Machine
from resnets.models import ReadingOptions, find_weights, open_weights
from resnets.nn import ResNet
from resnets.spec import Spec
from resnets.training.precise_bn import give_statistics, without_statistics
from resnets.training.recipe import Recipe
from resnets.weights.assumptions import as_the_file_has_it
from resnets.weights.catalog import Entry
from resnets.weights.checkpoint import Checkpoint, Source
from resnets.weights.load import UNPREPARED, load_checkpoint, over_channels
from resnets.weights.tensors import digest_of_tensors

IN_MEMORY = "a state dict"  # the source of weights that have no other
MEASURED = 256  # training images whose statistics norms get that have none


@dataclass(frozen=True)
class Start:
    """The weights that a run starts from, as the loaders fitted them to its network."""

    source: str  # a file, a run, a name; or IN_MEMORY
    digest: str  # SHA-256 of the source's tensors under our keys
    tensors: Mapping[str, Tensor] | None = None  # of the whole network; None when resuming
    preprocess: Preprocess | None = None  # what they were trained with, where that is known
    lines: tuple[str, ...] = ()  # what a person should know of the loading
    reading: ReadingOptions = field(default_factory=ReadingOptions)  # chose it among the file's
    new_classifier: bool = False  # whether the network's classifier is not of these weights


def reading_in(options: Mapping[str, Any], weights: Source | Start | None) -> ReadingOptions:
    """Return what options say of how weights are read. Raises UsageError without weights."""
    said = {name: options[name] for name in ReadingOptions.__annotations__ if options.get(name)}
    if said and weights is None:
        raise UsageError(f"{' and '.join(said)}: of which weights?", hint="give weights too")
    return cast("ReadingOptions", said)


def as_known(
    recipe: Recipe, known: Preprocess | None, spec: Spec, kept: Recipe | None, *, framed: bool
) -> Recipe:
    """Return the recipe with what it leaves to the weights of how images are prepared.

    Their size stays the recipe's or the network's. A run that has begun goes on as it is ``kept``;
    images that are squares already are not ``framed``.
    """
    size = recipe.data.seen_size or spec.image_size
    values: dict[str, Any] = {}
    if known and len(known.mean) == known.channels:  # no mean image, which is of one size
        values["normalize"] = "weights"
    if known and framed:
        values |= {"interpolation": known.interpolation, "fit": known.fit}
        resize = round(size * known.resize / known.size)
        if known.fit == "crop" and resize != stored_side(size):
            values["resize"] = resize
    if kept:
        values = {
            key: getattr(kept.data, key) for key in ("normalize", "interpolation", "fit", "resize")
        }
    unsaid = values.keys() - recipe.data.model_fields_set
    return recipe.having("data", **{key: values[key] for key in unsaid})


@dataclass(frozen=True)
class Opened:
    """Weights to start from, read, and the network that they are of, but for the data's classes."""

    source: Source
    reading: ReadingOptions
    entry: Entry | None
    checkpoint: Checkpoint
    spec: Spec


def open_start(weights: Source, model: str | Spec, spec: Spec, reading: ReadingOptions) -> Opened:
    """Read weights to start from. Raises what `open_weights` raises."""
    source, entry = find_weights(spec.name, weights)
    if source is None:
        raise UsageError("there are no weights to start from")
    if entry:
        spec = replace(spec, **entry.changes)
    checkpoint = open_weights(source, spec, entry, **reading)
    if isinstance(model, str):
        spec = as_the_file_has_it(spec, checkpoint.stated)
    return Opened(weights, reading, entry, checkpoint, spec)


def fit_start(
    opened: Opened, spec: Spec, classes: tuple[str, ...], seed: int
) -> tuple[Spec, Start]:
    """Return the network's spec and its starting weights, fitted to it.

    The classifier is taken over where its classes are those of the data, in whatever order, or as
    many as these where the file names none, which is said; it is fresh otherwise.
    """
    checkpoint, entry = opened.checkpoint, opened.entry
    digest = digest_of_tensors(checkpoint.tensors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResNet(spec)
    head = checkpoint.tensors.get("fc.weight")
    named = checkpoint.classes if checkpoint.names_fit else ()
    same = head is not None and len(head) == len(classes)
    same = same and (not named or sorted(named) == sorted(classes))
    order = ""
    if same and not named:
        order = f"the file names no classes: its {len(classes)} outputs are taken for the data's"
        order = f"  {order}, in their order"
    elif same and named != classes:
        rows = [named.index(name) for name in classes]
        ends = ("fc.weight", "fc.bias")
        moved = {
            key: each[rows] for key in ends if (each := checkpoint.tensors.get(key)) is not None
        }
        state = replace(checkpoint.state, tensors={**checkpoint.tensors, **moved})
        checkpoint = replace(checkpoint, state=state)
        order = "  the classifier's outputs are put into the order of the data's classes"
    report = load_checkpoint(network, checkpoint, head="error" if same else "drop")
    weights = opened.source
    name = str(weights) if isinstance(weights, str | Path) else IN_MEMORY
    there = name != IN_MEMORY and Path(name).exists()
    new = "" if same else f"; new classifier {network.fc.in_features} -> {len(classes)}"
    share = f"{100 * report.share:.3g}"
    if share == "100" and report.share < 1:
        share = "over 99.9"
    lines = [
        f"weights: {name}{f' ({entry})' if entry and str(entry) != name else ''}, "
        f"{plural(len(report.loaded), 'tensor')}, {share} % of the parameters{new}",
        *[order] * bool(order),
    ]
    alike: dict[str, list[str]] = {}
    for key, how in report.adapted.items():
        alike.setdefault(how, []).append(key)
    lines += [
        f"  {keys[0]}{f' and {len(keys) - 1} more' if keys[1:] else ''}: {how}"
        for how, keys in list(alike.items())[:5]
    ]
    # How images are prepared is the recipe's, and is said where that is known (opening.py).
    lines += [f"  {note}" for note in report.notes if note != UNPREPARED]
    known = checkpoint.preprocess and over_channels(checkpoint.preprocess, network.spec.in_channels)
    if known and len(known.mean) != known.channels:
        known = None  # a mean image, of one size
    return network.spec, Start(
        str(Path(name).resolve()) if there else name,
        digest,
        network.state_dict(),
        known or None,
        tuple(lines),
        opened.reading,
        not same,
    )


def with_statistics(
    start: Start | None, spec: Spec, split: Split, preprocess: Preprocess, machine: Machine
) -> Start | None:
    """Return the weights with statistics in their norms, where their file has them folded in.

    These are of MEASURED training images, as evaluation sees them. The network answers as before.
    """
    if start is None or start.tensors is None or not without_statistics(start.tensors):
        return start
    network = ResNet(spec)
    network.load_state_dict(start.tensors)
    network.to(machine.where).eval()
    split = some(split, MEASURED)
    images = (preprocess(images.to(machine.where)) for images, _ in split.batches(32))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    give_statistics(network, norms, images, machine.processes)
    line = f"  its norms only scale and shift: they get statistics of {plural(len(split), 'image')}"
    tensors = {key: tensor.cpu() for key, tensor in network.state_dict().items()}
    return replace(start, tensors=tensors, lines=(*start.lines, line))
