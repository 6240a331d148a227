"""What is wrong with a folder of pictures: broken files, copies, leaks, labels that disagree."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resnets.data.dataset import Skipped
from resnets.data.folder import failures
from resnets.data.images import decode, printable
from resnets.data.scan import Sample, scan


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

    reasons = dict(failures(read, range(len(tree.samples))))
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
        name=printable(path.resolve().name),
        counts=counts,
        broken=tuple(Skipped(printable(tree.samples[i].relative), r) for i, r in reasons.items()),
        duplicates=where(lambda group: any(n > 1 for n in _places(group).values())),
        leaks=where(lambda group: len({sample.split for sample in group}) > 1),
        conflicts=where(lambda group: len({sample.label for sample in group}) > 1),
        ignored=tree.ignored,
    )


def _places(group: list[Sample]) -> Counter[tuple[str, int]]:
    return Counter((sample.split, sample.label) for sample in group)
