"""What images in several files are called, as in a folder of them: by split, class and file."""

import os
import re
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from resnets.data.class_folders import SPLITS, is_hidden
from resnets.errors import DataError
from resnets.formatting import printable


def splits_of(paths: Sequence[Path], root: Path) -> list[str | None]:
    """Return the split that the name of each file, or of a folder it is in, has in it.

    As "validation" of ``val-00000-of-00005.parquet``. Where all are of one, they are all there is,
    and the split is none.
    """
    found: list[str | None] = []
    for path in paths:
        inside = path != root and path.is_relative_to(root)
        within = path.relative_to(root) if inside else Path(path.name)
        folders = [part.lower() for part in within.parent.parts]
        # A folder called so says more than a word of a name, which may be one of a class.
        said = [*re.split(r"[^a-z]+", "/".join([*folders, within.stem.lower()])), *folders]
        found.append(next((SPLITS[word] for word in reversed(said) if word in SPLITS), None))
    return found if len({*found}) > 1 else [None for _ in found]


def titles(paths: Sequence[Path], root: Path) -> list[str]:
    """Return what the names of images in files begin with, so that no two are equal."""
    if len(paths) == 1:
        return [""]
    if len({path.stem for path in paths}) == len(paths):
        return [f"{path.stem}-" for path in paths]
    within = (os.path.relpath(path.with_suffix(""), root) for path in paths)
    return [f"{Path(path).as_posix().replace('/', '-')}-" for path in within]


def in_digits(labels: Set[str]) -> dict[str, str]:
    """Return labels with as many digits each, where all are numbers, so that they are in order.

    As they are where two would be equal then, such as 1 and 01.
    """
    numbers = all(label.isascii() and label.isdigit() for label in labels)
    width = max(map(len, labels), default=0) if numbers else 0
    found = {label: label.zfill(width) for label in labels}
    return found if len({*found.values()}) == len(found) else {label: label for label in labels}


def folder_of(label: str) -> str:
    """Return the name of the folder of a class."""
    name = label.replace("/", "_")
    return f"_{name}" if is_hidden(name) else name


def check_folders(labels: Iterable[str], where: Path) -> None:
    """Raise DataError where two classes would be in one folder."""
    found: dict[str, str] = {}
    for label in sorted(labels):
        if (other := found.setdefault(folder_of(label), label)) != label:
            raise DataError(
                f"{printable(where)}: the classes {printable(other)} and {printable(label)} would "
                "have one name",
                hint="call one of them otherwise",
            )
