"""A surface over a square, from above as contours and in perspective, on one scale for several."""

from collections.abc import Sequence
from math import ceil, floor, log10

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from mpl_toolkits.mplot3d import Axes3D
from numpy.typing import NDArray

from resnets.report import svg
from resnets.report.plots import Plot

_SIDE = 360
_BANDS = 14  # colours
_COLOURS = colormaps["viridis_r"]  # pale where the loss is low; told apart by the colour-blind


class Scale:
    """The levels of several surfaces: equal steps of the logarithm, from the lowest to ``top``.

    What is higher has the last colour.
    """

    def __init__(self, surfaces: Sequence[NDArray[np.float64]], top: float) -> None:
        known = np.concatenate([surface.ravel() for surface in surfaces])
        low = max(float(np.nanmin(known)), 1e-6)
        high = max(min(float(np.nanmax(known)), top), 1.5 * low)
        self.levels = np.geomspace(low, high, _BANDS + 1)
        self.norm = LogNorm(low, high)

    def clipped(self, surface: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a surface cut off where the levels end; so is what is no number."""
        low, high = self.levels[0], self.levels[-1]
        found: NDArray[np.float64] = np.clip(np.nan_to_num(surface, nan=high), low, high)
        return found

    @property
    def marks(self) -> list[float]:
        """Round values on the scale: 1, 2 and 5 times powers of ten."""
        powers = range(floor(log10(self.levels[0])), ceil(log10(self.levels[-1])) + 1)
        values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        marks = [value for value in values if self.levels[0] <= value <= self.levels[-1]]
        return marks[:: 1 + len(marks) // 7]


def contours(
    name: str, title: str, surface: NDArray[np.float64], span: float, scale: Scale
) -> Plot:
    """Draw a surface (steps, steps) from above; a cross is in its middle."""
    figure = Figure(figsize=(_SIDE / 72, 0.86 * _SIDE / 72))
    axes = figure.add_axes((0.09, 0.1, 0.72, 0.86))
    along = np.linspace(-span, span, len(surface))
    values = scale.clipped(surface)
    axes.contourf(along, along, values, scale.levels, norm=scale.norm, cmap=_COLOURS)
    axes.contour(along, along, values, scale.levels[1:-1], colors=svg.BLACK, linewidths=0.4)
    axes.plot([0], [0], "+", color=svg.BLACK, markersize=9)
    axes.set_aspect("equal")
    _ticks(axes, span)
    axes.tick_params(length=0, labelsize=11, labelcolor=svg.MUTED, pad=6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.add_axes((0.85, 0.12, 0.04, 0.82))
    edges = scale.levels
    bar.pcolormesh([0, 1], edges, edges[:-1, None], norm=scale.norm, cmap=_COLOURS)
    bar.set_yscale("log")
    bar.yaxis.set_major_locator(FixedLocator(scale.marks))
    bar.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.yaxis.set_minor_locator(NullLocator())
    bar.yaxis.tick_right()
    bar.xaxis.set_major_locator(NullLocator())
    bar.tick_params(length=0, labelsize=11, labelcolor=svg.MUTED)
    for spine in bar.spines.values():
        spine.set_visible(False)
    return Plot(title, svg.inline(figure, name, _described(title, surface)))


def perspective(
    name: str, title: str, surface: NDArray[np.float64], span: float, scale: Scale
) -> Plot:
    """Draw a surface (steps, steps) as seen from one side, its height the logarithm."""
    figure = Figure(figsize=(_SIDE / 72, 0.86 * _SIDE / 72))
    axes: Axes3D = figure.add_axes((-0.04, 0.05, 1.08, 0.96), projection="3d")
    axes.set_box_aspect((4, 4, 2.6), zoom=0.98)
    along = np.linspace(-span, span, len(surface))
    values = scale.clipped(surface)
    x, y = np.meshgrid(along, along)
    middle = (values[1:, 1:] * values[:-1, :-1] * values[1:, :-1] * values[:-1, 1:]) ** 0.25
    axes.plot_surface(
        x,
        y,
        np.log10(values),
        facecolors=_COLOURS(scale.norm(middle)),
        rstride=1,
        cstride=1,
        shade=False,
        edgecolor=svg.BLACK,
        linewidth=0.15,
    )
    axes.set_zlim(log10(scale.levels[0]), log10(scale.levels[-1]))
    _ticks(axes, span)
    axes.zaxis.set_major_locator(FixedLocator([log10(mark) for mark in scale.marks]))
    axes.zaxis.set_major_formatter(lambda value, _: f"{10**value:.3g}")
    axes.view_init(elev=42, azim=-58)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0, 0, 0, 0))
        axis.line.set_color(svg.MUTED)
        axis._axinfo["grid"].update(color=svg.RULE, linewidth=0.6)
        axis.set_tick_params(labelsize=10, labelcolor=svg.MUTED, color=svg.MUTED, pad=0)
    return Plot(title, svg.inline(figure, name, _described(title, surface)))


def _ticks(axes: Axes, span: float) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([-span, 0, span]))
        axis.set_major_formatter(lambda value, _: f"{value:g}")


def _described(title: str, surface: NDArray[np.float64]) -> str:
    middle = surface[len(surface) // 2, len(surface) // 2]
    return (
        f"{title}. {middle:.3g} in the middle, {np.nanmin(surface):.3g} at the lowest, "
        f"{np.nanmax(surface):.3g} at the highest."
    )
