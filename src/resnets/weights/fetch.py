"""From an entry of the catalogue to a verified file on this machine.

Caches of other libraries are looked in first and never written to. What is downloaded goes to
``weights/`` in $RESNETS_CACHE or the user's cache, whole or not at all. A file is used when its
SHA-256 begins with the published digits. Where none are published, the digest of the first file is
recorded and every later one must have it: trust on first use.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from resnets.errors import CheckpointError, ResourceError
from resnets.files import write_text
from resnets.machine.downloads import (
    Report,
    TransferError,
    WrongFileError,
    cache_folder,
    digest_of,
    download,
    first_of,
    is_offline,
    mismatch,
    user_cache,
)
from resnets.weights.catalog import Entry, RemoteFile

_HUB = "huggingface.co"


def fetch(
    entry: Entry,
    *,
    offline: bool | None = None,
    report: Report = lambda line: None,
) -> Path:
    """Return a verified file of these weights, downloaded when no cache has one.

    ``offline`` defaults to what the environment says (see resnets.machine.downloads). ``report`` is
    called with lines of progress, and what is passed over and why. Raises ResourceError when the
    file is neither here nor to be had, and CheckpointError when it is not what it should be.
    """
    offline = is_offline() if offline is None else offline
    for file in entry.files:
        own = own_path(entry, file)
        for path in (*_foreign_paths(file), own):
            if not path.is_file():
                continue
            digest = file.digest or _digest_in_hub_cache(path, file) or _recorded(own)
            why = mismatch(path, digest)
            if not why:
                if not digest:
                    _trust(path, own, report)
                report(f"{entry}: {path}")
                return path
            if path != own:
                report(f"{path} is passed over: {why}")
            elif offline:
                raise _absent(entry, f"{path} is damaged: {why}")
            else:
                report(f"{path} is damaged and fetched again: {why}")
                _remove(path)
    if offline:
        raise _absent(entry, "not on this machine, and the network is not to be used")
    return _download(entry, report)


def own_path(entry: Entry, file: RemoteFile) -> Path:
    """Return where a file is kept once it has been downloaded."""
    return cache_folder("weights") / entry.name / entry.model / file.name


def _foreign_paths(file: RemoteFile) -> Iterator[Path]:
    """Yield where other libraries would have put a file."""
    environment = os.environ.get
    parts = urlsplit(file.address)
    if parts.netloc == _HUB:
        # huggingface_hub's layout: /ORG/REPO/resolve/REVISION/FILE of an address becomes
        # models--ORG--REPO/snapshots/COMMIT/FILE, and refs/REVISION holds the commit.
        organisation, name, _, revision, *rest = parts.path.strip("/").split("/")
        home = environment("HF_HOME") or user_cache() / "huggingface"
        root = Path(environment("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
        repository = root / f"models--{organisation}--{name}"
        reference = repository / "refs" / revision
        if reference.is_file():
            commit = reference.read_text(encoding="utf-8").strip()
            yield repository.joinpath("snapshots", commit, *rest)
        return
    torch_home = Path(environment("TORCH_HOME") or user_cache() / "torch").expanduser()
    yield torch_home / "hub" / "checkpoints" / file.name
    if parts.netloc == "dl.fbaipublicfiles.com":  # where detectron2 keeps it
        chosen = environment("FVCORE_CACHE") or "~/.torch/iopath_cache"
        yield Path(chosen).expanduser() / parts.path.lstrip("/")
    if file.name.endswith(".h5"):
        keras = Path(environment("KERAS_HOME") or "~/.keras").expanduser()
        yield keras / "models" / file.name


def _trust(path: Path, own: Path, report: Report) -> None:
    """Record the digest of a file for which nobody publishes one."""
    found = digest_of(path)
    write_text(_record(own), f"{found}  {own.name}\n")  # as sha256sum writes it
    report(
        f"{path}: nobody publishes a digest, so this file is trusted as it is; its SHA-256 {found} "
        f"is recorded in {_record(own)}"
    )


def _recorded(own: Path) -> str:
    """Return the digest of the first file that was used, or ""."""
    record = _record(own)
    return f"sha256:{record.read_text(encoding='utf-8')[:64]}" if record.is_file() else ""


def _record(own: Path) -> Path:
    return own.with_name(f"{own.name}.sha256")


def _digest_in_hub_cache(path: Path, file: RemoteFile) -> str:
    """Return the SHA-256 that the hub stated: its cache names large files by it."""
    name = path.resolve().name
    whole = len(name) == 64 and all(c in "0123456789abcdef" for c in name)
    return f"sha256:{name}" if whole and urlsplit(file.address).netloc == _HUB else ""


def _download(entry: Entry, report: Report) -> Path:
    """Return the first file of an entry that can be had."""
    sources = ((file.address, partial(_download_one, entry, file, report)) for file in entry.files)
    own = own_path(entry, entry.files[0])
    try:
        return first_of(str(entry), sources, report)
    except WrongFileError as error:
        first = f", or remove {_record(own)} to trust the new one" if _recorded(own) else ""
        hint = f"try another network{first}; nothing was kept"
        raise CheckpointError(str(error), hint=hint) from None
    except TransferError as error:
        hint = f"try again later, or bring the file from elsewhere to {own}"
        raise ResourceError(str(error), hint=hint) from None


def _download_one(entry: Entry, file: RemoteFile, report: Report) -> Path:
    own = own_path(entry, file)
    size = f" ({entry.mebibytes:.0f} MiB)" if entry.mebibytes else ""
    report(f"fetching {entry} from {file.address}{size}")
    digest = file.digest or _recorded(own) or _stated_digest(file)
    try:
        download(file.address, own, report, digest=digest)
        if not digest:
            _trust(own, own, report)
        elif not file.digest:
            write_text(_record(own), f"{digest_of(own)}  {own.name}\n")
    except OSError as error:
        raise ResourceError(
            f"{own}: cannot be written: {error.strerror or error}",
            hint="free some space, or choose another folder with RESNETS_CACHE",
        ) from error
    report(f"{own}: verified")
    return own


def _stated_digest(file: RemoteFile) -> str:
    """Return the SHA-256 that the hub states for a large file, before it sends it elsewhere."""
    if urlsplit(file.address).netloc != _HUB:
        return ""
    import requests

    try:
        answer = requests.head(file.address, allow_redirects=False, timeout=30)
    except requests.RequestException:  # the download will say what is wrong
        return ""
    digits = answer.headers.get("X-Linked-Etag", "").strip('"')
    return f"sha256:{digits}" if len(digits) == 64 else ""


def _absent(entry: Entry, why: str) -> ResourceError:
    file = entry.files[0]
    return ResourceError(
        f"{entry}: {why}",
        hint=f"bring {file.address} to {own_path(entry, file)}, or unset RESNETS_OFFLINE "
        "and HF_HUB_OFFLINE",
    )


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise ResourceError(
            f"{path}: cannot be removed: {error.strerror or error}",
            hint="remove it, or choose another folder with RESNETS_CACHE",
        ) from error
