"""Unpickling that cannot run code: a stack machine over pickle's opcodes that makes plain records.

Python's own unpickler imports what a file names and calls it. This one never imports anything; the
only functions it ever calls are those in `pickled.py`, which build records such as "a tensor of
this size in that storage". So a hostile file has nothing to reach, whatever opcodes it uses.
"""

import codecs
import pickletools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from resnets.errors import CheckpointError
from resnets.weights.formats.pickled import Global, Inert, Storage, find

# An opcode of one byte makes an object of at most about 130 bytes, so that this bounds memory. A
# network of 1000 tensors needs about 30,000.
_MOST_OPCODES = 500_000
_MARK = object()


class Stream(Protocol):
    """What the machine reads from; `read` returns fewer bytes at the end."""

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes."""

    def readline(self) -> bytes:
        """Return bytes up to and with the next line end."""


class Unpickled(NamedTuple):
    """A pickle's value, made of plain Python values and records, and the storages it refers to."""

    value: Any
    storages: dict[str, Storage]


def unpickle(stream: Stream) -> Unpickled:
    """Read one pickle.

    Raises CheckpointError for what is not allowed, and ValueError, TypeError, LookupError and the
    like for what is damaged.
    """
    machine = _Machine()
    for _ in range(_MOST_OPCODES):
        code = stream.read(1)
        if not code:
            raise ValueError("the pickle ends before it is complete")
        name, read_argument = _OPCODES[code]
        argument = read_argument(stream)
        if name == "STOP":
            return Unpickled(machine.pop(), machine.storages)
        _STEPS[name](machine, argument)
    raise CheckpointError(
        f"it holds more than {_MOST_OPCODES:,} objects, far more than a network needs",
        hint="save only `model.state_dict()`",
    )


class _Machine:
    """The stack and the memo of one pickle; every method is an opcode."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        # A dict: a list would grow to the largest index that the file names.
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def pop(self, _: Any = None) -> Any:
        return self.stack.pop()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def pop_to_mark(self, _: Any = None) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        values.reverse()
        return values

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    # containers

    def make_list(self, _: Any) -> None:
        self.stack.append(self.pop_to_mark())

    def make_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def make_short_tuple(self, length: int) -> None:
        values = tuple(self.stack[len(self.stack) - length :])
        if len(values) != length:
            raise ValueError("a tuple of more values than there are")
        del self.stack[len(self.stack) - length :]
        self.stack.append(values)

    def make_dict(self, _: Any) -> None:
        entries: dict[Any, Any] = {}
        _set_items(entries, self.pop_to_mark())
        self.stack.append(entries)

    def append(self, _: Any) -> None:
        value = self.pop()
        _extend(self.stack[-1], [value])

    def extend(self, _: Any) -> None:
        values = self.pop_to_mark()
        _extend(self.stack[-1], values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        _set_items(self.stack[-1], [key, value])

    def set_items(self, _: Any) -> None:
        values = self.pop_to_mark()
        _set_items(self.stack[-1], values)

    # names and calls

    def load_name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(find(f"{module}.{name}"))

    def load_stacked_name(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("a name that is no text")
        self.stack.append(find(f"{module}.{name}"))

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(_call(function, arguments))

    def call_with_keywords(self, _: Any) -> None:
        keywords, arguments, function = self.pop(), self.pop(), self.pop()
        if keywords:
            raise ValueError("an object made with keywords")
        self.stack.append(_call(function, arguments))

    def call_named(self, argument: str) -> None:
        arguments = self.pop_to_mark()
        self.load_name(argument)
        self.stack.append(_call(self.pop(), tuple(arguments)))

    def call_marked(self, _: Any) -> None:
        function, *arguments = self.pop_to_mark()
        self.stack.append(_call(function, tuple(arguments)))

    def build(self, _: Any) -> None:
        state = self.pop()
        target = self.stack[-1]
        # An OrderedDict's attributes (torch keeps the versions of modules there) are no weights.
        if not isinstance(target, dict):
            if not isinstance(target, Inert):
                raise ValueError(f"a state for a {type(target).__name__}")
            target.state = state

    def load_storage(self, _: Any) -> None:
        identity = self.pop()
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            raise ValueError("a reference outside the pickle that is no storage")
        kind, key, view = identity[1], identity[2], identity[5:]
        if any(part is not None for part in view):
            raise CheckpointError(
                "it holds views of storages, which PyTorch stopped writing in 2018",
                hint="load it with an old PyTorch and save `model.state_dict()` again",
            )
        if not isinstance(kind, Global) or kind.storage_type is None or not isinstance(key, str):
            raise ValueError("a storage of an unknown type")
        storage = Storage(key, kind.storage_type, identity[4])
        self.stack.append(self.storages.setdefault(key, storage))

    def refuse(self, _: Any) -> None:
        raise CheckpointError(
            "it uses a part of the pickle format that checkpoints have no use for",
            hint="ask its author for a safetensors file",
        )

    def ignore(self, _: Any) -> None:
        pass


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise ValueError("a call of what is no function")
    return function.call(arguments)


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Inert):
        target = target.items
    if not isinstance(target, list):
        raise ValueError(f"an item appended to a {type(target).__name__}")
    target.extend(values)


def _set_items(target: Any, keys_and_values: list[Any]) -> None:
    if isinstance(target, Inert):
        target = target.entries
    if not isinstance(target, dict) or len(keys_and_values) % 2:
        raise ValueError(f"an item set in a {type(target).__name__}")
    for key, value in zip(keys_and_values[::2], keys_and_values[1::2], strict=True):
        # Hashing a tuple that is nested deeply enough would overflow the interpreter's stack.
        plain = isinstance(key, str | int | float | bytes | None)
        target[key if plain else f"({type(key).__name__} {len(target)})"] = value


def _read_python2_string(stream: Stream) -> str:
    line = stream.readline()
    if len(line) < 3 or line[:1] not in b"'\"" or line[-2:] != line[:1] + b"\n":
        raise ValueError("a string without its quotes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes that Python 3 would write differently
        return codecs.escape_decode(line[1:-2])[0].decode("latin-1")


def _nothing(_: Stream) -> None:
    return None


def _opcodes() -> dict[bytes, tuple[str, Callable[[Any], Any]]]:
    """Return each opcode's name and how its argument is read; no reader allocates ahead of data."""
    table: dict[bytes, tuple[str, Callable[[Any], Any]]] = {}
    for opcode in pickletools.opcodes:
        reader = opcode.arg.reader if opcode.arg else _nothing
        if opcode.name == "STRING":
            reader = _read_python2_string  # pickletools' own knows ASCII only
        table[opcode.code.encode("latin-1")] = (opcode.name, reader)
    return table


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value)


_OPCODES = _opcodes()

_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _Machine.ignore),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2"), _Machine.push),
    **dict.fromkeys(("LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push([]),  # nothing is hashed, order is kept
    "LIST": _Machine.make_list,
    "FROZENSET": _Machine.make_list,
    "DICT": _Machine.make_dict,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.make_short_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_short_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_short_tuple(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "ADDITEMS": _Machine.extend,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "POP": _Machine.pop,
    "DUP": _Machine.duplicate,
    "MARK": _Machine.mark,
    "POP_MARK": _Machine.pop_to_mark,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.load_name,
    "STACK_GLOBAL": _Machine.load_stacked_name,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "INST": _Machine.call_named,
    "OBJ": _Machine.call_marked,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.load_storage,
    **dict.fromkeys(("PERSID", "EXT1", "EXT2", "EXT4"), _Machine.refuse),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), _Machine.refuse),
}
