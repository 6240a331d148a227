"""A matplotlib figure as SVG that belongs to its page: its colours, its font, its dark mode.

Figures are drawn with stand-in colours; here they become the page's CSS variables.
"""

import io
import re
import warnings
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

INK = "#000001"
MUTED = "#000002"
RULE = "#000003"
PAPER = "#000004"
RIGHT = "#000005"  # the diagonal of a confusion matrix
WRONG = "#000006"
BLACK = "#000007"  # on cells of middling strength, which are as light in the dark as in the light
SERIES = tuple(f"#0000{i:02x}" for i in range(16, 24))

VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    RIGHT: "var(--right)",
    WRONG: "var(--wrong)",
    BLACK: "#1d1d1b",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, start=1)},
}


def inline(figure: Figure, name: str, description: str) -> Markup:
    """Return the figure as an ``<svg>`` element to stand in an HTML page.

    ``name`` sets its ids apart from those of other figures; ``description`` is read out to those
    who cannot see it. Equal figures give equal text.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser draws the text in a font of its own; what matplotlib's lacks is no matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    _adopt(root, name)
    root.attrib = {
        "viewBox": f"0 0 {width} {height}",
        "width": str(width),
        "height": str(height),
        "role": "img",
        "aria-label": description,
        # matplotlib says this in a style sheet, which would reach the whole page.
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    # Escaped by the serializer, attribute by attribute and text by text.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _adopt(element: ElementTree.Element, name: str) -> None:
    element.tag = _local(element.tag)
    element.attrib = {_local(key): value for key, value in element.attrib.items()}
    for key, value in element.attrib.items():
        if key == "id":
            element.set(key, f"{name}-{value}")
        elif key == "href":
            element.set(key, value.replace("#", f"#{name}-", 1))
        elif key == "clip-path":
            element.set(key, value.replace("url(#", f"url(#{name}-"))
        elif key == "style":
            element.set(key, _style(value))
    for child in list(element):
        if _local(child.tag) in ("metadata", "style") or _empty_defs(child):
            element.remove(child)
        else:
            _adopt(child, name)
    # White space between elements is most of a small figure's size.
    if element.text is not None and not element.text.strip():
        element.text = None
    element.tail = None


def _empty_defs(element: ElementTree.Element) -> bool:
    return _local(element.tag) == "defs" and all(_local(c.tag) == "style" for c in element)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _style(style: str) -> str:
    style = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", style)
    style = re.sub(r"font-family: [^;]*;? ?", "", style)
    return re.sub(r"#0000[0-9a-f]{2}", lambda m: VARIABLES.get(m[0], m[0]), style)
