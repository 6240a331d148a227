"""What is wrong with a folder of images: broken files, copies, leaks, labels that disagree."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from resnets.data.classes import look_alike, sides
from resnets.data.copies import Copies, find_copies
from resnets.data.dataset import Skipped
from resnets.data.depth import Depth
from resnets.data.examined import Report, examine
from resnets.data.framing import Frame, count_cropped
from resnets.data.images import frames, printable
from resnets.data.listing import Sample
from resnets.data.near import SIDE, Near, find_near, thumbnail
from resnets.data.photographs import Store
from resnets.data.sources import open_listing

UNEVEN = 3  # times as many images as another class, from where that is told


@dataclass(frozen=True)
class FolderCheck:
    """What ``check_folder`` found. Groups are relative paths of images with the same pixels."""

    name: str
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]  # split -> class -> number of sound images
    broken: tuple[Skipped, ...]
    duplicates: tuple[tuple[str, ...], ...]  # in one split, of one class
    leaks: tuple[tuple[str, ...], ...]  # in more than one split
    conflicts: tuple[tuple[str, ...], ...]  # in more than one class
    ignored: tuple[str, ...]
    left_out: tuple[Skipped, ...]  # pipes and the like, which nothing reads
    copies: Copies
    cropped: int  # images that lose more than a third of their area to the square
    animations: tuple[str, ...]  # of which only the first frame is taken
    depth: Depth | None = None  # of the images of more than 8 bits, where there are any
    near: tuple[Near, ...] | None = None  # None: not looked for

    @property
    def sound(self) -> bool:
        """Whether nothing was found that makes a result wrong; duplicates in a split do not.

        Near copies do when they are in two splits or in two classes.
        """
        near = any(group.harmful for group in self.near or ())
        return not (self.broken or self.leaks or self.conflicts or near)

    @property
    def images(self) -> int:
        """How many of them are sound."""
        return sum(sum(by_class.values()) for by_class in self.counts.values())

    @property
    def imbalance(self) -> float:
        """How many times as many training images the largest class has as the smallest."""
        sizes = self.counts["train"].values()
        return max(sizes) / max(1, min(sizes))

    @property
    def look_alike(self) -> tuple[tuple[str, ...], ...]:
        """Groups of classes whose names nobody tells apart."""
        return look_alike(self.classes)

    @property
    def sides(self) -> tuple[str, str] | None:
        """Two classes that are told apart by their side, which mirroring would exchange."""
        return sides(self.classes)


def check_folder(
    path: Path, *, near: bool = False, report: Report = lambda done, total: None
) -> FolderCheck:
    """Decode every image and report what is broken, doubled or labelled in two ways.

    Images are the same when they have the same size and the same RGB pixels, whatever the files'
    formats. ``near`` also looks for copies that were scaled, compressed again or mirrored.
    ``report`` is told how many are read, of how many. Raises DataError for a folder in no known
    layout.
    """
    listing = open_listing(path, verify=True)
    count = len(listing)
    thumbnails = np.zeros((count if near else 0, SIDE, SIDE), np.uint8)
    animated = np.zeros(count, bool)

    def look(index: int, file: BinaryIO) -> None:
        file.seek(0)
        animated[index] = frames(file) > 1

    def see(index: int, image: Image.Image) -> None:
        if near:
            thumbnails[index] = thumbnail(image)

    store = Store(Frame(SIDE, SIDE), 3)
    found = examine(listing, store, anew=True, see=see, look=look, report=report)
    sound, pixels = found.sound, found.digests.pixels
    samples = [listing.samples[i] for i in sound.tolist()]
    counts = {split: dict.fromkeys(listing.classes, 0) for split in listing.splits}
    groups: defaultdict[bytes, list[Sample]] = defaultdict(list)
    for sample, digest in zip(samples, pixels, strict=True):
        counts[sample.split][listing.classes[sample.label]] += 1
        groups[digest.tobytes()].append(sample)
    same = [group for group in groups.values() if len(group) > 1]

    def where(condition: Callable[[list[Sample]], bool]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(sample.name for sample in group) for group in same if condition(group))

    return FolderCheck(
        name=printable(path.resolve().name),
        classes=listing.classes,
        counts=counts,
        broken=found.broken,
        duplicates=where(lambda group: any(n > 1 for n in _places(group).values())),
        leaks=where(lambda group: len({sample.split for sample in group}) > 1),
        conflicts=where(lambda group: len({sample.label for sample in group}) > 1),
        ignored=listing.ignored,
        left_out=tuple(Skipped(*each) for each in listing.irregular),
        copies=find_copies(listing, sound, pixels),
        cropped=count_cropped(found.sides),
        animations=tuple(printable(listing.names[i]) for i in sound[animated[sound]].tolist()),
        depth=found.depth,
        near=find_near(samples, thumbnails[sound], found.sides, pixels) if near else None,
    )


def _places(group: list[Sample]) -> Counter[tuple[str, int]]:
    return Counter((sample.split, sample.label) for sample in group)
