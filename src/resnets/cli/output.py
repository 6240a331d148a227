"""How commands print: tables for people, JSON for programs; nothing else in this room prints.

Names, keys and messages come from files of strangers: what a terminal would obey in them is
escaped here, in every line.
"""

import io
import json
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TextIO

from resnets.errors import DataError, Stopped
from resnets.formatting import UNPRINTABLE, pace, plural, printable

SECONDS = 30.0  # between lines of progress where there is no terminal


class ReaderGone(Exception):
    """Nobody reads the results any more: the other end of the pipe is closed."""


class _Log(io.FileIO):
    """What is written to it is lost where nobody listens: no work ends for that."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or len(data)  # None where it would have to wait
        except OSError:
            return len(data)


def settle_streams() -> None:
    """Let stdout and stderr take all characters, and be there, and stderr never fail."""
    for descriptor in (0, 1, 2):  # or the next file that is opened would be one of them
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (to the end)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what stands in for it may take anything
            # On Windows a pipe has the code page of old programs, whatever reads it.
            pipe = sys.platform == "win32" and not stream.isatty()
            stream.reconfigure(encoding="utf-8" if pipe else None, errors="backslashreplace")
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Log(2, "w", closefd=False)),
            encoding=sys.stderr.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )
        warnings.showwarning = _say_warning


def leave_stdout() -> None:
    """Write what is left, or let it go: an interpreter that cannot ends with a code of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    say(f"{category.__name__}: {message}")


def _write(stream: TextIO, text: str) -> None:
    """Write text that is safe, and raise ReaderGone where nobody reads the results."""
    try:
        stream.write(text)
    except BrokenPipeError:
        raise ReaderGone from None


def tell(*lines: object, flush: bool = False) -> None:
    """Print results, each on a line of its own."""
    _write(sys.stdout, "".join(f"{printable(str(line))}\n" for line in lines))
    if flush:
        flush_results()


def flush_results() -> None:
    """Let what is printed reach its reader; raises ReaderGone where there is none."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON, in ASCII where the stream does not take all characters."""
    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(value, indent=1, ensure_ascii=not unicode)
    _write(sys.stdout, UNPRINTABLE.sub(_escape, text) + "\n")


def _escape(found: re.Match[str]) -> str:
    """Return a character as JSON has it in texts; its lines are its own."""
    return found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}"


def print_table(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print aligned columns, numbers to the right; lines are never cut in a pipe."""
    from rich.console import Console  # a fifth of what --help would take
    from rich.table import Table

    rows = list(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, name in enumerate(heading):
        numeric = all(isinstance(row[column], int | float) for row in rows)
        table.add_column(printable(name), justify="right" if numeric else "left")
    for row in rows:
        cells = (f"{cell:,}" if isinstance(cell, int) else printable(str(cell)) for cell in row)
        table.add_row(*cells)
    # As wide as it needs: a narrow terminal wraps lines, but no figure is ever cut.
    console = Console(width=1000, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    # Where stdout is a terminal the heading is bold, which is our own to say.
    lines = captured.get().split("\n")[:-1]
    _write(sys.stdout, "".join(f"{line.rstrip()}\n" for line in lines))


class Answer(Protocol):
    """What comes of a command."""

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-able values."""


def answer(found: Answer, as_json: bool, *lines: object) -> None:
    """Print what came of a command: all of it for programs, or in lines for people."""
    if as_json:
        print_json(found.to_dict())
    else:
        tell(*lines)


def say(*lines: str) -> None:
    """Print lines about what happens."""
    _write(sys.stderr, "".join(f"{printable(line)}\n" for line in lines))


def say_error(message: str, hint: str, *, where: str = "", title: bool = True) -> None:
    """Print what an error says; lines of its message after the first are set in."""
    colour = title and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    red, plain = ("\033[31m", "\033[0m") if colour else ("", "")
    first, *others = message.split("\n")
    begin = f"{printable(where)}{red}error:{plain} " if title else printable(where)
    _write(sys.stderr, f"{begin}{printable(first)}\n")
    say(*(f"  {line}" for line in others), *([f" hint: {hint}"] if hint else []))


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which what is running meets as it meets Ctrl-C."""


def _terminated_like_ctrl_c() -> Any:
    """Return what SIGTERM did before; None outside the main thread, which signals do not reach."""

    def stop(number: int, frame: Any) -> None:
        raise _Terminated

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:
        return None


class Progress(AbstractContextManager["Progress"]):
    """How far it is, on stderr: one line that changes at a terminal, a line at times elsewhere.

    When the context ends, the line is left to what follows, be it an error.
    """

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.began = self.last = time.monotonic()
        self.done = self.total = 0

    def __exit__(self, *_: object) -> None:
        self.clear()

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Turn Ctrl-C or SIGTERM into Stopped, which says how much is done and what next.

        A Ctrl-C before anything is done stays what it is.
        """
        before = _terminated_like_ctrl_c()
        try:
            yield
        except KeyboardInterrupt as interrupt:
            terminated = isinstance(interrupt, _Terminated)
            if not (self.done or terminated):
                raise
            raise Stopped(
                f"interrupted: {self.done:,} of {plural(self.total, 'image')} are done and kept",
                hint="the same command resumes",
                exit_code=75 if terminated else 130,
            ) from None
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)

    def show(self, done: int, total: int, more: str = "") -> None:
        """Say how many images are done, or found, of a total of 0, and ``more``."""
        if total:
            self.done, self.total = done, total
        else:
            self.began = time.monotonic()  # of what is done with them
        line = pace(done, total, time.monotonic() - self.began) + more
        if self.terminal:
            _write(sys.stderr, f"\r\033[K{line}")
            sys.stderr.flush()
        elif time.monotonic() - self.last > SECONDS:
            say(line)
            self.last = time.monotonic()

    def note(self, line: str) -> None:
        """Say something between."""
        self.clear()
        say(line)

    def broken(self, error: DataError) -> None:
        """Say that one could not be read."""
        self.clear()
        say_error(error.message, error.hint)

    def clear(self) -> None:
        """Leave the line to others."""
        if self.terminal:
            _write(sys.stderr, "\r\033[K")
            sys.stderr.flush()
