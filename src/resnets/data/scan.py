"""What a folder of images holds, before any is decoded: splits, classes, files.

    photos/train/<class>/...        photos/<class>/...
    photos/val/<class>/...          (everything is for training; a held-out split is chosen later)
    photos/test/<class>/...

``val`` may be called ``valid`` or ``validation``. What counts as a sample: files with an image's
extension, and any other file whose content is an image.
"""

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from resnets.data.images import is_image, printable
from resnets.errors import DataError
from resnets.formatting import plural
from resnets.readers.paths import irregular

# The last four cannot be read: they are listed as broken rather than passed over in silence.
EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
        *(".ppm", ".pgm", ".heic", ".heif", ".jxl", ".jp2"),
    )
)
SPLITS = {  # in any case
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
EXPECTED = "expected photos/<class>/*.jpg, or photos/train/<class>/*.jpg with val/ and test/ beside"

_HIDDEN = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}  # and all that starts with a dot


@dataclass(frozen=True)
class Sample:
    """A file that should be an image: where it is, and of which split and class."""

    path: Path
    relative: str  # to the data folder, POSIX, NFC
    split: str
    label: int

    @property
    def name(self) -> str:
        """Its path in the data folder, for people."""
        return printable(self.relative)


@dataclass(frozen=True)
class Tree:
    """What was found in a data folder, before any image was decoded."""

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]  # train, validation, test; by relative path in each
    splits: tuple[str, ...]  # those that are there
    ignored: tuple[str, ...]  # hidden files and files that are no images
    irregular: tuple[tuple[str, str], ...]  # pipes and the like named as images; what each is


def scan(path: Path) -> Tree:
    """Return the classes and samples of a data folder, without decoding them.

    Class ids are the NFC names of the training classes in code-point order. Raises DataError for
    a folder in no known layout, a class without images, or a class that train does not have.
    """
    with readable(path):
        return Walk(path).tree()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says against reading ``path``, or what is in it, into a DataError."""
    try:
        yield
    except OSError as error:
        where = printable(error.filename or path)
        raise DataError(
            f"{where}: cannot be read: {error.strerror}", hint="check its permissions"
        ) from error


def images_in(path: Path) -> list[Path]:
    """Return the files of a folder, and of those below it, that should be images, by name.

    A file stands for itself, and so does what only has an image's name; decoding it says what it
    is. Raises DataError when there are none.
    """
    if not path.exists():
        raise DataError(f"{printable(path)}: there is no such folder", hint="give images")
    whole = path.resolve()
    found = [path] if path.is_file() else sorted(Walk(whole.parent).images(whole))
    if not found:
        raise DataError(f"{printable(path)}: there are no images in it", hint="give images")
    return found


def images_digest(root: Path, names: Iterable[str]) -> str:
    """Return the SHA-256 of images' names below ``root``, their sizes and times of change."""
    digest = hashlib.sha256()
    for name in names:
        try:
            status = (root / name).stat()
            facts = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0"
        except OSError:  # a link to nothing: broken, and told so when its turn comes
            facts = f"{name}\0\0\0"
        digest.update(facts.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@dataclass
class Walk:
    """One walk through a data folder."""

    root: Path
    ignored: list[str] = field(default_factory=list)
    irregular: list[tuple[str, str]] = field(default_factory=list)

    def check(self) -> None:
        """Raise DataError where there is no such folder."""
        if not self.root.exists():
            raise DataError(f"{printable(self.root)}: there is no such folder", hint=EXPECTED)
        if not self.root.is_dir():
            raise DataError(
                f"{printable(self.root)}: is a file, not a folder of images", hint=EXPECTED
            )

    def tree(self) -> Tree:
        """Return what `scan` returns."""
        self.check()
        found = {split: self.classes(folder) for split, folder in self.splits().items()}
        classes = sorted(found["train"])
        for split, folders in found.items():
            if strange := sorted(set(folders) - set(classes)):
                raise self.fault(
                    f"{split} has a class that train has not: {printable(strange[0])}",
                    hint="class numbers come from train, by name; rename or move the folder",
                )
        self.check_nesting(found["train"])
        if len(classes) == 1:
            raise self.fault(f"only one class: {printable(classes[0])}", hint=EXPECTED)
        samples: list[Sample] = []
        for split, folders in found.items():
            part = [
                Sample(file, self.relative(file), split, classes.index(name))
                for name, folder in folders.items()
                for file in self.regular(self.images(folder))
            ]
            samples += sorted(part, key=lambda sample: sample.relative)
        ignored, irregular = tuple(sorted(set(self.ignored))), tuple(sorted(set(self.irregular)))
        tree = Tree(tuple(classes), tuple(samples), tuple(found), ignored, irregular)
        check_not_empty(self.root, tree, samples)
        return tree

    def splits(self) -> dict[str, Path]:
        """Return the folders of the splits that are there, in the order train, validation, test."""
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for folder in self.visible(self.root):
            if os.path.isdir(folder):
                found[SPLITS.get(folder.name.lower(), "")].append(folder)
        others = found.pop("", [])
        if "train" not in found:
            if found:
                raise self.fault(
                    f"{next(iter(found.values()))[0].name}/ but no train/", hint=EXPECTED
                )
            return {"train": self.root}
        if len(found) == 1 and others:
            inside = self.visible(found["train"][0])
            if not any(os.path.isdir(f) for f in inside):
                return {"train": self.root}  # a class of trains
            if any(self.images(folder) for folder in others):
                raise self.fault(
                    f"train/ has folders inside and {printable(others[0].name)}/ beside it: is it "
                    "a split or a class?",
                    hint="move the folders that are not splits elsewhere",
                )
        chosen = self.one_each(found)
        self.ignored += [f"{printable(folder.name)}/" for folder in others]
        return chosen

    def one_each(self, found: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
        """Return the one folder of each split, in the order train, validation, test."""
        for split, folders in found.items():
            if len(folders) > 1:
                raise self.fault(
                    f"{folders[0].name}/ and {folders[1].name}/ both mean {split}",
                    hint="keep one of them",
                )
        return {name: found[name][0] for name in ("train", "validation", "test") if name in found}

    def classes(self, folder: Path) -> dict[str, Path]:
        """Return the class folders of one split by NFC name."""
        result: dict[str, Path] = {}
        loose = []
        for entry in self.visible(folder):
            if not os.path.isdir(entry):
                if is_sample(entry) and not _irregular(entry):
                    loose.append(entry)
                else:
                    self.ignore(entry)
                continue
            name = class_name(entry)
            if name in result:
                raise self.fault(
                    f"two folders have the same name {printable(name)}, in two Unicode forms",
                    hint="put their images into one",
                )
            result[name] = entry
        if loose:
            raise self.fault(
                f"{plural(len(loose), 'image')} outside the class folders: "
                f"{printable(self.relative(loose[0]))}",
                hint=EXPECTED,
            )
        if not result:
            raise self.fault(f"no class folders in {printable(folder)}", hint=EXPECTED)
        return result

    def check_nesting(self, folders: dict[str, Path]) -> None:
        """Refuse folders whose sub-folders look like the classes: 2024/cat beside 2025/cat."""
        inside = {name: self.visible(folder) for name, folder in folders.items()}
        if all(os.path.isdir(entry) for entries in inside.values() for entry in entries):
            names = Counter(entry.name for entries in inside.values() for entry in entries)
            if shared := [name for name, count in names.items() if count > 1]:
                raise self.fault(
                    f"are the classes {printable(', '.join(folders))}, or the folders inside them, "
                    f"such as {printable(shared[0])}?",
                    hint="put the images of a class into one folder, without others between",
                )

    def images(self, folder: Path) -> list[Path]:
        """Return the files below a folder that should be images, each real folder once."""
        seen = {_identity(self.root), _identity(folder.parent)}
        found: list[Path] = []
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            try:
                identity = _identity(current)
                entries = self.visible(current)
            except OSError:
                found.append(current)  # reading it as an image will say why it cannot be read
                continue
            if identity in seen:  # a loop of symbolic links
                continue
            seen.add(identity)
            for entry in entries:
                if os.path.isdir(entry):
                    waiting.append(entry)
                elif is_sample(entry):
                    found.append(entry)
                else:
                    self.ignore(entry)
        return found

    def regular(self, found: Iterable[Path]) -> Iterator[Path]:
        """Yield those of some entries that are files, and take down the others."""
        for entry in found:
            if kind := _irregular(entry):
                self.irregular.append((printable(self.relative(entry)), f"is {kind}, not a file"))
            else:
                yield entry

    def ignore(self, entry: Path) -> None:
        """Take down that an entry is passed over, and what it is where that is no file."""
        kind = _irregular(entry)
        self.ignored.append(printable(self.relative(entry)) + (f" ({kind})" if kind else ""))

    def visible(self, folder: Path) -> list[Path]:
        """Return what is in a folder, by name, without what systems and programs leave there."""
        result = []
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(".") or entry.name.lower() in _HIDDEN:
                self.ignored.append(printable(self.relative(entry)))
            else:
                result.append(entry)
        return result

    def relative(self, path: Path) -> str:
        """Return a path in the data folder, POSIX, NFC."""
        return unicodedata.normalize("NFC", path.relative_to(self.root).as_posix())

    def fault(self, what: str, *, hint: str) -> DataError:
        """Return an error that shows what the folder holds."""
        names = [f"{p.name}/" if os.path.isdir(p) else p.name for p in self.visible(self.root)]
        listed = ", ".join(printable(name) for name in names[:8]) or "nothing"
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return DataError(f"{printable(self.root)}: {what} (found: {listed}{more})", hint=hint)


def class_name(folder: Path) -> str:
    """Return the name of the class whose images are in a folder, NFC.

    Bytes that are not UTF-8 are written out, so that it can go into any file.
    """
    name = unicodedata.normalize("NFC", folder.name)
    return name.encode("utf-8", "backslashreplace").decode()


def check_not_empty(root: Path, tree: Tree, samples: Iterable[Sample]) -> None:
    """Raise DataError when a class has nothing to train on, or a split nothing at all."""
    counts = Counter((sample.split, sample.label) for sample in samples)
    if not counts:
        raise DataError(f"{printable(root)}: no images", hint=EXPECTED)
    for label, name in enumerate(tree.classes):
        if not counts["train", label]:
            raise DataError(
                f"{printable(root)}: class {printable(name)} has no images to train on",
                hint="remove the folder, or put images into it",
            )
    for split in tree.splits:
        if not any(counts[split, label] for label in range(len(tree.classes))):
            raise DataError(f"{printable(root)}: {split} has no images", hint="remove the folder")


def is_sample(path: Path) -> bool:
    """Whether a file is meant as an image, by its name or its content."""
    if path.suffix.lower() in EXTENSIONS or not os.path.exists(path):  # a link to nothing is broken
        return True
    return path.is_file() and is_image(path)


def _irregular(path: Path) -> str | None:
    """Return what a path is that is neither a file nor a folder; reading it might never end."""
    try:
        return irregular(path.stat())
    except OSError:  # a link to nothing: broken, and told so when its turn comes
        return None


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
