"""What a path means, as its content says: a folder, a table of labels, a pack, tars or Parquet.

Or a list of paths, where there are no labels.
"""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from glob import glob, has_magic
from itertools import chain, islice, product, zip_longest
from os.path import commonpath
from pathlib import Path

from resnets.data.class_folders import Report, has_extension, is_archive, is_hidden
from resnets.data.headers import is_image
from resnets.data.images import Stored
from resnets.data.label_columns import NoLabels
from resnets.data.label_table import open_table
from resnets.data.listing import Listing, Made
from resnets.data.parquet import holds_images, images_of_parquet, open_parquet
from resnets.data.scan import ARCHIVES, names_in, readable, scan, warn_of
from resnets.data.tar_headers import BLOCK, is_tar, members, unpacked_by
from resnets.data.tars import images_of_tars, open_tars
from resnets.data.usual_tables import find_table
from resnets.errors import DataError
from resnets.formatting import printable
from resnets.readers.paths import open_regular

LIST = ".txt"
_PARQUET = b"PAR1"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")  # as WebDataset's users write shards
_NUMBERED = re.compile(r"images-(\d{5})\.pack")
_MOST = 1_000_000  # files
_FIRST = 100  # members of a tar: a sample of WebDataset's begins with its labels at times


def open_listing(
    path: Path,
    *,
    verify: bool = False,
    report: Report = lambda found: None,
    on_fault: Callable[[str], None] | None = None,
) -> Listing:
    """Return the labelled images of whatever ``path`` means; none is decoded.

    It is a folder of class folders, a table of labels or a folder with one, a pack, a tar, a
    Parquet file, a folder with several of one of these, or a pattern of their names such as
    ``shards/train-{000..146}.tar`` or ``shards/*.tar``. With ``verify``, opening an image of a pack
    whose bytes have changed is an OSError. ``report`` is told now and then how many images are
    found; ``on_fault`` is that of `open_table`. Raises DataError.
    """
    with readable(path):
        table = table_at(path)
        if table is None:
            paths, no_labels = _paths(path), None
        else:
            try:
                return open_table(table, report=report, on_fault=on_fault)
            except NoLabels as error:
                if not path.is_dir():
                    raise
                paths, no_labels = _paths(path), error
    if not paths:
        try:
            return scan(path, report)
        except DataError:
            if no_labels and table and table.stem.lower() == "labels":
                raise no_labels from None
            if path.is_dir() and (others := _in_folder(path)):
                return open_tars(others[:1], others[0])  # which says why it is not read
            raise
    root, beside = _root(path, paths), _beside(path)
    others = [each for each in paths if not _is_parquet(each)]
    if len(others) == len(paths):
        listing = open_tars(paths, root, verify=verify, report=report)
        return replace(listing, irregular=(*listing.irregular, *beside))
    if others:
        raise DataError(
            f"{printable(root)}: holds Parquet files and others, such as {printable(min(others))}",
            hint="give a folder, or a pattern such as data/*.parquet, with one kind",
        )
    listing = open_parquet(paths, root, report=report)
    return replace(listing, irregular=(*listing.irregular, *beside))


def table_at(path: Path) -> Path | None:
    """Return the table of labels that a path means, if any: none that holds the images itself.

    Raises what `find_table` raises.
    """
    table = find_table(path)
    has_images = table and table.suffix.lower() == ".parquet" and holds_images(table)
    return None if has_images else table


def stored_in(path: str | Path) -> Sequence[Stored]:
    """Return the images of what `open_listing` takes and is no folder of them; none of others.

    They are in the order in which they are read fastest, and need no classes. What is left out is a
    UserWarning. Raises DataError.
    """
    name, path = str(path), Path(path)
    if not holds_archives(path):
        return []
    try:
        listing = open_listing(path)
    except DataError:
        if found := _without_classes(path, name):
            return found
        raise
    if listing.irregular and (found := _without_classes(path, name, more_than=len(listing))):
        return found
    warn_of(listing.irregular)
    return Made(partial(stored, listing, name), listing.fastest)


def _without_classes(path: Path, source: str, more_than: int = 0) -> list[Stored]:
    """Return all images of archives, whether or not they have classes; none if they are too few."""
    with suppress(DataError), readable(path):
        paths = _paths(path)
        files, left_out = (paths, _root(path, paths), source), _beside(path)
        if all(map(_is_parquet, paths)):
            found = images_of_parquet(*files)
        else:
            found, left = images_of_tars(*files)
            left_out += left
        if len(found) > more_than:
            warn_of(left_out)
            return found
    return []


def listed_in(path: str | Path) -> list[str]:
    """Return the lines of a list of images' paths, which is a text file in .txt; none of others.

    Each line is a path as it stands there, relative to the list's folder; empty lines say nothing,
    and there are no comments: a name may begin with any letter. Raises DataError for a list of no
    images, and for one that no text is.
    """
    path = Path(path)
    if path.suffix.lower() != LIST or not os.path.isfile(path) or is_image(path):
        return []
    with readable(path), open_regular(path) as file:
        text = file.read()
    if b"\0" in text:
        raise DataError(f"{printable(path)}: is no text", hint="a list has a path on each line")
    lines = text.decode("utf-8-sig", "surrogateescape").split("\n")
    found = [line for line in (each.removesuffix("\r") for each in lines) if line.strip()]
    if not found:
        raise DataError(f"{printable(path)}: lists no images", hint="give a path on each line")
    return found


def images_in(path: Path) -> Sequence[Path | Stored]:
    """Return the images that a path means: in and below a folder, listed, in archives, or itself.

    Raises DataError when there are none.
    """
    return named_images_in(path)[1]


def named_images_in(path: Path) -> tuple[Sequence[str], Sequence[Path | Stored]]:
    """Return the same with their names before them: in the folder or archives, or as listed."""
    if stored := stored_in(path):
        return [image.name for image in stored], stored
    if listed := listed_in(path):
        return listed, [path.parent / name for name in listed]
    if path.is_file():
        return [path.name], [path]
    names, whole = names_in(path), path.resolve()
    return names, [whole / name for name in names]


def stored(listing: Listing, source: str, number: int) -> Stored:
    """Return the image of a number of archives that were named ``source``."""
    return Stored(
        source,
        listing.names[number],
        partial(listing.open, number),
        int(listing.sizes[number]),
        int(listing.stamps[number]),
    )


def holds_archives(path: Path) -> bool:
    """Whether a path means packs, tars or Parquet, rather than a folder of images or one image.

    Raises DataError for a pattern that counts files of which one is not there.
    """
    if has_extension(path.name) and not os.path.isdir(path):
        return False
    try:
        return bool(_paths(path))
    except OSError:  # told of when it is read
        return False


def begins_with_images(path: Path) -> bool:
    """Whether a tar has an image among its first members: a checkpoint may be a tar, too."""
    try:
        with open_regular(path) as file:
            first = islice(members(file, path), _FIRST)
            return any(has_extension(member.name) for member in first)
    except (OSError, DataError):
        return False


def _paths(path: Path) -> list[Path]:
    """Return the archives that a path means; none for a folder of images."""
    if path.is_dir():
        found = [each for each in _in_folder(path) if each.name.lower().endswith(ARCHIVES)]
        _check_whole(found)
        return found
    if path.is_file():
        start = _start(path)
        known = is_tar(start) or start[:4] == _PARQUET or unpacked_by(start, path)
        return [path] if known else []
    return _named(str(path))


def _in_folder(folder: Path) -> list[Path]:
    """Return the archives in and below a folder; none as soon as there is an image too.

    Compressed ones are among them, and what else is called so.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()  # folders: links may lead back
    for current, folders, files in os.walk(folder, followlinks=True):
        state = os.stat(current)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        visible = [name for name in files if not is_hidden(name)]
        if any(map(has_extension, visible)):
            return []
        found += [Path(current, name) for name in visible if is_archive(name)]
    return sorted(found)


def _beside(path: Path) -> list[tuple[str, str]]:
    """Return what is not read of a folder of archives, and why."""
    others = _in_folder(path) if path.is_dir() else []
    why = "is not read: it is not called a tar, a pack or a Parquet file"
    return [
        (printable(each.relative_to(path).as_posix()), why)
        for each in others
        if not each.name.lower().endswith(ARCHIVES)
    ]


def _check_whole(paths: Sequence[Path]) -> None:
    """Raise DataError where a pack lacks of those that `data pack --shard-size` has made."""
    there = set(paths)
    for path in paths:
        number = _NUMBERED.fullmatch(path.name)
        before = path.with_name(f"images-{int(number[1]) - 1:05d}.pack") if number else path
        if number and int(number[1]) and before not in there:
            raise DataError(
                f"{printable(before)}: is not there, and {printable(path.name)} is",
                hint="fetch it again, or give a pattern of those that there are",
            )


def _named(pattern: str) -> list[Path]:
    """Return the files that a pattern means: {000..146} counts, * and ? are any letters.

    Raises DataError where one that is counted, or any at all, is not there.
    """
    pieces = _RANGE.split(pattern)  # text, first, last, text, first, last, text
    spans = [
        [f"{i:0{len(first)}d}" for i in range(int(first), min(int(last), _MOST) + 1)]
        for first, last in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    found: list[Path] = []
    for numbers in islice(product(*spans), _MOST):
        name = "".join(chain(*zip_longest(pieces[::3], numbers, fillvalue="")))
        here = glob(name) if has_magic(name) else [name] if spans else []
        if spans and not (here and Path(here[0]).exists()):
            raise DataError(
                f"{printable(pattern)}: there is no {printable(name)}", hint="give what is there"
            )
        found += map(Path, here)
    return sorted({*found})


def _root(path: Path, paths: Sequence[Path]) -> Path:
    """Return the folder or file that is meant, or, of a pattern, the folder that all lie in."""
    return path if path.exists() else Path(commonpath([each.absolute().parent for each in paths]))


def _is_parquet(path: Path) -> bool:
    return _start(path).startswith(_PARQUET)


def _start(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read(BLOCK)
