"""Other names for a network's tensors: consistent, nonsense or well known, drawn by a seed.

A `Scheme` is one habit for each part of a net: stem, place of a block, layers of a block, its
projection and attention, the classifier, the order in which a block registers its layers. The
habits are independent of each other, as they are in the files that people save.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from random import Random

import torch

from resnets import ResNet
from resnets.spec import Spec

Shapes = Mapping[str, tuple[int, ...]]

BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)")
SYLLABLES = [consonant + vowel for consonant in "bdfgkmprtz" for vowel in "aeiou"]
# {stem}, {conv} and the like become words, {path:i} one word for each i; {i} counts layers of one
# kind from 1; {n}, {d}, {e} and {top} count those of a Sequential.
STEMS = ("{conv}{i} {norm}{i}", "{stem}.{n} {stem}.{n}", "{stem}.{conv}{i} {stem}.{norm}{i}")
PLACES = (
    "{layer}{stage}.{block}",
    "{layer}.{stage0}.{block}",
    "{layer}.{stage0}.{unit}.{block}",
    "{layer}{stage2}_{block}",
    "{layer}{stage}.{unit}{block1}",
    "{layer}.{flat}",
)
LAYERS = (
    "{conv}{i} {norm}{i}",
    "{path}.{n} {path}.{n}",
    "{path}.{i0}.{conv} {path}.{i0}.{norm}",
    "{conv}_{i} {conv}_{i}_{norm}",
)
UNNUMBERED = ("{path:i} {path:i}_{norm}", "{conv:i} {norm:i}", "{path:i}.{conv} {path:i}.{norm}")
PROJECTIONS = (
    "{downsample}.{d} {downsample}.{d}",
    "{downsample}_{conv} {downsample}_{norm}",
    "{downsample}.{conv} {downsample}.{norm}",
    "{downsample} {skipnorm}",
)
ATTENTIONS = ("{se}.{fc}{i}", "{se}.{e}", "{se}_{i}")
HEADS = ("{fc}", "{fc}.1", "{head}.{fc}")
ORDERS = (
    "executed",
    "convolutions first",
    "projection first",
    "projection between",
    "attention before the projection",
)


@dataclass(frozen=True)
class Scheme:
    """How everything is called, and in which order a block registers it."""

    stem: str = STEMS[0]
    place: str = PLACES[0]
    layers: str = LAYERS[0]
    projection: str = PROJECTIONS[0]
    attention: str = ATTENTIONS[0]
    head: str = HEADS[0]
    order: str = "executed"
    joint: str = "."  # between the words of a module's name
    leaf: str = "."  # before what belongs to a module: weight, running_mean
    prefix: str = ""
    ours: bool = False  # torchvision's words where the others are nonsense
    numbers: bool = False  # and in place of every word its position

    @property
    def shows_pooling(self) -> bool:
        """Whether a projection's number shows that something stands before it."""
        return "{d}" in self.projection


def mixed(random: Random, *, numbered: bool = True) -> Scheme:
    """Return a scheme of habits drawn independently of each other.

    ``numbered`` ones say by numbers in which order everything comes.
    """
    joint = random.choice("..._")
    return Scheme(
        *(random.choice(habits) for habits in (STEMS, PLACES)),
        random.choice(LAYERS if numbered else LAYERS + UNNUMBERED),
        *(random.choice(habits) for habits in (PROJECTIONS, ATTENTIONS, HEADS, ORDERS)),
        joint=joint,
        leaf=random.choice("._") if joint == "_" else ".",
        prefix=random.choice(("", "", "module.", "{wrapper}.", "module.{wrapper}.{other}.")),
        ours=random.random() < 0.2,
    )


class Words:
    """Nonsense for the words of a net's names, each time the same."""

    def __init__(self, random: Random) -> None:
        self.random, self.known = random, {}

    def __getitem__(self, word: str) -> str:
        while word not in self.known:
            nonsense = "".join(self.random.sample(SYLLABLES, 3))
            if nonsense not in self.known.values():
                self.known[word] = nonsense
        return self.known[word]


@cache
def shapes_of(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors under our keys."""
    with torch.device("meta"):
        return {key: tuple(tensor.shape) for key, tensor in ResNet(spec).state_dict().items()}


def renamed(keys: Iterable[str], spec: Spec, scheme: Scheme, random: Random) -> dict[str, str]:
    """Return {their key: our key}, in the order in which such a net would be saved."""
    modules: dict[str, list[str]] = {}
    for key in keys:
        modules.setdefault(key.rpartition(".")[0], []).append(key)
    writer = _Writer(spec, scheme, Words(random))
    ordered = sorted(modules, key=lambda module: _position(module, spec, scheme.order))
    names = {module: writer.name(module) for module in ordered}
    if scheme.numbers:
        names = _numbers(names)
    result = {
        prefix_of(scheme, writer.words)
        + name.replace(".", scheme.joint)
        + scheme.leaf
        + key.rpartition(".")[2]: key
        for module, name in names.items()
        for key in modules[module]
    }
    assert len(result) == sum(map(len, modules.values())), "two tensors under one name"
    return result


def prefix_of(scheme: Scheme, words: Words) -> str:
    """Return what stands before every name of theirs."""
    return re.sub(r"\{(\w+)\}", lambda match: words[match[1]], scheme.prefix)


class _Writer:
    """Names of modules in one scheme."""

    def __init__(self, spec: Spec, scheme: Scheme, words: Words) -> None:
        self.spec, self.scheme, self.words = spec, scheme, words
        self.first = [0, *accumulate(spec.depths)]
        self.pre = spec.activation_order == "preactivation"

    def name(self, module: str) -> str:
        """Return their name of a module of ours."""
        if match := BLOCK.fullmatch(module):
            stage, block = int(match[1]), int(match[2])
            numbers = {f"stage{offset}": stage + offset - 1 for offset in (0, 2, 4)}
            numbers |= {"stage": stage, "block": block, "block1": block + 1}
            numbers |= {"flat": self.first[stage - 1] + block}
            return f"{self._fill(self.scheme.place, **numbers)}.{self._inside(match[3])}"
        if module == "fc":
            return self._fill(self.scheme.head)
        if module == "norm":  # of pre-activation nets, after the last addition
            return self._fill("{last}")
        deep = self.spec.stem.startswith("deep")
        number = 6 * deep + 1 if module == "bn1" else int(module.partition(".")[2] or 0)
        top = 1 if module == "bn1" else f"0.{number}" if deep else 0
        template = self.scheme.stem.split()[number % 3]  # convolution, norm, ReLU
        return self._fill(template, i=number // 3 + 1, n=number, top=top)

    def _inside(self, part: str) -> str:
        """Return their name of a layer of a block."""
        if part.startswith("downsample."):
            number = int(part.rpartition(".")[2])
            is_norm = number - (self.spec.shortcut == "D")
            return self._fill(self.scheme.projection.split()[is_norm], d=number)
        if part.startswith("se."):
            number = int(part[-1]) if part[-1].isdigit() else 1
            return self._fill(self.scheme.attention, i=number, e=2 * (number - 1))
        conv, norm = self.scheme.layers.split()
        i = int(part[-1])
        first = 3 * (i - 1)  # convolution, norm, ReLU; or norm, ReLU, convolution
        if part.startswith("bn"):
            return self._fill(norm, i=i, i0=i - 1, n=first + (0 if self.pre else 1))
        return self._fill(conv, i=i, i0=i - 1, n=first + (2 if self.pre else 0))

    def _fill(self, template: str, **numbers: int | str) -> str:
        def word(match: re.Match[str]) -> str:
            if match[1] in numbers:
                return str(numbers[match[1]])
            own = match[1] + (str(numbers["i"]) if match[2] else "")
            if self.scheme.ours:
                return {"norm": "bn", "last": "norm"}.get(match[1], match[1]) + own[len(match[1]) :]
            return self.words[own]

        return re.sub(r"\{(\w+)(:i)?\}", word, template)


def _position(module: str, spec: Spec, order: str) -> tuple[float, ...]:
    """Return where a module stands in the order of registration."""
    if match := BLOCK.fullmatch(module):
        return (int(match[1]), int(match[2]), _rank(match[3], spec, order))
    if module.startswith("conv1"):
        return (0, 0, int(module.partition(".")[2] or 0))
    return {"bn1": (0, 0, 7), "norm": (99, 0), "fc": (99, 1)}[module]


def _rank(part: str, spec: Spec, order: str) -> float:
    """Return where a layer of a block stands among the others."""
    if part.startswith("downsample."):
        before = {"projection first": -10, "projection between": 1.9}.get(order, 20)
        return before + int(part.rpartition(".")[2]) / 100
    if part.startswith("se."):
        last = int(part[-1]) / 10 if part[-1].isdigit() else 0
        return (15 if order == "attention before the projection" else 30) + last
    number, is_norm = int(part[-1]), part.startswith("bn")
    if order == "convolutions first":
        return number + 5 * is_norm
    pre = spec.activation_order == "preactivation"
    return number + (-0.2 if pre else 0.2) * is_norm


def _numbers(names: Mapping[str, str]) -> dict[str, str]:
    """Return the names with each word as its position among its siblings; numbers stay."""
    children: dict[tuple[str, ...], dict[str, int]] = {}
    result = {}
    for module, name in names.items():
        path: tuple[str, ...] = ()
        positions = []
        for word in name.split("."):
            known = children.setdefault(path, {})
            number = known.setdefault(word, len(known))
            positions.append(word if word.isdigit() else str(number))
            path += (word,)
        result[module] = ".".join(positions)
    return result


def tagged(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Return a tensor of each shape that no other is equal to, in almost no memory."""
    result = {}
    for i, (key, shape) in enumerate(shapes.items(), start=1):
        if key.endswith("num_batches_tracked"):
            result[key] = torch.tensor(1000)
            continue
        negative = key.endswith(("bias", "running_mean")) and i % 2
        result[key] = torch.tensor((-i if negative else i) / 1024).expand(shape)
    return result
