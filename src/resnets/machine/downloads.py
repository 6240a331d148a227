"""Files from the network: downloaded once, checked, and kept in one place.

``RESNETS_OFFLINE=1`` (or, where that is not set, ``HF_HUB_OFFLINE=1``) keeps everything off the
network.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

Report = Callable[[str], None]  # is called with one line at a time
T = TypeVar("T")
_ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}


class TransferError(Exception):
    """A file that did not come; the text says why."""


class WrongFileError(TransferError):
    """A file that came, and is not what it should be."""


def is_offline() -> bool:
    """Tell whether the environment forbids to use the network."""
    for variable in ("RESNETS_OFFLINE", "HF_HUB_OFFLINE"):
        if (value := os.environ.get(variable, "")) != "":
            return value.lower() in ("1", "true", "yes", "on")
    return False


def cache_folder(name: str) -> Path:
    """Return the folder for ``name`` in $RESNETS_CACHE, or else in the user's cache."""
    if chosen := os.environ.get("RESNETS_CACHE"):
        return Path(chosen).expanduser() / name
    import platformdirs

    former = user_cache() / "resnets" / name  # of earlier versions, on every system
    own = Path(platformdirs.user_cache_dir("resnets", appauthor=False)) / name
    return former if former.exists() else own


def user_cache() -> Path:
    """Return $XDG_CACHE_HOME or ~/.cache, where torch and the hub keep theirs on every system."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    return Path(chosen) if chosen else Path.home() / ".cache"


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def mismatch(path: Path, digest: str) -> str:
    """Return what is wrong with a file that should have this digest; "" if nothing is.

    A digest is its algorithm and all its digits or the first, as "sha256:0123abcd"; "" is any.
    """
    algorithm, _, digits = (digest or "sha256:").partition(":")
    try:
        found = digest_of(path, algorithm)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if found.startswith(digits):
        return ""
    return f"its {_ALGORITHMS[algorithm]} is {found}, not {digits}"


def download(
    address: str,
    path: Path,
    report: Report,
    *,
    digest: str = "",
    attempts: int = 3,
    pause: float = 2.0,
) -> None:
    """Download ``address`` to ``path`` with a digest, as `mismatch` has it, whole or not at all.

    ``pause`` (seconds) doubles between attempts. Raises TransferError, saying what was wrong with
    the last attempt, and OSError for a path that cannot be written.
    """
    import pooch
    import requests

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        new = Path(folder) / path.name
        for attempt in range(1, attempts + 1):
            bar, final = _Progress(report), attempt == attempts
            try:
                pooch.HTTPDownloader(bar, chunk_size=1 << 18, timeout=30)(address, str(new), None)
                if not (why := mismatch(new, digest)):
                    new.replace(path)
                    return
                failure: TransferError = WrongFileError(why)
            except requests.HTTPError as error:
                status = 0
                if error.response is not None:
                    status = error.response.status_code
                    error.response.close()
                failure = TransferError(f"the server answers {status}")
                final |= 400 <= status < 500  # asking again will not help
            except requests.RequestException as error:
                failure = TransferError(f"the connection failed ({type(error).__name__})")
            if final:
                raise failure
            report(f"{failure}; trying again ({attempt + 1} of {attempts})")
            time.sleep(pause * 2 ** (attempt - 1))


def first_of(name: str, sources: Iterable[tuple[str, Callable[[], T]]], report: Report) -> T:
    """Return what the first of some sources gives, each with what messages call it.

    Raises WrongFileError where one of them had another file, and TransferError where none had any,
    saying what was wrong with each.
    """
    kind, failures = TransferError, []
    for source, fetch in sources:
        try:
            return fetch()
        except TransferError as error:
            kind = WrongFileError if isinstance(error, WrongFileError) else kind
            failures.append(f"{source}: {error}")
            report(failures[-1])
    raise kind(f"{name} cannot be downloaded: {'; '.join(failures)}")


@dataclass
class _Progress:
    """What pooch reports to; passes every tenth of the way on."""

    report: Report
    total: int = 0
    done: int = 0
    tenths: int = field(default=0)

    def update(self, size: int) -> None:
        """Count ``size`` bytes more; pooch counts whole chunks, so the sum may pass the total."""
        self.done = min(self.total, self.done + size)
        tenths = 10 * self.done // self.total if self.total else 0
        if tenths > self.tenths:
            self.tenths = tenths
            self.report(f"{10 * tenths} % of {self.total / 1e6:,.1f} MB")

    def reset(self) -> None:
        """Start the count again, as pooch does at the end."""
        self.done = 0

    def close(self) -> None:
        """Do nothing."""
