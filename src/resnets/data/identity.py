"""What a picture is: digests of its bytes and of its pixels, what has changed since, and copies."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.images import printable
from resnets.data.scan import Sample
from resnets.errors import CheckpointError
from resnets.files import writing
from resnets.formatting import plural
from resnets.readers.paths import open_regular

MANIFEST = "pictures.sha256"  # in a run folder
CONTENT = "content:"  # how fingerprints begin that cover what is in the files
_PIXELS = 16  # bytes of a digest of pixels
_LINE = 1 << 16  # bytes of a line of a manifest at most


class Digests:
    """The digests of so many pictures, each written down when the picture is read."""

    def __init__(self, count: int) -> None:
        self.files = np.zeros((count, 32), np.uint8)  # SHA-256
        self.sizes = np.zeros(count, np.int64)  # bytes
        self.pixels = np.zeros((count, _PIXELS), np.uint8)

    def read(self, index: int, file: Any) -> None:
        """Take down the content of an open file, from its start to its end."""
        digest = hashlib.file_digest(file, "sha256").digest()
        self.files[index] = np.frombuffer(digest, np.uint8)
        self.sizes[index] = file.tell()

    def of(self, indices: Sequence[int]) -> "Digests":
        """Return the digests of some of the pictures, in that order."""
        part = Digests(0)
        part.files, part.sizes = self.files[indices], self.sizes[indices]
        part.pixels = self.pixels[indices]
        return part

    def see(self, index: int, image: Image.Image) -> None:
        """Take down the pixels of a decoded picture."""
        digest = hashlib.sha256(f"{image.size}{image.mode}".encode())
        digest.update(image.tobytes())
        self.pixels[index] = np.frombuffer(digest.digest()[:_PIXELS], np.uint8)


def originals(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return for each row of uint8 (N, B) the place of the first that is equal to it."""
    if not len(digests):
        return np.arange(0)
    rows = np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def digest_files(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Return the SHA-256 of files as (N, 32); zeros for one that cannot be read."""
    digests = Digests(len(paths))

    def read(index: int) -> None:
        with suppress(OSError), open_regular(paths[index]) as file:
            digests.read(index, file)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(read, range(len(paths))):
            pass
    return digests.files


def content_digest(paths: Sequence[Path]) -> str:
    """Return one SHA-256 for the content of files, in their order."""
    return hashlib.sha256(digest_files(paths).tobytes()).hexdigest()


# Fingerprints


def content_fingerprint(
    samples: Sequence[Sample], classes: Sequence[str], files: NDArray[np.uint8]
) -> str:
    """Return what stands for names, splits, classes and content of samples, in whatever order."""
    digest = hashlib.sha256()
    for index in sorted(range(len(samples)), key=lambda index: samples[index].relative):
        sample = samples[index]
        fields = (
            sample.relative,
            sample.split,
            classes[sample.label],
            files[index].tobytes().hex(),
        )
        digest.update("\0".join((*fields, "")).encode("utf-8", "surrogateescape"))
    return CONTENT + digest.hexdigest()


def former_fingerprint(
    samples: Sequence[Sample], classes: Sequence[str], sizes: Sequence[int] | NDArray[np.int64]
) -> str:
    """Return the fingerprint of runs of earlier versions: of names, sizes and classes."""
    digest = hashlib.sha256()
    for index in sorted(range(len(samples)), key=lambda index: samples[index].relative):
        sample = samples[index]
        fields = (sample.relative, str(sizes[index]), classes[sample.label], "")
        digest.update("\0".join(fields).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


# What has changed


@dataclass(frozen=True)
class Manifest:
    """The SHA-256 of files by their names; some 100 bytes a picture, 100 MB for a million."""

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
                count = f"{len(names):,}" if parts else plural(len(names), "picture")
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


# Copies


@dataclass(frozen=True)
class Shared:
    """Pictures of one part that are in another too, with one of them and its copy there."""

    part: str
    other: str
    count: int
    of: int  # pictures of the part
    example: tuple[str, str]


@dataclass(frozen=True)
class Copies:
    """Pictures with the same pixels, whatever their files' formats."""

    doubled: int = 0  # training pictures of which an earlier one has the pixels
    shared: tuple[Shared, ...] = ()
    two_classes: int = 0  # pictures whose pixels are in more than one class
    two_classes_example: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)


def find_copies(
    samples: Sequence[Sample], pixels: NDArray[np.uint8], splits: Sequence[str]
) -> Copies:
    """Return which of some samples, with digests (N, B) of their pixels, are copies of others."""
    groups = originals(pixels)
    split = np.array([splits.index(sample.split) for sample in samples], np.int64)
    label = np.array([sample.label for sample in samples], np.int64)
    if len(np.unique(groups)) == len(groups):
        return Copies()

    def name(index: int) -> str:
        return printable(samples[index].relative)

    training = np.flatnonzero(split == splits.index("train"))
    doubled = len(training) - len(np.unique(groups[training]))
    shared = []
    for second in range(1, len(splits)):
        for first in range(second):
            there, here = np.flatnonzero(split == first), np.flatnonzero(split == second)
            both = here[np.isin(groups[here], groups[there])]
            if len(both):
                twin = there[groups[there] == groups[both[0]]][0]
                pair = (name(both[0]), name(twin))
                shared.append(Shared(splits[second], splits[first], len(both), len(here), pair))
    pairs = np.unique(np.stack([groups, label], axis=1), axis=0)
    several, count = np.unique(pairs[:, 0], return_counts=True)
    torn = np.isin(groups, several[count > 1])
    example: tuple[str, ...] = ()
    if torn.any():
        first = np.flatnonzero(torn)[0]
        other = np.flatnonzero((groups == groups[first]) & (label != label[first]))[0]
        example = (name(first), name(other))
    return Copies(doubled, tuple(shared), int(torn.sum()), example)
