"""JSON and JSON lines of ours, read within limits; what is damaged is said, with file and line.

Nothing in such a file can take more time or memory than its bytes are worth: its size, the number
of its parts, how deep they nest and how long a number is are bounded before anything is made of it.
"""

import json
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from resnets.errors import CheckpointError
from resnets.readers.paths import open_regular

LARGEST = 256 << 20  # bytes of a file; the confusion matrix of 10,000 classes takes 200 MB
MOST_PARTS = 4_000_000  # lists, objects and texts of a file
MOST_LINES = 1_000_000
DEEPEST = 32
LONGEST_NUMBER = 19  # digits of a whole number


def damaged(where: str | Path, reason: str) -> CheckpointError:
    """Return the error for a file, or a place in one, that does not hold what it should."""
    return CheckpointError(
        f"{where}: damaged: {reason}",
        hint="restore it from a copy; where there is none, the job has to be done again",
    )


def loads(text: str, where: str | Path, *, lenient: bool = False) -> Any:
    """Return the values of a JSON text; ``where`` it stands is for messages only.

    NaN and infinite numbers are no JSON: they count as missing (None) for a ``lenient`` reader.
    Raises CheckpointError for text that is no JSON, or more than ours ever is.
    """
    try:
        return parsed(text, lenient=lenient)
    except ValueError as error:
        raise damaged(where, str(error)) from None


def parsed(text: str, *, lenient: bool = False) -> Any:
    """Return the values of a JSON text as `loads` does; raises ValueError instead."""
    if sum(map(text.count, '[{"')) > 2 * MOST_PARTS:
        raise ValueError("more parts than a file of ours has")
    odd: Callable[[str], Any] = (lambda text: None) if lenient else _refuse

    def real(text: str) -> Any:
        return number if isfinite(number := float(text)) else odd(text)

    try:
        value = json.loads(text, parse_constant=odd, parse_float=real, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    level, depth = [value], 1
    while level := [inner for outer in level for inner in _containers(outer)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
    return value


def read_json(path: Path, *, lenient: bool = False) -> Any:
    """Return the values of a JSON file of ours. Raises CheckpointError as `loads` does, and OSError
    where it cannot be read or is no ordinary file."""
    return loads(read_text(path), path, lenient=lenient)


def read_text(path: Path, largest: int = LARGEST) -> str:
    """Return a UTF-8 file's text. Raises OSError, and CheckpointError where it is no such text."""
    with open_regular(path) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise damaged(path, f"larger than the {largest / 1e6:,.0f} MB that such a file may have")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise damaged(f"{path}, line {line}", "not UTF-8 text") from None


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield where each line of a text file stands, for messages, and the line; none that are empty.

    Raises OSError, and CheckpointError for what is no UTF-8 text, or has too many lines.
    """
    lines = read_text(path).split("\n")
    if len(lines) > MOST_LINES:
        raise damaged(path, f"more than {MOST_LINES:,} lines")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{path}, line {number}", line


def _containers(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in inner if isinstance(part, dict | list)]


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


def _refuse(text: str) -> Any:
    raise ValueError(f"{text[:20]} is no finite number")
