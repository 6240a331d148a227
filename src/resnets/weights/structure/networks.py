"""The residual networks in one set of named tensors, and the classifier that belongs to each."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from torch import Tensor

from resnets.spec import Spec
from resnets.weights.structure.aligning import MAIN, Alignment, Unaligned, align
from resnets.weights.structure.cutting import shared
from resnets.weights.structure.tensor_modules import Module, group

_CLASSIFIERS = {"fc", "classifier", "head", "linear", "logits", "predictions", "output", "dense"}


def find_networks(
    tensors: Mapping[str, Tensor], spec: Spec | None = None
) -> tuple[list[Alignment], list[Module]]:
    """Return the networks, each with its classifier where it has one, and all other modules.

    Raises Unaligned, with what stands in the way of the one that comes nearest, where there is
    none.
    """
    modules = group(tensors)
    networks = _whole(_search(modules, spec), modules)
    used = {module.place for network in networks for module in network.modules.values()}
    rest = [module for module in modules if module.place not in used]
    networks = [_with_classifier(network, networks, rest) for network in networks]
    networks = [_with_lost_blocks(network, rest) for network in networks]
    used |= {n.modules["fc"].place for n in networks if "fc" in n.modules}
    return networks, [module for module in rest if module.place not in used]


def _whole(networks: list[Alignment], modules: Sequence[Module]) -> list[Alignment]:
    """Return the networks without those that are part of one which is none of ours.

    In ShuffleNet and Xception a stage begins as a network of one channel does: each of its
    channels is read by itself. Raises Unaligned where nothing else is left.
    """
    placed = {module.place for network in networks for module in network.modules.values()}
    free = [m.place for m in modules if m.kind == "conv" and m.place not in placed]
    found = []
    for network in networks:
        layers = [m for m in network.modules.values() if m.kind == "conv" and m.shape[2:] != (1, 1)]
        alone = all(module.shape[1:2] == (1,) for module in layers)
        if not (alone and min(free, default=layers[0].place) < layers[0].place):
            found.append(network)
    if not found:
        stem = next(iter(networks[0].modules.values()))
        raise Unaligned(f"{stem.name} {stem.shape} reads each channel by itself: it is no stem")
    return found


def _search(modules: Sequence[Module], spec: Spec | None) -> list[Alignment]:
    """Return the networks among modules: all of them as one, or those below each first word."""
    if sum(module.kind == "conv" for module in modules) < 3:
        raise Unaligned("there are too few convolutions for one")
    try:
        found = align(modules, spec)
    except Unaligned as error:
        return _search_below(modules, spec, error)
    if any(module.kind == "conv" for module in found.strange):  # unless it is another network's
        with suppress(Unaligned):
            below = _search_below(modules, spec, Unaligned(""))
            if not any(network.strange for network in below):
                return below
    with suppress(Unaligned):
        return [found, *_search([m for m in found.rest if m not in found.strange], spec)]
    return [found]


def _search_below(
    modules: Sequence[Module], spec: Spec | None, nearest: Unaligned
) -> list[Alignment]:
    names = [module.words for module in modules]
    start = min(shared(names[0], other) for other in names)
    groups: dict[object, list[Module]] = {}
    for module in modules:
        word = module.words[start] if start < len(module.words) else None
        groups.setdefault(word, []).append(module)
    found: list[Alignment] = []
    if len(groups) > 1:
        for below in groups.values():
            try:
                found += _search(below, spec)
            except Unaligned as error:
                nearest = max(nearest, error, key=lambda each: each.explained)
    if not found or _lost_norms(found, modules):
        raise nearest
    return found


def _lost_norms(networks: Sequence[Alignment], modules: Sequence[Module]) -> bool:
    """Tell whether a network without norms may have them among what is in none of the networks.

    Their places were not found, as where convolutions and norms have a list each.
    """
    placed = {module.place for network in networks for module in network.modules.values()}
    lost = sum(module.kind == "norm" and module.place not in placed for module in modules)
    return any(
        lost > sum(name.endswith(".conv1") for name in network.modules)
        and all(module.kind != "norm" for module in network.modules.values())
        for network in networks
    )


def _with_classifier(
    network: Alignment, networks: Sequence[Alignment], rest: Sequence[Module]
) -> Alignment:
    """Return the network with its classifier: the one matrix that reads the last stage.

    Where another matrix, a norm or a convolution may stand between the two, nothing is taken.
    """
    width, own = network.width, network.words
    foreign = tuple(n.prefix for n in networks if n is not network and n.prefix)
    beside = [m for m in rest if not (foreign and m.name.startswith(foreign))]
    readers = [module for module in beside if _reads(module, width)]
    nearest = max((shared(module.words, own) for module in readers), default=0)
    heads = [module for module in readers if shared(module.words, own) == nearest]
    if len(heads) > 1:
        heads = [m for m in heads if _CLASSIFIERS & {str(word).lower() for word in m.words}]
    others = [module for module in beside if module not in heads[:1]]
    if nearest == len(own):  # within the network, where other parts do not reach
        others = [module for module in others if shared(module.words, own) == nearest]
    if len(heads) != 1 or any(_stands_between(m, heads[0], width) for m in others):
        return network
    return replace(
        network,
        modules={**network.modules, "fc": heads[0]},
        reasons={**network.reasons, "fc": f"the one matrix that reads {width} channels"},
        strange=tuple(m for m in network.strange if m is not heads[0]),
    )


def _with_lost_blocks(network: Alignment, rest: Sequence[Module]) -> Alignment:
    """Return the network with, as strange, blocks of its own beside it.

    Their convolutions are called like its blocks', and change no channels: where they belong in the
    row nothing tells, and without them it is another network.
    """
    widths = {m.shape[0] for m in network.modules.values() if m.kind == "conv"}
    blocks: dict[str, list[str]] = {}
    for name, module in network.modules.items():
        if MAIN.fullmatch(name):
            blocks.setdefault(name.rpartition(".")[0], []).append(module.name.rpartition(".")[2])
    called = [names for names in blocks.values() if not any(name.isdigit() for name in names)]
    beside: dict[str, list[Module]] = {}
    for module in rest:
        if module.name.startswith(network.prefix) and module not in network.strange:
            beside.setdefault(module.name.rpartition(".")[0], []).append(module)
    lost: list[Module] = []
    for modules in beside.values():
        main = [module for module in modules if module.kind == "conv"]
        if [module.name.rpartition(".")[2] for module in main] in called:
            reads, writes = main[0].shape[1], main[-1].shape[0]
            lost += modules if reads == writes and reads in widths else ()
    return replace(network, strange=(*network.strange, *lost))


def _reads(module: Module, width: int) -> bool:
    if module.kind == "conv":
        return len(module.shape) == 4 and module.shape[1:] == (width, 1, 1)
    return module.kind == "linear" and width in module.shape


def _stands_between(module: Module, head: Module, width: int) -> bool:
    """Tell whether a module may stand before a classifier, or behind what is none then."""
    if head.kind == "conv" and module.kind == "conv":
        return True  # a part of a detector or segmenter: one of many
    if module.kind == "linear":
        return module.shape[0] == width or module.shape[1] == head.shape[0]
    return module.kind in ("conv", "norm") and module.shape[0] == width
