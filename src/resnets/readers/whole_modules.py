"""Modules among a pickle's records: their state dicts, and what they say about their layers."""

import re
from typing import Any, NamedTuple

from resnets.readers.pickled import Global, Inert, StoredTensor

_SCRIPTED = "__torch__."  # where TorchScript puts the classes that it compiles
_MANGLED = re.compile(r"___torch_mangle_\d{1,9}\.")
_MOST_ATTRIBUTES = 64
_MOST_NUMBERS = 8  # in one attribute, such as a kernel's size
_LONGEST_TEXT = 100


class Module(NamedTuple):
    """A module: everything by its name and in torch's order."""

    kind: str  # its class
    tensors: list[tuple[str, Any]]  # records: parameters, then the buffers that are saved
    children: list[tuple[str, Any]]
    attributes: list[tuple[str, Any]]  # numbers, short texts and names: stride, eps, padding_mode


def as_module(record: Inert) -> Module | None:
    """Return what a record says as a module, or None where it is something else."""
    if not isinstance(record.state, dict):
        return None
    state = {key: value for key, value in record.state.items() if isinstance(key, str)}
    attributes = [(name, value) for name, value in state.items() if _is_plain(name, value)]
    if record.name.startswith(_SCRIPTED):
        kind = _MANGLED.sub("", record.name.removeprefix(_SCRIPTED))
        tensors = [
            (name, value) for name, value in state.items() if isinstance(value, StoredTensor)
        ]
        return Module(kind, tensors, list(state.items()), attributes[:_MOST_ATTRIBUTES])
    parameters, children = state.get("_parameters"), state.get("_modules")
    if not isinstance(parameters, dict) or not isinstance(children, dict):
        return None
    buffers = state.get("_buffers")
    passing = state.get("_non_persistent_buffers_set", [])
    if isinstance(passing, Inert):  # a set, by protocols before 4
        passing = passing.arguments[0] if passing.arguments else []
    saved = [
        (name, value)
        for name, value in (buffers.items() if isinstance(buffers, dict) else ())
        if not (isinstance(passing, list) and name in passing[:_MOST_ATTRIBUTES])
    ]
    tensors = [*parameters.items(), *saved]
    return Module(record.name, tensors, list(children.items()), attributes[:_MOST_ATTRIBUTES])


def _is_plain(name: str, value: Any) -> bool:
    if name.startswith("_") or name in ("training", "dump_patches"):
        return False
    if isinstance(value, tuple | list):
        return len(value) <= _MOST_NUMBERS and all(isinstance(n, int | float) for n in value)
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT
    return value is None or isinstance(value, bool | int | float | Global)
