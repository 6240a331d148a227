"""Which splits and classes a tree of files holds, by the names of folders alone.

    photos/train/<class>/...        photos/<class>/...
    photos/val/<class>/...          (everything is for training; a held-out split is chosen later)
    photos/test/<class>/...

``val`` may be called ``valid`` or ``validation``. What counts as a sample: files with an image's
extension, and any other file whose content is an image. The tree lies on a disk
(`resnets.data.scan`) or is told by a list of names (`resnets.data.members`).
"""

import posixpath
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from resnets.data.listing import (
    EXPECTED,
    Listing,
    Names,
    check_not_empty,
    composed,
    for_people,
    pack,
)
from resnets.errors import DataError
from resnets.formatting import listed, plural, printable

# The last four cannot be read: they are listed as broken rather than passed over in silence.
EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
        *(".ppm", ".pgm", ".heic", ".heif", ".jxl", ".jp2"),
    )
)
_ARCHIVE = re.compile(  # also in parts, and as browsers call what is not whole
    r"\.(tar|pack|parquet|arrow|zip|7z|rar|tgz|tbz2?|txz)(\.[^.]+)?$", re.IGNORECASE
)
_TABLE = re.compile(r"(^|/)labels\.(csv|tsv|jsonl)$", re.IGNORECASE)
SPLITS = {  # in any case
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_SHOWN = 8  # of what is left out
_HIDDEN = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}  # and all that starts with a dot

Report = Callable[[int], None]  # how many images are found
Image = tuple[str, int, int]  # name, bytes, stamp


@dataclass(slots=True)
class Contents:
    """What lies directly in a folder, each kind in the order of its names, as they are spelled."""

    folders: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)  # what should be one
    irregular: list[tuple[str, str]] = field(default_factory=list)  # named as images; their kinds
    others: list[tuple[str, str | None]] = field(default_factory=list)  # their kinds if no files
    hidden: list[str] = field(default_factory=list)  # what systems and programs leave

    def shown(self) -> list[str]:
        """Return the names of all that is not hidden, those of folders with a slash."""
        found = {name: f"{name}/" for name in self.folders}
        for entries in (self.images, self.irregular, self.others):
            found |= {entry[0]: entry[0] for entry in entries}
        return [found[name] for name in sorted(found)]


class Files(Protocol):
    """A tree of files. Folders are named by their paths from its root, POSIX, the root by ""."""

    def contents(self, folder: str) -> Contents:
        """Return what lies in a folder. Raises OSError."""

    def identity(self, folder: str) -> Hashable:
        """Return what the names of one real folder have in common. Raises OSError."""

    def opener(self, names: Names) -> Callable[[int], BinaryIO]:
        """Return what opens the file of that number in ``names``."""


def is_hidden(name: str) -> bool:
    """Whether a name is of what systems and programs leave in folders."""
    return name[0] == "." or name.lower() in _HIDDEN


def has_extension(name: str) -> bool:
    """Whether a file's name ends as those of images do."""
    return name[name.rfind(".") :].lower() in EXTENSIONS


def is_archive(name: str) -> bool:
    """Whether a file's name ends as those of files with many others in them."""
    return bool(_ARCHIVE.search(name))


def holds_several(name: str) -> bool:
    """Whether what is left out under a name is more than a single image."""
    return name.endswith("/") or is_archive(name) or bool(_TABLE.search(name))


def left_out_whole(found: Iterable[tuple[str, str]]) -> list[str]:
    """Say which of what is left out, by names and reasons, is more than a single image."""
    lines = [f"left out: {name} {why}" for name, why in found if holds_several(name)]
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"left out: {more:,} more like these"]


def class_name(folder: str) -> str:
    """Return the name of the class whose images are in a folder of that name, NFC.

    Bytes that are not UTF-8 are written out, so that it can go into any file.
    """
    return composed(folder).encode("utf-8", "backslashreplace").decode()


@dataclass
class Walk:
    """One walk through a tree of files."""

    root: Path  # what messages name
    files: Files
    ignored: set[str] = field(default_factory=set)
    irregular: set[tuple[str, str]] = field(default_factory=set)
    _kept: dict[str, Contents] = field(default_factory=dict)  # nothing is listed twice

    def listing(self, report: Report = lambda found: None) -> Listing:
        """Return the classes and images. ``report`` is told now and then how many are found.

        Class ids are the NFC names of the training classes in code-point order. Raises DataError
        for a tree in no known layout, a class without images, or a class that train does not have.
        """
        found = {split: self.classes(folder) for split, folder in self.splits().items()}
        classes = sorted(found["train"])
        for split, folders in found.items():
            if strange := sorted(set(folders) - set(classes)):
                raise self.fault(
                    f"{split} has a class that train has not: {printable(strange[0])}",
                    hint="class numbers come from train, by name; rename or move the folder",
                )
        self._check_nesting(found["train"])
        labels = {name: label for label, name in enumerate(classes)}
        if len(classes) == 1:
            raise self.fault(f"only one class: {printable(classes[0])}", hint=EXPECTED)
        names, sizes, stamps = bytearray(), array("q"), array("q")
        counts: list[tuple[int, int, int]] = []  # split, class, images
        for part, folders in enumerate(found.values()):
            # By the whole name, with the slash: "cat-2/1.jpg" comes before "cat/1.jpg".
            for name in sorted(folders, key=lambda name: f"{composed(folders[name])}/"):
                if not part:
                    self.contents(folders[name])  # raises where a class cannot be listed
                images = self.images(folders[name], lambda more: report(len(sizes) + more))
                images.sort(key=lambda image: composed(image[0]))
                names += pack([image[0] for image in images])
                sizes.extend([image[1] for image in images])
                stamps.extend([image[2] for image in images])
                counts.append((part, labels[name], len(images)))
        columns = np.array(counts).T
        packed = Names(names)
        listing = Listing(
            root=self.root,
            classes=tuple(classes),
            splits=tuple(found),
            names=packed,
            labels=np.repeat(columns[1].astype(np.int32), columns[2]),
            parts=np.repeat(columns[0].astype(np.uint8), columns[2]),
            sizes=np.frombuffer(sizes, np.int64),
            stamps=np.frombuffer(stamps, np.int64),
            open=self.files.opener(packed),
            ignored=tuple(sorted(self.ignored)),
            irregular=tuple(sorted(self.irregular)),
        )
        check_not_empty(listing)
        return listing

    def splits(self) -> dict[str, str]:
        """Return the folders of the splits that are there, in the order train, validation, test."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        contents = self.contents("")
        self.ignored |= {for_people(name) for name in contents.hidden}
        for folder in contents.folders:
            found[SPLITS.get(folder.lower(), "")].append(folder)
        others = found.pop("", [])
        if "train" not in found:
            if found:
                raise self.fault(f"{next(iter(found.values()))[0]}/ but no train/", hint=EXPECTED)
            return {"train": ""}
        if len(found) == 1 and others:
            if not self.contents(found["train"][0]).folders:
                return {"train": ""}  # a class of trains
            if any(map(self._holds_images, others)):
                raise self.fault(
                    f"train/ has folders inside and {printable(others[0])}/ beside it: is it "
                    "a split or a class?",
                    hint="move the folders that are not splits elsewhere",
                )
        for folder in others:
            if self._holds_images(folder):
                self.irregular.add((f"{for_people(folder)}/", "is beside the splits, and is none"))
            else:
                self.ignored.add(f"{for_people(folder)}/")
        return self.one_each(found)

    def _holds_images(self, folder: str) -> bool:
        return any(found.images or found.irregular for _, found in self.below(folder))

    def one_each(self, found: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Return the one folder of each split, in the order train, validation, test."""
        for split, folders in found.items():
            if len(folders) > 1:
                raise self.fault(
                    f"{folders[0]}/ and {folders[1]}/ both mean {split}", hint="keep one of them"
                )
        return {name: found[name][0] for name in ("train", "validation", "test") if name in found}

    def classes(self, folder: str) -> dict[str, str]:
        """Return the class folders of one split by NFC name."""
        contents = self.contents(folder)
        prefix = f"{folder}/" if folder else ""
        result: dict[str, str] = {}
        for entry in contents.folders:
            name = class_name(entry)
            if name in result:
                raise self.fault(
                    f"two folders have the same name {printable(name)}, in two Unicode forms",
                    hint="put their images into one",
                )
            result[name] = prefix + entry
        if loose := contents.images:
            raise self.fault(
                f"{plural(len(loose), 'image')} outside the class folders: "
                f"{for_people(prefix + loose[0][0])}",
                hint=EXPECTED,
            )
        if not result:
            raise self.fault(f"no class folders in {printable(self.root / folder)}", hint=EXPECTED)
        self._ignore(prefix, contents)
        self.ignored |= {
            f"{for_people(prefix + name)} ({kind})" for name, kind in contents.irregular
        }
        return result

    def _check_nesting(self, folders: Mapping[str, str]) -> None:
        """Refuse folders whose sub-folders look like the classes: 2024/cat beside 2025/cat."""
        inside: Counter[str] = Counter()
        for folder in folders.values():
            contents = self.contents(folder)
            if len(contents.shown()) > len(contents.folders):
                return
            inside.update(contents.folders)
        if shared := [name for name, count in inside.items() if count > 1]:
            raise self.fault(
                f"are the classes {printable(', '.join(folders))}, or the folders inside them, "
                f"such as {printable(shared[0])}?",
                hint="put the images of a class into one folder, without others between",
            )

    def images(self, folder: str, report: Report = lambda found: None) -> list[Image]:
        """Return the images of a class, named from the root, and take down what is passed over."""
        found: list[Image] = []
        for prefix, contents in self.below(folder):
            found += [(prefix + name, size, stamp) for name, size, stamp in contents.images]
            self._ignore(prefix, contents)
            self.irregular |= {
                (for_people(prefix + name), f"is {kind}, not a file")
                for name, kind in contents.irregular
            }
            report(len(found))
        return found

    def below(self, folder: str) -> Iterator[tuple[str, Contents]]:
        """Yield where a folder and those below it lie, each real folder once, and their contents.

        What cannot be listed counts as an image: reading it as one says why.
        """
        above = ("", posixpath.dirname(folder)) if folder else ("..",)
        seen = {self.files.identity(each) for each in above}
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            try:
                identity = self.files.identity(current)
                if identity in seen:  # a loop of symbolic links
                    continue
                contents = self._kept.pop(current, None) or self.files.contents(current)
            except OSError:
                yield "", Contents(images=[(current, 0, 0)])
                continue
            seen.add(identity)
            prefix = f"{current}/" if current else ""
            waiting += [prefix + name for name in contents.folders]
            yield prefix, contents

    def contents(self, folder: str) -> Contents:
        """Return what lies in a folder, and keep it: of few, which are looked at again."""
        if folder not in self._kept:
            self._kept[folder] = self.files.contents(folder)
        return self._kept[folder]

    def _ignore(self, prefix: str, contents: Contents) -> None:
        """Take down what is passed over, and what it is where that is no file."""
        self.ignored |= {for_people(prefix + name) for name in contents.hidden}
        for name, kind in contents.others:
            if kind is None and holds_several(name):
                what = "is read alone, not beside images" if is_archive(name) else "is not read"
                self.irregular.add((for_people(prefix + name), what))
                continue
            self.ignored.add(for_people(prefix + name) + (f" ({kind})" if kind else ""))

    def fault(self, what: str, *, hint: str) -> DataError:
        """Return an error that shows what the tree holds."""
        found = listed(self.contents("").shown(), 8) or "nothing"
        return DataError(f"{printable(self.root)}: {what} (found: {found})", hint=hint)
