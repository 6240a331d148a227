"""Which convolution of a block is which: shapes first, then what holds in all blocks alike."""

from collections.abc import Sequence

from resnets.weights.structure.cutting import PROJECTION, Roles, Run
from resnets.weights.structure.tensor_modules import Module, Words

Sign = tuple[object, ...]  # of a module in its block: its own words there, or its place


class Undecided(Exception):
    """No assignment, or several that nothing tells apart; the message says of what."""


def signs(run: Run, prefix: Words | None) -> list[Sign]:
    """Return what marks each convolution of a block: its words behind the block's, or its place."""
    if prefix is None:
        return [(len(run.convolutions), i) for i in range(len(run.convolutions))]
    return [module.words[len(prefix) :] for module in run.convolutions]


def assign(
    runs: Sequence[Run], prefixes: Sequence[Words] | None
) -> list[tuple[dict[str, Module], dict[str, str]]]:
    """Return, for each block, role -> convolution and role -> what decided it.

    Convolutions of one sign have one role in all blocks: where the shapes of one block leave it
    open, those of another tell. Raises Undecided where blocks contradict each other.
    """
    marked = [signs(run, prefixes[i] if prefixes else None) for i, run in enumerate(runs)]
    possible = [list(run.possible) for run in runs]
    by_shape = [len(options) == 1 for options in possible]
    _propagate(marked, possible)
    by_others = [len(options) == 1 for options in possible]
    alone = {s for run, own in zip(runs, marked, strict=True) if not run.projects for s in own}
    for i in range(len(runs)):
        if len(possible[i]) > 1:
            best = min(possible[i], key=lambda roles: _unlikely(roles, marked[i], alone))
            possible[i] = [best]
            _propagate(marked, possible)
    result = []
    for i, run in enumerate(runs):
        named = dict(zip(possible[i][0], run.convolutions, strict=True))
        why = (
            "by its shape" if by_shape[i] else "as in other blocks" if by_others[i] else "by order"
        )
        result.append((named, dict.fromkeys(named, why)))
    return result


def _propagate(marked: Sequence[Sequence[Sign]], possible: list[list[Roles]]) -> None:
    """Leave only the roles that every block with a convolution of this sign allows."""
    changed = True
    while changed:
        changed = False
        allowed: dict[Sign, set[str]] = {}
        for own, options in zip(marked, possible, strict=True):
            for i, sign in enumerate(own):
                here = {roles[i] for roles in options}
                allowed[sign] = allowed.get(sign, here) & here
        for k, (own, options) in enumerate(zip(marked, possible, strict=True)):
            left = [r for r in options if all(r[i] in allowed[s] for i, s in enumerate(own))]
            if not left:
                raise Undecided("its blocks are not built alike")
            changed |= len(left) < len(options)
            possible[k] = left


def _unlikely(roles: Roles, own: Sequence[Sign], alone: set[Sign]) -> tuple[int, int, int]:
    """Return how far roles are from what is usual, where shapes allow others as well.

    A projection is there in some blocks only; the others feed each other in their order, without
    anything in between.
    """
    place = {role: i for i, role in enumerate(roles)}
    main = [place[role] for role in ("conv1", "conv2", "conv3") if role in place]
    disorder = sum(a > b for i, a in enumerate(main) for b in main[i + 1 :])
    odd = PROJECTION in place and own[place[PROJECTION]] in alone
    return int(odd), disorder, max(main) - min(main)
