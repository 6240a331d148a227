"""A folder of pictures: one folder for each class, in splits or not.

    photos/train/<class>/...        photos/<class>/...
    photos/val/<class>/...          (everything is for training; a held-out part is chosen later)
    photos/test/<class>/...

``val`` may be called ``valid`` or ``validation``. What counts as a sample: files with a picture's
extension, and any other file whose content is a picture.
"""

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from resnets.data.dataset import Dataset, ImageSource, MemoryImages, Skipped, Split, whole
from resnets.data.images import PictureError, decode, is_picture, pixels, printable, square
from resnets.errors import DataError, UsageError

# The last four cannot be read: they are listed as broken rather than passed over in silence.
EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
        *(".ppm", ".pgm", ".heic", ".heif", ".jxl", ".jp2"),
    )
)
SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
EXPECTED = "expected photos/<class>/*.jpg, or photos/train/<class>/*.jpg with val/ and test/ beside"

_HIDDEN = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}  # and all that starts with a dot
_WORKERS = min(16, os.cpu_count() or 1)  # Pillow decodes without holding the interpreter's lock


@dataclass(frozen=True)
class Sample:
    """A file that should be a picture: where it is, and of which split and class."""

    path: Path
    relative: str  # to the data folder, POSIX, NFC
    split: str
    label: int


@dataclass(frozen=True)
class Tree:
    """What was found in a data folder, before any picture was decoded."""

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]  # train, validation, test; by relative path in each
    splits: tuple[str, ...]  # those that are there
    ignored: tuple[str, ...]  # hidden files and files that are no pictures


@dataclass(frozen=True)
class FolderCheck:
    """What ``check_folder`` found. Groups are relative paths of pictures with the same pixels."""

    name: str
    counts: dict[str, dict[str, int]]  # split -> class -> number of sound pictures
    broken: tuple[Skipped, ...]
    duplicates: tuple[tuple[str, ...], ...]  # in one split, of one class
    leaks: tuple[tuple[str, ...], ...]  # in more than one split
    conflicts: tuple[tuple[str, ...], ...]  # in more than one class
    ignored: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing was found that makes a result wrong; duplicates in a split do not."""
        return not (self.broken or self.leaks or self.conflicts)


class FolderImages:
    """Pictures decoded when they are asked for, ``side`` x ``side``, several at once."""

    def __init__(self, paths: Iterable[Path], side: int, channels: int) -> None:
        self.paths = tuple(paths)
        self.shape = (channels, side, side)

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, ids: Tensor) -> Tensor:
        """Return the pictures ``ids`` as uint8 (N, C, H, W), channels-last in memory.

        Raises PictureError when a file has changed since the folder was opened.
        """
        channels, side, _ = self.shape
        batch = torch.empty((len(ids), side, side, channels), dtype=torch.uint8)

        def read(row: int, index: int) -> None:
            batch[row] = _pixels(self.paths[index], side, channels)

        with ThreadPoolExecutor(min(_WORKERS, max(1, len(ids)))) as pool:
            for _ in pool.map(read, range(len(ids)), ids.tolist()):
                pass
        return batch.permute(0, 3, 1, 2)


def open_folder(
    path: Path,
    *,
    image_size: int = 224,
    channels: int = 3,
    broken: str = "error",
    memory: int | None = None,
) -> Dataset:
    """Open a folder of pictures as uint8 (channels, R, R), R = image_size / 0.875 rounded.

    Every picture is decoded once, here. They stay in memory when they fit into ``memory`` bytes
    (half of what is available), and are decoded again batch by batch otherwise: the same pixels.
    The fingerprint covers the relative paths, sizes and classes of the samples. Raises DataError
    for a folder in no known layout and for broken pictures; with ``broken`` "skip" these are left
    out and listed, as long as they are at most 1 % of all (or a single one).
    """
    if broken not in ("error", "skip"):
        raise UsageError(f'broken is "{broken}"', hint="choose from error, skip")
    tree = scan(path)
    side = round(image_size / 0.875)  # 256 for 224, as He et al. 2015, sec. 3.4
    count = len(tree.samples)
    size = count * side * side * channels
    keep = size <= (available_memory() // 2 if memory is None else memory)
    store = torch.empty((count if keep else 0, side, side, channels), dtype=torch.uint8)

    def read(index: int) -> None:
        picture = _pixels(tree.samples[index].path, side, channels)
        if keep:
            store[index] = picture

    reasons = dict(_failures(read, range(count)))
    skipped = [Skipped(printable(tree.samples[i].relative), r) for i, r in reasons.items()]
    _judge(path, skipped, count, broken)

    sound = [i for i in range(count) if i not in reasons]
    if keep:
        for new, old in enumerate(sound):  # in place: a copy might not fit
            if new != old:
                store[new] = store[old]
    samples = [tree.samples[i] for i in sound]
    _check_not_empty(path, tree, samples)
    splits: dict[str, Split] = {}
    start = 0
    for name in tree.splits:
        part = [sample for sample in samples if sample.split == name]
        images: ImageSource = (
            MemoryImages(store[start : start + len(part)])
            if keep
            else FolderImages([sample.path for sample in part], side, channels)
        )
        splits[name] = whole(images, torch.tensor([s.label for s in part], dtype=torch.int64))
        start += len(part)
    return Dataset(
        name=_name(path),
        classes=tree.classes,
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        fingerprint=_fingerprint(samples, tree.classes),
        mirror=True,
        skipped=tuple(skipped),
    )


def check_folder(path: Path) -> FolderCheck:
    """Decode every picture and report what is broken, doubled or labelled in two ways.

    Pictures are the same when they have the same size and the same RGB pixels, whatever the files'
    formats. Raises DataError for a folder in no known layout.
    """
    tree = scan(path)
    hashes: dict[int, bytes] = {}

    def read(index: int) -> None:
        image = decode(tree.samples[index].path, 3)
        hashes[index] = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()

    reasons = dict(_failures(read, range(len(tree.samples))))
    counts = {split: dict.fromkeys(tree.classes, 0) for split in tree.splits}
    groups: defaultdict[bytes, list[Sample]] = defaultdict(list)
    for index, sample in enumerate(tree.samples):
        if index not in reasons:
            counts[sample.split][tree.classes[sample.label]] += 1
            groups[hashes[index]].append(sample)
    same = [group for group in groups.values() if len(group) > 1]

    def where(condition: Callable[[list[Sample]], bool]) -> tuple[tuple[str, ...], ...]:
        return tuple(
            tuple(printable(sample.relative) for sample in group)
            for group in same
            if condition(group)
        )

    return FolderCheck(
        name=_name(path),
        counts=counts,
        broken=tuple(Skipped(printable(tree.samples[i].relative), r) for i, r in reasons.items()),
        duplicates=where(lambda group: any(n > 1 for n in _places(group).values())),
        leaks=where(lambda group: len({sample.split for sample in group}) > 1),
        conflicts=where(lambda group: len({sample.label for sample in group}) > 1),
        ignored=tree.ignored,
    )


def scan(path: Path) -> Tree:
    """Return the classes and samples of a data folder, without decoding them.

    Class ids are the NFC names of the training classes in code-point order. Raises DataError for
    a folder in no known layout, a class without pictures, or a class that train does not have.
    """
    try:
        return _Scan(path).tree()
    except OSError as error:
        where = printable(error.filename or path)
        raise DataError(
            f"{where}: cannot be read: {error.strerror}", hint="check its permissions"
        ) from error


@dataclass
class _Scan:
    """One walk through a data folder."""

    root: Path
    ignored: list[str] = field(default_factory=list)

    def tree(self) -> Tree:
        if not self.root.exists():
            raise DataError(f"{printable(self.root)}: there is no such folder", hint=EXPECTED)
        if not self.root.is_dir():
            raise DataError(
                f"{printable(self.root)}: is a file, not a folder of pictures", hint=EXPECTED
            )
        found = {split: self.classes(folder) for split, folder in self.splits().items()}
        classes = sorted(found["train"])
        for split, folders in found.items():
            if strange := sorted(set(folders) - set(classes)):
                raise self.fault(
                    f"{split} has a class that train has not: {printable(strange[0])}",
                    hint="class numbers come from train, by name; rename or move the folder",
                )
        if len(classes) == 1:
            raise self.fault(f"only one class: {printable(classes[0])}", hint=EXPECTED)
        samples: list[Sample] = []
        for split, folders in found.items():
            part = [
                Sample(file, self.relative(file), split, classes.index(name))
                for name, folder in folders.items()
                for file in self.pictures(folder)
            ]
            samples += sorted(part, key=lambda sample: sample.relative)
        tree = Tree(tuple(classes), tuple(samples), tuple(found), tuple(sorted(set(self.ignored))))
        _check_not_empty(self.root, tree, samples)
        return tree

    def splits(self) -> dict[str, Path]:
        """Return the folders of the splits that are there, in the order train, validation, test."""
        folders = {f.name: f for f in self.visible(self.root) if os.path.isdir(f)}
        named = {name: folder for name, folder in folders.items() if name in SPLITS}
        if "train" not in named:
            if named:
                raise self.fault(f"{next(iter(named))}/ but no train/", hint=EXPECTED)
            return {"train": self.root}
        others = [name for name in folders if name not in SPLITS]
        if len(named) == 1 and others:
            inside = self.visible(folders["train"])
            if not any(os.path.isdir(f) for f in inside):
                return {"train": self.root}  # a class of trains
            if any(self.pictures(folders[name]) for name in others):
                raise self.fault(
                    f"train/ has folders inside and {printable(others[0])}/ beside it: is it a "
                    "split or a class?",
                    hint="move the folders that are not splits elsewhere",
                )
        result: dict[str, Path] = {}
        for name in SPLITS:
            if name in named:
                if SPLITS[name] in result:
                    raise self.fault(
                        f"{result[SPLITS[name]].name}/ and {name}/ mean the same split",
                        hint="keep one of them",
                    )
                result[SPLITS[name]] = named[name]
        self.ignored += [f"{printable(name)}/" for name in others]
        return result

    def classes(self, folder: Path) -> dict[str, Path]:
        """Return the class folders of one split by NFC name."""
        result: dict[str, Path] = {}
        loose = []
        for entry in self.visible(folder):
            if not os.path.isdir(entry):
                if _is_sample(entry):
                    loose.append(entry)
                else:
                    self.ignored.append(printable(self.relative(entry)))
                continue
            # Bytes that are not UTF-8 are written out, so that the name can go into any file.
            name = unicodedata.normalize("NFC", entry.name)
            name = name.encode("utf-8", "backslashreplace").decode()
            if name in result:
                raise self.fault(
                    f"two folders have the same name {printable(name)}, in two Unicode forms",
                    hint="put their pictures into one",
                )
            result[name] = entry
        if loose:
            raise self.fault(
                f"{_number(len(loose), 'picture')} outside the class folders: "
                f"{printable(self.relative(loose[0]))}",
                hint=EXPECTED,
            )
        if not result:
            raise self.fault(f"no class folders in {printable(folder)}", hint=EXPECTED)
        return result

    def pictures(self, folder: Path) -> list[Path]:
        """Return the files below a folder that should be pictures, each real folder once."""
        seen = {_identity(self.root), _identity(folder.parent)}
        found: list[Path] = []
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            try:
                identity = _identity(current)
                entries = self.visible(current)
            except OSError:
                found.append(current)  # reading it as a picture will say why it cannot be read
                continue
            if identity in seen:  # a loop of symbolic links
                continue
            seen.add(identity)
            for entry in entries:
                if os.path.isdir(entry):
                    waiting.append(entry)
                elif _is_sample(entry):
                    found.append(entry)
                else:
                    self.ignored.append(printable(self.relative(entry)))
        return found

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
        return unicodedata.normalize("NFC", path.relative_to(self.root).as_posix())

    def fault(self, what: str, *, hint: str) -> DataError:
        """Return an error that shows what the folder holds."""
        names = [f"{p.name}/" if os.path.isdir(p) else p.name for p in self.visible(self.root)]
        listed = ", ".join(printable(name) for name in names[:8]) or "nothing"
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return DataError(f"{printable(self.root)}: {what} (found: {listed}{more})", hint=hint)


def available_memory() -> int:
    """Return the bytes of memory that can be used: the system's or the container's, the smaller."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail")]
    except OSError:  # not Linux: assume that half of the memory is taken
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" in names:
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text()
        limits.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no group, or a group without a limit ("max")
        pass
    return max(0, min(limits, default=4 << 30))


def _pixels(path: Path, side: int, channels: int) -> Tensor:
    # A copy, since torch warns of the read-only memory that Pillow lends.
    return torch.from_numpy(pixels(square(decode(path, channels), side)).copy())


def _failures(read: Callable[[int], None], indices: range) -> Iterator[tuple[int, str]]:
    """Yield the indices whose picture cannot be decoded, in order, and why."""

    def attempt(index: int) -> str | None:
        try:
            read(index)
        except PictureError as error:
            return error.reason
        return None

    with ThreadPoolExecutor(_WORKERS) as pool:
        for index, reason in zip(indices, pool.map(attempt, indices), strict=True):
            if reason is not None:
                yield index, reason


def _judge(path: Path, skipped: list[Skipped], count: int, broken: str) -> None:
    """Raise DataError when pictures are broken and may not be left out."""
    allowed = max(1, count // 100) if broken == "skip" else 0
    if len(skipped) <= allowed:
        return
    lines = [f"{item.path}: {item.reason}" for item in skipped[:3]]
    if len(skipped) > 3:
        lines.append(f"and {len(skipped) - 3} more")
    what = f"{len(skipped)} of {_number(count, 'picture')} cannot be read"
    hint = "--set data.broken=skip leaves them out and lists them"
    if broken == "skip":
        what += f", more than the {allowed} that may be left out"
        hint = "`resnets data check` lists them all; mend or remove them"
    raise DataError("\n  ".join([f"{printable(path)}: {what}", *lines]), hint=hint)


def _check_not_empty(root: Path, tree: Tree, samples: Iterable[Sample]) -> None:
    counts = Counter((sample.split, sample.label) for sample in samples)
    if not counts:
        raise DataError(f"{printable(root)}: no pictures", hint=EXPECTED)
    for label, name in enumerate(tree.classes):
        if not counts["train", label]:
            raise DataError(
                f"{printable(root)}: class {printable(name)} has no pictures to train on",
                hint="remove the folder, or put pictures into it",
            )
    for split in tree.splits:
        if not any(counts[split, label] for label in range(len(tree.classes))):
            raise DataError(f"{printable(root)}: {split} has no pictures", hint="remove the folder")


def _fingerprint(samples: list[Sample], classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.relative):
        fields = (sample.relative, str(sample.path.stat().st_size), classes[sample.label], "")
        digest.update("\0".join(fields).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_sample(path: Path) -> bool:
    if path.suffix.lower() in EXTENSIONS or not os.path.exists(path):  # a link to nothing is broken
        return True
    return path.is_file() and is_picture(path)  # a pipe would wait for ever


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _places(group: list[Sample]) -> Counter[tuple[str, int]]:
    return Counter((sample.split, sample.label) for sample in group)


def _name(path: Path) -> str:
    return printable(path.resolve().name)


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
