"""One network's modules -> ours: stem, stages and blocks, norms, attention, classifier."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from os.path import commonprefix

from resnets.spec import POOLING, Spec
from resnets.weights.structure.cutting import ITS_NORM, PROJECTION, Cut, block_prefixes, cut, shared
from resnets.weights.structure.norm_places import Norms, Places, place_norms
from resnets.weights.structure.roles import Undecided, assign
from resnets.weights.structure.tensor_modules import Module, Words, in_order, is_alphabetical

_STEMS = {1: ("conv1",), 3: ("conv1.0", "conv1.3", "conv1.6")}
MAIN = re.compile(r"layer\d+\.\d+\.conv\d")  # a convolution on the main path of a block of ours
# What begins so is part of a network, wherever it stands in a file.
_PARTS = {"conv", "bn", "norm", "stem", "maxpool", "layer", "layers", "stage", "stages", "block"}


class Unaligned(Exception):
    """Modules that make no residual network; ``explained`` of them would."""

    def __init__(self, reason: str, explained: int = 0) -> None:
        super().__init__(reason)
        self.explained = explained


@dataclass(frozen=True)
class Alignment:
    """Which module of theirs is which of ours."""

    modules: dict[str, Module]
    reasons: dict[str, str]  # our module -> what decided it
    rest: tuple[Module, ...]  # what stands beside the network
    contradiction: str = ""  # between names and order
    undecided: tuple[str, ...] = ()  # fields of the spec that neither names nor order show
    strange: tuple[Module, ...] = ()  # of the rest, what stands within the network, unexplained

    @property
    def width(self) -> int:
        """Channels of the last stage."""
        return [m for name, m in self.modules.items() if MAIN.fullmatch(name)][-1].shape[0]

    @property
    def prefix(self) -> str:
        """What all names but the classifier's begin with, as text up to a dot or a slash."""
        modules = [module for name, module in self.modules.items() if name != "fc"]
        keys = [key for module in modules for key in module.keys.values()]
        text = commonprefix(keys)  # noqa: RUF071  (of letters)
        return text[: max(text.rfind("."), text.rfind("/")) + 1]

    @property
    def words(self) -> Words:
        """What all names but the classifier's begin with."""
        names = [module.words for name, module in self.modules.items() if name != "fc"]
        return names[0][: min(shared(names[0], other) for other in names)]


def align(modules: Sequence[Module], spec: Spec | None = None) -> Alignment:
    """Return the residual network that modules make, in the file's order or by their numbers.

    ``spec``, of the net that they are for, decides where nothing else tells. Raises Unaligned, with
    the reason, where they make none.
    """
    convolutions = in_order([m for m in modules if m.kind == "conv" and len(m.shape) == 4])
    if len(convolutions) < 3:
        raise Unaligned("there are no convolutions" if not convolutions else "too few convolutions")
    convolutions = _without_classifier(convolutions)
    asked = spec.block if spec else None
    found = cut(convolutions, asked)
    last = max(module.place for module in convolutions)
    matrices = {m.place for m in modules if m.kind == "linear"}
    if sum(place < last for place in matrices) > 1:  # squeezing and exciting
        places = matrices | {module.place for module in convolutions}
        both = in_order([module for module in modules if module.place in places])
        with_matrices = cut([_as_convolution(module) for module in both], asked)
        if with_matrices and "se.fc1" in with_matrices.extras:
            found = with_matrices
    if found is None or len(found.runs) < 1 + bool(found.rest):
        raise Unaligned(_no_blocks(convolutions, found), len(found.runs) if found else 0)
    try:
        return _aligned(found, convolutions, modules, spec)
    except Undecided as reason:
        explained = sum(len(run.convolutions) for run in found.runs)
        raise Unaligned(str(reason), explained) from None


def _without_classifier(convolutions: list[Module]) -> list[Module]:
    """Leave a 1x1 out that reads the widest stage, first or last: a classifier, as timm has one.

    A square one is a gate.
    """
    for end in (0, -1):
        head = convolutions[end]
        width = max(module.shape[0] for module in convolutions if module is not head)
        if head.biased and head.shape[1:] == (width, 1, 1) and head.shape[0] != width:
            return [module for module in convolutions if module is not head]
    return convolutions


def _as_convolution(module: Module) -> Module:
    if module.kind == "conv":
        return module
    return Module(module.name, "conv", (*module.shape, 1, 1), module.keys, module.place)


def _no_blocks(convolutions: Sequence[Module], found: Cut | None) -> str:
    odd = found.rest[0] if found and found.rest else convolutions[0]
    what = "a block" if found and found.runs else "a stem and a block"
    return f"{odd.name} {odd.shape} does not begin {what}"


def _aligned(
    found: Cut, convolutions: Sequence[Module], modules: Sequence[Module], spec: Spec | None
) -> Alignment:
    prefixes = block_prefixes(found.runs, convolutions)
    assigned = assign(found.runs, prefixes)
    blocks = [named for named, _ in assigned]
    names = _names_of(found, spec) or _block_names(found, prefixes)
    norms = in_order([module for module in modules if module.kind == "norm"])
    placed = Norms(False, {}, ())
    ordered = _is_in_order(found) and not is_alphabetical(modules)
    pre = spec.activation_order == "preactivation" if spec else None
    if norms:
        placed = place_norms(Places(found.stem, blocks, names, prefixes, ordered), norms, pre)
    aligned = dict(zip(_STEMS[len(found.stem)], found.stem, strict=True))
    reasons = dict.fromkeys(aligned, "reads the image")
    for (named, why), name in zip(assigned, names, strict=True):
        aligned |= {f"{name}.{role}": module for role, module in named.items()}
        reasons |= {f"{name}.{role}": reason for role, reason in why.items()}
        squeeze = named.get("se.fc1")
        last = max(named[role].place for role in ("conv1", "conv2", "conv3") if role in named)
        if squeeze and squeeze.place < last and ordered:
            raise Undecided(f"{squeeze.name} stands between the convolutions of its block")
    aligned |= placed.modules
    reasons |= dict.fromkeys(placed.modules, "beside its convolution, by its channels")
    _add_channel_attention(aligned, reasons, modules, prefixes, names)
    pooled = _pooled(aligned)
    if pooled or (pooled is None and spec is not None and spec.shortcut in POOLING):
        aligned = {with_pooling(name): module for name, module in aligned.items()}
        reasons = {with_pooling(name): reason for name, reason in reasons.items()}
    used = {module.place for module in aligned.values()}
    rest = tuple(module for module in modules if module.place not in used)
    result = Alignment(
        aligned,
        reasons,
        rest,
        placed.contradiction,
        undecided=("shortcut",) if pooled is None else (),
    )
    return replace(result, strange=tuple(_unexplained(result, prefixes or ())))


def _is_in_order(found: Cut) -> bool:
    """Tell whether every block stands behind the one before it, so that order is evidence."""
    places = [[module.place for module in run.convolutions] for run in found.runs]
    return all(max(before) < min(after) for before, after in pairwise(places))


def _names_of(found: Cut, spec: Spec | None) -> list[str]:
    """Return the names of the blocks of the net that they are for, if it has as many as wide."""
    if spec is None:
        return []
    places = [
        (f"layer{stage}.{block}", channels)
        for stage, (depth, channels) in enumerate(zip(spec.depths, spec.channels, strict=True), 1)
        for block in range(depth)
    ]
    fits = [channels for _, channels in places] == [run.out_channels for run in found.runs]
    return [name for name, _ in places] if fits else []


def _block_names(found: Cut, prefixes: Sequence[Words] | None) -> list[str]:
    """Return "layer1.0" and so on; a stage begins where channels change or its names do.

    Raises Undecided for a projection where neither does, in a net that does not project everywhere,
    and for what stands beside a block as no other block does.
    """
    everywhere = all(run.projects for run in found.runs)
    nested = prefixes is not None and len({prefix[:-1] for prefix in prefixes}) > 1
    stage, block, names = 1, 0, ["layer1.0"]
    for i, (before, run) in enumerate(pairwise(found.runs)):
        begins = run.out_channels != before.out_channels
        if prefixes and nested:
            own, other = prefixes[i + 1], prefixes[i]
            begins |= own[:-1] != other[:-1] and _counts(own[-1])
            if own[:-1] == other[:-1] and not _counts(own[-1]):
                raise Undecided(f"{run.convolutions[0].name} stands beside another block's")
        if run.projects and not begins and not everywhere:
            name = run.convolutions[run.possible[0].index(PROJECTION)].name
            raise Undecided(f"{name} is no projection: nothing changes its shape there")
        stage, block = (stage + 1, 0) if begins else (stage, block + 1)
        names.append(f"layer{stage}.{block}")
    return names


def _counts(word: str | int) -> bool:
    return isinstance(word, int) or len(word) == 1


def _add_channel_attention(
    aligned: dict[str, Module],
    reasons: dict[str, str],
    modules: Sequence[Module],
    prefixes: Sequence[Words] | None,
    names: Sequence[str],
) -> None:
    """Add the 1-d convolutions of efficient channel attention, one for each block."""
    rows = in_order([m for m in modules if m.kind == "conv" and len(m.shape) == 3])
    rows = [module for module in rows if module.shape[:2] == (1, 1)]
    starts = prefixes or [()] * len(rows)
    if len(rows) != len(names) or any(
        module.words[: len(start)] != start for module, start in zip(rows, starts, strict=True)
    ):
        return
    for module, name in zip(rows, names, strict=True):
        aligned[f"{name}.se.conv"] = module
        reasons[f"{name}.se.conv"] = "one for each block"


def _pooled(aligned: Mapping[str, Module]) -> bool | None:
    """Tell whether something without weights, a pooling, stands before the projections.

    As children of a Sequential they are number 1 then, and their norms number 2; None where they
    are not numbered.
    """
    found = set()
    for name, module in aligned.items():
        if not name.endswith(PROJECTION):
            continue
        norm = aligned.get(name.replace(PROJECTION, ITS_NORM))
        first = module.words[-1] if norm else module.name.rpartition(".")[2]
        both = norm is None or norm.words == (*module.words[:-1], 1 + int(first in (1, "1")))
        found.add({"0": False, "1": True}.get(str(first)) if both else None)
    return True if True in found else False if found <= {False} else None


def with_pooling(name: str) -> str:
    """Return the name of a module of ours where a pooling stands before projections."""
    if name.endswith((PROJECTION, ITS_NORM)):
        return f"{name[:-1]}{int(name[-1]) + 1}"
    return name


def _unexplained(found: Alignment, prefixes: Sequence[Words]) -> Iterator[Module]:
    """Yield modules that stand within the network and are none of its parts."""
    start = len(found.words)
    inside = list(found.modules.values())
    words = {_word(module.words, start) for module in inside} | _PARTS
    last = max(module.place for module in inside if module.kind == "conv")
    parts = {
        module.words[: start + 1] for module in found.rest if module.kind in ("conv", "linear")
    }
    for module in found.rest:
        if module.words[:start] != found.words:
            continue
        in_block = any(module.words[: len(prefix)] == prefix for prefix in prefixes)
        constant = module.kind == "other" and "weight" not in module.keys  # the input's mean
        early = module.place < last and not constant
        if module.kind == "linear":
            strange = in_block or early
        elif module.kind == "other":
            scales = "weight" in module.keys and module.words[: start + 1] not in parts
            strange = in_block or early or scales
        else:
            strange = in_block or early or _word(module.words, start) in words
        if strange:
            yield module


def _word(words: Words, place: int) -> str:
    """Return a word of a name; numbers are alike."""
    word = words[place] if place < len(words) else ""
    return "" if isinstance(word, int) else word
