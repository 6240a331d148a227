"""A name, a spec or a file -> a model or a backbone that is ready to use."""

import os
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from resnets.data.class_folders import EXTENSIONS
from resnets.data.preprocess import identity
from resnets.errors import CheckpointError, UsageError, check_arguments
from resnets.formatting import printable
from resnets.nn import Backbone, ResNet
from resnets.nn.freezing import FreezeBatchNorm
from resnets.nn.levels import level_names
from resnets.nn.option_names import option_meant
from resnets.readers.paths import FOLDER_WEIGHTS
from resnets.run_folder.directory import RECORD, check_single
from resnets.spec import PROJECTING, Spec
from resnets.weights import catalog
from resnets.weights.assumptions import as_the_file_has_it, call
from resnets.weights.checkpoint import Checkpoint, Source, open_checkpoint
from resnets.weights.fetch import fetch
from resnets.weights.fit import Head
from resnets.weights.load import load_checkpoint
from resnets.weights.load_report import LoadReport
from resnets.weights.metadata import Metadata
from resnets.weights.shipped import FOLDER, shipped
from resnets.weights.shipped import names as shipped_names
from resnets.weights.tensors import some
from resnets.zoo import asked_spec, is_named

_LOOKED_AT = 1000  # files of a folder, to tell what it is of


def create_backbone(
    model: str | Spec,
    *,
    levels: Sequence[str] | None = None,
    weights: Source | None = None,
    frozen_stages: int = -1,
    norm_eval: bool = False,
    freeze_bn: FreezeBatchNorm = "none",
    activated: bool = False,
    gradient_checkpointing: bool = False,
    container: str | None = None,
    dialect: str | None = None,
    ema: bool = False,
    **options: Any,
) -> Backbone:
    """Return the backbone of a name or spec: {"c2": (N, C, H/4, W/4), ...} out of images.

    ``weights`` is whatever ``create_model`` takes, its classifier left out: a file, a state dict,
    published weights; ``container``, ``dialect`` and ``ema`` are what they are there. ``options``
    are fields of the spec: ``in_channels``, to which the weights are adapted, ``output_stride`` 8
    or 16 and ``multi_grid``, which dilate them, ``norm``. The rest is
    explained at `Backbone`.

    ``frozen_stages``: -1 freezes nothing, 0 the stem, k the stem and the first k stages. Freezing
    fresh weights, which then never learn, is warned of. Raises UsageError for what cannot be meant
    and CheckpointError for weights that do not fit.
    """
    settings: dict[str, Any] = {
        "levels": levels,
        "frozen_stages": frozen_stages,
        "norm_eval": norm_eval,
        "freeze_bn": freeze_bn,
        "activated": activated,
        "gradient_checkpointing": gradient_checkpointing,
    }
    check_options("create_backbone", options, asked_spec(model), settings)
    with torch.device("meta"):
        spec = create_model(model, **options).spec  # checks the values; nothing is drawn
    source, entry = find_weights(spec.name, weights)
    if entry:
        spec = replace(spec, **entry.changes)
    if source is None:
        backbone = Backbone(spec, **settings)
        _warn_of_frozen_chance(backbone)
        backbone.preprocess = identity(spec.in_channels, spec.image_size, assumed=True)
        return backbone
    reading: ReadingOptions = {"container": container, "dialect": dialect, "ema": ema}
    checkpoint = open_weights(source, spec, entry, **reading)
    if isinstance(model, str):
        spec = as_the_file_has_it(spec, checkpoint.stated, options)
    backbone = Backbone(spec, **settings)
    load_checkpoint(backbone, checkpoint, head="drop")
    return backbone


def _warn_of_frozen_chance(backbone: Backbone) -> None:
    """Warn where fresh weights or statistics are frozen: they stay what chance has made them."""
    frozen = {
        name: value
        for name, value in vars(backbone.freezing).items()
        if value not in (-1, False, "none")
    }
    if frozen:
        words = ", ".join(f"{name}={value!r}" for name, value in frozen.items())
        warnings.warn(
            f"create_backbone: {words} without weights freezes what is random; give weights=",
            stacklevel=3,
        )


class ReadingOptions(TypedDict, total=False):
    """What cannot be told from a checkpoint's file, as `load_weights` takes it."""

    container: str | None
    dialect: str | None
    ema: bool


def create_model(
    model: str | Spec,
    *,
    weights: Source | None = None,
    head: Head | None = None,
    container: str | None = None,
    dialect: str | None = None,
    ema: bool = False,
    **options: Any,
) -> ResNet:
    """Return the network of a name or spec, its weights fresh, from a file, or published ones.

    Options are fields of the spec: ``num_classes``, ``in_channels``, ``zero_init_residual`` and
    the rest. ``weights`` is a checkpoint of any kind that `load_weights` reads, or the name of
    published weights such as "torchvision.IMAGENET1K_V2", which are fetched, verified and kept;
    resnet20's "cifar10" come with the package.
    ``head`` is what `load_weights` does when the classifier does not fit: "error", but "drop" for
    published weights when ``num_classes`` is given. ``container``, ``dialect`` and ``ema`` are
    what they are there. Where a name leaves a choice open, such as the side on which option A pads,
    and the weights prove it, they decide; a spec and options are taken at their word. Raises
    UsageError for an unknown name or option, CheckpointError for weights that do not fit, and
    ResourceError when they cannot be had.
    """
    spec = asked_spec(model)
    check_options("create_model", options, spec)
    source, entry = find_weights(spec.name, weights)
    if entry:
        spec = replace(spec, num_classes=len(entry.classes), **entry.changes)
    asked = replace(spec, **options)
    if source is None:
        network = ResNet(asked)
        network.preprocess = identity(asked.in_channels, asked.image_size, assumed=True)
        return network
    reading = ReadingOptions(container=container, dialect=dialect, ema=ema)
    checkpoint = open_weights(source, asked, entry, **reading)
    if isinstance(model, str):
        asked = as_the_file_has_it(asked, checkpoint.stated, options)
    network = ResNet(asked)
    other_classes = asked.num_classes != spec.num_classes
    named = entry or source is not weights
    dropped = (other_classes and named) or (entry and not entry.head)
    load_checkpoint(network, checkpoint, head=head or ("drop" if dropped else "error"))
    if head == "optional" and "fc.weight" not in checkpoint.tensors:
        network.reset_classifier(0)
    return network


def check_options(
    function: str, options: Mapping[str, Any], spec: Spec, others: Collection[str] = ()
) -> None:
    """Raise UsageError for an option that is no field of a spec; ``others`` may be meant too."""
    known = [f.name for f in fields(Spec)]
    for option in options:
        if option not in known:
            hint = option_meant(option, spec.name, [*known, *others])
            if option == "pretrained":
                hint = _weights_of(spec.name, function) if options[option] else "leave it out"
            raise UsageError(f'{function}: unknown option "{option}"', hint=hint)


def _weights_of(model: str, function: str = "create_model") -> str:
    """Return in words how to have a model with weights."""
    names = [*shipped_names(model), *(entry.name for entry in catalog.entries(model))]
    if not names:
        return f'weights="file.pth": none are published of {model}'
    return f'{function}("{model}", weights="{names[0]}")'


def find_weights(model: str, weights: Source | None) -> tuple[Source | None, catalog.Entry | None]:
    """Return the file or state dict that is meant, and the published weights if those are.

    The name of weights that come with the package becomes their file. Raises UsageError for a name
    that no weights of the model have.
    """
    given: Any = weights
    if isinstance(given, Enum):  # torchvision's ResNet50_Weights
        raise UsageError(f"weights is {given}", hint=f'weights="torchvision.{given.name}"')
    if given is True:
        raise UsageError("weights is True", hint=_weights_of(model))
    if not isinstance(weights, str):
        return weights, None
    if own := shipped(model, weights):
        return own, None
    provider, _, rest = weights.partition(".")
    known = {entry.name.partition(".")[0] for entry in catalog.entries()}
    is_name = provider in known or provider.endswith("_Weights") or not (rest or "/" in weights)
    if Path(weights).exists() or not is_name:
        return weights, None
    ours = (file.name.split(".") for file in FOLDER.iterdir())
    if owners := [owner for owner, name, *_ in ours if name == weights]:
        raise UsageError(
            f'the weights "{weights}" are those of {owners[0]}, not of {model}',
            hint=f'model="{owners[0]}"',
        )
    return weights, catalog.find(model, weights)


def open_weights(
    weights: Source, spec: Spec, entry: catalog.Entry | None, **reading: Unpack[ReadingOptions]
) -> Checkpoint:
    """Return the checkpoint of a file or state dict, or of published weights, which are fetched."""
    source = fetch(entry, report=_say) if entry else weights
    check_folder(source)
    return _heard(open_checkpoint(source, spec=spec, entry=entry, **reading))


def check_folder(source: Source) -> None:
    """Raise CheckpointError for a folder of several seeds or of images in place of weights."""
    if not isinstance(source, str | Path) or not os.path.isdir(source):
        return
    path = Path(source)
    check_single(path)
    if any((path / name).exists() for name in (RECORD, *FOLDER_WEIGHTS)):
        return
    some = islice(path.rglob("*"), _LOOKED_AT)
    if any(file.suffix.lower() in EXTENSIONS for file in some):
        raise CheckpointError(
            f"{path}: is a folder of images, not weights",
            hint="give a run folder, a file, or the name of published weights, such as "
            "torchvision.IMAGENET1K_V1",
        )


def _heard(checkpoint: Checkpoint) -> Checkpoint:
    """Say where a checkpoint is not what a run has ended with."""
    if checkpoint.unfinished:
        _say(checkpoint.unfinished)
    return checkpoint


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr)


def open_model(
    path: str | Path, model: str | Spec | None = None, **reading: Unpack[ReadingOptions]
) -> ResNet:
    """Return the model that a run folder or weights file holds, in evaluation mode.

    ``model`` says which network it is where the file does not; ``container``, ``dialect`` and
    ``ema`` are what they are for `load_weights`. Raises CheckpointError when there is none, it is
    damaged, has no classifier, or nothing says which network it is.
    """
    check_arguments(open_model, reading.keys(), ReadingOptions.__annotations__)
    return restore(path, model, **reading)[0]


def restore(
    path: str | Path,
    model: str | Spec | None = None,
    *,
    needs_classifier: bool = True,
    **reading: Unpack[ReadingOptions],
) -> tuple[ResNet, Metadata]:
    """Return the model that ``open_model`` returns, and its metadata.

    Where it needs no classifier and the file has none, the model has none either.
    """
    if not isinstance(path, str | Path):
        raise UsageError(
            f"{type(path).__name__} is no run folder and no file",
            hint="create_model(weights=...) takes a state dict",
        )
    spec = None if model is None else asked_spec(model)
    if is_named(str(path)) and not Path(path).exists():
        raise CheckpointError(f"{path}: no such file or folder", hint=_weights_of(str(path)))
    check_folder(path)
    checkpoint = _heard(open_checkpoint(path, spec=spec, **reading))
    has_classifier = "fc.weight" in checkpoint.tensors
    if needs_classifier and not has_classifier:
        raise no_classifier(path, checkpoint)
    network, _ = from_checkpoint(checkpoint, model)
    if not has_classifier:
        network.reset_classifier(0)
    made = checkpoint.metadata or Metadata(network.spec, checkpoint.preprocess)
    return network, made


def no_classifier(path: str | Path, checkpoint: Checkpoint) -> CheckpointError:
    """Return the error for a checkpoint without a classifier where one is needed."""
    spec = checkpoint.spec
    stages = {key.partition(".")[0] for key in checkpoint.tensors if key.startswith("layer")}
    hint = "`resnets models` lists the nets that are here"
    if spec:
        spec = replace(spec, name=checkpoint.made_for)
        made = call(spec, num_classes="...", weights="...", head='"drop"')
        hint = f"{made} gives it one; `resnets embed` and `resnets features` do without"
    if spec and len(stages) < len(spec.depths):
        levels = repr([level_names(len(spec.depths))[len(stages)]])
        made = call(spec, levels=levels, weights="...").replace("create_model", "create_backbone")
        hint = f"{made} takes the stages that it has"
    if strange := checkpoint.state.strange:
        hint = f"within it stand {some(strange)}, which are no part of such a network"
    beside = checkpoint.state.unexpected
    return CheckpointError(
        f"{path}: it has no classifier ({checkpoint.guess.words})"
        + (f", but beside it {some(beside)}" if beside else ""),
        hint=hint,
    )


def from_checkpoint(
    checkpoint: Checkpoint,
    model: str | Spec | None = None,
    *,
    check_variant: bool = True,
    dtype: torch.dtype = torch.float32,
) -> tuple[ResNet, LoadReport]:
    """Return the network that a checkpoint holds, in evaluation mode, and the report.

    ``model`` says which network it is where the checkpoint does not; ``dtype`` is the precision of
    its parameters, and ``checkpoint.dtype`` one that holds every value exactly. Without a
    classifier in the checkpoint the network's own is fresh; without its preprocessing
    ``network.preprocess`` is None.
    Raises CheckpointError when nothing says which network it is.
    """
    if model is None and (unsaid := undecided(checkpoint)):
        names = " or ".join(checkpoint.guess.names[:4])
        like = f"give the one that it holds as a second argument, such as {checkpoint.spec!r}"
        raise CheckpointError(
            f"{checkpoint.source}: nothing says {unsaid}: "
            f"it looks like {names or 'no network with a name'}",
            hint="name the network it holds, with --model or as a second argument"
            if names
            else like,
        )
    spec = checkpoint.spec if model is None else asked_spec(model)
    if spec is None:
        raise CheckpointError(
            f"{checkpoint.source}: {checkpoint.guess.words}",
            hint="name the network it holds, if you know better",
        )
    if model is not None and (seen := checkpoint.guess.spec):
        spec = replace(spec, in_channels=seen.in_channels)
        if "fc.weight" in checkpoint.tensors:
            spec = replace(spec, num_classes=seen.num_classes)
    if isinstance(model, str):
        spec = as_the_file_has_it(spec, checkpoint.stated)
    network = ResNet(spec).to(dtype)
    head: Head = "error" if "fc.weight" in checkpoint.tensors else "drop"
    report = load_checkpoint(network, checkpoint, head=head, check_variant=check_variant)
    return network.eval(), report


def undecided(checkpoint: Checkpoint) -> str:
    """Return in words the choice that changes the function and that nothing in the file shows."""
    unknown, spec = checkpoint.unknown, checkpoint.spec
    if checkpoint.metadata or checkpoint.entry or spec is None:
        return ""
    if "bottleneck_stride" in unknown:
        return "whether the stride is on the 1x1 (v1) or the 3x3 (v1.5)"
    if "shortcut" in unknown and spec.shortcut not in PROJECTING:
        return "whether its shortcuts are option A's or none"
    if "projection_input" in unknown:
        return "whether its projections read the activated input or the raw one"
    if "shortcut" in unknown:
        return "whether its shortcuts average before they project (option D) or not (B)"
    return ""
