"""A folder of labelled images to look at, not to learn from: what is missing is no fault.

Labels are the names of the folders, or what a table says; which classes there are is the reader's
knowledge. So a class may be missing or empty, there may be one alone, ``test/`` may stand without
``train/``, and what lies outside of the class folders is counted.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnets.data.class_folders import SPLITS, Walk, class_name
from resnets.data.label_columns import NoLabels
from resnets.data.label_table import find_table, open_table
from resnets.data.listing import Listing
from resnets.data.scan import Disk, by_folder, check_folder_at, readable
from resnets.errors import DataError, check_name
from resnets.formatting import printable

WHOLE = "all"  # the part of a folder without parts


@dataclass(frozen=True)
class Labelled:
    """Images of one part of a folder, not decoded, by the class of their folder or a table."""

    root: Path
    part: str  # WHOLE, "train", "validation" or "test"
    images: dict[str, tuple[Path, ...]]  # classes in code-point order, files by path
    loose: int  # images outside of the class folders, which nothing labels

    def relative(self, path: Path) -> str:
        """Return an image's path in the folder, for people."""
        return printable(path.relative_to(self.root).as_posix())


def open_labelled(
    path: Path, *, part: str | None = None, classes: Collection[str] = ()
) -> Labelled:
    """Find the labelled images of a folder, or of one of its parts, without decoding them.

    ``classes`` are the names that folders of classes may have: where one of them stands beside a
    folder called "train" or "test", these are classes too. ``part`` is "train", "validation" or
    "test"; left out, the last of these that is there, else all. Raises DataError for a folder that
    cannot be read or without class folders, and UsageError for a part that cannot be meant.
    """
    if part is not None:
        check_name("split", part, ("train", "validation", "test"))
    with readable(path):
        if table := find_table(path):
            try:
                return _of_table(open_table(table, whole=False), part)
            except NoLabels:
                if table == path:
                    raise
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


def _of_table(listing: Listing, part: str | None) -> Labelled:
    if listing.targets is not None:
        raise DataError(
            f"{printable(listing.root)}: its table gives an image several classes, and the model "
            "one",
            hint="give images of one class each",
        )
    parts = [WHOLE] if listing.splits == ("train",) else listing.splits
    name = _meant(listing.root, part, parts)
    own = listing.parts == (0 if name == WHOLE else listing.splits.index(name))
    by_class = {
        word: tuple(
            listing.root / listing.names.spelled(i)
            for i in np.flatnonzero(own & (listing.labels == label)).tolist()
        )
        for label, word in enumerate(listing.classes)
    }
    return Labelled(listing.root, name, by_class, 0)


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
            else "labels are the names of folders: expected photos/<class>/*.jpg"
        )
        raise walk.fault(f"no class folders in {printable(walk.root / folder)}", hint=hint)
    by_class = {
        name: tuple(walk.root / image for image in sorted(found[name], key=by_folder))
        for name in sorted(found)
    }
    return Labelled(walk.root, part, by_class, len(contents.images))
