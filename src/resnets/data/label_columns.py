"""What the columns of a table of labels are, by their names, and which classes they give to rows.

A class is a word, several in a field or a list, or columns of 0 and 1. What is meant is decided by
the whole column, and said.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from resnets.data.class_folders import class_name
from resnets.data.parquet import LONGEST
from resnets.data.tables import Table
from resnets.errors import DataError
from resnets.formatting import printable

Words = tuple[str, ...]

# Names that columns have, without case and signs; the first that is there holds.
_FILE = "file filename filepath path image imagename imagefile imagepath imageindex img imgname"
_FILE += " imgpath picture photo imageid imgid fname id name"
_LABEL = "labelname classname categoryname label labels class classes category categories target"
_LABEL += " targets tag tags attributes findinglabels diagnosis species breed"
_SPLIT = "split subset partition set"
_WHO = ("group", "patient", "subject", "person", "seller", "user", "video", "scene")
_GROUP = " ".join(who + end for who in _WHO for end in ("", "id"))
_WEIGHT = "weight sampleweight weights"
_SEVERAL = {"labels", "classes", "categories", "targets", "tags", "attributes"}
_SHOWN = 8
_YES_NO = {
    **dict.fromkeys(("0", "0.0", 0, "false", "False", "FALSE"), False),  # 0.0 and False are 0
    **dict.fromkeys(("1", "1.0", 1, "true", "True", "TRUE"), True),
}
# Words that programs write where there is nothing. "none" is a class that people have.
NOTHING = {"nan", "null", "na", "n/a", "#n/a", "<na>"}
_MINUS = {**dict.fromkeys(("-1", "-1.0", -1), False), "1": True, "1.0": True, 1: True}


@dataclass(frozen=True)
class Labels:
    """The classes of each row of a table."""

    words: Sequence[Words | None]  # None where nothing is said of a row
    several: bool  # whether an image may have several, or none
    said: str  # what was decided


class NoLabels(DataError):
    """A table whose columns are not those of images and their classes."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what, by their names."""

    file: str
    labels: Labels
    split: str | None
    group: str | None
    weight: str | None
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, table: Table) -> "Columns":
        """Find them. Raises NoLabels where there are no files or no classes."""
        file, label, split, group, weight = (
            _called(names, table) for names in (_FILE, _LABEL, _SPLIT, _GROUP, _WEIGHT)
        )
        there = printable(", ".join(table.columns)[:200]) or "nothing"
        about = f"{printable(table.path)}: no column of"
        if file is None:
            raise NoLabels(
                f"{about} files: its first row has {there}",
                hint="name the columns in the first row: file,label",
            )
        if label is None and group and _flags(table.columns[group]):
            group = None  # a class called person, with a 0 or 1 as the others have
        taken = {file, label, split, group, weight}
        left = [name for name in table.columns if name and name not in taken]
        if label is None and len(left) == 1 and _repeats(table.columns[left[0]]):
            label = left.pop()
        if label:
            labels = labels_in(table, label)
        elif len(marked := {n: flags for n in left if (flags := _flags(table.columns[n]))}) > 1:
            _check_filled(table, [n for n in left if n not in marked], DataError)
            labels = labels_across(marked)
            left = [name for name in left if name not in marked]
        else:
            _check_filled(table, left, NoLabels)
            raise NoLabels(
                f"{about} labels: it has {there}",
                hint="call the column of classes label, or give a column of 0 and 1 to each class",
            )
        return cls(file, labels, split, group, weight, tuple(left))

    def said(self, table: Table, groups: int) -> str:
        """Say what was decided."""
        found = [f'files: column "{printable(self.file)}"', self.labels.said]
        found += [f'splits: column "{printable(self.split)}"'] if self.split else []
        if self.group:
            found.append(f'groups: column "{printable(self.group)}", {groups:,} of them')
        found += [f'weights: column "{printable(self.weight)}"'] if self.weight else []
        if self.ignored:
            found.append(f"not used: {printable(', '.join(self.ignored)[:200])}")
        return f"{printable(', '.join(table.names))}: {'; '.join(found)}"


def file_column(table: Table) -> str | None:
    """Return the name of the column of files; None where none is called so."""
    return _called(_FILE, table)


def _called(names: str, table: Table) -> str | None:
    """Return the column of a table that has one of some names, by which of them comes first."""
    plain = {re.sub(r"[\W_]+", "", name.casefold()): name for name in reversed(table.columns)}
    return next((plain[name] for name in names.split() if name in plain), None)


def _repeats(values: Sequence[Any]) -> bool:
    """Whether values are of classes: captions and ages are hardly ever equal."""
    words = {value for value in values if isinstance(value, str | int)}
    return 0 < 2 * len(words) <= len(values)


def labels_in(table: Table, column: str) -> Labels:
    """Return what a column of labels says. Raises DataError for what is no word, naming its row."""
    values, shown = table.columns[column], f'labels: column "{printable(column)}"'
    if any(isinstance(value, list) for value in values):
        words = _each(table, lambda value: value if isinstance(value, list) else [value], column)
        several = any(each is not None and len(each) != 1 for each in words)
        form = "lists, so an image may have several" if several else "lists of one word each"
        return Labels(words, several, f"{shown}, {form}")
    filled = [(place, each) for place, each in enumerate(values) if not _says_nothing(each)]
    if filled and all(str(each).strip()[0] + str(each).strip()[-1] == "[]" for _, each in filled):
        place, text = filled[0]
        raise DataError(
            f"{table.at(place)}: the label is a list written as text: {printable(text)[:80]}",
            hint="write several words as cat|dog, one as cat; or a .jsonl table, which has lists",
        )
    words = _each(table, lambda value: [value], column)
    separator = _separator({each[0] for each in words if each}, column) if table.is_text else ""
    if not separator:
        return Labels([each or None for each in words], False, f"{shown}, a class each")
    split = {each: _split(each[0], separator) for each in set(words) if each}
    sign = {" ": "spaces", ",": "commas"}.get(separator, separator)
    return Labels(
        [split[each] if each else () for each in words],
        True,
        f"{shown}, words with {sign} between, so an image may have several",
    )


def labels_across(marked: Mapping[str, list[bool]]) -> Labels:
    """Return what columns that say yes or no of a class each say together."""
    names = [_word(name) for name in marked]
    words = [
        tuple(name for name, flag in zip(names, row, strict=True) if flag)
        for row in zip(*marked.values(), strict=True)
    ]
    several = any(len(each) != 1 for each in words)
    form = "so an image may have several" if several else "one of them 1 in each row"
    listed = ", ".join(map(printable, [*marked][:_SHOWN])) + ", ..." * (len(marked) > _SHOWN)
    return Labels(words, several, f"labels: {len(marked)} columns of 0 and 1 ({listed}), {form}")


def _check_filled(table: Table, columns: Sequence[str], error: type[DataError]) -> None:
    """Raise an error for a column of 0 and 1 that some rows leave empty: it may be a class."""
    for name in columns:
        values = table.columns[name]
        empty = [_says_nothing(value) for value in values]
        filled = [value for value, nothing in zip(values, empty, strict=True) if not nothing]
        if len(filled) < len(values) and _flags(filled):
            row = table.at(empty.index(True))
            raise error(
                f"{row}: {printable(name)} has nothing, and 0 or 1 in other rows",
                hint="write 0 where an image is not of the class, or take the column out",
            )


def _says_nothing(value: Any) -> bool:
    try:
        word = word_of(value)
    except ValueError:
        return False
    return word is None or word.casefold() in NOTHING


def word_of(value: Any) -> str | None:
    """Return a plain value as a word; None for one that says nothing.

    Raises ValueError for a value that is not plain.
    """
    if isinstance(value, float):
        if not isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError
    return _word(str(value)) or None if value is not None else None


def file_name(value: Any) -> str:
    """Return the name of a file that is meant; a number is one without an ending."""
    try:
        return value.strip() if isinstance(value, str) else word_of(value) or ""
    except ValueError:
        return ""


def _word(text: str) -> str:
    return class_name(text.strip())[:LONGEST]


def _each(table: Table, inner: Callable[[Any], list[Any]], column: str) -> list[Words | None]:
    """Return the words of each row; None where it has no value."""
    known: dict[Any, Words] = {}  # few values, of which there are many
    found: list[Words | None] = []
    for place, value in enumerate(table.columns[column]):
        if value is None:
            found.append(None)
            continue
        key = value if isinstance(value, str) else None
        if key is None or key not in known:
            try:
                words = [word for each in inner(value) if (word := word_of(each)) is not None]
            except ValueError:
                raise DataError(
                    f"{table.at(place)}: the label is a {type(value).__name__} of other values",
                    hint="give a word, or a list of words",
                ) from None
            known[key] = tuple(dict.fromkeys(words))
        found.append(known[key])
    return found


def _separator(values: set[str], column: str) -> str:
    """Return the sign between several words of one value; empty where values are one word.

    "|" and ";" stand in no name of a class. A comma or a space does, so those count where the
    column's name is a plural, or all is numbers, and taking values apart leaves fewer words.
    """
    for sign in "|;":
        if any(sign in value for value in values):
            return sign
    plural = column.strip().casefold() in _SEVERAL
    for sign in ", ":
        if not any(sign in value for value in values):
            continue
        words = {word for value in values for word in _split(value, sign)}
        if len(words) < len(values) and (plural or all(map(str.isdecimal, words))):
            return sign
    return ""


def _split(value: str, separator: str) -> Words:
    return tuple(dict.fromkeys(_word(word) for word in value.split(separator) if word.strip()))


def _flags(values: Sequence[Any]) -> list[bool]:
    """Return a column of 0 and 1, or -1 and 1 as in CelebA; empty where it has other values."""
    for meaning in (_YES_NO, _MINUS):
        with_meaning: Mapping[Any, bool] = meaning
        try:
            return [with_meaning[v.strip() if isinstance(v, str) else v] for v in values]
        except (KeyError, TypeError):
            continue
    return []
