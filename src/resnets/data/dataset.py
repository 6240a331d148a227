"""What training and evaluation see of any data set: splits of uint8 images and labels."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from resnets.data.classes import changed, sides
from resnets.data.copies import Copies, Shared
from resnets.data.depth import Depth
from resnets.data.identity import Manifest
from resnets.errors import DataError, UsageError, check_name

REPEAT = 2**40  # between the ids of one image's draws in an epoch, and more than there are images


class ImageSource(Protocol):
    """Images of one size, by number."""

    @property
    def names(self) -> Sequence[str]:
        """Their files' names, where they have any."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""

    def __len__(self) -> int: ...

    def batch(self, ids: Tensor) -> Tensor:
        """Return the images ``ids`` as uint8 (N, C, H, W), channels-last in memory."""


@runtime_checkable
class ImageStream(ImageSource, Protocol):
    """Images that are read ahead, and of which some may turn out to be broken."""

    @property
    def broken(self) -> Mapping[str, str]:
        """Why some were left out when they were to be read, by name."""

    def stream(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images of each of some batches of ids, and which of these ids they are."""


class MemoryImages:
    """Images held in memory as one uint8 tensor, given as (N, H, W, C)."""

    def __init__(self, pixels: Tensor, names: Sequence[str] = ()) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise ValueError(
                f"pixels must be uint8 (N, H, W, C), not {pixels.dtype} {pixels.shape}"
            )
        self.pixels, self.names = pixels.contiguous(), names

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, height, width, channels = self.pixels.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, ids: Tensor) -> Tensor:
        """Return the images ``ids`` as uint8 (N, C, H, W), channels-last in memory."""
        return self.pixels[ids].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Split:
    """Some samples of an image source: ``ids[i]`` is the number there, ``labels[i]`` the class.

    A sample keeps its id through every subset, so what depends on (seed, epoch, id) does too. Drawn
    again in an epoch it has another, REPEAT higher, of the same image: position + k N is its draw
    number k. Where an image may have several classes, ``targets`` are all of them, and its label is
    the first; 0 without any.
    """

    images: ImageSource
    ids: Tensor  # int64 (N,)
    labels: Tensor  # int64 (N,)
    targets: Tensor | None = None  # bool (N, classes)
    weights: Tensor | None = None  # float32 (N,), the share in the loss that the data give

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def truth(self) -> Tensor:
        """What is true of each sample: its class (N,), or all of its classes (N, classes)."""
        return self.labels if self.targets is None else self.targets

    def counts(self, classes: int) -> list[int]:
        """Return how many samples have each of so many classes."""
        if self.targets is None:
            return torch.bincount(self.labels, minlength=classes).tolist()
        return self.targets.sum(0).tolist()

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return images uint8 (N, C, H, W) and labels int64 (N,) at positions ``index``."""
        index = index % len(self)
        return self.images.batch(self.ids[index]), self.labels[index]

    def draws(self, index: Tensor) -> Tensor:
        """Return the ids of draws, int64 (N,): those of their samples, REPEAT higher each time."""
        return self.ids[index % len(self)] + index // len(self) * REPEAT

    def names(self, index: Tensor) -> list[int] | list[str]:
        """Return the file of each sample at positions ``index``, or its id where it has none."""
        ids: list[int] = self.ids[index % len(self)].tolist()
        return [self.images.names[i] for i in ids] if self.images.names else ids

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) of every sample once, in the split's own order."""
        order = torch.arange(len(self)).split(size)  # type: ignore[no-untyped-call]
        for positions, images in self.stream(order):
            yield images, self.labels[positions]

    def stream(self, index: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each batch of positions in the split, those that can be read, and the images.

        Images in files are read ahead.
        """
        if not isinstance(self.images, ImageStream):
            for positions in index:
                yield positions, self.batch(positions)[0]
            return
        asked: deque[Tensor] = deque()

        def ids() -> Iterator[Tensor]:
            for positions in index:
                asked.append(positions)
                yield self.ids[positions]

        for images, places in self.images.stream(ids()):
            yield asked.popleft()[places], images

    def to(self, device: torch.device) -> "Split":
        """Return the split with its images on a device, if they are in memory."""
        if not isinstance(self.images, MemoryImages):
            return self
        images = MemoryImages(self.images.pixels.to(device), self.images.names)
        return replace(self._columns(lambda column: column.to(device)), images=images)

    def subset(self, index: Tensor) -> "Split":
        """Return samples, by their positions or a mask (N,), as a split of the same source."""
        return self._columns(lambda column: column[index])

    def renumbered(self, numbers: Sequence[int], classes: int) -> "Split":
        """Return the samples with a new number, of so many, for each class; -1 leaves it out.

        Its samples go with it; one that may have several classes stays, without those.
        """
        new = torch.tensor(numbers)
        if self.targets is not None:
            columns = [self.targets[:, new == place].any(1) for place in range(classes)]
            targets = torch.stack(columns, 1)
            return replace(self, labels=targets.byte().argmax(1), targets=targets)
        labels = new[self.labels]
        return replace(self, labels=labels).subset(labels >= 0)

    def _columns(self, change: Callable[[Tensor], Tensor]) -> "Split":
        """Return the split with each column, a row for each sample, as ``change`` makes it."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        changed: dict[str, Any] = {k: change(v) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **changed)


def whole(images: ImageSource, labels: Tensor) -> Split:
    """Return a split that holds every image of a source.

    ``labels`` are classes (N,), or bool (N, classes) where an image may have several.
    """
    ids = torch.arange(len(images))
    if labels.ndim == 1:
        return Split(images, ids, labels.long())
    return Split(images, ids, labels.byte().argmax(1), labels)  # the first of equal ones


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why; or a folder, with a slash at its end."""

    path: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """A named data set; ``validation`` and ``test`` are None where it has none of its own.

    ``originals`` is int64 by the id of a training sample: the id of the first that has the same
    pixels or is of the same group, so that all of them fall on one side of a split. Published data
    sets do without, since their splits are published too.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split | None
    test: Split | None
    fingerprint: str  # SHA-256 over what the samples are; equal fingerprints, equal data
    mirror: bool  # an image flipped left to right keeps its class (false for digits)
    skipped: Sequence[Skipped] = field(default=())
    depth: Depth | None = None  # of the images of more than 8 bits, where there are any
    cropped: int = 0  # images of which the square that is seen leaves out more than a third
    former: str = ""  # the fingerprint that earlier versions gave it, of names and sizes
    originals: Tensor | None = None
    groups: Tensor | None = None  # int64 by the id of a training sample; -1: of none
    divided_groups: tuple[Shared, ...] = ()  # groups that the data's own splits divide
    notes: tuple[str, ...] = ()  # how a table of labels was understood
    copies: Copies | None = None  # None: not looked for
    manifest: Manifest | None = None  # the digests of its files, where each sample is one

    def known_as(self, fingerprint: str) -> "Dataset | None":
        """Return the data set as a run with this fingerprint has it; None where it is another.

        A run of an earlier version knew names and sizes alone, and its split goes file by file.
        """
        if fingerprint == self.fingerprint:
            return self
        if fingerprint and fingerprint == self.former:
            return replace(
                self,
                fingerprint=fingerprint,
                mirror=True,
                originals=None,
                groups=None,
                manifest=None,
            )
        return None

    @property
    def several(self) -> bool:
        """Whether an image may have several classes, or none."""
        return self.train.targets is not None

    def with_classes(self, changes: Mapping[str, str | None]) -> "Dataset":
        """Return the data set with classes merged, renamed or, by None, left out with their images.

        Where an image may have several classes, it stays without those that are left out. Samples
        keep their ids and the data set its fingerprint. Raises UsageError for a class that there is
        not, and where a split would have nothing left.
        """
        classes, numbers = changed(self.classes, changes)
        if not classes:
            raise UsageError("data.classes leaves no class", hint="leave fewer out")
        parts: dict[str, Any] = {
            name: split.renumbered(numbers, len(classes)) for name, split in self.parts.items()
        }
        if empty := next((name for name, split in parts.items() if not len(split)), None):
            raise UsageError(
                f"data.classes leaves nothing of the {empty} split", hint="leave fewer out"
            )
        copies = self.copies
        if copies and len(classes) < len(self.classes):
            copies = replace(copies, two_classes=0)  # whether they still are is not known
        return replace(
            self,
            **parts,
            classes=classes,
            mirror=(self.mirror or sides(self.classes) is not None) and sides(classes) is None,
            copies=copies,
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of training samples of each class."""
        return tuple(self.train.counts(len(self.classes)))

    @property
    def left_out(self) -> tuple[Skipped, ...]:
        """What was skipped from the start, and what has been found to be broken since."""
        images = self.train.images
        found = images.broken if isinstance(images, ImageStream) else {}
        return (*self.skipped, *(Skipped(*each) for each in found.items()))

    @property
    def parts(self) -> dict[str, Split]:
        """The parts that are there, by name: train, validation, test."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in parts.items() if split is not None}

    def part(self, name: str) -> Split:
        """Return a part by name; raises UsageError for another word, DataError where it lacks."""
        check_name("split", name, ("train", "validation", "test"))
        if name not in self.parts:
            raise DataError(
                f"{self.name} has no {name} split", hint=f"it has {', '.join(self.parts)}"
            )
        return self.parts[name]
