"""A folder of images as a data set: each decoded once, or batch by batch if memory is short."""

import math
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnets.data.classes import sides
from resnets.data.copies import find_copies, originals
from resnets.data.dataset import Dataset, ImageSource, MemoryImages, Skipped, Split, whole
from resnets.data.depth import Depth, Extent, Range, RangeError, Scale, together, union
from resnets.data.framing import Frame, count_cropped
from resnets.data.identity import (
    Digests,
    Manifest,
    content_fingerprint,
    former_fingerprint,
)
from resnets.data.images import Decoded, ImageError, pixels, printable, read_image
from resnets.data.listing import Listing, Sample, check_not_empty
from resnets.data.scan import scan
from resnets.errors import DataError, UsageError
from resnets.formatting import plural

Report = Callable[[int, int], None]  # how many are done, of how many

_WORKERS = min(16, os.cpu_count() or 1)  # Pillow decodes without holding the interpreter's lock


class FolderImages:
    """Images decoded when they are asked for, several at once, as ``store`` has them."""

    def __init__(self, paths: Iterable[Path], store: "Store", names: Sequence[str] = ()) -> None:
        self.paths, self.store, self.names = tuple(paths), store, names
        self.shape = (store.channels, store.frame.side, store.frame.side)

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, ids: Tensor) -> Tensor:
        """Return the images ``ids`` as uint8 (N, C, H, W), channels-last in memory.

        Raises ImageError when a file has changed since the folder was opened.
        """
        channels, side, _ = self.shape
        batch = torch.empty((len(ids), side, side, channels), dtype=torch.uint8)

        def read(row: int, index: int) -> None:
            batch[row] = self.store(self.paths[index])

        with ThreadPoolExecutor(min(_WORKERS, max(1, len(ids)))) as pool:
            for _ in pool.map(read, range(len(ids)), ids.tolist()):
                pass
        return batch.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Store:
    """How the images of a folder become pixels."""

    frame: Frame
    channels: int
    scale: Scale = "container"
    truncated: bool = False  # images that have lost their end are shown as far as they go

    def __call__(self, path: Path) -> Tensor:
        """Return the pixels of an image, uint8 (H, W, C). Raises ImageError."""
        return self.square(self.read(path).image(self.channels, self.scale))

    def read(
        self,
        path: Path,
        *,
        all_bits: bool = False,
        look: Callable[[BinaryIO], None] = lambda file: None,
    ) -> Decoded:
        """Return an image before its values become 8 bits; ``look`` sees the open file first.

        Raises ImageError.
        """
        all_bits = all_bits or isinstance(self.scale, tuple)
        return read_image(path, all_bits=all_bits, truncated=self.truncated, look=look)

    def square(self, image: Image.Image) -> Tensor:
        """Return the pixels of an image of 8 bits, uint8 (H, W, C)."""
        # A copy, since torch warns of the read-only memory that Pillow lends.
        return torch.from_numpy(pixels(self.frame(image)).copy())


def open_folder(
    path: Path,
    *,
    side: int = 256,
    channels: int = 3,
    broken: str = "error",
    broken_limit: float = 0.01,
    memory: int | None = None,
    frame: Frame | None = None,
    scale: Scale | Literal["measured"] = "measured",
    report: Report = lambda done, total: None,
) -> Dataset:
    """Open a folder of images as uint8 (channels, side, side), or as ``frame`` makes them.

    Every image is decoded once, here. They stay in memory when they fit into ``memory`` bytes
    (half of what is available), and are decoded again batch by batch otherwise: the same pixels.
    ``scale`` says which values of more than 8 bits become black and white; "measured" reads the
    images that have them a second time, when it is known what those of the training split span.
    The fingerprint covers the content, relative paths, splits and classes of the samples. Raises
    DataError for a folder in no known layout and for broken images; with ``broken`` "skip" these
    are left out and listed, as long as they are at most ``broken_limit`` of all (or a single one),
    and with "read" so are those of which not even a beginning can be read. ``report`` is told how
    many images are read, and of how many.
    """
    if broken not in ("error", "skip", "read"):
        raise UsageError(f'broken is "{broken}"', hint="choose from error, skip, read")
    tree = scan(path)
    count = len(tree.samples)
    frame = frame or Frame(side, side)
    shape = (frame.side, frame.side, channels)
    keep = count * prod(shape) <= (available_memory() // 2 if memory is None else memory)
    images = torch.empty((count if keep else 0, *shape), dtype=torch.uint8)
    measured = scale == "measured"
    store = Store(frame, channels, "container" if measured else scale, broken == "read")  # type: ignore[arg-type]

    def see(index: int, image: Image.Image) -> None:
        if keep:
            images[index] = store.square(image)

    found = read_all(path, tree, store, see, measured=measured, report=report)
    _judge(path, found.broken, count, broken, broken_limit)

    if keep:
        for new, old in enumerate(found.sound):  # in place: a copy might not fit
            if new != old:
                images[new] = images[old]
    samples, digests = found.samples, found.digests
    check_not_empty(tree, found.sound)
    splits: dict[str, Split] = {}
    start = 0
    for name in tree.splits:
        part = [sample for sample in samples if sample.split == name]
        names = [sample.name for sample in part]
        source: ImageSource = (
            MemoryImages(images[start : start + len(part)], names)
            if keep
            else FolderImages([sample.path for sample in part], found.store, names)
        )
        splits[name] = whole(source, torch.tensor([s.label for s in part], dtype=torch.int64))
        start += len(part)
    return Dataset(
        name=printable(path.resolve().name),
        classes=tree.classes,
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        fingerprint=content_fingerprint(samples, tree.classes, digests.files),
        mirror=sides(tree.classes) is None,
        skipped=(*found.broken, *(Skipped(*each) for each in tree.irregular)),
        depth=found.depth,
        cropped=count_cropped(found.sizes) if frame.fit == "crop" else 0,
        former=former_fingerprint(samples, tree.classes, digests.sizes),
        originals=torch.from_numpy(originals(digests.pixels[: len(splits["train"])])),
        copies=find_copies(samples, digests.pixels, tree.splits),
        manifest=Manifest([sample.name for sample in samples], digests.files),
    )


@dataclass(frozen=True)
class Read:
    """What came of reading all images of a folder: of the sound ones, in their order."""

    sound: list[int]  # which of the tree's samples they are
    samples: list[Sample]
    digests: Digests
    sizes: NDArray[np.int64]  # (N, 2), pixels
    depth: Depth | None  # of those of more than 8 bits, where there are any
    broken: tuple[Skipped, ...]  # the others
    store: Store  # with the range that was measured


def read_all(
    path: Path,
    tree: Listing,
    store: Store,
    see: Callable[[int, Image.Image], None],
    *,
    measured: bool = True,
    look: Callable[[int, BinaryIO], None] = lambda index, file: None,
    report: Report = lambda done, total: None,
) -> Read:
    """Decode every image of a folder, and let ``see`` have each by its number, in 8 bits.

    Those of more are read a second time where it is to be ``measured`` what those of the training
    part span. ``look`` sees the open files, ``report`` is told how many are read, and of how many.
    Raises DataError where images of more than 8 bits have no range in common.
    """
    count = len(tree.samples)
    extents: dict[int, Extent] = {}  # of images of more than 8 bits
    digests, sizes = Digests(count), np.ones((count, 2), np.int64)

    def look_into(index: int, file: BinaryIO) -> None:
        digests.read(index, file)
        look(index, file)

    def read(index: int) -> None:
        found = store.read(
            tree.samples[index].path, all_bits=measured, look=partial(look_into, index)
        )
        if extent := found.extent:
            extents[index] = extent
            if measured and store.scale == "container":
                return  # until the range is known
        image = found.image(store.channels, store.scale)
        digests.see(index, image)
        sizes[index] = image.size
        see(index, image)

    reasons = dict(failures(read, range(count), report))
    deep = sorted(extents)
    if measured and deep:
        training = [i for i in deep if tree.samples[i].split == "train"]
        store = replace(store, scale=measured_range(path, [extents[i] for i in training or deep]))
        reasons = dict(sorted((reasons | dict(failures(read, deep))).items()))
    sound = [i for i in range(count) if i not in reasons]
    return Read(
        sound=sound,
        samples=[tree.samples[i] for i in sound],
        digests=digests.of(sound),
        sizes=sizes[sound],
        depth=depth_of([extents[i] for i in deep if i not in reasons], store.scale),
        broken=tuple(Skipped(tree.samples[i].name, reason) for i, reason in reasons.items()),
        store=store,
    )


def failures(
    read: Callable[[int], None], indices: Sequence[int], report: Report = lambda done, total: None
) -> Iterator[tuple[int, str]]:
    """Yield the indices whose image cannot be decoded, in order, and why.

    ``report`` is told after each image how many are done, and how many there are.
    """

    def attempt(index: int) -> str | None:
        try:
            read(index)
        except ImageError as error:
            return error.reason
        return None

    with ThreadPoolExecutor(_WORKERS) as pool:
        results = zip(indices, pool.map(attempt, indices), strict=True)
        for done, (index, reason) in enumerate(results, start=1):
            report(done, len(indices))
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


def measured_range(path: Path, extents: Iterable[Extent]) -> Range:
    """Return the range of images of more than 8 bits; raises DataError where they have none."""
    try:
        common = together(extents)
    except RangeError as error:
        raise DataError(
            f"{printable(path)}: {error}",
            hint=f"scale them alike, or train with a range for all of them: {error.setting}",
        ) from None
    assert common is not None
    return common.range


def depth_of(extents: Sequence[Extent], scale: Scale) -> Depth | None:
    """Return what images of more than 8 bits have in common, where there are any."""
    whole = union(extents)
    if whole is None:
        return None
    beyond = isinstance(scale, tuple) and sum(extent.exceeds(scale) for extent in extents)
    return Depth(len(extents), whole, scale, int(beyond))


def _judge(path: Path, skipped: Sequence[Skipped], count: int, broken: str, limit: float) -> None:
    """Raise DataError when images are broken and may not be left out."""
    allowed = max(1, int(count * limit + 1e-9)) if broken != "error" else 0
    if len(skipped) <= allowed:
        return
    what = f"{len(skipped)} of {plural(count, 'image')} cannot be read"
    listed = f"`resnets data check {shlex.quote(printable(path))}` lists them"
    hint = f"{listed}; `train --set data.broken=skip` leaves them out"
    if broken != "error":
        what += f", more than the {allowed} that may be left out"
        share = math.ceil(1000 * len(skipped) / count) / 1000
        more = f", or --set data.broken_limit={share:g}" if share < 1 else ""
        hint = f"{listed}; mend or remove them{more}"
    first = f"{skipped[0].path} {skipped[0].reason}"
    raise DataError(f"{printable(path)}: {what}; the first: {first}", hint=hint)
