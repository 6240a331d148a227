"""Labelled images to look at, not to learn from: what is missing in a folder is no fault.

Labels are the names of the folders, or what a table says; which classes there are is the reader's
knowledge. So a class may be missing or empty, there may be one alone, ``test/`` may stand without
``train/``, and what lies outside of the class folders is counted. Packs, tars and Parquet are those
that are trained on.
"""

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from resnets.data.class_folders import SPLITS, Walk, class_name, holds_several
from resnets.data.images import Stored
from resnets.data.label_columns import NoLabels
from resnets.data.label_table import open_table
from resnets.data.listing import Listing
from resnets.data.scan import Disk, by_folder, check_folder_at, readable
from resnets.data.sources import holds_archives, open_listing, stored, table_at
from resnets.errors import DataError, check_name
from resnets.formatting import printable

WHOLE = "all"  # the part of a folder without parts


@dataclass(frozen=True)
class Labelled:
    """Images of one part of a folder, archives or a table, not decoded, and their classes."""

    root: Path
    part: str  # WHOLE, "train", "validation" or "test"
    counts: dict[str, int]  # images by class, in code-point order
    samples: tuple[tuple[Path | Stored, tuple[str, ...]], ...]  # each with its class, or classes
    several: bool = False  # whether an image may have several classes, or none
    loose: int = 0  # images outside of the class folders, which nothing labels
    left_out: tuple[tuple[str, str], ...] = ()  # by a table's row, and why; of the whole alone

    def name(self, image: Path | Stored) -> str:
        """Return an image's path in the folder or archives, for people."""
        name = image.name if isinstance(image, Stored) else image.relative_to(self.root).as_posix()
        return printable(name)


def open_labelled(
    path: Path, *, part: str | None = None, classes: Collection[str] = ()
) -> Labelled:
    """Find the labelled images of a folder or archives, or of one part, without decoding them.

    ``classes`` are the names that folders of classes may have: where one of them stands beside a
    folder called "train" or "test", these are classes too. ``part`` is "train", "validation" or
    "test"; left out, the last of these that is there, else all. Raises DataError for a folder that
    cannot be read or without class folders, and UsageError for a part that cannot be meant.
    """
    if part is not None:
        check_name("split", part, ("train", "validation", "test"))
    with readable(path):
        if table := table_at(path):
            try:
                listing = open_table(table, whole=False)
                return _of_listing(listing, part, lambda i: listing.root / listing.names.spelled(i))
            except NoLabels:
                if not path.is_dir():
                    raise
        if holds_archives(path):
            listing = open_listing(path)
            return _of_listing(listing, part, lambda i: stored(listing, str(path), i))
        check_folder_at(path)
        walk = Walk(path, Disk(path, facts=False))
        parts = _parts(walk, classes)
        name = _meant(path, part, parts)
        return _labelled(walk, name, parts[name], classes)


def _meant(path: Path, part: str | None, parts: Collection[str]) -> str:
    """Return the part that is asked for, or the last there is."""
    if part is None or part in parts or (part == "train" and WHOLE in parts):
        return part if part in parts and part is not None else [*parts][-1]
    raise DataError(f"{printable(path)}: has no {part} split", hint=f"it has {', '.join(parts)}")


def _of_listing(
    listing: Listing, part: str | None, image: Callable[[int], Path | Stored]
) -> Labelled:
    """Return the images of a part of a listing, in the order in which they are read fastest."""
    parts = [WHOLE] if listing.splits == ("train",) else listing.splits
    name = _meant(listing.root, part, parts)
    number = 0 if name == WHOLE else listing.splits.index(name)
    own = listing.fastest[listing.parts[listing.fastest] == number]
    left_out = listing.irregular if len(listing.splits) == 1 else ()  # else of which is not known
    counts = dict(zip(listing.classes, listing.counts(own)[number].tolist(), strict=True))
    words: list[tuple[str, ...]]
    if listing.targets is None:
        words = [(listing.classes[label],) for label in listing.labels[own].tolist()]
    else:
        words = [tuple(compress(listing.classes, row)) for row in listing.targets[own]]
    samples = tuple(zip(map(image, own.tolist()), words, strict=True))
    several = listing.targets is not None
    return Labelled(listing.root, name, counts, samples, several, left_out=left_out)


def _parts(walk: Walk, classes: Collection[str]) -> dict[str, str]:
    """Return the folder of each part, in the order train, validation, test; or the whole."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for folder in walk.contents("").folders:
        split = SPLITS.get(folder.lower())
        if split is None and class_name(folder) in classes:
            return {WHOLE: ""}
        if split is not None and walk.contents(folder).folders:
            found[split].append(folder)
    return walk.one_each(found) if found else {WHOLE: ""}


def _labelled(walk: Walk, part: str, folder: str, classes: Collection[str]) -> Labelled:
    """Return the images of a part, or of the whole, by class."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    contents = walk.contents(folder)
    for entry in contents.folders:  # two Unicode forms of one name are one class
        images = walk.images(f"{folder}/{entry}" if folder else entry)
        found[class_name(entry)] += [image[0] for image in images]
    if not found:
        whole = (walk.root / folder).resolve()
        hint = (
            f"the folder's name is the label: give {printable(whole.parent)}"
            if class_name(whole.name) in classes
            else "labels are the names of folders, expected photos/<class>/*.jpg, or in labels.csv"
        )
        raise walk.fault(f"no class folders in {printable(walk.root / folder)}", hint=hint)
    samples = tuple(
        (walk.root / image, (name,))
        for name in sorted(found)
        for image in sorted(found[name], key=by_folder)
    )
    counts = {name: len(found[name]) for name in sorted(found)}
    several = tuple(each for each in sorted(walk.irregular) if holds_several(each[0]))
    return Labelled(walk.root, part, counts, samples, loose=len(contents.images), left_out=several)
