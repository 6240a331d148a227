"""Which norm belongs to which convolution: behind it, or before it in pre-activation nets."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from resnets.weights.structure.cutting import ITS_NORM, PROJECTION, shared
from resnets.weights.structure.moments import by_means, chained, decided
from resnets.weights.structure.roles import Undecided
from resnets.weights.structure.tensor_modules import Module, Words, in_order

Named = dict[str, Module]  # role in a block -> convolution
_STEM_NORMS = {1: ("bn1",), 3: ("conv1.1", "conv1.4", "bn1")}


Slot = tuple[str, int]  # where a net has a norm: its name among our modules, and its channels


@dataclass(frozen=True)
class Places:
    """The convolutions of a network, whose norms are looked for."""

    stem: Sequence[Module]
    blocks: Sequence[Named]
    names: Sequence[str]  # of the blocks in our words
    prefixes: Sequence[Words] | None  # of the blocks in the file
    ordered: bool  # whether the order in the file is evidence


@dataclass(frozen=True)
class Norms:
    """Norms in their places."""

    preactivated: bool
    modules: dict[str, Module]  # our module -> theirs
    rest: tuple[Module, ...]  # the others
    contradiction: str = ""  # where names say something else than the order in the file


def place_norms(net: Places, norms: Sequence[Module], preactivated: bool | None = None) -> Norms:
    """Give every norm its place in one of the two orders.

    ``preactivated`` decides where both are possible. Raises Undecided, with the reason, where
    neither is possible, or both and nothing decides.
    """
    found, reasons = [], []
    for pre in (False, True):
        try:
            found.append(_placed(net, norms, pre))
        except Undecided as reason:
            reasons.append(str(reason))
    if not found:
        raise Undecided(reasons[0])
    fewest = min(len(norms.rest) for norms in found)
    found = [norms for norms in found if len(norms.rest) == fewest]
    if len(found) > 1 and preactivated is not None:
        found = [norms for norms in found if norms.preactivated == preactivated]
    if len(found) > 1:
        scores = [_chained(net, norms) for norms in found]
        if decided(scores):
            found = [found[scores.index(max(scores))]]
    if len(found) > 1:
        raise Undecided("its norms may stand before or behind the convolutions: nothing tells")
    return found[0]


def _chained(net: Places, norms: Norms) -> float:
    """Return how well the means that the norms have stored follow from each other."""
    blocks = zip(net.names, map(_main, net.blocks), strict=True)
    rows = [
        (main, [norms.modules.get(f"{name}.bn{i}") for i, _ in enumerate(main, 1)])
        for name, main in blocks
    ]
    whole = [(main, [n for n in row if n]) for main, row in rows if all(row)]
    return mean([chained(main, row, norms.preactivated) for main, row in whole] or [0.0])


def _placed(net: Places, norms: Sequence[Module], pre: bool) -> Norms:
    prefixes = net.prefixes or ()
    inside = [[n for n in norms if n.words[: len(p)] == p] for p in prefixes]
    if not inside or not all(inside):
        return _in_one_row(net, norms, pre)
    if not pre and net.ordered and all(map(_lead, net.blocks, inside)):
        raise Undecided(f"{inside[0][0].name} stands before its convolution")
    taken = {norm.place for own in inside for norm in own}
    outside = [norm for norm in norms if norm.place not in taken]
    activated = pre and len(inside[0]) == len(_main(net.blocks[0])) - 1  # by the stem already
    modules = _outside(net, outside, pre, activated)
    alone = {
        norm.words[len(prefix) :]
        for block, own, prefix in zip(net.blocks, inside, prefixes, strict=True)
        if PROJECTION not in block
        for norm in own
    }
    contradictions = []
    places: dict[Words, str] = {}
    for k, (block, own) in enumerate(zip(net.blocks, inside, strict=True)):
        length = len(prefixes[k])
        placed = _in_block(block, own, pre, k == 0 and activated, alone, length, net.ordered)
        contradictions.append(_contradiction(block, own, placed, pre))
        for name, norm in placed.items():
            if places.setdefault(norm.words[length:], name) != name:
                raise Undecided(f"{norm.name} has another place than its like in other blocks")
        modules |= {f"{net.names[k]}.{name}": norm for name, norm in placed.items()}
    used = {norm.place for norm in modules.values()}
    doubt = contradictions[0] if all(contradictions) else ""
    return Norms(pre, modules, tuple(n for n in norms if n.place not in used), doubt)


def _lead(block: Named, norms: Sequence[Module]) -> bool:
    """Tell whether each convolution of a block follows a norm in the file, and the first no other.

    Behind their convolutions nobody lists norms so; the other way round some do.
    """
    order = sorted([*_main(block), *norms], key=lambda module: module.place)
    return [module.kind for module in order] == ["norm", "conv"] * len(_main(block))


def _main(block: Named) -> list[Module]:
    return [block[role] for role in ("conv1", "conv2", "conv3") if role in block]


def _in_block(
    block: Named,
    norms: Sequence[Module],
    pre: bool,
    activated: bool,
    alone: set[Words],
    own: int,
    ordered: bool,
) -> Named:
    """Return our name -> norm of one block. ``alone``: the signs of norms without a projection."""
    main, projection = _main(block), block.get(PROJECTION)
    result: Named = {}
    left = list(norms)
    if not pre and projection and len(left) == len(main) + 1:
        norm = _of_projection(block, left, alone, own)
        left.remove(norm)
        result[ITS_NORM] = norm
    skipped = int(activated)
    if len(left) != len(main) - skipped:
        raise Undecided(_odd(norms, f"{len(norms)} norms beside {len(main)} convolutions"))
    wanted = [
        layer.shape[1] * _groups(i, main) if pre else layer.shape[0] for i, layer in enumerate(main)
    ][skipped:]
    placed = _by_kinship(main[skipped:], left, own) or _by_order(main, left, ordered, pre)
    for number, (norm, channels) in enumerate(zip(placed, wanted, strict=True), 1 + skipped):
        if norm.shape != (channels,):
            raise Undecided(f"{norm.name} has {norm.shape[0]} channels where {channels} were due")
        result[f"bn{number}"] = norm
    return result


def _by_kinship(main: Sequence[Module], norms: Sequence[Module], own: int) -> list[Module]:
    """Return the norms in the order of convolutions that share words with one of them each."""
    found = []
    for layer in main:
        alike = [shared(layer.words[own:], norm.words[own:]) for norm in norms]
        others = [shared(layer.words[own:], m.words[own:]) for m in main if m is not layer]
        best = max(alike, default=0)
        if best <= max(others, default=0) or alike.count(best) > 1:
            return []
        found.append(norms[alike.index(best)])
    return found if len({norm.place for norm in found}) == len(norms) else []


def _by_order(main: list[Module], norms: list[Module], ordered: bool, pre: bool) -> list[Module]:
    """Return the norms by their numbers, as they come where that is evidence, or by their means."""
    in_file = sorted(main, key=lambda layer: layer.place)
    truthful = main == in_order(in_file)
    if not truthful and not (ordered and main == in_file):
        raise Undecided(f"the numbers at {main[0].name} are not the order of its convolutions")
    alike = len({norm.shape for norm in norms}) < len(norms)
    if alike and not ordered and len({_unnumbered(norm.words) for norm in norms}) > 1:
        if found := by_means(main, norms, pre):
            return found
        raise Undecided(f"which of {' and '.join(n.name for n in norms)} is which is unclear")
    return norms if truthful else sorted(norms, key=lambda norm: norm.place)


def _unnumbered(words: Words) -> Words:
    return tuple("" if isinstance(word, int) or len(word) == 1 else word for word in words)


def _groups(i: int, main: Sequence[Module]) -> int:
    """Return in how many groups a convolution reads its input."""
    return main[i - 1].shape[0] // main[i].shape[1] if i else 1


def _of_projection(block: Named, norms: Sequence[Module], alone: set[Words], own: int) -> Module:
    """Return the norm behind a projection: what only blocks with one have, or what is named so."""
    projection = block[PROJECTION]
    fitting = [norm for norm in norms if norm.shape == (projection.shape[0],)]
    if not fitting:
        raise Undecided(_odd(norms, f"none is as wide as {projection.name}"))
    extra = [norm for norm in fitting if norm.words[own:] not in alone]
    if len(extra) == 1:
        return extra[0]
    others = _main(block)

    def kinship(norm: Module) -> int:
        mine = set(norm.words[own:])
        return len(mine & set(projection.words[own:])) * 2 - max(
            len(mine & set(layer.words[own:])) for layer in others
        )

    kin = sorted(fitting, key=kinship)
    if len(kin) == 1 or kinship(kin[-1]) > kinship(kin[-2]):
        return kin[-1]
    in_file = sorted([*others, projection], key=lambda layer: layer.place)
    return sorted(norms, key=lambda norm: norm.place)[in_file.index(projection)]


def _contradiction(block: Named, norms: Sequence[Module], placed: Named, pre: bool) -> str:
    """Tell where convolutions and norms alternate in the file, but not as they were paired."""
    main = _main(block)
    beside = [*main, *([block[PROJECTION]] if ITS_NORM in placed else [])]
    partners = [*(placed.get(f"bn{i + 1}") for i in range(len(main))), placed.get(ITS_NORM)]
    order = sorted([*beside, *norms], key=lambda module: module.place)
    step = -1 if pre else 1
    alternating = True
    wrong = ""
    for layer, norm in zip(beside, partners, strict=False):
        if norm is None:
            continue
        index = order.index(layer) + step
        neighbour = order[index] if 0 <= index < len(order) else layer
        alternating &= neighbour.kind == "norm"
        if neighbour.place != norm.place and neighbour.shape == norm.shape:
            wrong = wrong or f"{norm.name} by its name, {neighbour.name} by the order in the file"
    named = [norm for norm in partners[: len(main)] if norm]
    if not (alternating and wrong) or by_means(main, named, pre) == named:
        return ""
    return f"the norm beside {beside[0].name} is {wrong}"


def _outside(net: Places, norms: Sequence[Module], pre: bool, activated: bool) -> dict[str, Module]:
    """Return the norms of the stem, and in pre-activation nets the one behind the last addition.

    In those the stem's last convolution has one where it activates itself.
    """
    left, stem = list(norms), net.stem
    modules: dict[str, Module] = {}
    places = [layer.place for block in net.blocks for layer in block.values()]
    # Where channels do not tell the stem's norm from the last one, their order does.
    even = net.ordered and stem[-1].shape[0] == _main(net.blocks[-1])[-1].shape[0]
    if pre:
        wide = _main(net.blocks[-1])[-1].shape[0]
        last = max(layer.place for layer in net.blocks[-1].values())
        tails = [norm for norm in left if norm.shape == (wide,)]
        if even:
            tails = [norm for norm in tails if norm.place > min(places)]
        if not tails:
            raise Undecided("pre-activation blocks without a norm behind the last addition")
        behind = [norm for norm in tails if norm.place > last]
        tail = behind[0] if behind else tails[-1]
        apart = shared(stem[-1].words, net.blocks[0]["conv1"].words)
        if shared(stem[-1].words, tail.words) > apart:
            raise Undecided(f"{tail.name} stands beside the stem, not behind the last addition")
        left.remove(tail)
        modules["norm"] = tail
    for name, layer in zip(_STEM_NORMS[len(stem)], stem, strict=True):
        if pre and name == "bn1" and not activated:
            continue
        fitting = [norm for norm in left if norm.shape == (layer.shape[0],)]
        if even:
            fitting = [norm for norm in fitting if norm.place < max(places)]
        if not fitting:
            raise Undecided(f"there is no norm of {layer.shape[0]} channels beside {layer.name}")
        best = fitting[0]
        if len(stem) == 1:
            best = min(fitting, key=lambda norm: abs(norm.place - layer.place))
        left.remove(best)
        modules[name] = best
    return modules


def _in_one_row(net: Places, norms: Sequence[Module], pre: bool) -> Norms:
    """Pair norms and places one by one, where names do not say which block a norm is in."""
    problem = ""
    for projected in (True, False) if not pre else (False,):
        for stem_norm in (True, False) if pre else (True,):
            row = _row(net, pre, projected, stem_norm)
            if len(row) > len(norms):
                problem = problem or f"{len(norms)} norms for {len(row)} places"
                continue
            pairs = list(zip(row, norms, strict=False))
            wrong = [
                f"{norm.name} has {norm.shape[0]} channels where {channels} were expected"
                for (_, channels), norm in pairs
                if norm.shape != (channels,)
            ]
            if not wrong:
                return Norms(
                    pre, {name: norm for (name, _), norm in pairs}, tuple(norms[len(row) :])
                )
            problem = problem or wrong[0]
    raise Undecided(problem)


def _row(net: Places, pre: bool, projected: bool, stem_norm: bool) -> list[Slot]:
    """Return the places of all norms, in the order in which the file has their convolutions."""
    stem_names = _STEM_NORMS[len(net.stem)]
    row = [(name, layer.shape[0]) for name, layer in zip(stem_names, net.stem, strict=True)]
    if pre and not stem_norm:
        row.pop()
    for k, (block, name) in enumerate(zip(net.blocks, net.names, strict=True)):
        main = _main(block)
        if pre:
            row += [
                (f"{name}.bn{i + 1}", layer.shape[1] * _groups(i, main))
                for i, layer in enumerate(main)
                if i or k or not stem_norm
            ]
            continue
        beside = [(f"bn{i + 1}", layer) for i, layer in enumerate(main)]
        if projected and PROJECTION in block:
            beside.append((ITS_NORM, block[PROJECTION]))
        beside.sort(key=lambda each: each[1].place)
        row += [(f"{name}.{bn}", layer.shape[0]) for bn, layer in beside]
    if pre:
        row.append(("norm", _main(net.blocks[-1])[-1].shape[0]))
    return row


def _odd(norms: Sequence[Module], what: str) -> str:
    return f"{what}, at {norms[0].name}" if norms else what
