"""How commands print: tables for people, JSON for programs."""

import io
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from resnets.errors import DataError
from resnets.wording import plural

SECONDS = 30.0  # between lines of progress where there is no terminal


def escape_what_streams_lack() -> None:
    """Let stdout and stderr escape the characters that they cannot encode, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what stands in for it may take anything
            # On Windows a pipe has the code page of old programs, whatever reads it.
            pipe = sys.platform == "win32" and not stream.isatty()
            stream.reconfigure(encoding="utf-8" if pipe else None, errors="backslashreplace")


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON, in ASCII where the stream does not take all characters."""
    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    print(json.dumps(value, indent=1, ensure_ascii=not unicode))


def print_table(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print aligned columns, numbers to the right; lines are never cut in a pipe."""
    from rich.console import Console  # a fifth of what --help would take
    from rich.table import Table

    rows = list(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, name in enumerate(heading):
        numeric = all(isinstance(row[column], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    # As wide as it needs: a narrow terminal wraps lines, but no figure is ever cut.
    console = Console(width=1000, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def say(line: str) -> None:
    """Print a line about what is going on."""
    print(line, file=sys.stderr)


class Progress:
    """How far it is, on stderr: one line that changes at a terminal, a line at times elsewhere."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.last = time.monotonic()

    def show(self, done: int, total: int) -> None:
        """Say how many pictures are done."""
        line = f"{done:,} of {plural(total, 'picture')}"
        if self.terminal:
            print(f"\r{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.last > SECONDS:
            say(line)
            self.last = time.monotonic()

    def broken(self, error: DataError) -> None:
        """Say that one could not be read."""
        self.clear()
        say(f"error: {error.message}\n hint: {error.hint}")

    def clear(self) -> None:
        """Leave the line to others."""
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
