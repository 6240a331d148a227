"""The tables of labels that a folder has by their names: one, or one in each split's folder."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnets.data.class_folders import SPLITS
from resnets.data.label_columns import file_column, file_name
from resnets.data.tables import ENDINGS, Table, read_table
from resnets.errors import DataError
from resnets.formatting import printable

USUAL = ("labels", "metadata")  # names of tables in the folder of their images, the latter HF's


def find_table(path: Path) -> Path | None:
    """Return the table that a path means: itself, or the one in the root of a folder.

    It is the folder where its splits have tables of their own, as `split_tables` finds them. Raises
    DataError where there are two, OSError.
    """
    if not path.is_dir():
        return path if path.suffix.lower() in ENDINGS and path.is_file() else None
    return _table_in(path, USUAL) or (path if split_tables(path) else None)


def split_tables(folder: Path) -> tuple[Path, ...]:
    """Return the metadata.csv of each folder of a split, as `imagefolder` of datasets has them.

    None where train has none. Raises what `find_table` raises.
    """
    folders = (Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())
    named = ((SPLITS.get(each.name.lower()), each) for each in folders)
    found = [(split, _table_in(each, USUAL[1:])) for split, each in named if split]
    there = sorted((split != "train", table) for split, table in found if table)
    return tuple(table for _, table in there) if there and not there[0][0] else ()


def _table_in(folder: Path, stems: Sequence[str]) -> Path | None:
    there = {entry.name.lower(): entry.path for entry in os.scandir(folder) if entry.is_file()}
    for stem in stems:
        found = [there[stem + ending] for ending in ENDINGS if stem + ending in there]
        if len(found) > 1:
            names = " and ".join(printable(Path(each).name) for each in found)
            raise DataError(
                f"{printable(folder)}: which of {names} has the labels?",
                hint=f"give one of them, such as {shlex.quote(printable(found[0]))}",
            )
        if found:
            return Path(found[0])
    return None


def title(path: Path) -> str:
    """Return what data at a path are called: of a table with a usual name, its folder's name."""
    path = path.resolve()
    if path.suffix.lower() not in ENDINGS or path.stem.lower() not in USUAL:
        return path.name
    return path.parent.name


def joined(folder: Path) -> Table:
    """Return the tables of a folder's splits as one, with paths from the folder."""
    paths = split_tables(folder)
    tables = [read_table(path) for path in paths]
    columns: dict[str, list[Any]] = {name: [] for table in tables for name in table.columns}
    for path, table in zip(paths, tables, strict=True):
        file = file_column(table)
        for name, values in columns.items():
            own = table.columns.get(name, [None] * len(table.rows))
            if name == file:
                texts = [file_name(value) for value in own]
                own = [text and os.path.join(path.parent.name, text) for text in texts]
            values += own
    return Table(
        folder / paths[0].name,
        columns,
        [row for table in tables for row in table.rows],
        tuple(path.relative_to(folder).as_posix() for path in paths),
        tuple(number for number, table in enumerate(tables) for _ in table.rows),
    )
