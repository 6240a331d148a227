"""Named tensors as the modules that they belong to: convolutions, norms, matrices."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Literal

from torch import Tensor

Kind = Literal["conv", "norm", "linear", "other"]
Words = tuple[str | int, ...]

# What parts of a module are called in torch; Keras and TensorFlow; flax; Caffe2; MXNet and Paddle.
LEAVES = {
    **dict.fromkeys(("weight", "kernel", "w", "W", "gamma", "scale", "s"), "weight"),
    **dict.fromkeys(("bias", "b", "beta"), "bias"),
    **dict.fromkeys(("running_mean", "moving_mean", "mean", "rm"), "running_mean"),
    **dict.fromkeys(
        ("running_var", "moving_variance", "moving_var", "variance", "var", "riv"), "running_var"
    ),
    "num_batches_tracked": "num_batches_tracked",
}
_LEAF = re.compile(rf"(?:^|(?<=[./_:]))(?P<leaf>{'|'.join(LEAVES)})(?::0)?$")
_WORD = re.compile(r"[0-9]{1,9}|[^\W0-9_]+")
_LONGEST = 40  # words of a name; nobody nests deeper
_COUNTERS = {"n_averaged", "num_updates", "decay", "lr", "total_ops", "total_params"}
_QUEUES = {"queue", "queue2", "queue_ptr"}
# Compilers and parallel wrappers put these anywhere into a name. MXNet begins each with the list
# that it is from, whereby the means and variances of norms stand apart from their weights.
_WRAPPERS = re.compile(r"^(arg|aux):|(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


@dataclass(frozen=True)
class Module:
    """Tensors of one module."""

    name: str
    kind: Kind
    shape: tuple[int, ...]  # convolution (out, in, height, width), norm (channels,), (out, in)
    keys: Mapping[str, str]  # our leaf -> their key
    place: int  # among the modules of the file
    # By our leaves, too
    values: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def words(self) -> Words:
        """The words and numbers of its name."""
        return words(self.name)

    @property
    def biased(self) -> bool:
        """Whether it has a bias."""
        return "bias" in self.keys


def words(name: str) -> Words:
    """Return a name's words and numbers, without what separates them."""
    found = [match[0] for match in islice(_WORD.finditer(name), _LONGEST)]
    return tuple(int(word) if word[0] in "0123456789" else word for word in found)


def bare(key: str) -> str:
    """Return a key without what compilers, parallel wrappers and MXNet put into it."""
    return _WRAPPERS.sub("", key)


def is_counter(key: str, tensor: Tensor) -> bool:
    """Tell what counts or waits in training, and is no part of a network at inference."""
    last = key.rpartition(".")[2]
    return last in _QUEUES or (last in _COUNTERS and tensor.numel() <= 1)


def split(key: str) -> tuple[str, str]:
    """Return the module that a key belongs to, and our word for the part of it that it is."""
    plain = bare(key)
    match = _LEAF.search(plain)
    return (
        (plain[: match.start()].rstrip("./_:"), LEAVES[match["leaf"]]) if match else (key, "value")
    )


def in_torchs_order(key: str, tensor: Tensor) -> Tensor:
    """Return a tensor with its axes as torch has them; TensorFlow's kernels end in (in, out)."""
    if tensor.ndim not in (2, 4) or not key.removesuffix(":0").endswith("kernel"):
        return tensor
    return tensor.permute(-1, -2, *range(tensor.ndim - 2))


def group(tensors: Mapping[str, Tensor]) -> list[Module]:
    """Return the modules that tensors, which have torch's layouts, belong to, in their order."""
    parts: dict[str, dict[str, str]] = {}
    for key in tensors:
        name, leaf = split(key)
        if leaf in parts.get(name, {}):
            name, leaf = key, "value"
        parts.setdefault(name, {})[leaf] = key
    return [_module(name, keys, tensors, place) for place, (name, keys) in enumerate(parts.items())]


def _module(name: str, keys: dict[str, str], tensors: Mapping[str, Tensor], place: int) -> Module:
    key = keys.get("weight", "")
    shape = tuple(tensors[key].shape) if key else ()
    values = {leaf: tensors[key] for leaf, key in keys.items()}
    if not all(shape):
        return Module(name, "other", shape, keys, place)
    if len(shape) in (2, 3, 4):
        kind: Kind = "linear" if len(shape) == 2 else "conv"
        return Module(name, kind, shape, keys, place, values)
    sizes = {tuple(tensors[k].shape) for leaf, k in keys.items() if leaf != "num_batches_tracked"}
    several = len(keys.keys() - {"num_batches_tracked", "value"}) > 1
    if several and len(sizes) == 1 and len(size := sizes.pop()) == 1:
        return Module(name, "norm", size, keys, place, values)
    return Module(name, "other", shape, keys, place)


def is_alphabetical(modules: Sequence[Module]) -> bool:
    """Tell modules sorted by name, or by the keys they begin with: no network's order."""
    for names in ([m.name for m in modules], [next(iter(m.keys.values())) for m in modules]):
        numbered = [tuple(map(_natural, words(name))) for name in names]
        if names == sorted(names) or numbered == sorted(numbered):
            return True
    return False


def _natural(word: str | int) -> tuple[int, str]:
    return (word, "") if isinstance(word, int) else (-1, word)


def in_order(modules: Iterable[Module]) -> list[Module]:
    """Return modules with what differs in a number sorted by it, and the rest as it comes."""
    return [module for _, module in _sorted([(module.words, module) for module in modules])]


def _sorted(entries: list[tuple[Words, Module]]) -> list[tuple[Words, Module]]:
    """Sort by numbers (and by a, b, c where they are the first letters) at each word in turn."""
    groups: dict[str | int | None, list[tuple[Words, Module]]] = {}
    for rest, module in entries:
        groups.setdefault(rest[0] if rest else None, []).append((rest[1:], module))
    if len(groups) == 1 and None in groups:
        return entries
    letters = sorted(w for w in groups if isinstance(w, str) and len(w) == 1)
    ordinal = letters if letters == list("abcdefgh"[: len(letters)]) else []
    result: list[tuple[Words, Module]] = []
    numbers = sorted(word for word in groups if isinstance(word, int))
    turns = iter(numbers), iter(ordinal)
    order = [
        next(turns[0]) if word in numbers else next(turns[1]) if word in ordinal else word
        for word in groups
    ]
    for word in order:
        result += groups[word] if word is None else _sorted(groups[word])
    return result
