"""Published weights: where they are, what they must hash to, and how their images were prepared.

The rows are in ``catalog.json``, which ``docs/make_catalog.py`` writes from what torchvision, timm
and Keras say about their own weights and from tables that name their source.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from resnets.errors import UsageError, nearest
from resnets.weights import shipped

DATA = Path(__file__).with_name("catalog.json")
_SHOWN = 8  # names in a hint


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address, and the digest that whoever published it gave.

    ``digest`` is "sha256:" or "md5:" and all or the leading hexadecimal digits; "" where none is
    published: then nothing is pinned.
    """

    address: str
    digest: str = ""

    @property
    def name(self) -> str:
        """The last part of the address."""
        return Path(urlsplit(self.address).path).name

    @property
    def sha256(self) -> str:
        """The published digits of the SHA-256, all or the leading ones; "" where there are none."""
        algorithm, _, digits = self.digest.partition(":")
        return digits if algorithm == "sha256" else ""


@dataclass(frozen=True)
class Entry:
    """Published weights of one model of the zoo."""

    name: str  # "torchvision.IMAGENET1K_V2", "timm.a1_in1k"
    model: str  # the zoo's name
    files: tuple[RemoteFile, ...]  # the same weights; those with a digest first
    dialect: str
    # As resnets.data.preprocess.Preprocess: for red, green, blue in 0..1, whatever the file's own
    # convention; a network that was fed 0..255 has a std of 1/255.
    preprocess: Mapping[str, Any]
    interpolation: str = "bilinear"  # of the resize; or "bicubic"
    channel_order: str = "rgb"  # of the file's first convolution; or "bgr"
    class_set: str = "imagenet"  # of CLASSES' keys
    accuracy: Mapping[str, float] | None = None  # top1, top5 in percent, image_size; as reported
    source: str = ""  # who says so
    licence: str = ""  # SPDX; "" where none is stated
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the spec, but the classes
    head: bool = True  # whether the classifier is in the file
    mebibytes: float | None = None  # as published

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the outputs, in their order."""
        return _data()[1][self.class_set]

    def __str__(self) -> str:
        return f"{self.name} of {self.model}"


def entries(pattern: str = "*") -> list[Entry]:
    """Return the entries whose name or model matches a shell-style pattern, in the file's order."""
    return [
        entry
        for entry in _data()[0]
        if fnmatchcase(entry.name, pattern) or fnmatchcase(entry.model, pattern)
    ]


def find(model: str, name: str) -> Entry:
    """Return the weights of this name for a model under its canonical name (``spec.name``).

    Raises UsageError, naming what there is for this model, when there are none.
    """
    known = _data()[0]
    own = {entry.name: entry for entry in known if entry.model == model}
    if name in own:
        return own[name]
    others = [entry.model for entry in known if entry.name == name]
    if others:
        message = f'the weights "{name}" are published for {_some(others)}, not for {model}'
    else:
        message = f'no weights of {model} are called "{name}"'
    here = [*shipped.names(model), *own]
    if not here:
        have = sorted({entry.model for entry in known})
        close = nearest(model, have)
        hint = f"there are none for {model}" + (f", but for {close}" if close else "")
        raise UsageError(message, hint=f"{hint}; a path works too")
    close = nearest(name, here)
    question = f"did you mean {close}?  " if close else ""
    raise UsageError(message, hint=f"{question}for {model} there are {_some(here)}")


def by_digest(sha256: str) -> Entry | None:
    """Return the entry that a file with this whole SHA-256 is, or None."""
    for entry in _data()[0]:
        if any(file.sha256 and sha256.lower().startswith(file.sha256) for file in entry.files):
            return entry
    return None


def class_names(class_set: str) -> tuple[str, ...]:
    """Return the class names of "imagenet", "cifar10" or "cifar100", in the order of outputs.

    Raises UsageError for another set.
    """
    sets = _data()[1]
    if class_set not in sets:
        raise UsageError(f'no class names are called "{class_set}"', hint=", ".join(sets))
    return sets[class_set]


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


@cache
def _data() -> tuple[tuple[Entry, ...], dict[str, tuple[str, ...]]]:
    """Return the entries and, by name, the class names, which many entries share."""
    data = json.loads(DATA.read_text(encoding="utf-8"))
    rows = tuple(
        Entry(**{**row, "files": tuple(RemoteFile(**file) for file in row["files"])})
        for row in data["entries"]
    )
    return rows, {name: tuple(names) for name, names in data["classes"].items()}
