"""A folder of labelled images to look at, not to learn from: what is missing is no fault.

Labels are the names of the folders; which classes there are is the reader's knowledge. So a class
may be missing or empty, there may be one alone, ``test/`` may stand without ``train/``, and what
lies outside of the class folders is counted.
"""

import os
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from resnets.data.images import printable
from resnets.data.scan import SPLITS, Walk, class_name, is_sample, readable
from resnets.errors import DataError, check_name

WHOLE = "all"  # the part of a folder without parts


@dataclass(frozen=True)
class Labelled:
    """Images of one part of a folder, not decoded, by the class that their folder names."""

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
    walk = Walk(path)
    walk.check()
    with readable(path):
        parts = _parts(walk, classes)
        if part is not None:
            check_name("split", part, ("train", "validation", "test"))
            if part not in parts and not (part == "train" and WHOLE in parts):
                raise DataError(
                    f"{printable(path)}: has no {part} split", hint=f"it has {', '.join(parts)}"
                )
        name = part if part in parts else next(reversed(parts))
        return _labelled(walk, name, parts[name], classes)


def _parts(walk: Walk, classes: Collection[str]) -> dict[str, Path]:
    """Return the folder of each part, in the order train, validation, test; or the whole."""
    folders = [entry for entry in walk.visible(walk.root) if os.path.isdir(entry)]
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        if any(os.path.isdir(entry) for entry in walk.visible(folder)):
            found[SPLITS.get(folder.name.lower(), "")].append(folder)
    others = [folder for folder in folders if folder.name.lower() not in SPLITS]
    found.pop("", None)
    if not found or any(class_name(folder) in classes for folder in others):
        return {WHOLE: walk.root}
    return walk.one_each(found)


def _labelled(walk: Walk, part: str, folder: Path, classes: Collection[str]) -> Labelled:
    """Return the images of a part, or of the whole, by class."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    entries = walk.visible(folder)
    for entry in entries:
        if os.path.isdir(entry):  # two Unicode forms of one name are one class
            found[class_name(entry)] += walk.images(entry)
    loose = sum(is_sample(entry) for entry in entries if not os.path.isdir(entry))
    if not found:
        own = class_name(folder.resolve())
        hint = (
            f"the folder's name is the label: give {printable(folder.resolve().parent)}"
            if own in classes
            else "labels are the names of folders: expected photos/<class>/*.jpg"
        )
        raise walk.fault(f"no class folders in {printable(folder)}", hint=hint)
    images = {name: tuple(sorted(found[name])) for name in sorted(found)}
    return Labelled(walk.root, part, images, loose)
