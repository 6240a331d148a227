"""Draw the alignment of docs/structure.md: what its file holds, and where that belongs."""

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from resnets.analysis.drawing.shapes import COLOURS, FONT, GREY, INK, LINE, text

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("structure.md")
ROW, GAP, TOP = 30, 14, 76  # heights of a row, between blocks, and above the first
THEIRS, OURS, RIGHT = 30, 480, 940  # left edges of the columns, and the right edge of all
PILL, OWN = 320, 210  # widths of the pills
Module = dict[str, Any]


def alignment(file: str) -> list[Module]:
    """Return what `resnets inspect --keys` says of a file."""
    command = [sys.executable, "-m", "resnets", "inspect", file, "--keys", "--json"]
    told = subprocess.run(command, check=True, capture_output=True)
    found: list[Module] = json.loads(told.stdout)["alignment"]
    return found


def block_of(module: Module) -> str:
    """Return the block of a module of ours, or what else it is a part of."""
    name = module["ours"]
    if name.startswith("layer"):
        return ".".join(name.split(".")[:2])
    return "fc" if name == "fc" else "conv1"


def words_of(block: str, first: Module) -> tuple[str, str]:
    """Return what a block is, and what its first module's shape says of it."""
    outputs, inputs = first["shape"][:2]
    if block == "fc":
        return "classifier", f"{inputs} channels, {outputs} classes"
    if block == "conv1":
        return "stem", f"{inputs} channels become {outputs}"
    stage, number = block.removeprefix("layer").split(".")
    change = f"stay {outputs}" if inputs == outputs else f"become {outputs}, projected"
    return f"stage {stage}, block {number}", f"{inputs} channels {change}"


def kind_of(module: Module) -> str:
    """Return which colour a module has."""
    if len(module["shape"]) == 4:
        return "shortcut" if "downsample" in module["ours"] else "conv"
    return "norm" if len(module["shape"]) == 1 else "activation"


def pill(x: float, y: float, width: float, kind: str, name: str, shape: str = "") -> str:
    """Return a row's rounded box with a name and, at its right end, a shape."""
    fill, edge = COLOURS[kind]
    return (
        f'<rect x="{x}" y="{y + 3}" width="{width}" height="{ROW - 6}" rx="6" fill="{fill}" '
        f'stroke="{edge}" stroke-width="1.1"/>'
        + text(x + 11, y + ROW / 2 + 4.5, name, size=13, anchor="start")
        + text(x + width - 11, y + ROW / 2 + 4.2, shape, size=11.5, colour=GREY, anchor="end")
    )


def strand(y: float, end: float, kind: str) -> str:
    """Return the line from a row of theirs to its row of ours."""
    start, middle = THEIRS + PILL, (THEIRS + PILL + OURS) / 2
    way = f"M{start} {y}C{middle} {y} {middle} {end} {OURS} {end}"
    return f'<path d="{way}" fill="none" stroke="{COLOURS[kind][1]}" stroke-width="1.6"/>'


def brace(top: float, bottom: float) -> str:
    """Return the curly bracket beside the rows of one block."""
    x, middle, r = OURS + OWN + 14, (top + bottom) / 2, 7
    way = (
        f"M{x} {top}q{r} 0 {r} {r}V{middle - r}q0 {r} {r} {r}"
        f"q{-r} 0 {-r} {r}V{bottom - r}q0 {r} {-r} {r}"
    )
    return f'<path d="{way}" fill="none" stroke="{LINE}" stroke-width="1.6"/>'


def drawing(modules: list[Module]) -> str:
    """Return the SVG of an alignment: the file's order at the left, the network's at the right."""
    parts, y = [], TOP
    for block, group in groupby(modules, block_of):
        rows = list(group)
        ours = sorted(rows, key=lambda module: "downsample" in module["ours"])
        places = {module["ours"]: y + ROW * i for i, module in enumerate(ours)}
        for i, module in enumerate(rows):
            kind, here, there = kind_of(module), y + ROW * i, places[module["ours"]]
            shape = " × ".join(map(str, module["shape"]))
            parts.append(strand(here + ROW / 2, there + ROW / 2, kind))
            parts.append(pill(THEIRS, here, PILL, kind, module["theirs"], shape))
            parts.append(pill(OURS, there, OWN, kind, module["ours"]))
        end = y + ROW * len(rows)
        if len(rows) > 1:
            parts.append(brace(y + 4, end - 4))
        title, why = words_of(block, ours[0])
        x, middle = OURS + OWN + 38, (y + end) / 2
        parts.append(text(x, middle - 2, title, size=13.5, anchor="start", bold=True))
        parts.append(text(x, middle + 15, why, size=12, colour=GREY, anchor="start"))
        y = end + GAP
    height = y + 10
    for x, title, below in (
        (THEIRS, "In the file, in its order", "what its author called it, and its shape"),
        (OURS, "In the network", "what it is here"),
    ):
        parts.append(text(x, 34, title, size=16, anchor="start", bold=True))
        parts.append(text(x, 54, below, size=12.5, colour=GREY, anchor="start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {RIGHT} {height}" '
        f'width="{RIGHT}" height="{height}" font-family="{FONT}" fill="{INK}" role="img">'
        "<title>Tensors of a file and the modules of a network that they are</title>"
        f'<rect width="{RIGHT}" height="{height}" fill="#fff"/>' + "\n".join(parts) + "</svg>\n"
    )


if __name__ == "__main__":
    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert code
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(code[1], {})  # the page is ours
        svg = drawing(alignment("friend.pth"))
    (PAGE.with_name("pictures") / "alignment.svg").write_text(svg, encoding="utf-8")
