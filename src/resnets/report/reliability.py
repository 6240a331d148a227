"""Reliability diagrams: how often what a model is so sure of is so."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from resnets.formatting import percent
from resnets.report import svg
from resnets.report.plots import Line, Plot, style_axes

_WIDTH, _HEIGHT = 370, 300
_LARGEST = 11  # points across that of the bin of most images


def reliability_diagram(
    curves: Mapping[str, Mapping[str, Sequence[Any]]], title: str = "Reliability"
) -> Plot:
    """Draw, for each named curve, the share that is so over the mean probability of its bins.

    A curve has "counts", "confidence" and "accuracy" of bins, None in empty ones; a point is the
    larger, the more there is in its bin. What is on the diagonal can be taken at its word, what is
    below it is too sure.
    """
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
    axes = figure.add_axes((42 / _WIDTH, 40 / _HEIGHT, 1 - 54 / _WIDTH, 1 - 52 / _HEIGHT))
    axes.plot([0, 100], [0, 100], color=svg.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    told, keys = [], []
    for place, (name, bins) in enumerate(curves.items()):
        full = [i for i, count in enumerate(bins["counts"]) if count]
        x, y = ([100 * bins[key][i] for i in full] for key in ("confidence", "accuracy"))
        axes.plot(x, y, color=svg.SERIES[place], linewidth=1.8)
        most = max(bins["counts"])
        sizes = [max(2.5, _LARGEST * (bins["counts"][i] / most) ** 0.5) ** 2 for i in full]
        axes.scatter(x, y, sizes, color=svg.SERIES[place], clip_on=False, zorder=3)
        keys.append(Line(name, [], place, 0).key)
        said = (
            f"{percent(b / 100)} right where {percent(a / 100)} sure"
            for a, b in zip(x, y, strict=True)
        )
        told.append(f"{name}: {', '.join(said)}.")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 101.5)
    style_axes(axes, "sure, %")
    return Plot(f"{title}, % right", svg.inline(figure, "reliability", " ".join(told)), tuple(keys))
