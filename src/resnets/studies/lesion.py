"""Lesions: what a net still knows when blocks are dropped or change places (Veit et al. 2016)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from torch import Tensor

from resnets.formatting import percent, plural
from resnets.nn import ResNet
from resnets.report.charts import lines_chart
from resnets.report.plots import Line
from resnets.studies.block_orders import answers, deletions, kendall_tau, reorderings, without
from resnets.studies.block_parts import parts_of
from resnets.studies.study import Cell, Claim, Figure, MadeOf, Study, Table
from resnets.studies.subjects import (
    beside_plain,
    counting,
    images_for,
    open_subjects,
    shown_facts,
    where_made,
)

PAPER = (
    Claim(
        "Dropping any one residual block hardly changes the error of a ResNet with 54 of them, but "
        "for those that change the shape; dropping any layer of VGG leaves it guessing.",
        "Veit et al. 2016, sec. 4.1 and Fig. 3 (a ResNet of 110 layers, CIFAR-10)",
    ),
    Claim(
        "When several blocks are deleted at random, the error rises smoothly with their number; "
        "when blocks change places, with how far their order is from the trained one.",
        "Veit et al. 2016, sec. 4.2, 4.3 and Fig. 5",
    ),
)
BATCH = 128  # as evaluation has it: an untouched net gives its answers, to the bit
LITTLE = 0.02  # of all images: what a block that is hardly missed costs at most
RISES = 0.5  # a rank correlation from which on the error is said to rise


def measure(
    model: ResNet,
    inputs: Tensor,
    labels: Tensor,
    draws: int,
    seed: int,
    on_progress: Callable[[int], None] = lambda images: None,
) -> dict[str, Any]:
    """Return the error of a net, whole and with lesions, as plain data; errors are fractions.

    ``inputs`` are images (N, C, H, W) as the net takes them. "dropped" has each block (an error of
    None: nothing is left without it), "deleted" each draw of several blocks, and "reordered" each
    draw of pairs that have changed places.
    """
    parts = parts_of(model)
    able = [place for place, each in enumerate(parts) if each.can_go]
    single = [without(len(parts), [place]) for place in able]
    several, moved = deletions(parts, draws, seed), reorderings(parts, draws, seed)
    orders = [without(len(parts), ()), *single, *several, *moved]
    # Of a batch a map is kept at every block, which of photographs would be gigabytes.
    size = BATCH if inputs.shape[-1] <= 64 else BATCH // 8
    batches = inputs.split(size)  # type: ignore[no-untyped-call]
    wrong = answers(model, batches, orders, on_progress) != labels.cpu().numpy()
    whole, *errors = wrong.mean(1).tolist()
    by_place = dict(zip(able, errors, strict=False))
    several_errors, moved_errors = errors[len(single) :], errors[len(single) + len(several) :]
    return {
        "images": len(labels),
        "error": whole,
        "guessing": 1 - 1 / model.spec.num_classes,
        "dropped": [
            {"block": each.name, "error": by_place.get(place), "keeps_shape": each.keeps_shape}
            for place, each in enumerate(parts)
        ],
        "deleted": [
            {"blocks": sum(step < 0 for step in order), "error": error}
            for order, error in zip(several, several_errors, strict=False)
        ],
        "reordered": [
            {"tau": kendall_tau(order), "error": error}
            for order, error in zip(moved, moved_errors, strict=True)
        ],
    }


def study(
    runs: Sequence[str | Path],
    *,
    images: int = 2000,
    draws: int = 5,
    data: str | Path | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Study:
    """Measure nets whose blocks are dropped one by one, deleted at random, and reordered.

    The images are of the test split, or the last that there is. ``draws`` are made for each number
    of blocks. Raises what `open_subjects` and `images_for` raise.
    """
    subjects, nets = open_subjects(runs, device), []
    seen = [images_for(each, images, data=data, root=root, seed=seed) for each in subjects]
    count = counting(seen, on_progress)
    for subject, shown in zip(subjects, seen, strict=True):
        measured = measure(subject.network, shown.inputs, shown.labels, draws, seed, count)
        spec = subject.network.spec
        told = {"name": subject.name, "model": spec.name, "plain": spec.shortcut == "none"}
        nets.append({**told, "depth": spec.depth, **measured})
    return Study(
        name="lesion",
        title="What a net still knows without some of its blocks",
        question="Do the layers of a residual net depend on each other as those of a plain one do? "
        "Blocks are dropped after training, nothing is trained again: what is left of a block is "
        "its shortcut.",
        figures=_figures(nets),
        found=tuple(found(nets)),
        paper=PAPER,
        numbers={"draws": draws, "nets": nets},
        tables=(_summary(nets), _by_block(nets)),
        made_of=MadeOf(
            nets=tuple(subject.facts() for subject in subjects),
            data=shown_facts(seen),
            seed=seed,
            assumed=(
                "Batch norm computes with the running statistics of the whole net, whatever is "
                "left of it.",
                "A dropped block is its shortcut with a branch of zero; what follows the addition "
                "stays. A plain block is a pair of layers, which becomes its input; where it "
                "changes the shape it cannot be left out.",
                "Blocks change places within a stage, and only those that keep the shape.",
            ),
            environment=where_made(subjects[0].network),
        ),
    )


def found(nets: Sequence[dict[str, Any]]) -> list[str]:
    """Say what lesions have cost residual nets beside plain ones, and each net."""
    told = []
    able = [net for net in nets if _without_one(net) and not _guesses(net)]
    for net, plain in beside_plain(able):
        cost, plain_cost = _median_cost(net), _median_cost(plain)
        beside = "as the paper found" if cost < plain_cost else "contrary to what the paper found"
        if cost == plain_cost:
            beside = "the same, where the paper found less"
        told.append(
            f"To lose a block costs {net['name']} {100 * cost:.1f} points in the median, and "
            f"{plain['name']}, which has as many layers and no shortcuts, {100 * plain_cost:.1f}: "
            f"{beside}."
        )
    return told + [line for net in nets for line in _told(net)]


def _told(net: dict[str, Any]) -> list[str]:
    name, errors = net["name"], _without_one(net)
    line = f"{name}: {percent(net['error'])} of {plural(net['images'], 'image')} are wrong"
    if not errors:
        return [f"{line}; none of its blocks can be left out."]
    if _guesses(net):
        return [f"{line}, as by guessing: it has nothing to lose without a block."]
    worst = max(errors, key=lambda block: errors[block])
    line += (
        f"; without one of its blocks {percent(median(errors.values()))} in the median, at worst "
        f"{percent(errors[worst])}, without {worst}. Guessing: {percent(net['guessing'])}."
    )
    if net["plain"]:  # of which the paper says no more
        return [line]
    line += (
        " Most blocks are hardly missed, as the paper found of 54."
        if _median_cost(net) <= LITTLE
        else " Blocks are missed more than the 54 of the paper's net."
    )
    lines = [line]
    for key, lead, over, sign in (
        ("deleted", f"{_without_half(net)}; the error", "the number of blocks deleted", 1),
        ("reordered", ": the error", "how far the order of blocks is from the trained one", -1),
    ):
        places = [sign * row["blocks" if sign > 0 else "tau"] for row in net[key]]
        rises = rank_correlation(places, [row["error"] for row in net[key]])
        if rises is not None:
            how, beside = ("rises", "as") if rises >= RISES else ("hardly rises", "not as")
            lines.append(
                f"{name}{lead} {how} with {over} (rank correlation {rises:.2f}), {beside} the "
                "paper found."
            )
    return lines


def _without_half(net: dict[str, Any]) -> str:
    count, error = _half(net)
    return f" without {count} of its {len(net['dropped'])} blocks: {percent(error)} in the median"


def _half(net: dict[str, Any]) -> tuple[int, float]:
    """Return a number of deleted blocks, about half of all, and the median error of its draws."""
    by_count: dict[int, list[float]] = {}
    for row in net["deleted"]:
        by_count.setdefault(row["blocks"], []).append(row["error"])
    count = min(by_count, key=lambda count: abs(count - len(net["dropped"]) / 2))
    return count, median(by_count[count])


def _without_one(net: dict[str, Any]) -> dict[str, float]:
    return {row["block"]: row["error"] for row in net["dropped"] if row["error"] is not None}


def _guesses(net: dict[str, Any]) -> bool:
    """Whether a net knows so little that lesions tell nothing of it."""
    return bool(net["error"] >= net["guessing"] - LITTLE)


def _median_cost(net: dict[str, Any]) -> float:
    return float(median(_without_one(net).values()) - net["error"])


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; None where one of them does not change."""
    if len({*first}) < 2 or len({*second}) < 2:
        return None
    ranks = []
    for values in map(np.asarray, (first, second)):
        ordered = np.sort(values)
        ranks.append(ordered.searchsorted(values) + ordered.searchsorted(values, "right"))
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def _figures(nets: Sequence[dict[str, Any]]) -> tuple[Figure, ...]:
    dropped, whole = [], []
    deleted: list[Line] = []
    reordered: list[Line] = []
    for number, net in enumerate(nets):
        style = (number % 8, 1 if net["plain"] else 0)
        errors = [
            (float(place), 100 * float(row["error"]))
            for place, row in enumerate(net["dropped"], start=1)
            if row["error"] is not None
        ]
        if errors:
            dropped.append(Line(net["name"], errors, *style))
        ends = [(x, 100 * float(net["error"])) for x in (1.0, float(len(net["dropped"])))]
        whole.append(Line(f"{net['name']}, whole", ends, style[0], 2))
        for lines, key, across in ((deleted, "deleted", "blocks"), (reordered, "reordered", "tau")):
            points = [(float(row[across]), 100 * float(row["error"])) for row in net[key]]
            if points:
                lines.append(Line(net["name"], points, *style))
    titles = {
        "lesion-dropped": ("Error without one block, %", [*dropped, *whole], "block"),
        "lesion-deleted": ("Error without several blocks, %", deleted, "blocks deleted"),
        "lesion-reordered": ("Error with blocks reordered, %", reordered, "Kendall’s tau"),
    }
    drawn = [*dropped, *whole, *deleted, *reordered]
    highest = max(y for line in drawn for _, y in line.points)
    ceiling = 1.05 * max(highest, *(100 * net["guessing"] for net in nets))
    plots = [
        lines_chart(
            name, title, _medians(lines), across=across, up=(0, ceiling), marked=True, dots=lines
        )
        for name, (title, lines, across) in titles.items()
        if lines
    ]
    return (
        Figure(
            "Blocks are counted from the stem on; dotted is the untouched net. Points are single "
            "draws, lines their medians. At a tau of 1 blocks stand as they were trained, at 0 in "
            "no order. The paper’s Figs. 3 and 5.",
            tuple(plots),
        ),
    )


def _medians(lines: Sequence[Line]) -> list[Line]:
    """Return lines through the medians of the points that stand above each other."""
    joined = []
    for line in lines:
        places = sorted({x for x, _ in line.points})
        points = [(x, median(y for at, y in line.points if at == x)) for x in places]
        joined.append(Line(line.label, points, line.colour, line.dash))
    return joined


def _summary(nets: Sequence[dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for net in nets:
        errors = [100 * error for error in _without_one(net).values()]
        row: tuple[Cell, ...] = (net["name"], len(net["dropped"]), 100 * net["error"])
        if errors:
            count, error = _half(net)
            row += (median(errors), max(errors), count, 100 * error)
        rows.append(row + (None,) * (7 - len(row)))
    heading = ("net", "blocks", "whole", "without one, median", "worst", "deleted", "median")
    return Table(heading, tuple(rows), "Errors in per cent")


def _by_block(nets: Sequence[dict[str, Any]]) -> Table:
    """Return the error without each block, of all nets; of other nets' blocks nothing."""
    names = dict.fromkeys(row["block"] for net in nets for row in net["dropped"])
    columns = [_without_one(net) for net in nets]
    rows = [
        (name, *(100 * each[name] if name in each else None for each in columns)) for name in names
    ]
    heading = ("dropped", *(net["name"] for net in nets))
    return Table(heading, tuple(rows), "Errors in per cent without each block")
