"""A file, a folder or a state dict, understood: whose it is, what it holds, what it proves."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from resnets.data.preprocess import stored_side
from resnets.errors import UsageError
from resnets.spec import Spec
from resnets.transfer import digest_of
from resnets.weights import catalog
from resnets.weights import passport as passports
from resnets.weights.containers import unwrap
from resnets.weights.content import Content, State
from resnets.weights.dialects import Input
from resnets.weights.infer import UNSEEN, Guess, looks_like
from resnets.weights.naming import traits
from resnets.weights.reader import read
from resnets.weights.tensors import retied
from resnets.weights.translate import Translation, translate
from resnets.weights.unfinished import is_unfinished, read_unfinished
from resnets.zoo import get_spec

Source = str | Path | Mapping[str, Any]
NATIVE = "native"  # the dialect of our own files
_BACKBONE = re.compile(r"(conv|bn|norm|stem|maxpool|layer|stages?|res\d|s\d|block)[\d._]")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under our keys, and everything that is known about where they come from."""

    source: str  # for people
    content: Content
    state: State
    translation: Translation
    guess: Guess
    passport: passports.Passport | None = None  # of our own files
    entry: catalog.Entry | None = None  # of published files
    proven: dict[str, Any] = field(default_factory=dict)  # fields of the spec that are known
    unfinished: str = ""  # in words, of a run that has not ended, which state this is

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors under our keys."""
        return self.translation.tensors

    @property
    def spec(self) -> Spec | None:
        """The network that they were made for: stated, or as far as it can be told."""
        if self.passport:
            return self.passport.spec
        return self.guess.spec

    @property
    def made_for(self) -> str:
        """The name of the network that they were trained as, as far as it is known."""
        if self.entry:
            return self.entry.model
        return self.spec.name if self.spec else self.guess.name

    @property
    def notes(self) -> list[str]:
        """What is worth knowing about the values."""
        converted = self.translation.converted.items()
        return [
            *([self.unfinished] if self.unfinished else []),
            *(f"{count} tensors converted from {dtype} to float32" for dtype, count in converted),
        ]

    @property
    def strange(self) -> list[str]:
        """The file's keys that are weights of its backbone, but of no layer that is known here."""
        return [
            key
            for key in self.translation.unexpected
            if _BACKBONE.match(key) and self.state.tensors[key].ndim > 2
        ]

    def is_by_names(self, name: str) -> bool:
        """Tell whether only the names in the file speak for a proven field."""
        stated = self.passport or self.entry or self.content.config
        return not stated and name in self.proven

    @property
    def author(self) -> str:
        """Who says what is proven, for people."""
        if self.passport:
            return "its passport says so"
        if self.entry:
            return f"it is {self.entry}"
        return f"as {self.translation.dialect} has them"

    @property
    def made(self) -> dict[str, Any]:
        """How they came about, as the passport says."""
        return self.passport.made if self.passport else {}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the outputs, where the file or the catalogue has them."""
        if self.passport:
            return tuple(self.passport.classes)
        if self.entry:
            return self.entry.classes
        return _labels(self.content.config or {})

    @property
    def preprocess(self) -> dict[str, Any] | None:
        """The fields of the Preprocess that the weights were trained with, where it is known."""
        if self.passport:
            return self.passport.preprocess
        if self.entry:
            published = {"interpolation": self.entry.interpolation, "version": 2}
            return {**self.entry.preprocess, **published}
        pictures, spec = self.translation.input, self.guess.spec
        if pictures is None or spec is None or spec.in_channels != 3:
            return None
        size = spec.image_size
        return {
            **{"channels": 3, "resize": stored_side(size), "size": size},
            **{"mean": pictures.mean, "std": pictures.std, "version": 2},
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what is known, without the tensors, as JSON-able values."""
        travel, entry = self.passport, self.entry
        return {
            "file": self.source,
            "format": self.content.format,
            "under": self.state.container,
            "prefix": self.state.prefix,
            "names": self.translation.dialect,
            "looks_like": self.guess.words,
            "unknown": list(self.guess.unknown) if not (travel or entry) else [],
            "made_for": self.made_for if travel or entry else None,
            "published": str(entry) if entry else None,
            "licence": entry.licence if entry else None,
            "tensors": len(self.tensors),
            "parameters": sum(
                tensor.numel()
                for key, tensor in self.tensors.items()
                if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
            ),
            "preprocess": self.preprocess,
            "classes": list(self.classes),
            "made": {key: self.made[key] for key in ("name", "data") if key in self.made},
            "results": self.made.get("results"),
            "unexpected": list(self.translation.unexpected),
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
    if not isinstance(source, str | Path | Mapping) or source == "":
        raise UsageError(
            f"{source!r} is no checkpoint", hint="give a file, a folder or a state dict"
        )
    if isinstance(source, Mapping):
        name, content = "the state dict", Content(Path("the state dict"), "", dict(source))
    elif is_unfinished(Path(source)):
        return _of_run(str(source))
    else:
        name, content = str(source), read(source)
    if passports.KEY in content.metadata:
        return _own(name, content)
    state = unwrap(content.tree, name, container=container, ema=ema)
    if entry is None and not isinstance(source, Mapping):
        entry = catalog.by_digest(digest_of(content.path))
    pictures = _pictures(entry)
    if content.format.startswith("Keras"):
        from resnets.weights.keras.translate import translate_keras

        translation = translate_keras(state, content, spec, pictures=pictures)
    else:
        eps = spec.norm_eps if spec else Spec.norm_eps
        translation = translate(state, content, dialect, pictures=pictures, norm_eps=eps)
    hints = translation.hints
    if isinstance(source, Mapping) or _may_be_mmdetections(state):
        # In memory it may come from a network of ours, whose names are torchvision's too.
        hints = {key: value for key, value in hints.items() if key != "bottleneck_stride"}
    proven = hints
    if entry:
        proven = traits(replace(get_spec(entry.model), **entry.changes))
    return Checkpoint(
        name,
        content,
        state,
        translation,
        looks_like(translation.tensors, _of_spec(proven)),
        entry=entry,
        proven=proven,
    )


def _own(name: str, content: Content) -> Checkpoint:
    """Return the checkpoint in a file of ours, which has a passport."""
    tensors = dict(content.tree)
    travel = passports.verified(content.path, tensors, content.metadata)
    return _stated(name, content, retied(tensors, content.metadata), travel)


def _of_run(name: str) -> Checkpoint:
    """Return the checkpoint in the newest state of a run that has not ended."""
    run = read_unfinished(Path(name))
    content = Content(Path(name), "run state", run.tensors)
    checkpoint = _stated(name, content, run.tensors, run.passport)
    return replace(checkpoint, unfinished=run.words)


def _stated(
    name: str, content: Content, tensors: dict[str, Tensor], travel: passports.Passport
) -> Checkpoint:
    """Return the checkpoint of tensors under our keys, of which a passport says everything."""
    names = dict(zip(tensors, tensors, strict=True))
    known = {**traits(travel.spec), "norm_momentum": travel.spec.norm_momentum}
    return Checkpoint(
        name,
        content,
        State(tensors),
        Translation(NATIVE, tensors, names, (), known, None, {}, {}),
        looks_like(tensors, _of_spec(known)),
        passport=travel,
        proven=known,
    )


def _may_be_mmdetections(state: State) -> bool:
    """Tell a detector's backbone, which has torchvision's names and may well be v1.

    torchvision's own detectors have `backbone.body.`.
    """
    return "backbone." in state.prefix and "body." not in state.prefix


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names in a Hugging Face config, which numbers them as text."""
    names = config.get("id2label")
    try:
        return tuple(str(names[str(i)]) for i in range(len(names)))  # type: ignore[index,arg-type]
    except (KeyError, TypeError):
        return ()


def _of_spec(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that tensors do not show, but that are known."""
    return {name: value for name, value in known.items() if name in (*UNSEEN, "shortcut")}


def _pictures(entry: catalog.Entry | None) -> Input | None:
    if entry is None:
        return None
    mean, std = entry.preprocess["mean"], entry.preprocess["std"]
    return Input(tuple(mean), tuple(std), bgr=entry.channel_order == "bgr")
