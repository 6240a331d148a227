"""What a pickle may name: the records that stand for its objects, and the list of allowed names."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from resnets.errors import CheckpointError

LONGEST_NAME = 500  # of a class or function, with its module
MOST_ARGUMENTS = 64  # that any function of ours looks at
_MOST_DIMENSIONS = 16
_KEYS = (str, int, float, bytes, type(None))
_MOST_KEY_BITS = 64


@dataclass(frozen=True)
class Storage:
    """A run of numbers outside the pickle, or in ``data``, which is itself a file of torch.save."""

    key: str
    dtype: str | None  # the name of a torch dtype; None where ``data`` says it
    count: int  # elements
    data: bytes | None = None


@dataclass(eq=False, slots=True)
class StoredTensor:
    """A tensor as a view of a storage; offset and stride in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str | None = None  # where it is not the storage's own


@dataclass(eq=False, slots=True)
class Inert:
    """An object of a harmless class: its name and what the file says about it, and no behaviour."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)


class ArrayType(Inert):
    """A numpy dtype: its letters are the first argument, its byte order is in the state."""


class Array(Inert):
    """A numpy array or scalar: type, shape, whether Fortran order, and bytes are in the state."""


@dataclass(frozen=True)
class Global:
    """A name in a pickle, and the function of ours that is called in its place."""

    name: str
    build: Callable[..., Any] | None = None
    storage_type: str | None = None
    is_function: bool = False  # somebody's: it may be named, as activations are, but not called

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """Return the record that stands for the result of the call."""
        if self.is_function:
            raise _refusal(self.name)
        if self.build is None:
            return Inert(self.name, arguments)
        if len(arguments) > MOST_ARGUMENTS:
            raise ValueError("a call with more arguments than any function has")
        return self.build(*arguments)


def find(name: str) -> Global:
    """Return what stands for ``module.name``; raises CheckpointError for what is not allowed."""
    if len(name) > LONGEST_NAME:
        raise ValueError("a name that is longer than any is")
    name = _modern(name)
    if name in _BUILDERS:
        return Global(name, _BUILDERS[name])
    if name in _STORAGES:
        return Global(name, storage_type=_STORAGES[name])
    if name in _HARMLESS or name.startswith(_HARMLESS_MODULES):
        return Global(name)
    if name in _NAMED_ONLY or name.startswith("math."):
        return Global(name, is_function=True)
    if _QUANTISED.match(name) or name.split(".")[0] in sys.stdlib_module_names:
        raise _refusal(name)
    last = name.rpartition(".")[2]
    is_class = last.lstrip("_")[:1].isupper()
    makes_objects = _MAKES_OBJECTS.search(last) and not name.startswith("torch.")
    return Global(name, is_function=not (is_class or makes_objects))


def _modern(name: str) -> str:
    """Return today's name of what Python 2 and numpy have renamed."""
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _refusal(name: str) -> CheckpointError:
    shown = name if name.isprintable() and len(name) < 200 else ascii(name[:200])
    if _QUANTISED.match(name):
        return CheckpointError(
            f"it holds quantised tensors ({shown})",
            hint="load the float checkpoint that it was quantised from",
        )
    return CheckpointError(
        f"it asks for {shown}, which could run code",
        hint="nothing was run; do not open this file elsewhere, ask its author for safetensors",
    )


# How torch's and numpy's own functions are stood in for


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> StoredTensor:
    """Stand for `_rebuild_tensor` and `_rebuild_tensor_v2`; ``rest`` is about gradients."""
    if len(rest) > 2 and rest[2]:
        raise CheckpointError(
            "it holds tensors that are marked as conjugated or negated",
            hint="save them with `tensor.resolve_conj().resolve_neg()`",
        )
    return StoredTensor(storage, offset, _numbers(size), _numbers(stride))


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> StoredTensor:
    if not isinstance(dtype, Inert | Global) or not dtype.name.startswith("torch."):
        raise ValueError("a tensor of an unknown type")
    tensor = _tensor(storage, offset, size, stride)
    tensor.dtype = dtype.name.removeprefix("torch.")
    return tensor


def _first(value: Any, *_: Any) -> Any:
    """Stand for `_rebuild_parameter`: the tensor itself."""
    return value


def _subclass_tensor(function: Any, _type: Any, arguments: Any, _state: Any) -> Any:
    # No other function, as what those copy of their arguments is counted before they are called.
    known = isinstance(function, Global) and function.build in (_tensor, _tensor_v3, _first)
    if not known or not isinstance(arguments, tuple):
        raise ValueError("a tensor that is not rebuilt by a function")
    return function.call(arguments)


def _numbers(value: Any) -> tuple[int, ...]:
    if isinstance(value, Inert) and value.name == "torch.Size" and value.arguments:
        value = value.arguments[0]
    if not isinstance(value, tuple | list) or len(value) > _MOST_DIMENSIONS:
        raise ValueError("a size that is no short list of numbers")
    return tuple(value)


def _embedded_storage(data: Any) -> Storage:
    if not isinstance(data, bytes):
        raise ValueError("a storage that is no bytes")
    return Storage(f"embedded {id(data)}", None, 0, data)


def _scalar(kind: Any, data: Any = None) -> Array:
    return Array("numpy.ndarray", state=(1, (), kind, False, data))


def _array_of_buffer(data: Any, kind: Any, shape: Any, order: Any) -> Array:
    return Array("numpy.ndarray", state=(1, shape, kind, order == "F", data))


def hashable(key: Any, entries: dict[Any, Any]) -> str | int | float | bytes | None:
    """Return what stands for ``key`` in ``entries``: itself, or a text.

    To hash a tuple that is nested deeply enough would overflow the interpreter's stack; and wide
    integers can be chosen so that all have one hash, which makes a dict of them quadratic.
    """
    if isinstance(key, _KEYS) and not (isinstance(key, int) and key.bit_length() > _MOST_KEY_BITS):
        plain: str | int | float | bytes | None = key
        return plain
    return f"({type(key).__name__} {len(entries)})"


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    if isinstance(pairs, dict):
        return pairs  # a copy could be made again and again
    if not isinstance(pairs, list | tuple):
        raise ValueError("a dict of what are no pairs")
    entries: dict[Any, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str | int):
            raise ValueError("a dict with keys that are no names")
        entries[hashable(key, entries)] = value
    return entries


def _attribute(owner: Any, name: Any, *_: Any) -> Inert:
    """Stand for `getattr`: objects of somebody's classes name their methods, as callbacks are."""
    if not isinstance(owner, Global | Inert) or owner.name in _HARMLESS:
        raise _refusal("builtins.getattr")
    if not isinstance(name, str) or len(owner.name) + len(name) > LONGEST_NAME:
        raise ValueError("an attribute without a name")
    return Inert(f"{owner.name}.{name}")


def _latin_bytes(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes that are not written as Latin-1")
    return text.encode("latin-1")


def _reconstructed(kind: Any, *arguments: Any) -> Any:
    """Stand for copyreg's way to make an object of a class: without the base's value."""
    if not isinstance(kind, Global):
        raise ValueError("an object of no class")
    return Inert(kind.name, tuple(arguments[1:]))


def _graph_module(attributes: Any, *_: Any) -> Inert:
    """Stand for torch.fx's way to make a module again: by running its code."""
    return Inert("torch.fx.graph_module.GraphModule", state=attributes)


def _tuple(values: Any = ()) -> Any:
    """Stand for `tuple`, as which Paddle pickles a tensor: its name, and its numbers."""
    if isinstance(values, tuple) and len(values) == 2 and isinstance(values[1], Array):
        return values[1]
    return Inert("builtins.tuple", (values,))


_BUILDERS: dict[str, Callable[..., Any]] = {
    "builtins.getattr": _attribute,
    "builtins.tuple": _tuple,
    "collections.OrderedDict": _ordered_dict,
    "_codecs.encode": _latin_bytes,
    "copyreg._reconstructor": _reconstructed,
    "fastai.torch_core._fa_rebuild_tensor": lambda _kind, *arguments: _tensor(*arguments),
    "jax._src.array._reconstruct_array": (
        lambda _function, _arguments, state, *_: Array("numpy.ndarray", state=state)
    ),
    "numpy.core.multiarray._reconstruct": lambda *_: Array("numpy.ndarray"),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array_of_buffer,
    "numpy.dtype": lambda letters, *_: ArrayType("numpy.dtype", (letters,)),
    "torch._tensor._rebuild_from_type_v2": _subclass_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch.fx.graph_module.reduce_graph_module": _graph_module,
    "torch.storage._load_from_bytes": _embedded_storage,
    "torch.jit._pickle.restore_type_tag": _first,
    **{
        f"torch.jit._pickle.build_{kind}list": _first
        for kind in ("int", "double", "bool", "tensor")
    },
}

_STORAGE_TYPES = {
    **{"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16"},
    **{"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"},
    **{"Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128"},
    "Untyped": "uint8",
}
_STORAGES = {
    f"{module}.{name}Storage": dtype
    for module in ("torch", "torch.cuda", "torch.storage")
    for name, dtype in _STORAGE_TYPES.items()
}

_RENAMED = {
    "__builtin__.": "builtins.",
    "copy_reg.": "copyreg.",
    "numpy._core.": "numpy.core.",
    "UserDict.": "collections.",
    "commands.": "subprocess.",
}

# What checkpoints of the last ten years carry of Python's own, torch's and numpy's. Nothing of it
# is ever made: the lists only decide whether a file is read or refused by name.
_HARMLESS_NAMES = {
    "builtins": "list dict set frozenset tuple int float bool str bytes bytearray complex object "
    "slice range type",
    "torch": "Size device Tensor FloatTensor strided contiguous_format channels_last "
    "preserve_format float16 float32 float64 bfloat16 float half double uint8 uint16 uint32 uint64 "
    "int8 int16 int32 int64 short int long bool complex64 complex128 float8_e4m3fn float8_e5m2",
    "numpy": "ndarray bool_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 "
    "float64 str_ bytes_ object_ longlong intc",
    "typing": "Any Dict List Optional Tuple Union",
    "collections": "defaultdict Counter deque UserDict",
    "datetime": "datetime date time timedelta timezone",
    "logging": "Logger RootLogger getLogger",
    "_io": "BytesIO StringIO",
    # Dill changes torch.save where it is imported: types by their names, and functions as code
    "dill._dill": "_load_type _create_function _create_code _create_cell _create_type",
}
_HARMLESS = {
    *(f"{module}.{name}" for module, names in _HARMLESS_NAMES.items() for name in names.split()),
    *("argparse.Namespace", "types.SimpleNamespace", "uuid.UUID", "decimal.Decimal"),
    *("functools.partial", "fractions.Fraction", "random.Random", "re._compile"),
    *("torch.nn.backends.thnn._get_thnn_function_backend", "torch.serialization._get_layout"),
}
# What callbacks and dill's functions have among their attributes: it may be named, but not called
_NAMED_ONLY = {f"builtins.{name}" for name in ("abs", "len", "max", "min", "print", "setattr")}
_HARMLESS_MODULES = ("pathlib.", "numpy.random.")
# Functions that make an object again may be called, as it stays a record (torch's make tensors:
# none may get lost). Any other that is called says that the file means to run something.
_MAKES_OBJECTS = re.compile("(^|_)(rebuild|unpickle|reconstruct|new)(_|$)")
_QUANTISED = re.compile(r"(__torch__\.)?torch\..*(qu?int|_qtensor|quantized)", re.IGNORECASE)
