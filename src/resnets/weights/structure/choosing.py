"""The one network that is meant among those in a set of tensors, and what stands beside it."""

from dataclasses import replace
from itertools import zip_longest

from resnets.errors import CheckpointError
from resnets.spec import Spec
from resnets.weights.containers import AVERAGED
from resnets.weights.state_dict import StateDict
from resnets.weights.structure.aligning import Alignment, Unaligned
from resnets.weights.structure.networks import find_networks
from resnets.weights.structure.tensor_modules import Module

# Of two networks of one kind in one state dict, these are the other one.
_SECOND = {
    *("encoder_k", "momentum_encoder", "target_encoder", "target_network", "student"),
    *AVERAGED,
}


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
        unexpected=tuple(unexpected),
        strange=tuple(key for m in network.strange for key in m.keys.values()),
        reasons=network.reasons,
        contradiction=network.contradiction,
        undecided=network.undecided,
    )


def _one(networks: list[Alignment], prefix: str, ema: bool) -> tuple[Alignment, str]:
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
    twins = {_kind(n) for n in second} <= {_kind(n) for n in first}
    if twins and len(preferred := second if ema else first) == 1:
        others = [_own_word(n, networks) for n in networks if n is not preferred[0]]
        return preferred[0], f"{_own_word(preferred[0], networks)} (not {', '.join(others)})"
    listed = [network.prefix.rstrip("./") for network in networks]
    raise CheckpointError(
        "it holds several networks in one state dict: "
        + ", ".join(name or "the names without a prefix" for name in listed),
        hint=f'choose one of them: container="{next(name for name in listed if name)}"',
    )


def _kind(network: Alignment) -> frozenset[tuple[str, tuple[int, ...]]]:
    """Return what averages and momentum encoders have in common with a network, and pupils not."""
    return frozenset((k, m.shape) for k, m in network.modules.items() if k != "fc")


def _own_word(network: Alignment, networks: list[Alignment]) -> str:
    """Return the first word of a network's prefix in which it differs from another's."""
    split = [n.prefix.rstrip(".").split(".") for n in networks]
    mine = network.prefix.rstrip(".").split(".")
    differing = (i for i, some in enumerate(zip_longest(*split)) if len(set(some)) > 1)
    return mine[min(next(differing, len(mine)), len(mine) - 1)]


def _groups(
    network: Alignment, others: list[Alignment], rest: list[Module]
) -> tuple[list[str], list[str]]:
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
    strange = network.strange
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
