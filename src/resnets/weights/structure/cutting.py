"""A network's convolutions, one after the other, cut into a stem and blocks by their channels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

from resnets.spec import CONVOLUTIONS, Block
from resnets.weights.structure.tensor_modules import Module, Words

Roles = tuple[str, ...]  # of each convolution of a run, in its order
PROJECTION, ITS_NORM = "downsample.0", "downsample.1"


# What may stand in every block beside its convolutions and its projection, all of them 1x1.
_EXTRAS: tuple[Roles, ...] = ((), ("se.fc1", "se.fc2"), ("join.gate",))


@dataclass(frozen=True)
class Run:
    """The convolutions of one block, as they follow each other in the file."""

    convolutions: tuple[Module, ...]
    out_channels: int
    possible: tuple[Roles, ...]  # by their shapes alone

    @property
    def projects(self) -> bool:
        """Whether one of them is a projection."""
        return PROJECTION in self.possible[0]


@dataclass(frozen=True)
class Cut:
    """A stem and blocks; ``rest`` is what follows and makes no further block."""

    stem: tuple[Module, ...]
    runs: tuple[Run, ...]
    extras: Roles
    rest: tuple[Module, ...]


def cut(convolutions: Sequence[Module], asked: Block | None = None) -> Cut | None:
    """Return the cut that explains most of the convolutions; None where no stem can be found.

    Single layers explain every chain of convolutions, and are tried only where something else says
    that the net has such: names, or ``asked``, the blocks of the net that they are for.
    Convolutions are taken in the order given, but for the stem: it is the first, or the one that
    reads the fewest channels.
    """
    best: Cut | None = None
    blocks: list[Block] = ["single"] if _says_single(convolutions, asked) else []
    blocks += ["basic", "bottleneck"]
    for stem, body in _stems(list(convolutions)):
        for block in blocks:
            for extras in _EXTRAS:
                runs = _runs(body, stem[-1].shape[0], block, extras)
                explained = sum(len(run.convolutions) for run in runs)
                rest = tuple(body[explained:])
                if best is None or len(rest) < len(best.rest):
                    best = Cut(stem, tuple(runs), extras, rest)
                if best and not best.rest:
                    return best
    return best


def _says_single(convolutions: Sequence[Module], asked: Block | None) -> bool:
    """Whether each block has one convolution: by its name, else where a net of such is asked for.

    Names tell by a number within the block, such as conv1, that is 1 in all. Names that put two
    convolutions into one block, and not all into one, contradict what is asked for.
    """
    numbered = [m.words for m in convolutions if m.words[-2:-1] == ("conv",) and len(m.words) > 3]
    if any(isinstance(words[-3], int) for words in numbered):
        return {words[-1] for words in numbered} == {1}
    parents = Counter(module.words[:-1] for module in convolutions)
    return asked == "single" and (len(parents) <= 2 or max(parents.values()) == 1)


def _stems(convolutions: list[Module]) -> Iterator[tuple[tuple[Module, ...], list[Module]]]:
    """Yield possible stems, each with the convolutions that are left."""
    least = min(convolutions, key=lambda module: module.shape[1])
    for first in dict.fromkeys((convolutions[0].place, least.place)):
        start = next(i for i, module in enumerate(convolutions) if module.place == first)
        for size in (1, 3):
            stem = tuple(convolutions[start : start + size])
            if len(stem) == size and _is_stem(stem):
                yield stem, convolutions[start + size :] + convolutions[:start]


def _is_stem(stem: tuple[Module, ...]) -> bool:
    """Tell one convolution that widens, or three of 3x3 that feed each other."""
    widens = stem[0].shape[1] < stem[-1].shape[0]
    square = all(len(set(module.shape[2:])) == 1 and module.shape[2] > 1 for module in stem)
    chained = all(b.shape[1:] == (a.shape[0], 3, 3) for a, b in pairwise(stem))
    return widens and square and chained and (len(stem) == 1 or stem[0].shape[2] == 3)


def _runs(body: Sequence[Module], channels: int, block: Block, extras: Roles) -> list[Run]:
    """Return the longest row of blocks that the convolutions make from the first on."""
    best: list[Run] = []
    row: list[Run] = []
    open_options = [_options(body, 0, channels, block, extras)]
    dead: set[tuple[int, int]] = set()
    place = 0
    while open_options:
        run = next(open_options[-1], None)
        if run is None:
            open_options.pop()
            if row:
                dead.add((place, row[-1].out_channels))
                place -= len(row.pop().convolutions)
            continue
        after = place + len(run.convolutions)
        if (after, run.out_channels) in dead:
            continue
        row.append(run)
        place = after
        if len(row) > len(best):
            best = list(row)
        if place == len(body):
            return row
        open_options.append(_options(body, place, run.out_channels, block, extras))
    return best


def _options(
    body: Sequence[Module], start: int, channels: int, block: Block, extras: Roles
) -> Iterator[Run]:
    """Yield the blocks that may begin at a place, those whose names belong together first."""
    least = CONVOLUTIONS[block] + len(extras)
    found = []
    for size in (least, least + 1):
        run = tuple(body[start : start + size])
        if len(run) == size and (run_options := _assignments(run, channels, block, extras)):
            out, possible = run_options
            if out < channels and PROJECTION not in possible[0]:
                continue  # a shortcut without weights can only add channels
            around = body[start - 1 : start] if start else []
            around = [*around, *body[start + size : start + size + 1]]
            apart = max((shared(run[0].words, m.words) for m in around), default=0)
            together = min(shared(run[0].words, module.words) for module in run)
            found.append((together <= apart, apart, Run(run, out, possible)))
    yield from (run for *_, run in sorted(found, key=lambda option: option[:2]))


def shared(a: Words, b: Words) -> int:
    """Return how many words two names begin with alike."""
    count = 0
    for mine, theirs in zip(a, b, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _assignments(
    run: tuple[Module, ...], channels: int, block: Block, extras: Roles
) -> tuple[int, tuple[Roles, ...]] | None:
    """Return a block's output channels, and all roles its convolutions can have by shape."""
    roles = [f"conv{number}" for number in range(1, CONVOLUTIONS[block] + 1)]
    main = list(roles)
    roles += extras
    roles += [PROJECTION] * (len(run) - len(roles))
    found: dict[int, list[Roles]] = {}
    for chosen in permutations(range(len(run)), len(main)):
        layers = [run[i] for i in chosen]
        if (out := _main_path(layers, channels)) is None:
            continue
        others = [i for i in range(len(run)) if i not in chosen]
        for placed in permutations(others):
            named = dict(zip((*chosen, *placed), roles, strict=True))
            if all(_fits(run[i], named[i], channels, out) for i in others):
                found.setdefault(out, []).append(tuple(named[i] for i in range(len(run))))
    if not found:
        return None
    out, possible = max(found.items(), key=lambda each: len(each[1]))
    return out, tuple(possible)


def _main_path(layers: Sequence[Module], channels: int) -> int | None:
    """Return what convolutions that feed each other make of so many channels, else None."""
    if len(layers) == 1:
        width, *rest = layers[0].shape
        return width if rest == [channels, 3, 3] else None
    if len(layers) == 2:
        width = layers[0].shape[0]
        shapes = [(width, channels, 3, 3), (width, width, 3, 3)]
        return width if [layer.shape for layer in layers] == shapes else None
    one, three, last = (layer.shape for layer in layers)
    middle = one[0]
    narrow = (one[1:], three[0], three[2:], last[1:]) == (
        *((channels, 1, 1), middle, (3, 3)),
        (middle, 1, 1),
    )
    return last[0] if narrow and middle % three[1] == 0 else None


def _fits(module: Module, role: str, channels: int, out: int) -> bool:
    """Tell whether a convolution that is not on the main path can have a role, by its shape."""
    shape = module.shape
    if role == PROJECTION:
        # By 3x3 only where channels change: elsewhere it may as well be a third convolution.
        by_3x3 = shape == (out, channels, 3, 3) and out != channels
        return by_3x3 or shape == (out, channels, 1, 1)
    if shape[2:] != (1, 1):
        return False
    if role == "join.gate":
        return shape[:2] == (out, out) and module.biased
    reads, writes = (shape[1], shape[0]) if role == "se.fc1" else (shape[0], shape[1])
    return reads == out and writes <= out


def block_prefixes(runs: Sequence[Run], convolutions: Sequence[Module]) -> list[Words] | None:
    """Return the words that each block's names begin with, and nobody else's; None without."""
    count = Counter(
        module.words[:length] for module in convolutions for length in range(len(module.words) + 1)
    )
    common, least = [], []
    for run in runs:
        first, *others = (module.words for module in run.convolutions)
        # Of a convolution alone all words but the last may be the block's.
        common.append(min((shared(first, words) for words in others), default=len(first) - 1))
    for run, most in zip(runs, common, strict=True):
        name = run.convolutions[0].words
        own = [n for n in range(most + 1) if count[name[:n]] == len(run.convolutions)]
        if not own:
            return None
        least.append(own[0])
    usual = max(least)
    names = [run.convolutions[0].words for run in runs]
    for length in range(min(common), usual, -1):
        if all(isinstance(words[length - 1], int) for words in names):
            usual = length  # stages of one block each, which has a number of its own
            break
    return [
        run.convolutions[0].words[: usual if usual <= most else own]
        for run, most, own in zip(runs, common, least, strict=True)
    ]
