"""The drawing of a network: the whole net as a row of feature maps, its blocks enlarged below."""

import re
from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from textwrap import wrap
from xml.sax.saxutils import escape

from resnets.analysis.drawing.parts import DrawnLayer, Map, Unit, kinds_of_units, maps_and_units
from resnets.analysis.drawing.shapes import (
    COLOURS,
    FONT,
    GREY,
    INK,
    arrow,
    box,
    cuboid,
    dot,
    sign,
    text,
    text_width,
)
from resnets.analysis.profiling import Profile, profile
from resnets.spec import Spec
from resnets.zoo import get_spec

MARGIN = 60
WIDTH = 1080  # at least; what does not fit makes the page wider
COLUMN = 134  # least width of a map's column
PANEL_GAP = 24
GAP = 17  # between two boxes of a path
HEIGHTS = {"conv": 32, "norm": 25, "activation": 25, "shortcut": 32, "extra": 32}
PURPLE = COLOURS["shortcut"][1]


def draw(spec: Spec | str) -> str:
    """Return a network's drawing as SVG text: the whole net and each kind of block it has.

    Raises UsageError for an unknown name.
    """
    spec = get_spec(spec) if isinstance(spec, str) else spec
    return _draw(spec, spec.name)


@lru_cache(maxsize=64)
def _draw(spec: Spec, name: str) -> str:
    """Draw it once for several seeds or trials; equal specs may differ in name."""
    maps, units = maps_and_units(spec)
    kinds = kinds_of_units(units)
    panels = [
        _Panel(unit, _title(unit, count, [u for u, _ in kinds]), _subtitle(unit, count, len(units)))
        for unit, count in kinds
    ]
    inner = max(
        WIDTH - 2 * MARGIN,
        COLUMN * len(maps),
        max(panel.least_width for panel in panels) * len(panels) + PANEL_GAP * (len(panels) - 1),
    )
    header, y = _header(spec, profile(spec), inner)
    row, y = _row(maps, inner, y)
    width = (inner - PANEL_GAP * (len(panels) - 1)) / len(panels)
    height = max(panel.height for panel in panels)
    figures = [
        panel.draw(MARGIN + i * (width + PANEL_GAP), y, width, height)
        for i, panel in enumerate(panels)
    ]
    pieces = [*header, *row, *(piece for figure in figures for piece in figure)]
    size = (inner + 2 * MARGIN, y + height + MARGIN)
    return _svg(spec.name, _description(spec, maps), size, pieces)


def draw_maps(spec: Spec) -> str:
    """Return a network's feature maps in a row, without its blocks, as SVG text."""
    maps, _ = maps_and_units(spec)
    inner = COLUMN * len(maps)
    row, end = _row(maps, inner, 0)
    size = (inner + 2 * MARGIN, end)
    return _svg(f"{spec.name}: its feature maps", _description(spec, maps), size, row)


def draw_units(units: Sequence[tuple[Unit, str, str]]) -> str:
    """Return blocks side by side as SVG text, each with a title and a line below it."""
    panels = [_Panel(unit, title, subtitle) for unit, title, subtitle in units]
    height = max(panel.height for panel in panels)
    pieces: list[str] = []
    x = 0.0
    for panel in panels:
        pieces += panel.draw(x, 0, panel.least_width, height)
        x += panel.least_width + PANEL_GAP
    titles = ", ".join(title for _, title, _ in units)
    return _svg(titles, f"{titles}: blocks, layer by layer", (x - PANEL_GAP, height), pieces)


def _svg(title: str, description: str, size: tuple[float, float], pieces: list[str]) -> str:
    width, height = (f"{side:.0f}" for side in size)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="{FONT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(description)}</desc>",
        # A card of its own: it prints as it looks, and stands on a dark page too.
        f'<rect width="{width}" height="{height}" rx="14" fill="#fff"/>',
        *pieces,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _description(spec: Spec, maps: list[Map]) -> str:
    """Return the drawing in words, for those who cannot see it."""
    stages = [", ".join([m.name, *m.lines, " x ".join(map(str, m.shape))]) for m in maps]
    return f"{spec.variant}. {'; '.join(stages)}."


def _header(spec: Spec, cost: Profile, inner: float) -> tuple[list[str], float]:
    """Return the name, the variant and the cost, and where they end."""
    y = 76.0
    pieces = [text(MARGIN, y, spec.name, size=34, anchor="start", bold=True)]
    variant = re.sub(r"(?<=[\d ])x(?=[\d ])", "×", spec.variant)
    if not variant.startswith("v"):  # a version stays small
        variant = variant[0].upper() + variant[1:]
    for line in wrap(variant, int(inner / 7.6)):
        y += 28 if len(pieces) == 1 else 21
        pieces.append(text(MARGIN, y, line, size=16, colour=GREY, anchor="start"))
    figures = (
        f"{cost.parameters:,} parameters  ·  {cost.macs:,} multiply-adds  ·  "
        f"receptive field {cost.receptive_field}"
    )
    y += 25
    pieces.append(text(MARGIN, y, figures, size=16, colour=GREY, anchor="start"))
    return pieces, y


def _row(maps: list[Map], inner: float, top: float) -> tuple[list[str], float]:
    """Return the whole net as a row of maps, and where it ends.

    Height follows the root of a map's side, thickness that of its channels, roughly.
    """
    tallest, column = 140, inner / len(maps)
    y = top + 36 + tallest * 0.64
    baseline = y + tallest * 0.64 + 22
    side = max(m.shape[1] for m in maps if len(m.shape) == 3)
    # The thickest still leaves room for an arrow.
    thickest = max(m.shape[0] for m in maps) ** 0.42
    scale = min(3.6, (column - 62) / thickest)
    pieces: list[str] = []
    end = None
    for i, m in enumerate(maps):
        height = tallest * sqrt((m.shape[1] if len(m.shape) == 3 else 1) / side)
        width, depth = scale * m.shape[0] ** 0.42, 0.28 * height
        middle = MARGIN + column * (i + 0.5)
        left = middle - (width + depth) / 2
        if end is not None:
            pieces.append(arrow((end + 10, y), (left - 8, y)))
        pieces.append(cuboid(left, y + depth / 2, width, height, depth))
        end = left + width + depth
        pieces.append(text(middle, baseline, m.name, size=15, bold=True))
        pieces.append(text(middle, baseline + 20, _size(m.shape)))
        for number, line in enumerate(m.lines):
            pieces.append(text(middle, baseline + 40 + 18 * number, line, colour=GREY))
    lines = max(len(m.lines) for m in maps)
    return pieces, baseline + 20 + 18 * lines + 40


def _title(unit: Unit, count: int, others: list[Unit]) -> str:
    """Return the name of a block's shortcut, and what sets it apart from others of that name."""
    same = [other for other in others if other.title == unit.title]
    if len(same) > 1 and unit.is_first and count == 1:
        return f"{unit.title}, first block"
    if len({other.keeps_shape for other in same}) > 1:
        return f"{unit.title}, {'same' if unit.keeps_shape else 'new'} shape"
    return unit.title


def _subtitle(unit: Unit, count: int, total: int) -> str:
    place = f"block {unit.position + 1} of layer{unit.stage + 1}"
    if count > 1:
        return f"{place}; {count} of the {total} blocks are of this kind"
    return f"{place}, the only one of its kind" if total > 1 else place


class _Panel:
    """A block, enlarged."""

    def __init__(self, unit: Unit, title: str, subtitle: str) -> None:
        self.unit, self.title, self.subtitle = unit, title, subtitle
        self.main_width = _widest((*unit.before, *unit.residual, *unit.after), least=160)
        self.side_width = _widest(unit.shortcut, least=0)
        self.gate_width = _widest(unit.gate, least=110) if unit.gate else 0
        # From the main path's middle to the shortcut's.
        self.apart = self.main_width / 2 + 40 + max(self.side_width / 2, 24)
        if unit.gate:
            self.apart += self.gate_width + 60
        if not unit.joined:
            self.apart = 0
        self.right = max(self.side_width / 2, 70 if unit.joined else self.main_width / 2)
        self.figure_width = self.main_width / 2 + self.apart + self.right
        titles = (text_width(title, 18), text_width(self.subtitle, 13))
        self.least_width = max(self.figure_width, *titles) + 48
        self.height = self._figure(0, 0)[1] + 28

    def draw(self, x: float, y: float, width: float, height: float) -> list[str]:
        """Return the panel with its upper left corner at (x, y)."""
        centre = x + width / 2 - self.figure_width / 2 + self.main_width / 2
        return [
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="12" '
            f'fill="#f6f8fa"/>',
            text(x + 24, y + 34, self.title, size=18, anchor="start", bold=True),
            text(x + 24, y + 55, self.subtitle, colour=GREY, anchor="start"),
            *self._figure(centre, y)[0],
        ]

    def _figure(self, x: float, top: float) -> tuple[list[str], float]:
        """Return the block with its main path at x, and where it ends."""
        unit, side = self.unit, x + self.apart
        y = top + 98
        pieces = [_signal(x, y, "x", unit.input)]
        y = self._stack(pieces, x, y + 9, unit.before, "before")
        split = y + 11
        y = self._stack(pieces, x, y + 12, unit.residual, "residual", before=12)
        if unit.joined:
            weighed = any(unit.weights)
            weigh = y + 34 if weighed else None
            if weigh and unit.weights[1]:
                pieces += [arrow((x, y), (x, weigh - 12)), sign(x, weigh, "×")]
                y = weigh + 12
            join = weigh + 44 if weigh else y + 32
            pieces += [arrow((x, y), (x, join - 12)), sign(x, join, "+")]
            y = join + 12
            pieces += self._shortcut(x, side, split, join, weigh)
        y = self._stack(pieces, x, y, unit.after, "after")
        pieces += [arrow((x, y), (x, y + 24)), _signal(x, y + 42, "", unit.output)]
        return pieces, y + 46

    def _stack(
        self,
        pieces: list[str],
        x: float,
        y: float,
        layers: tuple[DrawnLayer, ...],
        path: str,
        *,
        before: float = 0,
    ) -> float:
        """Add boxes from y on, an arrow to each, to the first from ``before``; return their end."""
        for layer in layers:
            pieces.append(arrow((x, y - before), (x, y + GAP)))
            pieces.append(self._box(x, y + GAP, layer, path))
            y, before = y + GAP + HEIGHTS[layer.kind], 0
        return y

    def _shortcut(
        self, x: float, side: float, split: float, join: float, weigh: float | None
    ) -> list[str]:
        """Return the way beside the residual, from the split to the join."""
        unit = self.unit
        pieces = [dot(x, split)]
        gate_top = weigh - 108 if weigh and unit.gate else None
        end = gate_top or (weigh - 12 if weigh and unit.weights[0] else join)
        stack = sum(HEIGHTS[layer.kind] for layer in unit.shortcut)
        stack += 2 * GAP * max(len(unit.shortcut) - 1, 0)
        y = (split + end - stack) / 2
        start: list[tuple[float, float]] = [(x, split), (side, split)]
        for layer in unit.shortcut:
            pieces.append(arrow(*start, (side, y), colour=PURPLE))
            pieces.append(self._box(side, y, layer, "shortcut"))
            y += HEIGHTS[layer.kind]
            start, y = [(side, y)], y + 2 * GAP
        if not unit.shortcut:
            pieces.append(
                text(side + 12, y, "identity", colour=PURPLE, anchor="start", italic=True)
            )
        if weigh and unit.weights[0]:
            pieces.append(arrow(*start, (side, weigh - 12), colour=PURPLE))
            pieces.append(sign(side, weigh, "×", PURPLE))
            start = [(side, weigh + 12)]
        pieces.append(arrow(*start, (side, join), (x + 12, join), colour=PURPLE))
        if weigh and gate_top:
            pieces += self._gate(x, side, gate_top, weigh)
        elif weigh:
            pieces += [
                text(at + 19, weigh + 5, words, anchor="start", colour=colour)
                for at, words, colour in zip((side, x), unit.weights, (PURPLE, INK), strict=True)
                if words
            ]
        return pieces

    def _gate(self, x: float, side: float, top: float, weigh: float) -> list[str]:
        """Return the gate: a convolution of the shortcut, whose sigmoid weighs the paths."""
        unit = self.unit
        middle = side - max(self.side_width / 2, 24) - 30 - self.gate_width / 2
        convolution, sigmoid = unit.gate
        y = top + 30
        pieces = [
            dot(side, top, PURPLE),
            arrow((side, top), (middle, top), (middle, y), colour=PURPLE),
            self._box(middle, y, convolution, "gate"),
            arrow((middle, y + 32), (middle, weigh - 16), colour=PURPLE),
            box(middle, weigh - 16, 44, 32, "shortcut", sigmoid.text, sigmoid.name, "gate"),
            arrow((middle + 22, weigh), (side - 12, weigh), colour=PURPLE),
            text((middle + 22 + side - 12) / 2, weigh - 8, unit.weights[0], colour=PURPLE),
        ]
        if unit.weights[1]:
            pieces.append(arrow((middle - 22, weigh), (x + 12, weigh), colour=PURPLE))
            pieces.append(
                text((middle - 22 + x + 12) / 2, weigh - 8, unit.weights[1], colour=PURPLE)
            )
        return pieces

    def _box(self, x: float, y: float, layer: DrawnLayer, path: str) -> str:
        width = {"shortcut": self.side_width, "gate": self.gate_width}.get(path, self.main_width)
        return box(x, y, width, HEIGHTS[layer.kind], layer.kind, layer.text, layer.name, path)


def _widest(layers: tuple[DrawnLayer, ...], least: float) -> float:
    return max([least, *(text_width(layer.text, 13.5) + 22 for layer in layers)])


def _signal(x: float, y: float, name: str, shape: tuple[int, ...]) -> str:
    """Return a signal's size, centred, after its name if it has one."""
    size = text(x, y, _size(shape), colour=GREY)
    if not name:
        return size
    return size + text(
        x - text_width(_size(shape), 13) / 2 - 8, y, name, size=16, bold=True, italic=True
    )


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
