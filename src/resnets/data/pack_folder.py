"""A folder of packs of one set: which files they are, and how they come there all at once."""

import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnets.data.indexed import Index, told_of
from resnets.data.packs import is_pack, read_pack
from resnets.errors import DataError, UsageError
from resnets.files import sync_folder
from resnets.formatting import printable

SHARDED = "sharded"  # a key in the index of a pack that is one of several


def pack_at(folder: Path, number: int) -> Path:
    """Return the name of a pack in a folder, which may be renamed."""
    return folder / f"images-{number:05d}.pack"


def packs_in(folder: Path) -> list[Path]:
    """Return the packs of a folder, by number; none where there is no folder.

    Raises UsageError for a file in its place and for other files in it, DataError where one lacks
    and for what `read_pack` raises, OSError.
    """
    shown, hint = printable(folder), "choose another --out"
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise UsageError(f"{shown}: is a file, and --shard-size makes a folder", hint=hint)
    files = sorted(folder.iterdir())
    for path in files:
        if not (path.is_file() and is_pack(path) and SHARDED in read_pack(path).index.more):
            what = f"{shown}: holds other files than packs of one set: {printable(path.name)}"
            raise UsageError(what, hint=hint)
    for number, path in enumerate(files):
        if path != pack_at(folder, number):
            raise DataError(
                f"{shown}: {pack_at(folder, number).name} is not there",
                hint="--overwrite packs anew",
            )
    return files


def joined(indices: Sequence[Index], root: Path) -> Index | None:
    """Return the index of all images in the packs of one set, in order; None for other packs.

    Raises DataError for an image that is in two of them.
    """
    first, names = indices[0], [name for index in indices for name in index.names]
    facts = [(i.classes, i.splits, told_of(i).keys(), SHARDED in i.more) for i in indices]
    if SHARDED not in first.more or any(fact != facts[0] for fact in facts):
        return None
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError(
            f"{printable(root)}: two packs hold {printable(twice)}",
            hint="keep the packs of one set in a folder of their own",
        )
    told = ("offsets", "sizes", "sources", "digests", *told_of(first))
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(index, name) for index in indices]) for name in told
    }
    counts = [len(index.names) for index in indices]
    columns["files"] = np.repeat(np.arange(len(indices), dtype=np.int32), counts)
    return Index.in_order(first, names, columns, {})


def put(draft: Path, folder: Path, made: Collection[int], *, overwrite: bool) -> list[Path]:
    """Put the packs ``made`` in a draft into the folder, or in its place; return all of them.

    Raises OSError.
    """
    kept = {pack_at(draft, number) for number in made}
    for path in {*draft.iterdir()} - kept:  # of a call whose images were others
        path.unlink()
    old = folder.with_name(f".{folder.name}.old")
    if overwrite and folder.exists():
        shutil.rmtree(old, ignore_errors=True)  # of a call that was stopped
        folder.replace(old)
    if folder.exists():
        for number in made:
            pack_at(draft, number).replace(pack_at(folder, number))
        draft.rmdir()
        sync_folder(folder)
    else:
        draft.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
    return sorted(folder.iterdir())
