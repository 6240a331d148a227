"""The shapes that a drawing is made of, each a piece of SVG text.

Plain attributes instead of a style sheet, so that slide programs show what browsers show.
"""

from xml.sax.saxutils import escape, quoteattr

INK, GREY, LINE = "#1f2933", "#68737f", "#8593a3"
# Helvetica and what is cut to its measures: an SVG cannot measure its own text.
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
COLOURS = {  # of a box: fill and edge
    "conv": ("#dbe8f8", "#4878b0"),
    "norm": ("#fbedcf", "#c08a1e"),
    "activation": ("#dcf0e0", "#4c9a63"),
    "shortcut": ("#ebe3f6", "#8060b0"),
    "extra": ("#fbe1e4", "#bd5a6b"),
}


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: float = 13,
    colour: str = INK,
    anchor: str = "middle",
    bold: bool = False,
    italic: bool = False,
) -> str:
    """Return one line of text, its baseline at y."""
    extra = ' font-weight="600"' * bold + ' font-style="italic"' * italic
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" '
        f'text-anchor="{anchor}"{extra}>{escape(words)}</text>'
    )


def text_width(words: str, size: float) -> float:
    """Return about how wide a text is: a little more than most fonts make it."""
    return 0.56 * size * len(words)


def box(
    x: float, y: float, width: float, height: float, kind: str, words: str, name: str, path: str
) -> str:
    """Return a layer's rounded box, its upper edge centred at (x, y)."""
    fill, edge = COLOURS[kind]
    return (
        f'<g class="{path}" data-layer={quoteattr(name)}>'
        f'<rect x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:g}" '
        f'rx="6" fill="{fill}" stroke="{edge}" stroke-width="1.2"/>'
        f"{text(x, y + height / 2 + 4.7, words, size=13.5)}</g>"
    )


def dot(x: float, y: float, colour: str = LINE) -> str:
    """Return the dot where a path splits."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>'


def sign(x: float, y: float, words: str, colour: str = INK) -> str:
    """Return a circle with an operation's sign, drawn so that it does not depend on the font."""
    arm = 5.5
    turned = f' transform="rotate(45 {x:.1f} {y:.1f})"' if words == "×" else ""
    return (
        f'<g class="sign" data-sign="{words}"><circle cx="{x:.1f}" cy="{y:.1f}" r="12" '
        f'fill="#fff" stroke="{colour}" stroke-width="1.5"/>'
        f'<path d="M{x - arm:.1f} {y:.1f}H{x + arm:.1f}M{x:.1f} {y - arm:.1f}V{y + arm:.1f}" '
        f'stroke="{colour}" stroke-width="1.5" stroke-linecap="round"{turned}/></g>'
    )


def arrow(*points: tuple[float, float], colour: str = LINE, head: bool = True) -> str:
    """Return a line through right angles, rounded, with an arrowhead at its end."""
    (x0, y0), (x1, y1) = points[-2:]
    length = abs(x1 - x0) + abs(y1 - y0)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    way = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        start, end = _towards(corner, before), _towards(corner, after)
        way += (
            f"L{start[0]:.1f} {start[1]:.1f}"
            f"Q{corner[0]:.1f} {corner[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
        )
    back = 5 if head else 0  # the line ends inside the head
    way += f"L{x1 - back * ux:.1f} {y1 - back * uy:.1f}"
    line = f'<path d="{way}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
    if not head:
        return line
    left = (x1 - 8 * ux - 4 * uy, y1 - 8 * uy + 4 * ux)
    right = (x1 - 8 * ux + 4 * uy, y1 - 8 * uy - 4 * ux)
    return line + (
        f'<path d="M{x1:.1f} {y1:.1f}L{left[0]:.1f} {left[1]:.1f}L{right[0]:.1f} {right[1]:.1f}Z" '
        f'fill="{colour}"/>'
    )


def _towards(corner: tuple[float, float], point: tuple[float, float]) -> tuple[float, float]:
    """Return where a rounded corner begins on the way to a point."""
    dx, dy = point[0] - corner[0], point[1] - corner[1]
    length = max(abs(dx) + abs(dy), 1e-6)
    radius = min(12, length / 2)
    return corner[0] + dx / length * radius, corner[1] + dy / length * radius


def cuboid(x: float, y: float, width: float, height: float, depth: float) -> str:
    """Return a block of feature maps, its front's left edge centred at (x, y)."""
    top, bottom, right = y - height / 2, y + height / 2, x + width
    faces = [
        (
            f"M{x:.1f} {top:.1f}l{depth:.1f} {-depth:.1f}h{width:.1f}L{right:.1f} {top:.1f}Z",
            "eaf1fa",
        ),
        (
            f"M{right:.1f} {top:.1f}l{depth:.1f} {-depth:.1f}v{height:.1f}"
            f"L{right:.1f} {bottom:.1f}Z",
            "b4cce8",
        ),
        (f"M{x:.1f} {top:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}Z", "d3e2f4"),
    ]
    return "".join(
        f'<path d="{way}" fill="#{fill}" stroke="#4878b0" stroke-width="1.1" '
        f'stroke-linejoin="round"/>'
        for way, fill in faces
    )
