"""From the tree of a checkpoint to the tensors that hold a network, and words about the choice."""

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from resnets.errors import CheckpointError
from resnets.weights.state_dict import StateDict
from resnets.weights.structure.tensor_modules import LEAVES, is_counter

_DEEPEST = 4  # "0.0.model.teacher"

# What training frameworks call the network and its running average.
_PLAIN = [
    *("state_dict", "model", "model_state", "model_state_dict", "net", "net_state_dict", "network"),
    *("params", "weights", "blobs", "module", "teacher", "student", "backbone", "encoder"),
]
AVERAGED = [
    *("ema", "state_dict_ema", "model_ema", "ema_state", "ema_state_dict", "ema_model"),
    *("model_ema_state_dict", "params_ema", "ema_model_state_dict"),
]

# Below these keys there are tensors, but no network.
_NOT_A_NETWORK = re.compile(
    r"^state$|(^|_)(optim|lr_|sched|scaler|amp$|args$|arguments|hyper|config|cfg|epoch|iter|step|"
    r"rng|random|loops$|callbacks$|message_hub|meta$|logger|history|best_acc|metric)",
    re.IGNORECASE,
)
_MOMENTUM = "_momentum"  # Caffe2 keeps the optimizer's beside the weights

_Set = tuple[tuple[str, ...], dict[str, Tensor]]


def unwrap(tree: Any, *, container: str | None = None, ema: bool = False) -> StateDict:
    """Return the tensors in ``tree`` that hold the network, under their own names.

    ``container`` chooses where there are several: a key, keys joined
    with dots ("model.teacher"), or what names in one begin with ("encoder_k"). With ``ema`` the
    running average of the weights is taken, which otherwise yields to the weights themselves.
    Raises CheckpointError where there are no tensors, or more sets than one and none is chosen.
    """
    found = list(_networks(tree, (), set()))
    if not found:
        if isinstance(tree, list) and any(isinstance(value, Tensor) for value in tree):
            raise CheckpointError(
                f"a list of {len(tree)} arrays, which have no names",
                hint="give the file that holds them by name: a state dict, or a whole model",
            )
        raise CheckpointError(
            f"there are no weights in it{_keys_in_words(tree)}",
            hint="give the file that holds the network's state dict",
        )
    place, tensors, prefix = _choose(found, (container or "").strip("."), ema)
    momenta = [key for key in tensors if key.endswith(_MOMENTUM)]
    counters = [key for key, tensor in tensors.items() if is_counter(key, tensor)]
    aside = {*momenta, *counters}
    passed_over = [".".join(other) for other, _ in found if other != place and other]
    words = [_in_words(".".join(place), passed_over), _author(tree)]
    return StateDict(
        {key: tensor for key, tensor in tensors.items() if key not in aside},
        container=", ".join(word for word in words if word),
        prefix=prefix,
        ignored=(*_beside(tree, place), *momenta, *counters),
    )


def _networks(tree: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[_Set]:
    """Yield every dict that may be a network, and the keys that lead to it."""
    if len(place) > _DEEPEST or not isinstance(tree, dict | list) or id(tree) in seen:
        return
    seen.add(id(tree))
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    if isinstance(tree, dict) and (modules := _module_tree(tree)):
        yield place, modules
        return
    if isinstance(tree, dict):
        tensors = {k: t for k, t in tree.items() if isinstance(k, str) and isinstance(t, Tensor)}
        if any(tensor.ndim and tensor.is_floating_point() for tensor in tensors.values()):
            yield place, tensors
    for key, value in entries:
        known = key in _PLAIN or key in AVERAGED
        if known or not (isinstance(key, str) and _NOT_A_NETWORK.search(key)):
            yield from _networks(value, (*place, str(key)), seen)


def _module_tree(tree: dict[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors of a dict of modules, as flax nests them, under names joined with dots.

    Weights and statistics lie in two such dicts there, under the same names.
    """
    roots = [tree[key] for key in ("params", "batch_stats") if isinstance(tree.get(key), dict)]
    found: dict[str, Tensor] = {}
    count = 0
    for root in roots or [tree]:
        left = [("", root)]
        while left:
            path, inner = left.pop(0)
            tensors = {key: value for key, value in inner.items() if isinstance(value, Tensor)}
            dicts = [(f"{path}{key}.", v) for key, v in inner.items() if isinstance(v, dict)]
            odd = len(tensors) + len(dicts) < len(inner) or not tensors.keys() <= LEAVES.keys()
            if odd or (tensors and not path):
                return {}
            count += bool(tensors)
            found |= {f"{path}{key}": tensor for key, tensor in tensors.items()}
            left = dicts + left
    return found if count > 2 else {}


def _choose(found: list[_Set], chosen: str, ema: bool) -> tuple[Any, dict[str, Tensor], str]:
    """Return the place and the tensors of the network, and what is left to choose of its keys."""
    if chosen:
        for place, tensors in sorted(found, key=lambda each: -len(each[0])):
            path = ".".join(place)
            if path == chosen:
                return place, tensors, ""
            if path and chosen.startswith(f"{path}."):
                return place, tensors, chosen.removeprefix(f"{path}.")
        all_ = _names(found)
        # Not a container: it may be what keys in one begin with.
        begun = [
            (place, tensors)
            for place, tensors in found
            if any(f".{key}".find(f".{chosen}.") >= 0 for key in tensors)
        ]
        bare = [each for each in found if not each[0]]  # whose networks are looked for later
        found = begun or (bare if len(found) == 1 else [])
        if not found:
            raise CheckpointError(
                f"there is no {chosen} in it", hint=f"there are weights in: {all_}"
            )
    least = min(_rank(network, ema) for network in found)
    best = [network for network in found if _rank(network, ema) == least]
    # A student of another kind than its teacher is not what the teacher is an average of.
    pupils = [each for each in found if each[0][-1:] == ("student",)]
    best += [each for each in pupils if each not in best and _sizes(each) != _sizes(best[0])]
    if ema and not _is_averaged(best[0][0]):
        raise CheckpointError(
            "there is no running average of the weights in it", hint="leave ema out"
        )
    if len(best) > 1 and not _are_same(best):
        raise CheckpointError(
            f"it holds several networks: {_names(best)}",
            hint=f'choose one of them: container="{".".join(best[0][0])}"',
        )
    return *best[0], chosen


def _names(found: list[_Set]) -> str:
    return ", ".join(".".join(place) or "the file's own keys" for place, _ in found)


def _rank(network: _Set, ema: bool) -> int:
    """Return how unlikely it is that ``network`` is the one that is wanted."""
    place, tensors = network
    if all(tensor.ndim < 2 for tensor in tensors.values()):
        return 9  # a mean or a list of losses
    if _is_averaged(place):
        return -1 if ema else 3
    names = [word for word in place if not word.isdigit()]
    if not names:
        # Bare tensors beside a state dict are statistics; in a list they are a state dict.
        return 0 if place else 2
    if names[-1] == "student":
        return 1  # the teacher is the average that DINO's authors publish
    return 0 if names[-1] in _PLAIN else 4


def _sizes(network: _Set) -> list[tuple[int, ...]]:
    """Return the shapes of the convolutions, in an order of their own; heads may differ."""
    return sorted(tuple(tensor.shape) for tensor in network[1].values() if tensor.ndim == 4)


def _is_averaged(place: tuple[str, ...]) -> bool:
    return any(word in AVERAGED for word in place)


def _are_same(networks: list[_Set]) -> bool:
    """Tell whether several containers hold the very same tensors."""
    first = networks[0][1]
    return all(
        tensors.keys() == first.keys() and all(tensors[key] is first[key] for key in first)
        for _, tensors in networks
    )


def _beside(tree: Any, place: tuple[str, ...]) -> list[str]:
    """Return the keys on the way to ``place`` that were passed by, and what is no tensor there."""
    passed = []
    for depth, word in enumerate(place):
        before = "".join(f"{key}." for key in place[:depth])
        keys = tree if isinstance(tree, dict) else range(len(tree))
        passed += [f"{before}{key}" for key in keys if str(key) != word]
        tree = next(tree[key] for key in keys if str(key) == word)
    before = "".join(f"{key}." for key in place)
    passed += [f"{before}{key}" for key, value in tree.items() if not isinstance(value, Tensor)]
    return passed


def _in_words(place: str, passed_over: list[str]) -> str:
    return f"{place} (not {', '.join(passed_over)})" if passed_over and place else place


def _author(tree: Any) -> str:
    author = tree.get("__author__") if isinstance(tree, dict) else None
    return f"by {author[:50]}" if isinstance(author, str) and author.isprintable() else ""


def _keys_in_words(tree: Any) -> str:
    if not isinstance(tree, dict) or not tree:
        return ""
    keys = ", ".join(str(key)[:30] for key in list(tree)[:8])
    return f" (its keys: {keys}{', …' if len(tree) > 8 else ''})"
