"""What a net answers with its blocks in other orders, or without some: prefixes computed once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnets.nn import ResNet
from resnets.studies.block_parts import Parts, head, parts_of, stem

# The order in which blocks run, by number; ~i is block i without its branch.
Order = tuple[int, ...]


@torch.no_grad()
def answers(
    model: ResNet,
    batches: Iterable[Tensor],
    orders: Sequence[Order],
    on_progress: Callable[[int], None] = lambda images: None,
) -> NDArray[np.int64]:
    """Return what the net answers with its blocks in each of some orders, (orders, N).

    ``batches`` are images (N, C, H, W) as the net takes them. The net computes in evaluation mode,
    with the batch-norm statistics of the whole. What orders have in common from the first block on
    is computed once, so that a net without its last block costs little more than that block.
    """
    assert not model.training
    parts, found = parts_of(model), []
    for batch in batches:
        predicted: list[Tensor] = [batch] * len(orders)
        for numbers, y in _outputs(parts, stem(model, batch), orders, range(len(orders)), 0):
            answer = head(model, y).argmax(1)
            for number in numbers:
                predicted[number] = answer
        found.append(torch.stack(predicted))
        on_progress(len(batch))
    answered: NDArray[np.int64] = torch.cat(found, 1).cpu().numpy()
    return answered


def _outputs(
    parts: Sequence[Parts], x: Tensor, orders: Sequence[Order], numbers: Iterable[int], place: int
) -> Iterator[tuple[Iterable[int], Tensor]]:
    """Yield which orders are equal, and the last block's output in them.

    ``x`` is what stands before ``place`` in all of ``numbers``, which agree up to there.
    """
    if place == len(parts):
        yield numbers, x
        return
    by_step: dict[int, list[int]] = {}
    for number in numbers:
        by_step.setdefault(orders[number][place], []).append(number)
    for step, same in by_step.items():
        y = parts[step].block(x) if step >= 0 else parts[~step].without_branch(x)
        yield from _outputs(parts, y, orders, same, place + 1)


def without(depth: int, dropped: Iterable[int]) -> Order:
    """Return the order of ``depth`` blocks in their places, some of them dropped."""
    gone = {*dropped}
    return tuple(~place if place in gone else place for place in range(depth))


def deletions(parts: Sequence[Parts], draws: int, seed: int, most: int = 9) -> list[Order]:
    """Return orders with 1 up to all of the blocks that can be dropped, chosen at random.

    Of so many numbers of blocks, at most ``most`` of them, spread evenly, each has ``draws``.
    """
    able = [place for place, each in enumerate(parts) if each.can_go]
    counts = {*np.linspace(1, len(able), most).round().astype(int).tolist()} if able else ()
    random = np.random.default_rng(seed)
    return [
        without(len(parts), random.choice(able, count, replace=False).tolist())
        for count in sorted(counts)
        for _ in range(draws)
    ]


def reorderings(parts: Sequence[Parts], draws: int, seed: int) -> list[Order]:
    """Return orders in which 1, 2, 4, ... random pairs of blocks have changed places.

    Both of a pair are of one stage and keep the shape of what they read. Each number of pairs has
    ``draws``; there are none where no two blocks are alike.
    """
    alike = [
        (a, b)
        for a, b in combinations(range(len(parts)), 2)
        if parts[a].stage == parts[b].stage and parts[a].keeps_shape and parts[b].keeps_shape
    ]
    random = np.random.default_rng([seed, 1])
    orders = []
    for count in (2**power for power in range(len(parts).bit_length())) if alike else ():
        for _ in range(draws):
            order = [*range(len(parts))]
            for pair in random.choice(len(alike), count):
                a, b = alike[pair]
                order[a], order[b] = order[b], order[a]
            orders.append(tuple(order))
    return orders


def kendall_tau(order: Order) -> float:
    """Return how far an order agrees with 0, 1, 2, ...: from 1, the same, to -1, the reverse."""
    pairs = [*combinations(order, 2)]
    return sum(1 if a < b else -1 for a, b in pairs) / len(pairs) if pairs else 1.0
