"""Drawings of the course and of the annotated source.

Blocks and maps are drawn off the modules of a network; what a network does not show, such as three
forms of one function, is drawn by hand here. Colours are variables, whose values stand in site.css.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from resnets.analysis.drawing import draw_maps, draw_units
from resnets.analysis.drawing.parts import maps_and_units
from resnets.analysis.drawing.shapes import (
    COLOURS,
    FONT,
    GREY,
    INK,
    LINE,
    arrow,
    box,
    dot,
    sign,
    text,
)
from resnets.spec import Spec

CSS = Path(__file__).with_name("site.css")
PURPLE = COLOURS["shortcut"][1]
VARIABLES = {
    INK: "ink",
    GREY: "muted",
    LINE: "line",
    "#f6f8fa": "panel",
    "#fff": "card",
    "#eaf1fa": "top",
    "#d3e2f4": "front",
    "#b4cce8": "side",
    **{fill: kind for kind, (fill, _) in COLOURS.items()},
    **{edge: f"{kind}-edge" for kind, (_, edge) in COLOURS.items()},
}

Entry = tuple[str, str, Spec, int]  # title, the line below it, the net, which of its blocks


def blocks(*entries: Entry) -> str:
    """Return blocks of nets side by side; a block is numbered from 0 through all stages."""
    units = [
        (maps_and_units(spec)[1][number], title, line) for title, line, spec, number in entries
    ]
    return themed(draw_units(units))


def each(*entries: Entry) -> list[str]:
    """Return the same as a drawing for each block, which a page can put below each other."""
    return [blocks(entry) for entry in entries]


def maps(spec: Spec) -> str:
    """Return a net's feature maps in a row."""
    return themed(draw_maps(spec))


def themed(svg: str) -> str:
    """Return a drawing whose colours are the page's variables."""
    return re.sub(r'"(#[0-9a-f]{3,6})"', lambda found: f'"var(--d-{VARIABLES[found[1]]})"', svg)


def standalone(svg: str) -> str:
    """Return a drawing as a file of its own, which brings the colours of site.css along.

    An image in a page sees none of the page's variables, only whether the reader's system is dark.
    """
    used = set(re.findall(r"var\((--[\w-]+)\)", svg))
    light, dark = (
        "".join(f"{name}:{value};" for name, value in _palette(selector).items() if name in used)
        for selector in (":root", '[data-md-color-scheme="slate"]')
    )
    style = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    head, end, rest = svg.partition(">")
    if "xmlns=" not in head:
        head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return head + end + style + rest


def _palette(selector: str) -> dict[str, str]:
    css = CSS.read_text(encoding="utf-8")
    block = css.split(f"{selector} {{", 1)[1].split("}", 1)[0]
    return dict(re.findall(r"(--[\w-]+): ([^;]+);", block))


def frame(title: str, width: float, height: float, pieces: Sequence[str]) -> str:
    """Return pieces on a card, themed; the title is for those who cannot see it."""
    return themed(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="{FONT}" role="img">'
        f"<title>{escape(title)}</title>"
        f'<rect width="{width:g}" height="{height:g}" rx="14" fill="#fff"/>'
        + "".join(pieces)
        + "</svg>"
    )


def _panel(x: float, width: float, height: float, title: str, line: str) -> list[str]:
    return [
        f'<rect x="{x:g}" y="0" width="{width:g}" height="{height:g}" rx="12" fill="#f6f8fa"/>',
        text(x + 20, 32, title, size=17, anchor="start", bold=True),
        text(x + 20, 53, line, colour=GREY, anchor="start"),
    ]


def _layer(x: float, y: float, words: str, kind: str = "conv", width: float = 84) -> str:
    return box(x, y, width, 30, kind, words, words, "layer")


def three_forms() -> list[str]:
    """Return ResNeXt's block in its three forms (Xie et al. 2017, Fig. 3), one drawing each."""
    return [_split_form(), _concatenated_form(), _grouped_form()]


WIDE, HIGH = 330, 372
COLUMNS = (72, 174, 290)  # the middles of the paths that are drawn: two of 32, and the last


def _form(title: str, line: str, pieces: Sequence[str]) -> str:
    signal = [
        text(174, 84, "256 channels", colour=GREY),
        text(174, HIGH - 12, "256 channels", colour=GREY),
    ]
    return frame(
        f"{title}: {line}",
        WIDE + 40,
        HIGH,
        [*_panel(0, WIDE + 40, HIGH, title, line), *signal, *pieces],
    )


def _around(join: float) -> list[str]:
    """Return the identity shortcut beside what ends at the join."""
    side = 346
    return [
        dot(174, 98, PURPLE),
        arrow((174, 98), (side, 98), (side, join), (186, join), colour=PURPLE),
        sign(174, join, "+"),
        arrow((174, join + 12), (174, HIGH - 26)),
    ]


def _paths(layers: Sequence[str], join: float, beside: float) -> list[str]:
    """Return the drawn ones of 32 equal paths, from the split to what joins them.

    ``join`` is the middle of what joins them, ``beside`` how far from it its edge is.
    """
    pieces = [text(232, 138, "…", size=18, colour=GREY)]
    for x in COLUMNS:
        start = (
            [(174.0, 98.0), (x, 98.0), (x, 118.0)] if x != 174 else [(174.0, 92.0), (174.0, 118.0)]
        )
        pieces.append(arrow(*start))
        y = 118.0
        for number, words in enumerate(layers):
            if number:
                pieces.append(arrow((x, y - 16), (x, y)))
            pieces.append(_layer(x, y, words))
            y += 46
        end = [(x, y - 16), (x, join), (174 + (beside if x > 174 else -beside), join)]
        pieces.append(arrow(*end) if x != 174 else arrow((x, y - 16), (x, join - min(beside, 15))))
    return pieces


def _split_form() -> str:
    join = 288
    return _form(
        "a: split, transform, add",
        "32 small blocks, their results added",
        [
            *_paths(["1×1, 4", "3×3, 4", "1×1, 256"], join - 14, 12),
            sign(174, join - 14, "+"),
            arrow((174, join - 2), (174, join + 20)),
            *_around(join + 32),
        ],
    )


def _concatenated_form() -> str:
    return _form(
        "b: concatenate, then one 1×1",
        "32 × 4 channels side by side",
        [
            *_paths(["1×1, 4", "3×3, 4"], 231, 55),
            _layer(174, 216, "concatenate", "extra", 110),
            arrow((174, 246), (174, 258)),
            _layer(174, 258, "1×1, 256", width=110),
            arrow((174, 288), (174, 308)),
            *_around(320),
        ],
    )


def _grouped_form() -> str:
    pieces = [arrow((174, 92), (174, 118))]
    for y, words in zip(
        (118, 172, 226), ("1×1, 128", "3×3, 128, 32 groups", "1×1, 256"), strict=True
    ):
        pieces.append(_layer(174, y, words, width=170))
        if y < 226:
            pieces.append(arrow((174, y + 30), (174, y + 54)))
    return _form(
        "c: one grouped convolution",
        "the form that the code uses",
        [*pieces, arrow((174, 256), (174, 308)), *_around(320)],
    )


def sheet(drawings: Sequence[str], columns: int) -> str:
    """Return drawings in rows, as one."""
    gap, top, wide = 16.0, 0.0, 0.0
    pieces: list[str] = []
    for first in range(0, len(drawings), columns):
        row = drawings[first : first + columns]
        sizes = [size(drawing) for drawing in row]
        left = 0.0
        for drawing, (width, _) in zip(row, sizes, strict=True):
            pieces.append(drawing.strip().replace("<svg ", f'<svg x="{left:g}" y="{top:g}" ', 1))
            left += width + gap
        top += max(height for _, height in sizes) + gap
        wide = max(wide, left - gap)
    sides = f'viewBox="0 0 {wide:g} {top - gap:g}" width="{wide:g}" height="{top - gap:g}"'
    card = '<rect width="100%" height="100%" rx="14" fill="var(--d-card)"/>'
    return f'<svg {sides} font-family="{FONT}" role="img">{card}{"".join(pieces)}</svg>'


def size(svg: str) -> tuple[float, float]:
    """Return a drawing's width and height."""
    width, height = re.findall(r'\b(?:width|height)="([\d.]+)"', svg.split(">", 1)[0])
    return float(width), float(height)


def zero_padding() -> list[str]:
    """Return where option A's zero channels stand: behind the others, or on both sides."""
    return [
        _channels("end", "behind the others", 0, 16),
        _channels("both", "half before them", 8, 8),
    ]


def _channels(title: str, line: str, before: int, after: int) -> str:
    side, old = 9, 16
    pieces = _panel(0, 340, 150, f"zero_pad = {title}", line)
    for channel in range(before + old + after):
        known = before <= channel < before + old
        fill = "#dbe8f8" if known else "#fff"
        pieces.append(
            f'<rect x="{20 + channel * side}" y="76" width="{side - 2}" height="34" '
            f'fill="{fill}" stroke="{COLOURS["conv"][1] if known else LINE}"/>'
        )
    middle = 20 + side * (before + old / 2)
    pieces.append(text(middle, 130, "16 channels of x", size=12))
    others = [(before / 2, before), (before + old + after / 2, after)]
    pieces += [
        text(20 + side * at, 130, f"{count} zeros", size=12, colour=GREY)
        for at, count in others
        if count
    ]
    return frame(f"zero_pad {title}", 340, 150, pieces)


def stride_positions() -> list[str]:
    """Return which block of a stage of three halves the map."""
    return [
        _three_blocks("first", "the papers, torchvision", (2, 1, 1)),
        _three_blocks("last", "keras.applications' V2", (1, 1, 2)),
    ]


def _three_blocks(title: str, line: str, strides: Sequence[int]) -> str:
    pieces = _panel(0, 412, 140, f"stride_position = {title}", line)
    side, x = 56, 20.0
    pieces.append(text(x + 14, 104, f"{side}²", size=13))
    for stride in strides:
        pieces.append(arrow((x + 30, 100), (x + 48, 100)))
        kind = "shortcut" if stride > 1 else "conv"
        pieces.append(box(x + 80, 84, 62, 32, kind, f"stride {stride}", "block", "layer"))
        side //= stride
        x += 118
        pieces.append(text(x + 10, 104, f"{side}²", size=13))
    return frame(f"stride_position {title}", 412, 140, pieces)


def paddings() -> list[str]:
    """Return what a 3x3 convolution with stride 2 reads of eight pixels, in both manners."""
    return [
        _row_of_pixels("symmetric", "torch: one zero on either side", 1, 1),
        _row_of_pixels("same", "TensorFlow: one zero, at the end", 0, 1),
    ]


def _row_of_pixels(title: str, line: str, before: int, after: int) -> str:
    side, pixels = 27, 8
    pieces = _panel(0, 330, 160, f"padding = {title}", line)
    left = 20 + side * (1 - before)
    for at in range(before + pixels + after):
        inside = before <= at < before + pixels
        x = left + at * side
        pieces.append(
            f'<rect x="{x}" y="72" width="{side - 3}" height="{side - 3}" rx="3" '
            f'fill="{"#dbe8f8" if inside else "#fff"}" '
            f'stroke="{COLOURS["conv"][1] if inside else LINE}"/>'
        )
        if not inside:
            pieces.append(text(x + 12, 89, "0", colour=GREY))
    for window in range(pixels // 2):
        x = left + 2 * window * side
        y = 106 + 12 * (window % 2)
        pieces.append(
            f'<path d="M{x} {y - 5}v5h{3 * side - 3}v-5" fill="none" '
            f'stroke="{PURPLE}" stroke-width="1.6"/>'
        )
    pieces.append(
        text(20, 146, "brackets: what each output reads", size=12, colour=GREY, anchor="start")
    )
    return frame(f"padding {title}", 330, 160, pieces)


def dilations() -> list[str]:
    """Return which pixels the nine weights of a 3x3 convolution read, dilated and not."""
    return [_grid(1, "neighbours"), _grid(2, "every second pixel"), _grid(4, "every fourth pixel")]


def _grid(dilation: int, line: str) -> str:
    side, pixels = 15, 9
    pieces = _panel(0, 190, 222, f"dilation {dilation}", line)
    for row in range(pixels):
        for column in range(pixels):
            read = all(abs(at - 4) in (0, dilation) for at in (row, column))
            fill, edge = (COLOURS["conv"][1], COLOURS["conv"][1]) if read else ("#fff", LINE)
            pieces.append(
                f'<rect x="{24 + column * side}" y="{70 + row * side}" width="{side - 2}" '
                f'height="{side - 2}" fill="{fill}" stroke="{edge}" stroke-width=".6"/>'
            )
    return frame(f"dilation {dilation}", 190, 222, pieces)


def stochastic_depth() -> str:
    """Return how the probability to drop a residual rises from block to block."""
    blocks, left, base = 9, 70, 170
    pieces = _panel(
        0, 470, 218, "drop_path = 0.2", "nine blocks: how often each residual is dropped"
    )
    for number in range(1, blocks + 1):
        probability = 0.2 * number / blocks
        height, x = 420 * probability, left + 42 * (number - 1)
        fill, edge = COLOURS["extra"]
        pieces += [
            f'<rect x="{x}" y="{base - height:.1f}" width="30" height="{height:.1f}" rx="3" '
            f'fill="{fill}" stroke="{edge}"/>',
            text(x + 15, base - height - 6, f"{100 * probability:.0f} %", size=11),
            text(x + 15, base + 18, str(number), size=12, colour=GREY),
        ]
    pieces.append(text(left + 42 * 4.4, base + 38, "block, first to last", size=12, colour=GREY))
    return frame("stochastic depth", 470, 218, pieces)


def unravelled() -> list[str]:
    """Return three blocks, and the eight paths through them (Veit et al. 2016, Fig. 1)."""
    names = ("F1", "F2", "F3")
    chain = _panel(0, 300, 345, "three blocks", "each way past a block doubles the paths")
    y = 80.0
    for name in names:
        chain += [
            arrow((150, y), (150, y + 26)),
            box(150, y + 26, 70, 30, "conv", name, name, "layer"),
            arrow((150, y + 56), (150, y + 60), head=False),
            dot(150, y + 8, PURPLE),
            arrow((150, y + 8), (220, y + 8), (220, y + 70), (162, y + 70), colour=PURPLE),
            sign(150, y + 70, "+"),
        ]
        y += 80
    chain += [text(150, 76, "x", bold=True, italic=True), arrow((150, y + 2), (150, y + 18))]
    paths = _panel(0, 400, 345, "their paths", "2 × 2 × 2 = 8, through 0 to 3 of the blocks")
    masks = sorted(range(8), key=lambda mask: (mask.bit_count(), -mask))
    for row, mask in enumerate(masks):
        y = 84 + 30 * row
        paths.append(text(24, y + 5, "x", bold=True, italic=True))
        x = 36.0
        for place, name in enumerate(names):
            if mask & (4 >> place):
                paths += [
                    arrow((x, y), (x + 34, y)),
                    box(x + 58, y - 12, 48, 24, "conv", name, name, "layer"),
                ]
                x += 82
            else:
                paths.append(arrow((x, y), (x + 82, y), colour=PURPLE, head=False))
                x += 82
        paths.append(arrow((x, y), (x + 26, y)))
        paths.append(text(x + 40, y + 5, str(mask.bit_count()), colour=GREY, anchor="start"))
    paths.append(text(36 + 3 * 82 + 44, 70, "blocks", size=11, colour=GREY, anchor="middle"))
    return [frame("three blocks", 300, 345, chain), frame("eight paths", 400, 345, paths)]
