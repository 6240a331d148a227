"""A folder of pictures as a data set: each decoded once, or batch by batch if memory is short."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from resnets.data.dataset import Dataset, ImageSource, MemoryImages, Skipped, Split, whole
from resnets.data.images import PictureError, decode, pixels, printable, square
from resnets.data.scan import Sample, check_not_empty, scan
from resnets.errors import DataError, UsageError
from resnets.wording import plural

_WORKERS = min(16, os.cpu_count() or 1)  # Pillow decodes without holding the interpreter's lock


class FolderImages:
    """Pictures decoded when they are asked for, ``side`` x ``side``, several at once."""

    def __init__(
        self, paths: Iterable[Path], side: int, channels: int, names: Sequence[str] = ()
    ) -> None:
        self.paths, self.names = tuple(paths), names
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
    side: int = 256,
    channels: int = 3,
    broken: str = "error",
    memory: int | None = None,
) -> Dataset:
    """Open a folder of pictures as uint8 (channels, side, side).

    Every picture is decoded once, here. They stay in memory when they fit into ``memory`` bytes
    (half of what is available), and are decoded again batch by batch otherwise: the same pixels.
    The fingerprint covers the relative paths, sizes and classes of the samples. Raises DataError
    for a folder in no known layout and for broken pictures; with ``broken`` "skip" these are left
    out and listed, as long as they are at most 1 % of all (or a single one).
    """
    if broken not in ("error", "skip"):
        raise UsageError(f'broken is "{broken}"', hint="choose from error, skip")
    tree = scan(path)
    count = len(tree.samples)
    size = count * side * side * channels
    keep = size <= (available_memory() // 2 if memory is None else memory)
    store = torch.empty((count if keep else 0, side, side, channels), dtype=torch.uint8)

    def read(index: int) -> None:
        picture = _pixels(tree.samples[index].path, side, channels)
        if keep:
            store[index] = picture

    reasons = dict(failures(read, range(count)))
    skipped = [Skipped(printable(tree.samples[i].relative), r) for i, r in reasons.items()]
    _judge(path, skipped, count, broken)

    sound = [i for i in range(count) if i not in reasons]
    if keep:
        for new, old in enumerate(sound):  # in place: a copy might not fit
            if new != old:
                store[new] = store[old]
    samples = [tree.samples[i] for i in sound]
    check_not_empty(path, tree, samples)
    splits: dict[str, Split] = {}
    start = 0
    for name in tree.splits:
        part = [sample for sample in samples if sample.split == name]
        names = [printable(sample.relative) for sample in part]
        images: ImageSource = (
            MemoryImages(store[start : start + len(part)], names)
            if keep
            else FolderImages([sample.path for sample in part], side, channels, names)
        )
        splits[name] = whole(images, torch.tensor([s.label for s in part], dtype=torch.int64))
        start += len(part)
    return Dataset(
        name=printable(path.resolve().name),
        classes=tree.classes,
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        fingerprint=_fingerprint(samples, tree.classes),
        mirror=True,
        skipped=tuple(skipped),
    )


def failures(read: Callable[[int], None], indices: range) -> Iterator[tuple[int, str]]:
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


def _judge(path: Path, skipped: list[Skipped], count: int, broken: str) -> None:
    """Raise DataError when pictures are broken and may not be left out."""
    allowed = max(1, count // 100) if broken == "skip" else 0
    if len(skipped) <= allowed:
        return
    what = f"{len(skipped)} of {plural(count, 'picture')} cannot be read"
    hint = "`resnets data check` lists them; `train --set data.broken=skip` leaves them out"
    if broken == "skip":
        what += f", more than the {allowed} that may be left out"
        hint = "`resnets data check` lists them all; mend or remove them"
    first = f"{skipped[0].path} {skipped[0].reason}"
    raise DataError(f"{printable(path)}: {what}; the first: {first}", hint=hint)


def _fingerprint(samples: list[Sample], classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.relative):
        fields = (sample.relative, str(sample.path.stat().st_size), classes[sample.label], "")
        digest.update("\0".join(fields).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
