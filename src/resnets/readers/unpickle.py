"""Unpickling that cannot run code: a stack machine over pickle's opcodes that makes plain records.

Python's own unpickler imports what a file names and calls it. This one never imports anything; the
only functions it ever calls are those in `pickled.py`, which build records such as "a tensor of
this size in that storage". So a hostile file has nothing to reach, whatever opcodes it uses.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
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
    """The stack and the memo of one pickle."""

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

    def pop_to_mark(self, _: Any = None) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        values.reverse()
        return values

    def pop_last(self, count: int) -> list[Any]:
        values = self.stack[len(self.stack) - count :]
        if len(values) != count:
            raise ValueError("a container of more values than there are")
        del self.stack[len(self.stack) - count :]
        return values

    def put(self, index: int) -> None:
        if not 0 <= index < _MOST_INDEX:  # wider integers can have one hash
            raise ValueError("a place in the memo that cannot be")
        self.memo[index] = self.stack[-1]

    def make_dict(self, _: Any) -> None:
        entries: dict[Any, Any] = {}
        _set_items(self.pop_to_mark(), entries)
        self.stack.append(entries)

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

    def make(self, _: Any) -> None:
        arguments, kind = self.pop(), self.pop()
        if isinstance(kind, Global):  # Python makes objects of classes only, however written
            kind = replace(kind, is_function=False)
        self.apply(kind, arguments)

    def make_with_keywords(self, _: Any) -> None:
        keywords = self.pop()
        self.make(None)
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = keywords
        elif keywords:
            raise ValueError("an object made with keywords")

    def call_named(self, argument: str) -> None:
        arguments = self.pop_to_mark()
        self.load_name(argument)
        self.apply(self.pop(), tuple(arguments))

    def call_marked(self, _: Any) -> None:
        function, *arguments = self.pop_to_mark()
        self.apply(function, tuple(arguments))

    def apply(self, function: Any, arguments: Any) -> None:
        if isinstance(function, Inert):  # which made a class, or is somebody's method
            function = Global(function.name)
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
        if isinstance(identity, tuple) and identity[:1] == ("module",) and len(identity) == 4:
            self.stack.append(identity[1])  # a class, with its source code, of PyTorch before 1.6
            return
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


def _extend(values: list[Any], target: Any) -> None:
    if isinstance(target, Inert):
        target = target.items
    if not isinstance(target, list):
        raise ValueError(f"an item appended to a {type(target).__name__}")
    target.extend(values)


def _set_items(keys_and_values: list[Any], target: Any) -> None:
    if isinstance(target, Inert):
        target = target.entries
    if not isinstance(target, dict) or len(keys_and_values) % 2:
        raise ValueError(f"an item set in a {type(target).__name__}")
    for key, value in zip(keys_and_values[::2], keys_and_values[1::2], strict=True):
        target[hashable(key, target)] = value


_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(
        (
            *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
            *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE"),
            *("BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        ),
        _Machine.push,
    ),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push([]),  # nothing is hashed, order is kept
    **dict.fromkeys(("LIST", "FROZENSET"), lambda machine, _: machine.push(machine.pop_to_mark())),
    "DICT": _Machine.make_dict,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop_last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop_last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop_last(3))),
    "APPEND": lambda machine, _: _extend([machine.pop()], machine.stack[-1]),
    **dict.fromkeys(
        ("APPENDS", "ADDITEMS"),
        lambda machine, _: _extend(machine.pop_to_mark(), machine.stack[-1]),
    ),
    "SETITEM": lambda machine, _: _set_items(machine.pop_last(2), machine.stack[-1]),
    "SETITEMS": lambda machine, _: _set_items(machine.pop_to_mark(), machine.stack[-1]),
    "POP": _Machine.pop,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "MARK": lambda machine, _: machine.push(_MARK),
    "POP_MARK": _Machine.pop_to_mark,
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])
    ),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GLOBAL": _Machine.load_name,
    "STACK_GLOBAL": _Machine.load_stacked_name,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.make,
    "NEWOBJ_EX": _Machine.make_with_keywords,
    "INST": _Machine.call_named,
    "OBJ": _Machine.call_marked,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.load_storage,
    **dict.fromkeys(("PERSID", "EXT1", "EXT2", "EXT4"), _Machine.refuse),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), _Machine.refuse),
}
