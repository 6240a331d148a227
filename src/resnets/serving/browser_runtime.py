"""onnxruntime-web, which computes a model in a browser: found, fetched and checked by its digest.

It is a package of npm's, which pip does not bring. Of its files the page needs two: a script, and
the program in WebAssembly for one thread, which is all that a page from a disk may have.
"""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from resnets.errors import ResourceError, UsageError
from resnets.machine.downloads import TransferError, cache_folder, download, is_offline, mismatch

VERSION = "1.24.3"
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
DIGEST = "sha256:d521349a11a1f6012ce6b21fcdafce310b3111bbb7552a1d1f7dcb2714b76d78"
SCRIPT, PROGRAM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
DIGESTS = {  # SHA-256
    SCRIPT: "9f716d6e3c4280dcced6f0fcb9814c1d7630de83d8177880a2ef445fe48ca913",
    PROGRAM: "be0e129949062ad50290ef94683fac8be5bb6156f709e030b7a5f1661a2f6c17",
}
_REGISTRY = "https://registry.npmjs.org"

LICENCE = f"""onnxruntime-web {VERSION}

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE."""


@dataclass(frozen=True)
class BrowserRuntime:
    """The two files, as they are in the package."""

    script: bytes
    program: bytes


def browser_runtime(
    given: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
    *,
    pause: float = 2.0,
) -> BrowserRuntime:
    """Return the runtime from a package or its folder, or else from the cache or npm's registry.

    ``pause`` (seconds) doubles between attempts to fetch it. Raises UsageError for a ``given`` one
    that is another, and ResourceError where there is none.
    """
    return _read(_cached(report, pause) if given is None else given)


def _cached(report: Callable[[str], None], pause: float) -> Path:
    """Return the package in the user's cache, downloaded if it is not there."""
    path = cache_folder("browser") / PACKAGE
    if path.is_file() and not mismatch(path, DIGEST):
        return path
    hint = (
        f"where there is a network, npm pack onnxruntime-web@{VERSION}; bring {PACKAGE} here and "
        f"add --runtime {PACKAGE}"
    )
    if is_offline():
        raise ResourceError(
            f"onnxruntime-web {VERSION} is not on this machine, and RESNETS_OFFLINE forbids to "
            "fetch it",
            hint=hint,
        )
    report(f"fetching onnxruntime-web {VERSION} from npm's registry, once")
    try:
        address = f"{registry()}/onnxruntime-web/-/{PACKAGE}"
        download(address, path, report, digest=DIGEST, pause=pause)
    except (TransferError, OSError) as error:
        why = getattr(error, "strerror", None) or error
        raise ResourceError(
            f"onnxruntime-web {VERSION} cannot be fetched: {why}", hint=hint
        ) from None
    return path


def registry() -> str:
    """Return the address of the registry that npm uses here, or its own."""
    # npm reads its variables in any letters.
    said = {name.lower(): value for name, value in os.environ.items()}
    found = said.get("npm_config_registry", "")
    if not found and (npm := shutil.which("npm")):
        asked = [npm, "config", "get", "registry"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
        found = told.stdout.strip()
    return (found if found.startswith(("https://", "http://")) else _REGISTRY).rstrip("/")


def _read(place: Path) -> BrowserRuntime:
    try:
        if place.is_dir():
            folder = next(
                (each for each in (place, place / "package") if (each / SCRIPT).is_file()), place
            )
            files = [(folder / name).read_bytes() for name in DIGESTS]
        else:
            with tarfile.open(place) as package:
                files = [_member(package, name) for name in DIGESTS]
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        raise UsageError(
            f"{place}: is no package of onnxruntime-web: {error}", hint=f"give {PACKAGE}"
        ) from None
    for (name, digest), content in zip(DIGESTS.items(), files, strict=True):
        if (found := sha256(content).hexdigest()) != digest:
            raise UsageError(
                f"{place}: its {name} is not that of onnxruntime-web {VERSION}: its SHA-256 is "
                f"{found[:12]}…, not {digest[:12]}…",
                hint=f"npm pack onnxruntime-web@{VERSION} brings it",
            )
    return BrowserRuntime(*files)


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(f"package/{name}")
    if file is None:
        raise KeyError(name)
    with file:
        return file.read()
