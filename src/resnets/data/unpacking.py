"""The images of any source as a folder of files, such as `resnets.data.scan` reads."""

import os
from collections.abc import Callable
from pathlib import Path

from resnets.data.listing import Listing
from resnets.errors import DataError, ResourceError, unwritable
from resnets.files import FULL, alone
from resnets.formatting import printable

_PART = ".resnets-unpacking"  # where a file lies until it is whole


def unpack(
    listing: Listing, out: Path, report: Callable[[int, int], None] = lambda done, total: None
) -> list[tuple[str, str]]:
    """Write the images of a listing below a folder, and return the unreadable ones, and why.

    Files that are there with the same content stay, so after a stop of any kind the same call
    resumes. Raises DataError for a name that leads out of the folder and for another file in an
    image's place, before anything is written there; ResourceError where files cannot be written.
    """
    broken = []
    with alone(out):
        for done, index in enumerate(listing.fastest.tolist()):
            name = listing.names[index]
            parts = name.split("/")
            if not all(parts) or {".", ".."} & {*parts} or "\0" in name or os.path.isabs(name):
                raise DataError(f"{printable(name)}: is a name that leads out of the folder")
            try:
                with listing.open(index) as file:
                    data = file.read()
            except OSError as error:
                broken.append((printable(name), f"cannot be read: {error.strerror or error}"))
            else:
                _write(out, out.joinpath(*parts), data)
            report(done + 1, len(listing))
        (out / _PART).unlink(missing_ok=True)
    return broken


def _write(out: Path, path: Path, data: bytes) -> None:
    try:
        if path.exists():
            if path.read_bytes() != data:
                raise ResourceError(
                    f"{printable(path)}: is there already, with another content",
                    hint="choose another --out",
                )
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        (out / _PART).write_bytes(data)
        (out / _PART).replace(path)
    except OSError as error:
        full = error.errno in FULL
        hint = "free some space; the same command resumes" if full else "choose another --out"
        raise unwritable(printable(path), error, hint) from error
