"""What an image is: digests of its bytes and of its pixels; and what has changed since."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.images import Stored, opened, printable
from resnets.data.listing import Listing
from resnets.data.pipeline import read_ahead
from resnets.data.sources import open_listing
from resnets.errors import CheckpointError
from resnets.files import writing
from resnets.formatting import plural
from resnets.readers.paths import open_regular

CONTENT = "content:"  # how fingerprints begin that cover what is in the files
LISTED = "listed:"  # and those of names, sizes and classes alone
_PIXELS = 16  # bytes of a digest of pixels
_LINE = 1 << 16  # bytes of a line of a manifest at most


@dataclass(frozen=True)
class Digests:
    """The digests and the sides of N images, written down when each is read."""

    files: NDArray[np.uint8]  # (N, 32), SHA-256
    pixels: NDArray[np.uint8]  # (N, _PIXELS)
    sides: NDArray[np.int64]  # (N, 2): width and height, upright

    @classmethod
    def blank(cls, count: int) -> "Digests":
        """Return those of so many images that are still to be read."""
        files, pixels = (np.zeros((count, width), np.uint8) for width in (32, _PIXELS))
        return cls(files, pixels, np.ones((count, 2), np.int64))

    def read(self, index: int, file: Any) -> None:
        """Take down the content of an open file, from its start to its end."""
        digest = hashlib.file_digest(file, "sha256").digest()
        self.files[index] = np.frombuffer(digest, np.uint8)

    def of(self, indices: NDArray[np.int64]) -> "Digests":
        """Return those of some of the images, in that order."""
        return Digests(**{name: column[indices] for name, column in self.columns.items()})

    def see(self, index: int, image: Image.Image) -> None:
        """Take down the pixels of a decoded image."""
        digest = hashlib.sha256(f"{image.size}{image.mode}".encode())
        digest.update(image.tobytes())
        self.pixels[index] = np.frombuffer(digest.digest()[:_PIXELS], np.uint8)
        self.sides[index] = image.size

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """All of it by name, a row for each image."""
        return vars(self)


def digest_all(count: int, open: Callable[[int], BinaryIO]) -> NDArray[np.uint8]:
    """Return the SHA-256 of files that ``open`` opens, as (N, 32); zeros where it cannot."""
    digests = Digests.blank(count)

    def read(index: int) -> None:
        with suppress(OSError), open(index) as file:
            digests.read(index, file)

    for _ in read_ahead(read, (range(i, min(i + 64, count)) for i in range(0, count, 64))):
        pass
    return digests.files


def digest_files(images: Sequence[Path | Stored]) -> NDArray[np.uint8]:
    """Return the SHA-256 of images' files as (N, 32); zeros for one that cannot be read."""
    return digest_all(len(images), lambda index: opened(images[index]))


def content_digest(images: Sequence[Path | Stored]) -> str:
    """Return one SHA-256 for the content of images' files, in their order."""
    return hashlib.sha256(digest_files(images).tobytes()).hexdigest()


def images_digest(names: Iterable[str], images: Iterable[Path | Stored]) -> str:
    """Return the SHA-256 of images' names, sizes and times of change."""
    digest = hashlib.sha256()
    for name, image in zip(names, images, strict=True):
        try:
            if isinstance(image, Stored):
                size, stamp = image.size, image.stamp
            else:
                status = os.stat(image)
                size, stamp = status.st_size, status.st_mtime_ns
            facts = f"{name}\0{size}\0{stamp}\0"
        except OSError:  # a link to nothing: broken, and told so when its turn comes
            facts = f"{name}\0\0\0"
        digest.update(facts.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def content_fingerprint(
    listing: Listing, numbers: NDArray[np.int64], files: NDArray[np.uint8]
) -> str:
    """Return what stands for names, splits, classes and content of some of a listing's images.

    ``files`` are their SHA-256, (N, 32).
    """

    parts = listing.parts[numbers]

    def about(place: int, name: str) -> tuple[str, ...]:
        return listing.splits[parts[place]], name, files[place].tobytes().hex()

    return CONTENT + _digest(listing, numbers, about)


def former_fingerprint(listing: Listing, numbers: NDArray[np.int64]) -> str:
    """Return what stands for names, sizes and classes, as runs of earlier versions have it."""
    sizes = listing.sizes[numbers]
    return _digest(listing, numbers, lambda place, name: (str(sizes[place]), name))


def _digest(
    listing: Listing, numbers: NDArray[np.int64], about: Callable[[int, str], tuple[str, ...]]
) -> str:
    """Return the SHA-256 of images' paths, in their order, and what is said ``about`` each."""
    digest = hashlib.sha256()
    names = [listing.names[i] for i in numbers.tolist()]
    classes = [listing.classes[i] for i in listing.labels[numbers].tolist()]
    if listing.targets is not None:
        named = np.array(listing.classes, object)
        classes = ["\1".join(named[own]) for own in listing.targets[numbers]]
    more = [c[numbers].tolist() for c in (listing.groups, listing.weights) if c is not None]
    for place in sorted(range(len(names)), key=names.__getitem__):
        told = (str(column[place]) for column in more)
        fields = (names[place], *about(place, classes[place]), *told, "")
        digest.update("\0".join(fields).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True)
class Manifest:
    """The SHA-256 of files by their names; some 100 bytes an image, 100 MB for a million."""

    names: Sequence[str]
    files: NDArray[np.uint8]  # (N, 32)

    def write(self, path: Path) -> None:
        """Write it as `sha256sum` does, which can check it: a digest and a name on each line."""
        with writing(path) as file:
            for name, digest in self:
                file.write(f"{digest}  {name}\n".encode("utf-8", "surrogateescape"))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for name, digest in zip(self.names, self.files, strict=True):
            yield name, digest.tobytes().hex()


def read_manifest(path: Path) -> dict[str, str] | None:
    """Return digests by name, or None where there are none.

    Raises CheckpointError when the file is damaged.
    """
    if not path.exists():
        return None
    found: dict[str, str] = {}
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(_LINE):
                number += 1
                digest, _, name = line.decode("utf-8", "surrogateescape").partition("  ")
                if len(digest) != 64 or not name.endswith("\n"):
                    raise CheckpointError(f"{printable(path)}: line {number} is damaged")
                found[name[:-1]] = digest
    except OSError as error:
        raise CheckpointError(f"{printable(path)}: cannot be read: {error.strerror}") from None
    return found


@dataclass(frozen=True)
class Changes:
    """How files differ from what was written down about them, by name."""

    changed: tuple[str, ...]  # have another content
    new: tuple[str, ...]
    gone: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.new or self.gone)

    def __str__(self) -> str:
        parts: list[str] = []
        for names, one, more in (
            (self.changed, "has changed", "have changed"),
            (self.new, "is new", "are new"),
            (self.gone, "is gone", "are gone"),
        ):
            if names:
                count = f"{len(names):,}" if parts else plural(len(names), "image")
                verb = one if len(names) == 1 else more
                parts.append(f"{count} {verb}, {'' if len(names) == 1 else 'such as '}{names[0]}")
        return "; ".join(parts)


def changes(before: Mapping[str, str], now: Iterable[tuple[str, str]]) -> Changes:
    """Return how the digests of files differ from those of before."""
    there = dict(now)
    return Changes(
        tuple(name for name in there if before.get(name, there[name]) != there[name]),
        tuple(name for name in there if name not in before),
        tuple(name for name in before if name not in there),
    )


def look_again(
    root: Path, fingerprint: str, before: Mapping[str, str] | None, left_out: Collection[str]
) -> Iterator[str]:
    """Yield what is there, and then in what it differs from what a run has written down.

    ``fingerprint`` is the run's, ``before`` its digests by name where it has any, ``left_out`` the
    names of files that it has skipped. Raises DataError for a folder in no known layout.
    """
    listing = open_listing(root)
    # What a large set has left out was found later.
    left = set() if fingerprint.startswith(LISTED) else set(left_out)
    kept = [i for i in range(len(listing)) if listing.shown(i) not in left]
    numbers, count = np.array(kept, np.int64), plural(len(kept), "image")
    if not fingerprint.startswith(CONTENT):
        of = "large set" if fingerprint.startswith(LISTED) else "run of an earlier version"
        yield f"{count} of the same names and sizes; this {of} has no digests of their content"
        if former_fingerprint(listing, numbers) != fingerprint.removeprefix(LISTED):
            yield "names, sizes or classes of images have changed"
        return
    yield f"{count}, each with the content and class that it had"
    files = digest_all(len(kept), lambda place: listing.open(kept[place]))
    if content_fingerprint(listing, numbers, files) != fingerprint:
        now = Manifest([listing.shown(i) for i in kept], files)
        found = "" if before is None else str(changes(before, now))
        yield found or "images or their classes have changed"
