"""The images of any source as a folder of files, such as `resnets.data.sources` reads."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from resnets.data.archive_names import folder_of
from resnets.data.class_folders import SPLITS
from resnets.data.listing import Listing
from resnets.errors import DataError, ResourceError
from resnets.files import alone, halted
from resnets.formatting import printable

_PART = ".resnets-unpacking"  # where a file lies until it is whole


def unpack(
    listing: Listing, out: Path, report: Callable[[int, int], None] = lambda done, total: None
) -> list[tuple[str, str]]:
    """Write the images of a listing below a folder, and return the unreadable ones, and why.

    What names of folders do not say of them goes into a table, labels.jsonl, beside them.
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
        if lines := _table(listing):
            _write(out, out / "labels.jsonl", "".join(lines).encode())
        (out / _PART).unlink(missing_ok=True)
    return broken


def _table(listing: Listing) -> list[str]:
    """Return a line of JSON for each image; none where the folders of their names say it all."""
    told = (listing.groups, listing.weights, listing.targets)
    if all(column is None for column in told) and all(_in_its_folder(s) for s in _places(listing)):
        return []
    groups, weights, targets = told
    lines = []
    for i, (name, split, word) in enumerate(_places(listing)):
        row: dict[str, object] = {"file": name, "label": word, "split": split}
        if targets is not None:
            del row["label"]
            row["labels"] = [listing.classes[k] for k in np.flatnonzero(targets[i])]
        if groups is not None:
            row["group"] = int(groups[i]) if groups[i] >= 0 else None
        if weights is not None:
            row["weight"] = float(weights[i])
        lines.append(json.dumps(row) + "\n")
    return lines


def _places(listing: Listing) -> Iterator[tuple[str, str, str]]:
    """Yield the name, split and class of each image."""
    for i, (part, label) in enumerate(zip(listing.parts, listing.labels, strict=True)):
        yield listing.names[i], listing.splits[part], listing.classes[label]


def _in_its_folder(place: tuple[str, str, str]) -> bool:
    name, split, word = place
    folders = name.split("/")[:-1]
    first = SPLITS.get(folders[0].lower()) if folders else None
    fits = split == "train" or first == split
    return fits and folder_of(word) in folders[first == split :][:1] + folders[:1]


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
        raise halted(printable(path), error) from error
