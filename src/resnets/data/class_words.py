"""Words for the names of classes, as a file has them: synsets in plain English, say."""

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from resnets.errors import DataError
from resnets.formatting import printable
from resnets.readers.paths import open_regular

LARGEST = 16 << 20  # bytes
_HEADINGS = {"class", "id", "label", "name", "synset", "wnid"}
_EXPECTED = (
    'lines such as "n01440764 tench", a CSV of two columns, or JSON: {"n01440764": "tench"}, '
    '{"0": ["n01440764", "tench"]} or ["tench", ...]'
)


class ClassWords:
    """Words by the names of classes, in the order of a file; without one there are none."""

    def __init__(self, words: dict[str, str] | None = None) -> None:
        self.words = words or {}
        once = {word for word, times in Counter(self.words.values()).items() if times == 1}
        self._word = {name: word for name, word in self.words.items() if word in once}
        self._name = {word: name for name, word in self._word.items()}

    def of_model(self, names: tuple[str, ...], outputs: int) -> tuple[str, ...]:
        """Return the names of a model's outputs: its own, or those of the file if as many."""
        return names or (tuple(self.words) if len(self.words) == outputs else ())

    def seen_as(self, name: str, names: Collection[str]) -> str:
        """Return which of a model's names a class of the data has, perhaps by its words."""
        others = (name, self._word.get(name, name), self._name.get(name, name))
        return next((each for each in others if each in names), name)

    def shown(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return words for names, with the name behind them where two have the same."""
        return tuple(
            self._word.get(name) or (f"{self.words[name]} ({name})" if name in self.words else name)
            for name in names
        )


def read_class_words(path: Path) -> ClassWords:
    """Return the words that a file has for names of classes. Raises DataError."""
    try:
        with open_regular(path) as file:
            text = file.read(LARGEST + 1).decode("utf-8-sig")
        if len(text) > LARGEST:
            raise DataError(f"{printable(path)}: is no list of classes, but {LARGEST >> 20} MB")
        start = text.lstrip()[:1]
        pairs = [
            *(_of_json(json.loads(text)) if start in "{[" and start else _of_lines(path, text))
        ]
    except OSError as error:
        raise DataError(
            f"{printable(path)}: cannot be read: {error.strerror}", hint=f"it takes {_EXPECTED}"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{printable(path)}: {reason}", hint=f"it takes {_EXPECTED}") from None
    if twice := [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]:
        raise DataError(
            f"{printable(path)}: has two words for {printable(twice[0])}", hint="leave one out"
        )
    if not pairs:
        raise DataError(f"{printable(path)}: names no class", hint=f"it takes {_EXPECTED}")
    return ClassWords(dict(pairs))


def _of_json(value: Any) -> Iterator[tuple[str, str]]:
    """Yield names and words. Raises ValueError."""
    if isinstance(value, list):
        value = {str(place): word for place, word in enumerate(value)}
    if not isinstance(value, dict):
        raise ValueError("is neither an object nor a list")
    numbered = all(key.isascii() and key.isdecimal() for key in value)
    for key in sorted(value, key=int) if numbered else value:
        match value[key]:  # by its number, as Keras has it, or by its name
            case [str(name), str(word)]:
                yield name, word
            case str(word):
                yield key, word
            case _:
                raise ValueError(f"has no words for {key!r}")


def _of_lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Yield names and words. Raises ValueError."""
    is_csv = path.suffix.lower() == ".csv"
    rows = (
        csv.reader(text.splitlines()) if is_csv else (s.split(None, 1) for s in text.splitlines())
    )
    for number, row in enumerate(rows, start=1):
        if not row or (is_csv and number == 1 and row[0].strip().lower() in _HEADINGS):
            continue
        if len(row) < 2 or not row[0].strip() or not row[1].strip():
            raise ValueError(f"line {number} is no name with its words")
        yield row[0].strip(), row[1].strip()
