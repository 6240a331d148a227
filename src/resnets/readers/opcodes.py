"""Pickle's opcodes, and how their arguments are read: nothing is allocated ahead of the data."""

import codecs
import pickletools
import re
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from resnets.errors import CheckpointError

_LONGEST_LINE = 1000  # of a number or a name; Python takes quadratic time for digits
_LONGEST_TEXT = 1024**2  # with letters beyond Latin-1, which take up to four times their bytes
_WIDE_UTF8 = re.compile(rb"[\xc4-\xff]")
_WIDE_ESCAPE = re.compile(rb"\\(u(?!00)|U)")


class Stream(Protocol):
    """What the machine reads from; `read` returns fewer bytes at the end."""

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes."""

    def readline(self) -> bytes:
        """Return bytes up to and with the next line end."""


def _read_python2_string(stream: Stream) -> str:
    line = stream.readline()
    if len(line) < 3 or line[:1] not in b"'\"" or line[-2:] != line[:1] + b"\n":
        raise ValueError("a string without its quotes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes that Python 3 would write differently
        # A view, as a slice would be one more copy of what may be a large array.
        return codecs.escape_decode(memoryview(line)[1:-2])[0].decode("latin-1")


def _text_reader(read_count: Callable[[Any], int]) -> Callable[[Stream], str]:
    """Return what reads a text after its length, without a long one's letters growing fourfold."""

    def read(stream: Stream) -> str:
        count = read_count(stream)
        data = stream.read(count)
        if len(data) != count:
            raise ValueError("a text that ends too soon")
        _judge_text(data, _WIDE_UTF8)
        return str(data, "utf-8", "surrogatepass")

    return read


def _read_escaped_text(stream: Stream) -> str:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("a text that ends too soon")
    _judge_text(line, _WIDE_ESCAPE)
    return str(memoryview(line)[:-1], "raw-unicode-escape")


def _judge_text(data: bytes, wide: re.Pattern[bytes]) -> None:
    if len(data) > _LONGEST_TEXT and wide.search(data):
        raise CheckpointError(
            f"it holds a text of {len(data):,} bytes, far more than a checkpoint needs",
            hint="save only `model.state_dict()`",
        )


class _ShortLines:
    """A stream for reading a number or a name that ends with its line."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def readline(self) -> bytes:
        line = self.stream.readline()
        if len(line) > _LONGEST_LINE:
            raise ValueError("a number or a name that is longer than any is")
        return line


def _short(read: Callable[[Any], Any]) -> Callable[[Stream], Any]:
    return lambda stream: read(_ShortLines(stream))


# Pickletools' own reader of a STRING knows ASCII only.
_TEXT_READERS: dict[str, Callable[[Any], Any]] = {
    "STRING": _read_python2_string,
    "UNICODE": _read_escaped_text,
    "SHORT_BINUNICODE": _text_reader(pickletools.read_uint1),
    "BINUNICODE": _text_reader(pickletools.read_uint4),
    "BINUNICODE8": _text_reader(pickletools.read_uint8),
}


def _opcodes() -> dict[bytes, tuple[str, Callable[[Any], Any]]]:
    """Return each opcode's name and how its argument is read; no reader allocates ahead of data."""
    table: dict[bytes, tuple[str, Callable[[Any], Any]]] = {}
    for opcode in pickletools.opcodes:
        reader = opcode.arg.reader if opcode.arg else lambda _: None
        if opcode.arg and opcode.arg.n == pickletools.UP_TO_NEWLINE:
            reader = _short(reader)
        reader = _TEXT_READERS.get(opcode.name, reader)
        table[opcode.code.encode("latin-1")] = (opcode.name, reader)
    return table


OPCODES = _opcodes()
