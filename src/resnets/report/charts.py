"""Curves over anything: what a study draws."""

from collections.abc import Sequence
from math import log10

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from resnets.report import svg
from resnets.report.plots import DASHES, Line, Plot, style_axes

_WIDTH, _HEIGHT = 420, 270
_DECADES = 1.5  # that a logarithmic axis has at least for a mark at each power of ten alone


def lines_chart(
    name: str,
    title: str,
    lines: Sequence[Line],
    *,
    across: str,
    up: tuple[float | None, float | None] = (None, None),
    begin: float | None = None,
    logarithmic: bool = False,
    marked: bool = False,
    names: Sequence[str] = (),
    dots: Sequence[Line] = (),
) -> Plot:
    """Draw lines over ``across``; each has its place in the order of colours and dashes.

    ``up`` is where the vertical axis begins and ends and ``begin`` where the other one begins, of
    None as the values have it; the vertical is ``logarithmic``, or not; each point is ``marked``,
    or is not. ``names`` stand below the points 0, 1, ... where these are things rather than
    numbers. ``dots`` are points that no line joins.
    """
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
    axes = figure.add_axes((50 / _WIDTH, 42 / _HEIGHT, 1 - 62 / _WIDTH, 1 - 54 / _HEIGHT))
    for line in lines:
        axes.plot(
            [x for x, _ in line.points],
            [y for _, y in line.points],
            color=svg.SERIES[line.colour],
            linestyle=DASHES[line.dash],
            linewidth=1.8,
            marker="o" if marked or len(line.points) < 2 else "",
            markersize=4,
        )
    for line in dots:
        places, heights = zip(*line.points, strict=True)
        axes.plot(places, heights, "o", color=svg.SERIES[line.colour], markersize=4.4, alpha=0.55)
    if logarithmic:
        axes.set_yscale("log")
    low, high = up
    if low == 0 and high is None:
        high = 1.06 * max(y for line in (*lines, *dots) for _, y in line.points) or 1.0
    axes.set_ylim(low, high or None)
    axes.set_xlim(left=begin)
    style_axes(axes, across)
    if logarithmic:
        low, high = axes.get_ylim()
        few = log10(high / low) < _DECADES
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
    whole = all(float(x).is_integer() for line in lines for x, _ in line.points)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10], integer=whole))
    if names:
        axes.set_xticks(range(len(names)), names, parse_math=False)
    description = f"{title}. {' '.join(_described(line, across) for line in lines)}"
    keys = tuple(line.key for line in lines if line.label)
    return Plot(title, svg.inline(figure, name, description), keys)


def _described(line: Line, across: str) -> str:
    (start, first), (end, last) = line.points[0], line.points[-1]
    label = f"{line.label}: " if line.label else ""
    return f"{label}from {first:.3g} at {across} {start:g} to {last:.3g} at {end:g}."
