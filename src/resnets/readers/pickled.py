"""What a pickle may name: the records that stand for its objects, and the list of allowed names."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from resnets.errors import CheckpointError, nearest

__all__ = [
    "LONGEST_NAME",
    "MOST_ARGUMENTS",
    "Array",
    "ArrayType",
    "Global",
    "Inert",
    "Storage",
    "StoredTensor",
    "find",
    "hashable",
]


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

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """Return the record that stands for the result of the call."""
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
    if name.rpartition(".")[2] in _HARMLESS_ANYWHERE:
        return Global(name)
    raise _refusal(name)


def _modern(name: str) -> str:
    """Return today's name of what Python 2 and numpy have renamed."""
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _refusal(name: str) -> CheckpointError:
    shown = name if name.isprintable() and len(name) < 200 else ascii(name[:200])
    words = name.split(".")
    if re.search("(?i)qu?int|_qtensor|quantized", name):
        return CheckpointError(
            f"it holds quantised tensors ({shown})",
            hint="load the float checkpoint that it was quantised from",
        )
    if words[0] not in sys.stdlib_module_names and words[-1][:1].isupper():
        like = nearest(words[-1], sorted(_HARMLESS_ANYWHERE), count=1)
        known = f" (not the known {like})" if like else ""
        return CheckpointError(
            f"it holds an object of the class {shown}{known}, not only weights",
            hint="where that class is at home, save `model.state_dict()` instead of the model; "
            "`resnets convert` reads the result",
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


def _array(*_: Any) -> Array:
    return Array("numpy.ndarray")


def _scalar(kind: Any, data: Any = None) -> Array:
    return Array("numpy.ndarray", state=(1, (), kind, False, data))


def _array_of_buffer(data: Any, kind: Any, shape: Any, order: Any) -> Array:
    return Array("numpy.ndarray", state=(1, shape, kind, order == "F", data))


def _array_type(letters: Any, *_: Any) -> ArrayType:
    return ArrayType("numpy.dtype", (letters,))


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


def _attribute(owner: Any, name: Any) -> Inert:
    """Stand for `getattr` in the one place that needs it: mmengine's log buffers name methods."""
    if not isinstance(owner, Global) or not owner.name.endswith(".HistoryBuffer"):
        raise _refusal("builtins.getattr")
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
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


_BUILDERS: dict[str, Callable[..., Any]] = {
    "builtins.getattr": _attribute,
    "collections.OrderedDict": _ordered_dict,
    "_codecs.encode": _latin_bytes,
    "copyreg._reconstructor": _reconstructed,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _array_of_buffer,
    "numpy.dtype": _array_type,
    "torch._tensor._rebuild_from_type_v2": _subclass_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch.storage._load_from_bytes": _embedded_storage,
}

_STORAGE_TYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_STORAGES = {
    f"{module}.{name}": dtype
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

_BUILTINS = (
    "list dict set frozenset tuple int float bool str bytes bytearray complex object slice range"
)
_TORCH_NAMES = (
    "Size device Tensor FloatTensor strided contiguous_format channels_last preserve_format "
    "float16 float32 float64 bfloat16 float half double uint8 uint16 uint32 uint64 int8 int16 "
    "int32 int64 short int long bool complex64 complex128 float8_e4m3fn float8_e5m2"
)
_NUMPY_NAMES = (
    "ndarray bool_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 "
    "str_ bytes_ object_ longlong intc"
)
_TYPING_NAMES = "Any Dict List Optional Tuple Union"

# Classes that checkpoints of the last ten years carry beside their weights. Nothing of them is
# ever made: the list only decides whether a file is read or refused by name.
_HARMLESS = {
    *(f"builtins.{name}" for name in _BUILTINS.split()),
    *(f"torch.{name}" for name in _TORCH_NAMES.split()),
    *(f"numpy.{name}" for name in _NUMPY_NAMES.split()),
    *(f"typing.{name}" for name in _TYPING_NAMES.split()),
    *(f"collections.{name}" for name in ("defaultdict", "Counter", "deque", "UserDict")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    "argparse.Namespace",
    "types.SimpleNamespace",
    "uuid.UUID",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
    "torch.serialization._get_layout",
}
_HARMLESS_MODULES = (
    *("pathlib.", "numpy.dtypes.", "numpy.random.", "torch.optim.", "torch.cuda.amp.grad_scaler."),
    *("torch.amp.grad_scaler.", "torch.torch_version.", "mmengine.config.", "mmengine.logging."),
    *("mmcv.runner.log_buffer.", "mmcv.utils.config.", "omegaconf.", "ml_collections.config_dict."),
    *("addict.", "easydict.", "munch.", "yacs.config.", "fvcore.common.config."),
    *("detectron2.config.", "pytorch_lightning.callbacks.", "pytorch_lightning.utilities."),
    *("lightning_fabric.utilities.", "lightning.fabric.utilities."),
    *("lightning.pytorch.callbacks.", "lightning.pytorch.utilities."),
)
# Small classes that many repositories define for themselves
_HARMLESS_ANYWHERE = {
    *("AttrDict", "AttributeDict", "AverageMeter", "CfgNode", "ConfigDict", "EasyDict"),
    *("HistoryBuffer", "LogBuffer", "Namespace", "SmoothedValue"),
}
