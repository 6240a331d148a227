"""What is wrong with a folder of images: broken files, copies, leaks, labels that disagree."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.classes import look_alike, sides
from resnets.data.copies import Copies, Shared, find_copies, find_shared, originals
from resnets.data.cut_copies import LARGER, cut_pairs
from resnets.data.dataset import Skipped
from resnets.data.depth import Depth
from resnets.data.examined import Report, examine
from resnets.data.framing import Frame, count_cropped
from resnets.data.headers import frames
from resnets.data.images import printable
from resnets.data.listing import FromTable, Listing, Made
from resnets.data.near import SIDE, Near, find_near, thumbnail
from resnets.data.sources import open_listing
from resnets.data.store import Store
from resnets.data.usual_tables import title

# Of a listing, the numbers of some N images of it, and the first of each one's copies, (N,): which
# of these are most like each, (N, K); -1 is none.
Lookalikes = Callable[[Listing, NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]
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
    divided_groups: tuple[Shared, ...] = ()  # groups in more than one split
    faults: tuple[str, ...] = ()  # rows of a table that cannot be meant
    table: FromTable | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing was found that makes a result wrong; duplicates in a split do not.

        Near copies do when they are in two splits or in two classes.
        """
        near = any(group.harmful for group in self.near or ())
        wrong = (self.broken, self.leaks, self.conflicts, self.divided_groups, self.faults)
        return not (any(wrong) or near)

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
    path: Path,
    *,
    near: bool = False,
    lookalikes: Lookalikes | None = None,
    report: Report = lambda done, total: None,
    on_fault: Callable[[str], None] = lambda fault: None,
) -> FolderCheck:
    """Decode every image and report what is broken, doubled or labelled in two ways.

    Of a table of labels also rows that cannot be meant and those that are doubled, images that no
    row names, and groups in more than one split.

    Images are the same when they have the same size and the same RGB pixels, whatever the files'
    formats. ``near`` also looks for copies that were scaled, compressed again or mirrored, and
    where ``lookalikes`` says which images a network finds alike, for those cut out of others.
    ``report`` is told how many are read, of how many; before, how many are found, of 0.
    ``on_fault`` is told of each of ``faults`` before any image is read. Raises DataError for a
    folder in no known layout, and where without those faults nothing to train on is left.
    """
    faults: list[str] = []

    def take(fault: str) -> None:
        faults.append(fault)
        on_fault(fault)

    listing = open_listing(path, verify=True, report=lambda found: report(found, 0), on_fault=take)
    count = len(listing)
    thumbnails, larger = (
        np.zeros((count if wanted else 0, side, side), np.uint8)
        for side, wanted in ((SIDE, near), (LARGER, near and lookalikes))
    )
    animated = np.zeros(count, bool)

    def look(index: int, file: BinaryIO) -> None:
        file.seek(0)
        animated[index] = frames(file) > 1

    def see(index: int, image: Image.Image) -> None:
        if near:
            thumbnails[index] = thumbnail(image)
        if len(larger):
            larger[index] = thumbnail(image, LARGER)

    store = Store(Frame(SIDE, SIDE), 3)
    found = examine(listing, store, anew=True, see=see, look=look, report=report)
    sound, pixels = found.sound, found.digests.pixels
    parts, labels = listing.parts[sound], listing.answers[sound]
    counts = {
        split: dict(zip(listing.classes, sizes, strict=True))
        for split, sizes in zip(
            listing.splits, listing.counts(sound.tolist()).tolist(), strict=True
        )
    }
    first = originals(pixels)
    same: defaultdict[int, list[int]] = defaultdict(list)  # places of images that are not alone
    for place in np.flatnonzero(np.bincount(first, minlength=len(first))[first] > 1).tolist():
        same[int(first[place])].append(place)

    names = Made(listing.shown, sound)

    def where(condition: Callable[[list[int]], bool]) -> tuple[tuple[str, ...], ...]:
        groups = filter(condition, same.values())
        return tuple(tuple(names[place] for place in group) for group in groups)

    def twice(group: list[int]) -> bool:
        return len({(parts[place], labels[place]) for place in group}) < len(group)

    near_copies = None
    if near:
        cut: Iterator[tuple[int, int]] = iter(())
        if lookalikes:
            cut = cut_pairs(thumbnails[sound], larger[sound], lookalikes(listing, sound, first))
        near_copies = find_near(listing, sound, thumbnails[sound], found.digests.sides, pixels, cut)
    divided: tuple[Shared, ...] = ()
    if listing.groups is not None:
        divided = tuple(find_shared(listing, sound, listing.groups[sound]))
    return FolderCheck(
        name=printable(title(path)),
        classes=listing.classes,
        counts=counts,
        broken=found.broken,
        duplicates=where(twice),
        leaks=where(lambda group: len(set(parts[group])) > 1),
        conflicts=where(lambda group: len(set(labels[group])) > 1),
        ignored=listing.ignored,
        left_out=tuple(Skipped(*each) for each in listing.irregular),
        copies=find_copies(listing, sound, pixels),
        cropped=count_cropped(found.digests.sides),
        animations=tuple(listing.shown(i) for i in sound[animated[sound]].tolist()),
        depth=found.depth,
        near=near_copies,
        divided_groups=divided,
        faults=tuple(faults),
        table=listing.table,
    )
