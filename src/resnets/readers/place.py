"""Where an error was met: names in a file are quoted so that they cannot garble a terminal."""

from pathlib import Path

from resnets.errors import CheckpointError

_LONGEST = 1000


def at(path: str | Path, error: CheckpointError) -> CheckpointError:
    """Return ``error`` with the file before it, on one line and without control characters."""
    return CheckpointError(f"{_shown(str(path))}: {_shown(error.message)}", hint=_shown(error.hint))


def _shown(text: str) -> str:
    letters = (letter if letter.isprintable() else _escaped(letter) for letter in text[:_LONGEST])
    return "".join(letters)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
