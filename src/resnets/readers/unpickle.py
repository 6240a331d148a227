"""Unpickling that cannot run code: a stack machine over pickle's opcodes that makes plain records.

Python's own unpickler imports what a file names and calls it. This one never imports anything; the
only functions it ever calls are those in `pickled.py`, which build records such as "a tensor of
this size in that storage". So a hostile file has nothing to reach, whatever opcodes it uses.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from resnets.errors import CheckpointError
from resnets.readers.allowance import Allowance
from resnets.readers.opcodes import OPCODES, Stream
from resnets.readers.pickled import (
    LONGEST_NAME,
    MOST_ARGUMENTS,
    Global,
    Inert,
    Storage,
    find,
    hashable,
)

_MOST_OPCODES = 500_000  # in one pickle; a network of 1000 tensors needs about 30,000
# The most memory that they take, beside what is read from the file
_OPCODE_BYTES = 130
_CALL_BYTES = 400
_ITEM_BYTES = 150  # of an item in an argument, which may become a dict's
_LONGEST_KEY = 100  # of a storage
_MOST_INDEX = 2**32
_MARK = object()


class Unpickled(NamedTuple):
    """A pickle's value, made of plain Python values and records, and the storages it refers to."""

    value: Any
    storages: dict[str, Storage]


def unpickle(stream: Stream, allowance: Allowance) -> Unpickled:
    """Read one pickle; what it makes beside its own bytes is taken from ``allowance``.

    Raises CheckpointError for what is not allowed, and ValueError, TypeError, LookupError and the
    like for what is damaged.
    """
    machine = _Machine(allowance)
    for _ in range(_MOST_OPCODES):
        allowance.take(_OPCODE_BYTES)
        code = stream.read(1)
        if not code:
            raise ValueError("the pickle ends before it is complete")
        name, read_argument = OPCODES[code]
        argument = read_argument(stream)
        if isinstance(argument, str) and not argument.isascii():
            allowance.take(sys.getsizeof(argument))
        if name == "STOP":
            return Unpickled(machine.pop(), machine.storages)
        _STEPS[name](machine, argument)
    raise CheckpointError(
        f"it holds more than {_MOST_OPCODES:,} objects, far more than a network needs",
        hint="save only `model.state_dict()`",
    )


class _Machine:
    """The stack and the memo of one pickle; every method is an opcode."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
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
        if not 0 <= index < _MOST_INDEX:  # wider integers can have one hash
            raise ValueError("a place in the memo that cannot be")
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
        self.find(*argument.split(" ", 1))

    def load_stacked_name(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("a name that is no text")
        self.find(module, name)

    def find(self, module: str, name: str) -> None:
        # Judged before they are joined: both may be texts that are used again and again.
        if len(module) + len(name) > LONGEST_NAME:
            raise ValueError("a name that is longer than any is")
        self.allowance.take(_CALL_BYTES + len(module) + len(name))
        self.stack.append(find(f"{module}.{name}"))

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        self.apply(function, arguments)

    def call_with_keywords(self, _: Any) -> None:
        keywords, arguments, function = self.pop(), self.pop(), self.pop()
        if keywords:
            raise ValueError("an object made with keywords")
        self.apply(function, arguments)

    def call_named(self, argument: str) -> None:
        arguments = self.pop_to_mark()
        self.load_name(argument)
        self.apply(self.pop(), tuple(arguments))

    def call_marked(self, _: Any) -> None:
        function, *arguments = self.pop_to_mark()
        self.apply(function, tuple(arguments))

    def apply(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        # What a function copies it copies from an argument, and that may be used again and again.
        self.allowance.take(_CALL_BYTES)
        for argument in arguments[:MOST_ARGUMENTS]:
            if isinstance(argument, str):
                self.allowance.take(len(argument))
            elif isinstance(argument, list | tuple):
                self.allowance.take(_ITEM_BYTES * len(argument))
        self.stack.append(function.call(arguments))

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
        if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6:
            raise ValueError("a reference outside the pickle that is no storage")
        word, kind, key, _place, count, *view = identity
        if word != "storage":
            raise ValueError("a reference outside the pickle that is no storage")
        if any(part is not None for part in view):
            raise CheckpointError(
                "it holds views of storages, which PyTorch stopped writing in 2018",
                hint="load it with an old PyTorch and save `model.state_dict()` again",
            )
        if not isinstance(kind, Global) or kind.storage_type is None or not isinstance(key, str):
            raise ValueError("a storage of an unknown type")
        if len(key) > _LONGEST_KEY:
            raise ValueError("a storage whose name is longer than any is")
        storage = Storage(key, kind.storage_type, count)
        self.stack.append(self.storages.setdefault(key, storage))

    def refuse(self, _: Any) -> None:
        raise CheckpointError(
            "it uses a part of the pickle format that checkpoints have no use for",
            hint="ask its author for a safetensors file",
        )

    def ignore(self, _: Any) -> None:
        pass


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
        target[hashable(key, target)] = value


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value)


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
