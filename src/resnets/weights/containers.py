"""From the tree of a checkpoint to the tensors of one network, and words about the choice."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from resnets.errors import CheckpointError
from resnets.readers.paths import at
from resnets.spec import Spec
from resnets.weights.state_dict import StateDict
from resnets.weights.structure.aligning import Unaligned
from resnets.weights.structure.networks import Found, find_networks
from resnets.weights.structure.tensor_modules import LEAVES, Module, is_counter

_DEEPEST = 4  # "0.0.model.teacher"

# What training frameworks call the network and its running average.
_PLAIN = [
    *("state_dict", "model", "model_state", "model_state_dict", "net", "net_state_dict", "network"),
    *("params", "weights", "blobs", "module", "teacher", "student", "backbone", "encoder"),
]
_AVERAGED = [
    *("ema", "state_dict_ema", "model_ema", "ema_state", "ema_state_dict", "ema_model"),
    *("model_ema_state_dict", "params_ema", "ema_model_state_dict"),
]

# Below these keys there are tensors, but no network.
_NOT_A_NETWORK = re.compile(
    r"^state$|(^|_)(optim|lr_|sched|scaler|amp$|args$|arguments|hyper|config|cfg|epoch|iter|step|"
    r"rng|random|loops$|callbacks$|message_hub|meta$|logger|history|best_acc|metric)",
    re.IGNORECASE,
)
# Of two networks of one kind in one state dict, these are the other one.
_SECOND = {
    *("encoder_k", "momentum_encoder", "target_encoder", "target_network", "student"),
    *("model_ema", "ema_model", "ema"),
}
_MOMENTUM = "_momentum"  # Caffe2 keeps the optimizer's beside the weights

_Set = tuple[tuple[str, ...], dict[str, Tensor]]


def unwrap(
    tree: Any, path: str | Path, *, container: str | None = None, ema: bool = False
) -> StateDict:
    """Return the tensors in ``tree`` that hold the network, under their own names.

    ``path`` is for messages only. ``container`` chooses where there are several: a key, keys joined
    with dots ("model.teacher"), or what names in one begin with ("encoder_k"). With ``ema`` the
    running average of the weights is taken, which otherwise yields to the weights themselves.
    Raises CheckpointError where there are no tensors, or more sets than one and none is chosen.
    """
    try:
        return _unwrap(tree, container or "", ema)
    except CheckpointError as error:
        raise at(path, error) from None


def _unwrap(tree: Any, chosen: str, ema: bool) -> StateDict:
    found = list(_networks(tree, (), set()))
    if not found:
        raise CheckpointError(
            f"there are no weights in it{_keys_in_words(tree)}",
            hint="give the file that holds the network's state dict",
        )
    place, tensors, prefix = _choose(found, chosen.strip("."), ema)
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


def choose_network(state: StateDict, *, ema: bool = False, spec: Spec | None = None) -> StateDict:
    """Return the state of the one network among a state's tensors, with the place of each.

    Where there are several, the state's ``prefix`` chooses, then ``ema``, then the names of
    averages and momentum encoders, which stand back. Raises CheckpointError where there is none,
    or several are left.
    """
    tensors = state.tensors
    try:
        networks, rest = find_networks(tensors, spec)
    except Unaligned as reason:
        some = ", ".join(f'"{key}"' for key in list(tensors)[:3])
        raise CheckpointError(
            f"its {len(tensors)} tensors are no residual network that a spec describes: {reason}",
            hint=f"its names are {some} and so on; `resnets models` lists the nets that are here",
        ) from None
    network, chosen = _one(networks, state.prefix, ema)
    others = [other for other in networks if other is not network]
    ignored, unexpected = _groups(network, others, rest)
    names = {
        f"{name}.{leaf}": key
        for name, module in network.modules.items()
        for leaf, key in module.keys.items()
    }
    return replace(
        state,
        container=", ".join(word for word in (state.container, chosen) if word),
        prefix=network.prefix,
        ignored=(*state.ignored, *ignored),
        sources=names,
        unexpected={key: tensors[key].ndim for key in unexpected},
        strange=tuple(key for m in network.alignment.strange for key in m.keys.values()),
        modules={name: module.name for name, module in network.modules.items()},
        reasons=network.alignment.reasons,
        contradiction=network.alignment.contradiction,
        undecided=network.alignment.undecided,
    )


def _one(networks: list[Found], prefix: str, ema: bool) -> tuple[Found, str]:
    """Return the network that is meant, and the choice in words."""
    names = [network.prefix.rstrip("./") for network in networks]
    if prefix:
        meant = [
            [n for n, name in zip(networks, names, strict=True) if fits(name)]
            for fits in (
                lambda name: name == prefix,
                lambda name: f".{name}.".startswith(f".{prefix}."),
                lambda name: f".{prefix}." in f".{name}.",
            )
        ]
        networks = next((some for some in meant if some), [])
        if not networks:
            raise CheckpointError(
                f"no network in it begins with {prefix}",
                hint=f"there are networks below {', '.join(name or '(nothing)' for name in names)}",
            )
    if len(networks) == 1:
        return networks[0], prefix
    second = [n for n in networks if _SECOND & set(n.prefix.strip(".").split("."))]
    first = [n for n in networks if n not in second]
    if len(preferred := second if ema else first) == 1:
        others = [_own_word(n, networks) for n in networks if n is not preferred[0]]
        return preferred[0], f"{_own_word(preferred[0], networks)} (not {', '.join(others)})"
    listed = [network.prefix.rstrip("./") for network in networks]
    raise CheckpointError(
        "it holds several networks in one state dict: "
        + ", ".join(name or "the names without a prefix" for name in listed),
        hint=f'choose one of them: container="{next(name for name in listed if name)}"',
    )


def _own_word(network: Found, networks: list[Found]) -> str:
    """Return the first word of a network's prefix in which it differs from another's."""
    split = [n.prefix.rstrip(".").split(".") for n in networks]
    mine = network.prefix.rstrip(".").split(".")
    shared = 0
    while shared < len(mine) - 1 and len({tuple(s[: shared + 1]) for s in split}) == 1:
        shared += 1
    return mine[shared]


def _groups(network: Found, others: list[Found], rest: list[Module]) -> tuple[list[str], list[str]]:
    """Return in words what stands beside a network, and the keys of what may have been meant."""
    ignored = []
    for other in others:
        count = sum(len(module.keys) for module in other.modules.values())
        ignored.append(f"{other.prefix.rstrip('.')} ({count} tensors)")
    above = network.prefix.rstrip(".").rpartition(".")[0]
    parts: dict[str, list[Module]] = {}
    for module in rest:
        own = module.name.startswith(network.prefix)
        base = network.prefix if own else f"{above}." if above else ""
        start = base if module.name.startswith(base) else ""
        parts.setdefault(start + module.name[len(start) :].partition(".")[0], []).append(module)
    strange = network.alignment.strange
    unexpected = [key for module in strange for key in module.keys.values()]
    for name, modules in parts.items():
        modules = [module for module in modules if module not in strange]
        keys = [key for module in modules for key in module.keys.values()]
        if not keys:
            continue
        if any(m.kind == "conv" for m in modules) or not any(m.kind == "linear" for m in modules):
            ignored.append(f"{name} ({len(keys)} tensors)" if len(keys) > 1 else keys[0])
        else:
            unexpected += keys
    return ignored, unexpected


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
        known = key in _PLAIN or key in _AVERAGED
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
        # Not a container: it may be what keys in one begin with.
        found = [
            (place, tensors)
            for place, tensors in found
            if any(f".{key}".find(f".{chosen}.") >= 0 for key in tensors)
        ] or _no_such_container(found, chosen)
    least = min(_rank(network, ema) for network in found)
    best = [network for network in found if _rank(network, ema) == least]
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


def _no_such_container(found: list[_Set], chosen: str) -> list[_Set]:
    raise CheckpointError(
        f"there is no {chosen} in it", hint=f"there are weights in: {_names(found)}"
    )


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


def _is_averaged(place: tuple[str, ...]) -> bool:
    return any(word in _AVERAGED for word in place)


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
