"""Curves and confusion matrices."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator, NullLocator

from resnets.formatting import percent
from resnets.report import svg
from resnets.report.score import class_names
from resnets.run_folder.record import Epoch

POINTS = 2000  # of a line, which is some 370 pixels wide
TOLD = 3  # per cent of the time that some epoch waited, from where that is drawn
DASHES = ("solid", "dashed", "dotted")


@dataclass(frozen=True)
class Key:
    """One entry of a legend, which the page draws so that it wraps on a phone."""

    label: str
    colour: str  # CSS
    dash: str  # CSS border style


@dataclass(frozen=True)
class Plot:
    """A drawing with what the page writes around it."""

    title: str
    svg: Markup
    keys: tuple[Key, ...] = ()
    named: bool = True  # for a confusion matrix: the classes have their names, not numbers


@dataclass(frozen=True)
class Line:
    """One curve: points, and a place in the order of colours and dashes."""

    label: str
    points: list[tuple[float, float]]
    colour: int
    dash: int

    @property
    def key(self) -> Key:
        """The legend's entry."""
        return Key(self.label, svg.VARIABLES[svg.SERIES[self.colour]], DASHES[self.dash])


def curves(epochs: Sequence[Epoch]) -> list[Plot]:
    """Draw loss, accuracy and learning rate by epoch; what was not recorded is left out."""

    def lines(what: str, scale: int = 1) -> list[Line]:
        return [
            Line("training", _points(epochs, f"train_{what}", scale), 0, 1),
            Line("held out", _points(epochs, f"validation_{what}", scale), 1, 0),
        ]

    # Until batch norm's averages settle, the held-out loss can be a hundred times the training
    # loss; then it leaves the plot rather than flatten everything else.
    ceiling = 2 * max((e.train_loss for e in epochs if e.train_loss is not None), default=inf)
    maps = _points(epochs, "validation_map", 100)
    accuracy = "Images with every class right" if maps else "Accuracy"
    plots = [
        _plot("loss", "Loss", lines("loss"), ceiling=ceiling),
        _plot("map", "mAP, %", [Line("held out", maps, 1, 0)], top=100),
        _plot("accuracy", f"{accuracy}, %", lines("accuracy", 100), top=100),
        _plot("lr", "Learning rate", [Line("", _points(epochs, "lr"), 2, 0)]),
    ]
    waiting = _points(epochs, "waiting", 100)
    if any(share >= TOLD for _, share in waiting):
        title = "Waiting for images, % of training"
        plots.append(_plot("waiting", title, [Line("", waiting, 3, 0)]))
    return [plot for plot in plots if plot]


def overlay(runs: Sequence[tuple[str, Sequence[Epoch]]]) -> list[Plot]:
    """Draw the held-out accuracy and the training loss of several runs, one colour for each."""

    def lines(what: str, scale: int = 1) -> list[Line]:
        return [
            Line(label, _points(epochs, what, scale), *_style(i))
            for i, (label, epochs) in enumerate(runs)
        ]

    held_out, training = lines("validation_accuracy", 100), lines("train_accuracy", 100)
    plots = [
        _plot("held-out-map", "Held-out mAP, %", lines("validation_map", 100), top=100),
        _plot("held-out-accuracy", "Held-out accuracy, %", held_out, top=100),
        _plot("training-accuracy", "Training accuracy, %", training, top=100),
        _plot("training-loss", "Training loss", lines("train_loss")),
    ]
    return [plot for plot in plots if plot]


def key(number: int) -> Key:
    """Return the legend's entry of a run among others, without its name."""
    return Line("", [], *_style(number)).key


def _style(number: int) -> tuple[int, int]:
    """Return the colour and the dash of a run among others; they repeat only after 24."""
    return number % len(svg.SERIES), number // len(svg.SERIES) % len(DASHES)


def _points(epochs: Sequence[Epoch], what: str, scale: int = 1) -> list[tuple[float, float]]:
    """Return what was recorded, thinned out to what a drawing can show; the last point stays."""
    values = [(epoch.epoch, getattr(epoch, what)) for epoch in epochs]
    points = [(epoch, scale * value) for epoch, value in values if value is not None]
    step = -(-len(points) // POINTS)
    return points[::-step][::-1] if step > 1 else points


def rate_curve(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggested: float | None,
) -> Plot | None:
    """Draw the losses of steps and their moving average over rates that rise, and the choice."""
    ceiling = 1.6 * max(smoothed[: len(smoothed) // 2 + 1])
    lines = [
        Line("each batch", list(zip(rates, losses, strict=True)), 7, 2),
        Line("averaged", list(zip(rates, smoothed, strict=True)), 0, 0),
    ]
    if suggested:
        line = [(suggested, 0.0), (suggested, ceiling)]
        lines.append(Line(f"suggested: {suggested:g}", line, 1, 1))
    return _plot("rates", "Training loss", lines, ceiling=ceiling, across="learning rate")


def _plot(
    name: str,
    title: str,
    lines: list[Line],
    top: float | None = None,
    ceiling: float = inf,
    across: str = "epoch",
) -> Plot | None:
    """Draw lines up to ``top``, or up to the highest point but never above ``ceiling``.

    ``across`` is an epoch or a learning rate, which is drawn by its logarithm.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    width, height = 370, 240
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((42 / width, 40 / height, 1 - 54 / width, 1 - 52 / height))
    for line in lines:
        axes.plot(
            [x for x, _ in line.points],
            [y for _, y in line.points],
            color=svg.SERIES[line.colour],
            linestyle=("-", (0, (4, 2)), (0, (1, 1.6)))[line.dash],
            linewidth=1.8,
            # A point that has no neighbours would not be seen as a line.
            marker="o" if len(line.points) < 4 and across == "epoch" else "",
            markersize=4,
        )
    _frame(axes, lines, top, ceiling or inf, across)
    description = f"{title}. {' '.join(_described(line, across) for line in lines)}"
    keys = tuple(line.key for line in lines if line.label)
    return Plot(title, svg.inline(figure, name, description), keys)


def _frame(axes: Axes, lines: list[Line], top: float | None, ceiling: float, across: str) -> None:
    low, high = axes.get_ylim()
    if top is None:
        highest = max(high, max(y for line in lines for _, y in line.points) * 1.05)
        axes.set_ylim(0, min(highest, ceiling) or 1)
    else:
        # Room for the line's own width at the top; the bottom goes to a round figure.
        axes.set_ylim(max(0, low // 10 * 10), top + (top - low) * 0.015)
    last = max(x for line in lines for x, _ in line.points)
    first = min(x for line in lines for x, _ in line.points)
    if across == "epoch":
        axes.set_xlim(min(first, last - 1) if last > 1 else 0, last * 1.01)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=last >= 2))
    else:
        axes.set_xscale("log")
        axes.set_xlim(first, last)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    style_axes(axes, across)


def style_axes(axes: Axes, across: str) -> None:
    """Give axes the look of all curves: five round figures on the left, ``across`` below."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel(across, color=svg.MUTED, fontsize=12)
    axes.tick_params(length=0, labelsize=12, labelcolor=svg.MUTED, pad=5)
    axes.grid(axis="y", color=svg.RULE, linewidth=1)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(svg.MUTED)


def _described(line: Line, across: str) -> str:
    (_, first), (where, last) = line.points[0], line.points[-1]
    label = f"{line.label}: " if line.label else ""
    return f"{label}from {first:.3g} to {last:.3g} at {across} {where:g}."


def confusion_matrix(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Plot | None:
    """Draw a confusion matrix: rows are true classes, columns predictions.

    A cell's strength goes with the square root of its share of the row, so that a rare confusion is
    seen beside a common one; up to 20 classes each cell has its count. None above 200 classes,
    where a cell would be too small to see.
    """
    n = len(confusion)
    if not 0 < n <= 200:
        return None
    names = [_label(name) for name in class_names(classes, n)]
    named = n <= 30
    cell = min(56, 360 / n) if named else 480 / n
    font = min(11.5, cell * 0.75 + 1) if named else 11.5
    # Text is drawn in the reader's font: 0.57 of its size a letter leaves room for wide ones.
    longest = max(map(len, names)) * font * 0.57
    room = 14 + (longest if named else 3 * font)
    slanted = named and longest > cell - 4
    left, top = room + 16, (room * 0.75 if slanted else 20) + 22
    right = room * 0.6 if slanted else 6
    width, height = left + n * cell + right, top + n * cell + 6
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((left / width, 6 / height, n * cell / width, n * cell / height))
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylim(n - 0.5, -0.5)

    shares = [[count / max(1, sum(row)) for count in row] for row in confusion]
    for (strength, on_diagonal), cells in sorted(_levels(shares).items()):
        squares = [_square(i, j, 0.94 if named else 1) for i, j in cells]
        colour = svg.RIGHT if on_diagonal else svg.WRONG
        path = Outline.make_compound_path(*squares)
        axes.add_patch(PathPatch(path, facecolor=colour, alpha=strength / 16, linewidth=0))
    counts = [(i, j, count) for i, row in enumerate(confusion) for j, count in enumerate(row)]
    for i, j, count in counts if n <= 20 else ():
        if count:
            size = min(13, cell * 0.36, cell * 1.3 / len(f"{count:,}"))
            text = axes.text(j, i, f"{count:,}", fontsize=size, color=_on(sqrt(shares[i][j])))
            text.set(ha="center", va="center_baseline")

    step = 1 if named else 10
    ticks = list(range(0, n, step))
    labels = names if named else [str(i) for i in ticks]
    axes.set_xticks(ticks, labels, parse_math=False)
    axes.set_yticks(ticks, labels, parse_math=False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0, labelsize=font, labelcolor=svg.INK, pad=4)
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="left", va="baseline", rotation_mode="anchor")
    axes.set_xlabel("predicted", color=svg.MUTED, fontsize=11, labelpad=6)
    figure.text(9 / width, (6 + n * cell / 2) / height, "true", color=svg.MUTED, fontsize=11)
    figure.texts[-1].set(rotation=90, ha="center", va="center", rotation_mode="anchor")
    for spine in axes.spines.values():
        spine.set_color(svg.RULE)

    total = sum(map(sum, confusion))
    right_ones = sum(confusion[i][i] for i in range(n))
    description = f"Confusion matrix of {n} classes: {right_ones:,} of {total:,} samples right"
    if total:
        description += f", {percent(right_ones / total)}"
    return Plot("Confusion", svg.inline(figure, "confusion", f"{description}."), named=named)


def _levels(shares: list[list[float]]) -> dict[tuple[int, bool], list[tuple[int, int]]]:
    """Sort cells by strength: one path for each of 16 levels keeps 100 classes a small drawing."""
    levels: dict[tuple[int, bool], list[tuple[int, int]]] = {}
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share:
                strength = max(3, min(16, round(16 * sqrt(share))))
                levels.setdefault((strength, i == j), []).append((i, j))
    return levels


def _on(strength: float) -> str:
    """Return the colour of text that can be read on a cell, in the light and in the dark."""
    return svg.INK if strength <= 0.6 else svg.BLACK if strength <= 0.85 else svg.PAPER


def _square(row: int, column: int, side: float) -> Outline:
    low, high = -side / 2, side / 2
    corners = ((low, low), (high, low), (high, high), (low, high), (low, low))
    codes = [Outline.MOVETO, *3 * [Outline.LINETO], Outline.CLOSEPOLY]
    return Outline([(column + x, row + y) for x, y in corners], codes)


def _label(name: str, longest: int = 18) -> str:
    # Control characters cannot stand in XML, and a line break would move the label.
    name = re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+", " ", name).strip()
    name = name or "?"
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
