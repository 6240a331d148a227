"""Files from the network: downloaded through the extra `download`, checked, and kept in one place.

``RESNETS_OFFLINE=1`` (or, where that is not set, ``HF_HUB_OFFLINE=1``) keeps everything off the
network.
"""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Report = Callable[[str], None]  # is called with one line at a time
Check = Callable[[Path], str]  # what is wrong with a file; "" when nothing is


class TransferError(Exception):
    """A file that did not come; the text says why."""


class MissingPackageError(TransferError):
    """A transfer that needs a Python package which is not installed."""


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
    return user_cache() / "resnets" / name


def user_cache() -> Path:
    """Return $XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    return Path(chosen) if chosen else Path.home() / ".cache"


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def download(
    address: str,
    path: Path,
    report: Report,
    *,
    check: Check = lambda path: "",
    attempts: int = 3,
    pause: float = 2.0,
) -> None:
    """Download ``address`` to ``path`` and check it; ``pause`` (seconds) doubles between attempts.

    Raises TransferError, saying what was wrong with the last attempt, and OSError for a path that
    cannot be written.
    """
    try:
        import pooch
    except ImportError:
        raise MissingPackageError("needs pooch, which is not installed") from None
    import requests

    failure: TransferError
    for attempt in range(1, attempts + 1):
        fetch = pooch.HTTPDownloader(progressbar=_Progress(report), chunk_size=1 << 18, timeout=30)
        try:
            fetch(address, str(path), None)
            why = check(path)
            if not why:
                return
            failure = WrongFileError(why)
        except requests.HTTPError as error:
            status = 0
            if error.response is not None:
                status = error.response.status_code
                error.response.close()
            failure = TransferError(f"the server answers {status}")
            if 400 <= status < 500:  # asking again will not help
                raise failure from None
        except requests.RequestException as error:
            failure = TransferError(f"the connection failed ({type(error).__name__})")
        if attempt < attempts:
            report(f"{failure}; trying again ({attempt + 1} of {attempts})")
            time.sleep(pause * 2 ** (attempt - 1))
    raise failure


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
