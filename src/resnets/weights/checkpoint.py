"""A file, a folder or a state dict, understood: whose it is, what it holds, what it proves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnets.data.preprocess import Preprocess, stored_side
from resnets.errors import CheckpointError, UsageError
from resnets.machine.downloads import digest_of
from resnets.readers.content import Content
from resnets.readers.paths import at
from resnets.readers.reader import read
from resnets.spec import Spec, fields_told
from resnets.weights import catalog
from resnets.weights.beside import labels, stated_outputs
from resnets.weights.calibration import Calibration
from resnets.weights.containers import unwrap
from resnets.weights.dialects import Input
from resnets.weights.image_processor import FILE as PROCESSOR
from resnets.weights.image_processor import read_processor
from resnets.weights.infer import Guess, described, looks_like
from resnets.weights.metadata import KEY, Metadata
from resnets.weights.naming import traits
from resnets.weights.native import understand
from resnets.weights.normalisation import stated_input
from resnets.weights.outputs import fits
from resnets.weights.state_dict import StateDict
from resnets.weights.tensors import check_digests, is_below_zero, is_finite, name_of, some
from resnets.weights.translate import translate
from resnets.weights.unfinished import is_state, is_unfinished, read_unfinished
from resnets.zoo import get_spec

Source = str | Path | Mapping[str, Any]
NATIVE = "native"  # the dialect of our own files
NETWORKS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under our keys, and everything that is known about where they come from."""

    source: str  # for people
    content: Content
    state: StateDict  # under our keys
    guess: Guess
    proven: dict[str, Any]  # fields of the spec that are known
    unknown: tuple[str, ...]  # choices that neither tensors, names, config nor anybody else show
    author: str  # who says what is proven, for people
    metadata: Metadata | None = None  # of our own files
    entry: catalog.Entry | None = None  # of published files
    preprocess: Preprocess | None = None  # how the images were prepared, where it is known
    classes: tuple[str, ...] = ()  # the names of the outputs, where file or catalogue have them
    outputs: str | None = None  # what the outputs mean, where metadata, catalogue or config say it
    unfinished: str = ""  # in words, of a run that has not ended, which state this is

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probabilities from which on each class is an answer, where it may have several."""
        return self.metadata.thresholds if self.metadata else ()

    @property
    def calibration(self) -> Calibration | None:
        """What makes probabilities of the logits hold, where the file has it."""
        return self.metadata.calibration if self.metadata else None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors under our keys."""
        return self.state.tensors

    @property
    def spec(self) -> Spec | None:
        """The network that they were made for: stated, or as far as it can be told."""
        return self.metadata.spec if self.metadata else self.guess.spec

    @property
    def stated(self) -> dict[str, Any]:
        """The choices that are proven, and those that metadata have taken for granted."""
        return {**(traits(self.metadata.spec) if self.metadata else {}), **self.proven}

    @property
    def made_for(self) -> str:
        """The name of the network that they were trained as, as far as it is known."""
        if self.entry:
            return self.entry.model
        return self.spec.name if self.spec else self.guess.name

    @property
    def made(self) -> dict[str, Any]:
        """How they came about, as the metadata say."""
        return self.metadata.made if self.metadata else {}

    @cached_property
    def notes(self) -> list[str]:
        """What is worth knowing about the values."""
        bad = [key for key, tensor in self.tensors.items() if not is_finite(tensor)]
        negative = [key for key, tensor in self.tensors.items() if is_below_zero(key, tensor)]
        return [
            *([self.unfinished] if self.unfinished else []),
            *self.state.notes,
            *([f"values are not finite (NaN or infinite) in {some(bad)}"] if bad else []),
            *([f"variances are below 0 in {some(negative)}"] if negative else []),
        ]

    @property
    def dtype(self) -> torch.dtype:
        """The narrowest type of a network that holds every value exactly."""
        kinds = {tensor.dtype for tensor in self.tensors.values() if tensor.is_floating_point()}
        if len(kinds) == 1 and kinds <= set(NETWORKS):
            return kinds.pop()
        return torch.float64 if torch.float64 in kinds else torch.float32

    def is_by_names(self, name: str) -> bool:
        """Tell whether only the names in the file speak for a proven field."""
        stated = self.metadata or self.entry or self.content.config
        return not stated and name in self.proven

    @property
    def names_fit(self) -> bool:
        """Tell whether there are as many class names as its classifier has outputs, or none."""
        count = len(self.tensors["fc.weight"]) if "fc.weight" in self.tensors else 0
        return not count or fits(self.classes, count, self.outputs)

    def to_dict(self) -> dict[str, Any]:
        """Return what is known, without the tensors, as JSON-able values."""
        entry = self.entry
        kinds = {name_of(t.dtype) for t in self.tensors.values() if t.is_floating_point()}
        return {
            "file": self.source,
            "format": self.content.format,
            "under": self.state.container,
            "prefix": self.state.prefix,
            "names": self.state.dialect,
            "looks_like": self.guess.words,
            "unknown": list(self.unknown),
            "made_for": self.made_for if self.metadata or entry else None,
            "published": str(entry) if entry else None,
            "licence": entry.licence if entry else None,
            "tensors": len(self.tensors),
            "precision": ", ".join(sorted(kinds)),
            "parameters": sum(
                tensor.numel()
                for key, tensor in self.tensors.items()
                if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
            ),
            "preprocess": self.preprocess and self.preprocess.to_dict(),
            "classes": list(self.classes),
            "outputs": self.outputs,
            "calibration": self.calibration and self.calibration.summary(),
            "made": {key: self.made[key] for key in ("name", "data") if key in self.made},
            "results": self.made.get("results"),
            "unexpected": list(self.state.unexpected),
            "ignored": list(self.state.ignored),
            "notes": self.notes,
        }


def open_checkpoint(
    source: Source,
    *,
    dialect: str | None = None,
    container: str | None = None,
    ema: bool = False,
    spec: Spec | None = None,
    entry: catalog.Entry | None = None,
) -> Checkpoint:
    """Read and understand a checkpoint; ``spec`` helps where names alone do not say what is what.

    ``dialect`` and ``container`` say what cannot be told from the file, ``ema`` prefers averaged
    weights, and ``entry`` is what the catalogue knows about it; without one it is asked. Raises
    CheckpointError for a file that is missing, damaged, unsafe or holds no such network.
    """
    _check_asked(source, dialect=dialect, container=container)
    if isinstance(source, Mapping):
        name, content = "the state dict", Content(Path("the state dict"), "", dict(source))
    elif is_unfinished(Path(source)):
        tensors, metadata, words = read_unfinished(Path(source))
        content = Content(Path(source), "run state", tensors)
        return _stated(str(source), content, tensors, metadata, words)
    else:
        name, content = str(source), read(source)
    if KEY in content.metadata:
        tensors, metadata = understand(content.path, dict(content.tree), content.metadata)
        return _stated(name, content, tensors, metadata)
    if is_state(content):  # outside of its run, of which it is read otherwise
        check_digests(content.path, dict(content.tree), content.metadata)
    try:
        state = unwrap(content.tree, container=container, ema=ema)
        if entry is None and not isinstance(source, Mapping):
            entry = catalog.by_digest(digest_of(content.path))
        return _understood(name, content, state, entry, dialect, ema=ema, spec=spec)
    except CheckpointError as error:
        raise at(content.path, error) from None


def _understood(
    name: str,
    content: Content,
    state: StateDict,
    entry: catalog.Entry | None,
    dialect: str | None,
    *,
    ema: bool,
    spec: Spec | None,
) -> Checkpoint:
    """Return the checkpoint of tensors that are under whatever names a file gives them."""
    own_classes = _labels(content.config or {})
    beside = _plain(content.tree)
    # One number for each of three channels, as normalisations have them
    constants = {key: tensor for key, tensor in state.tensors.items() if tensor.numel() == 3}
    said, notes = stated_input({**beside, **constants})
    processed, frame, about_images = read_processor(content.processor)
    notes += about_images
    if said and processed and said != processed:
        notes.append(f"{PROCESSOR} contradicts the constants in the file: neither is used")
        said = processed = None
    images = _images(entry) or processed or said
    if content.format.startswith("Keras"):
        from resnets.weights.keras.keras_translate import translate_keras

        translated = translate_keras(state, content, spec, images=images)
    else:
        translated = translate(state, content, dialect, ema=ema, spec=spec, images=images)
    if entry:
        if processed and images != processed:
            note = f"{PROCESSOR} prepares images otherwise than is published for {entry}: not used"
            translated = replace(translated, notes=(*translated.notes, note))
        return _published(name, content, translated, entry)
    proven = translated.hints
    if not content.format or _may_be_mmdetections(translated):
        # In memory it may come from a network of ours, whose names are torchvision's too.
        proven = {key: value for key, value in proven.items() if key != "bottleneck_stride"}
    guess = looks_like(translated.tensors, _unseen(proven))
    unknown = tuple(dict.fromkeys((*translated.undecided, *guess.unknown)))
    if content.format.startswith("Keras") and content.config:  # it says everything
        unknown = tuple(name for name in unknown if name == "num_classes")
    count = len(translated.tensors["fc.weight"]) if "fc.weight" in translated.tensors else 0
    classes, about_classes = labels(beside, count)
    outputs, about_outputs = stated_outputs({**beside, **(content.config or {})}, count)
    notes = [*translated.notes, *notes, *about_classes, *about_outputs]
    translated = replace(translated, notes=tuple(notes), frame={**translated.frame, **frame})
    return Checkpoint(
        name,
        content,
        translated,
        guess,
        proven,
        unknown,
        author=f"as {translated.dialect} has them",
        preprocess=_usual(translated, guess.spec),
        classes=own_classes or classes,
        outputs=translated.outputs or outputs,
    )


def _check_asked(source: Any, **words: Any) -> None:
    """Raise UsageError for what is no source of weights, and for words that are none."""
    if not isinstance(source, str | Path | Mapping) or source == "":
        simple = source is None or isinstance(source, str | int)
        what = repr(source) if simple else f"an object of the class {type(source).__name__}"
        has_weights = hasattr(source, "state_dict")
        hint = "give its state_dict()" if has_weights else "give a file, a folder or a state dict"
        raise UsageError(f"{what} is no checkpoint", hint=hint)
    for what, word in words.items():
        if word is not None and not isinstance(word, str):
            raise UsageError(f"{what} is {word!r}", hint="give its name")


def _plain(tree: Any) -> dict[str, Any]:
    """Return what a file says beside its tensors."""
    entries = tree.items() if isinstance(tree, Mapping) else ()
    return {str(key): value for key, value in entries if not _holds_tensors(value)}


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, Mapping) and any(_holds_tensors(inner) for inner in value.values())
    )


def _stated(
    name: str,
    content: Content,
    tensors: dict[str, Tensor],
    metadata: Metadata,
    unfinished: str = "",
) -> Checkpoint:
    """Return the checkpoint of tensors under our keys, of which metadata say everything."""
    known = {**traits(metadata.spec), "norm_momentum": metadata.spec.norm_momentum}
    known = {key: value for key, value in known.items() if key not in metadata.assumed}
    return Checkpoint(
        name,
        content,
        StateDict(tensors, dialect=NATIVE, hints=known),
        described(metadata.spec, tensors, _unseen(known)),
        known,
        metadata.assumed,
        author="its metadata say so",
        metadata=metadata,
        preprocess=metadata.preprocess,
        classes=metadata.classes,
        outputs=metadata.outputs,
        unfinished=unfinished,
    )


def _published(name: str, content: Content, state: StateDict, entry: catalog.Entry) -> Checkpoint:
    """Return the checkpoint in a file that the catalogue knows, which says everything."""
    proven = traits(replace(get_spec(entry.model), **entry.changes))
    prepared = {**entry.preprocess, "interpolation": entry.interpolation, "version": 2}
    return Checkpoint(
        name,
        content,
        state,
        looks_like(state.tensors, _unseen(proven)),
        proven,
        unknown=(),
        author=f"it is {entry}",
        entry=entry,
        preprocess=Preprocess.from_dict(prepared),
        classes=entry.classes,
        outputs="softmax",
    )


def _usual(state: StateDict, spec: Spec | None) -> Preprocess | None:
    """Return how images are prepared for nets of a dialect, where that is known."""
    if state.input is None or spec is None or spec.in_channels != len(state.input.mean):
        return None
    size = spec.image_size
    frame = {"resize": stored_side(size), "size": size, **state.frame}
    return Preprocess(spec.in_channels, mean=state.input.mean, std=state.input.std, **frame)


def _may_be_mmdetections(state: StateDict) -> bool:
    """Tell a detector's backbone, which has torchvision's names and may well be v1.

    torchvision's own detectors have `backbone.body.`.
    """
    return "backbone." in state.prefix and "body." not in state.prefix


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names in a Hugging Face config, which numbers them as text.

    Raises CheckpointError for labels that are none; ImageNet's two cranes are no damage.
    """
    names = config.get("id2label") or {}
    order = [str(number) for number in range(len(names))] if isinstance(names, dict) else None
    if (
        order is None
        or names.keys() != set(order)
        or not all(isinstance(label, str) for label in names.values())
    ):
        raise CheckpointError(
            "its config is damaged: id2label does not number names from 0 on",
            hint="copy config.json again, or remove id2label from it",
        )
    return tuple(names[number] for number in order)


def _unseen(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that tensors do not show, but that are known."""
    unseen = (*fields_told("unseen"), "shortcut")  # of which option A leaves no key
    return {name: value for name, value in known.items() if name in unseen}


def _images(entry: catalog.Entry | None) -> Input | None:
    if entry is None:
        return None
    mean, std = entry.preprocess["mean"], entry.preprocess["std"]
    return Input(tuple(mean), tuple(std), bgr=entry.channel_order == "bgr")
