"""Make the pictures of docs/learn/, and what its commands print: `make lessons`.

Pictures are drawn off networks, or made of the figures of kept runs (results/). What a chapter's
block of commands or Python prints stands in the block of text behind it, and is written anew here.
"""

import argparse
import contextlib
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from annotated_notes import BOTTLENECK, NEW, PROJECTED, SAME, SMALL, orders, short
from schematics import each, frame, sheet, size, standalone, three_forms, unravelled

from resnets.analysis.drawing.shapes import GREY, LINE, text, text_width

ROOT = Path(__file__).parents[1]
LESSONS = ROOT / "docs" / "learn"
PICTURES = ROOT / "docs" / "pictures" / "learn"
RESULTS = ROOT / "results"
PLOT = re.compile(r'<figure class="plot">\s*<figcaption>(.*?)</figcaption>\s*(<svg.*?</svg>)', re.S)
DASHES = {"dashed": "5 3", "dotted": "2 3"}
KEY = re.compile(r"border-top: 3px (\w+) var\((--[\w-]+)\)\"></i>([^<]*)")
BLOCK = re.compile(r"```(sh|python)\n(.*?)```(?:\n+```text\n(.*?)```)?", re.S)
# What trains or draws at random says times and figures of its machine: executed, not compared.
UNEQUAL = ("train", "study")


@dataclass(frozen=True)
class Example:
    """A block of a chapter that can be executed, and what is said to come of it."""

    language: str
    code: str
    said: str | None

    @property
    def compared(self) -> bool:
        """Whether what it prints is the same everywhere."""
        return self.said is not None and not any(
            words[:2] == ["resnets", name] for words in self.commands for name in UNEQUAL
        )

    @property
    def commands(self) -> list[list[str]]:
        """The lines of a block of commands, as the shell splits them."""
        if self.language != "sh":
            return []
        return [shlex.split(line, comments=True) for line in self.code.splitlines()]


def examples(page: str) -> list[Example]:
    """Return the blocks of a chapter in their order."""
    return [Example(*found) for found in BLOCK.findall(page)]


def printed(example: Example) -> str:
    """Execute a block in this process, in a folder of its own; return what it prints to stdout."""
    out = io.StringIO()
    with (
        TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
    ):
        if example.language == "python":
            exec(compile(example.code, "<chapter>", "exec"), {"__name__": "chapter"})
        for words in example.commands:
            _command(words)
    return out.getvalue()


def _command(words: Sequence[str]) -> None:
    from resnets.cli import main

    before, sys.argv = sys.argv, [*words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = before


def fits(said: str, printed: str) -> bool:
    """Return whether a page says what was printed; a line of three dots stands for any lines."""
    pattern = re.escape(said.strip()).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, printed.strip(), re.S) is not None


def refreshed(page: str) -> str:
    """Return a chapter with what its blocks print now."""

    def anew(found: re.Match[str]) -> str:
        example = Example(*found.groups())
        if not example.compared or fits(example.said or "", now := printed(example)):
            return found[0]
        return found[0].replace(f"```text\n{example.said}```", f"```text\n{now.strip()}\n```")

    return BLOCK.sub(anew, page)


def shortcut() -> str:
    """Return a plain block beside a residual one."""
    return sheet(
        each(
            ("plain20", "y = relu(F(x))", short("plain20"), SAME),
            ("resnet20", "y = relu(x + F(x))", SMALL, SAME),
        ),
        2,
    )


def options() -> str:
    """Return the options for shortcuts across a change of shape, and C where there is none."""
    everywhere = replace(SMALL, shortcut="C")
    return sheet(
        each(
            ("A", "zeros for new channels", SMALL, NEW),
            ("B", "a projection", PROJECTED, NEW),
            ("C", "as B, where the shape changes", everywhere, NEW),
            ("C", "and everywhere else", everywhere, SAME),
        ),
        2,
    )


def bottleneck() -> str:
    """Return the two kinds of block, of nets for ImageNet."""
    return sheet(
        each(
            ("basic", "73,728 weights", short("resnet34"), SAME),
            ("bottleneck", "69,632 weights", BOTTLENECK, SAME),
        ),
        2,
    )


def order() -> str:
    """Return the five orders of He et al. 2016, Fig. 4, with the errors of Table 2."""
    return sheet(orders(), 3)


def cardinality() -> str:
    """Return ResNeXt's three forms."""
    return sheet(three_forms(), 2)


def paths() -> str:
    """Return three blocks and the paths through them."""
    return sheet(unravelled(), 2)


def degradation() -> str:
    """Return the errors of the kept runs of plain and residual nets, seed by seed."""
    names = ("plain20", "plain56", "resnet20", "resnet56")
    axis = Axis(low=40, high=82, top=92, bottom=330, left=70, right=560)
    pieces = [
        text(24, 34, "Test error after 1,600 steps", size=17, anchor="start", bold=True),
        text(
            24,
            56,
            "of 32 images; CIFAR-10; a dot for each of three seeds, a line for their mean",
            colour=GREY,
            anchor="start",
        ),
        *axis.lines((40, 50, 60, 70, 80), " %"),
    ]
    for place, name in enumerate(names):
        x = 130 + 125 * place
        errors = [100 * (1 - run["results"]["test"]["accuracy"]) for run in kept(name)]
        mean = sum(errors) / len(errors)
        colour = "series-2" if name.startswith("plain") else "series-1"
        y = axis.y(mean)
        pieces += [
            f'<path d="M{x - 26} {y:.1f}h52" stroke="var(--{colour})" stroke-width="3"/>',
            text(x + 30, y + 5, f"{mean:.1f}", anchor="start", bold=True),
            text(x, 354, name, bold=True),
            text(x, 372, "no shortcuts" if name.startswith("plain") else "shortcuts", colour=GREY),
        ]
        pieces += [
            f'<circle cx="{x + 9 * (seed - 1)}" cy="{axis.y(error):.1f}" r="5" '
            f'fill="var(--{colour})" fill-opacity=".75"/>'
            for seed, error in enumerate(errors)
        ]
    return frame("Test error of plain and residual nets", 600, 392, pieces)


def training() -> str:
    """Return the rate and the training error of the kept run that the shipped weights are of."""
    metrics = RESULTS / "resnet20-fast_cifar/seed-0/metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    epochs = [line["epoch"] for line in lines]
    errors = [100 * (1 - line["train_accuracy"]) for line in lines]
    rates = [line["lr"] for line in lines]
    (run,) = kept("resnet20", "fast_cifar")
    test = 100 * (1 - run["results"]["test"]["accuracy"])
    above = Axis(low=0, high=60, top=92, bottom=270, left=70, right=600, last=24)
    below = Axis(low=0, high=0.4, top=318, bottom=400, left=70, right=600, last=24)
    pieces = [
        text(24, 34, "resnet20 in 24 epochs", size=17, anchor="start", bold=True),
        text(24, 56, "CIFAR-10, recipe fast_cifar, one seed", colour=GREY, anchor="start"),
        *above.lines((0, 20, 40, 60), " %"),
        *below.lines((0, 0.2, 0.4), ""),
        text(70, 84, "error on the training images, as they are shown", anchor="start", size=12),
        text(70, 310, "learning rate", anchor="start", size=12),
        above.curve(epochs, errors, "series-1"),
        below.curve(epochs, rates, "series-3"),
        f'<circle cx="{above.x(24):.1f}" cy="{above.y(test):.1f}" r="5" fill="var(--series-2)"/>',
        text(above.x(24) - 10, above.y(test) - 10, f"test {test:.2f} %", anchor="end", bold=True),
    ]
    pieces += [text(below.x(at), 420, str(at), size=12, colour=GREY) for at in (1, 6, 12, 18, 24)]
    pieces.append(text(335, 440, "epoch", size=12, colour=GREY))
    return frame("A training run", 640, 456, pieces)


def of_study(name: str, *numbers: int) -> str:
    """Return plots of a study's page in results/studies/, with what the page writes above them."""
    (page,) = (RESULTS / "studies").rglob(f"{name}.html")
    found = PLOT.findall(page.read_text(encoding="utf-8"))
    drawings = []
    for title, svg in (found[number] for number in numbers):
        words = re.sub(r"<[^>]+>", "", title.partition("</strong>")[0]).strip()
        pieces = [text(20, 30, unescape(words), size=15, anchor="start", bold=True)]
        wide, high = size(svg)
        x, y = 20.0, 52.0
        for style, colour, label in KEY.findall(title):
            length = 40 + text_width(unescape(label), 12)
            if x + length > wide + 20:
                x, y = 20.0, y + 20
            dashes = f' stroke-dasharray="{DASHES[style]}"' if style in DASHES else ""
            line = f'd="M{x:.0f} {y - 4:.0f}h22" stroke="var({colour})" stroke-width="3"{dashes}'
            pieces += [
                f"<path {line}/>",
                text(x + 28, y, unescape(label), size=12, anchor="start"),
            ]
            x += length
        svg = re.sub(r"(\d\.\d)\d+", r"\1", svg)  # of a pixel
        pieces.append(svg.replace("<svg ", f'<svg x="10" y="{y + 12:.0f}" ', 1))
        drawings.append(frame(words, wide + 20, y + high + 20, pieces))
    return sheet(drawings, 2)


def digits() -> str:
    """Return the errors of four nets as they learn handwritten digits."""
    return of_study("degradation", 0, 1)


def responses() -> str:
    """Return the layers' responses of plain and residual nets, in their order."""
    return of_study("responses", 0)


def lesion() -> str:
    """Return the error of nets without one of their blocks."""
    return of_study("lesion", 0)


def carried() -> str:
    """Return what paths of each length carry of the gradient, as the paper counts it."""
    return of_study("paths", 0, 2)


def gradients() -> str:
    """Return how alike gradients are along a line between images."""
    return of_study("gradients", 1, 0)


def landscape() -> str:
    """Return the loss around a plain and a residual net, in perspective."""
    return of_study("landscape", 2, 3)


def kept(model: str, runs: str = "he2015_cifar-1600x32") -> list[dict[str, Any]]:
    """Return run.json of a kept experiment, seed by seed."""
    found = sorted((RESULTS / f"{model}-{runs}").glob("seed-*/run.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


@dataclass(frozen=True)
class Axis:
    """Where figures stand on a drawing; ``last`` is the last epoch."""

    low: float
    high: float
    top: float
    bottom: float
    left: float
    right: float
    last: float = 1

    def y(self, value: float) -> float:
        """Return the height of a value."""
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def x(self, epoch: float) -> float:
        """Return the place of an epoch, of which the first is number 1."""
        return self.left + (epoch - 1) / (self.last - 1) * (self.right - self.left)

    def lines(self, values: Sequence[float], unit: str) -> Iterator[str]:
        """Yield horizontal lines with their values."""
        for value in values:
            y = self.y(value)
            line = f"M{self.left} {y:.1f}H{self.right}"
            yield f'<path d="{line}" stroke="{LINE}" stroke-opacity=".4"/>'
            yield text(self.left - 8, y + 4, f"{value:g}{unit}", size=12, colour=GREY, anchor="end")

    def curve(self, epochs: Sequence[float], values: Sequence[float], colour: str) -> str:
        """Return a line through values."""
        points = " ".join(
            f"{self.x(epoch):.1f},{self.y(value):.1f}"
            for epoch, value in zip(epochs, values, strict=True)
        )
        return (
            f'<polyline points="{points}" fill="none" stroke="var(--{colour})" stroke-width="2.4"/>'
        )


DRAWN: dict[str, Callable[[], str]] = {
    drawing.__name__: drawing
    for drawing in (
        degradation,
        digits,
        shortcut,
        responses,
        options,
        bottleneck,
        order,
        cardinality,
        paths,
        lesion,
        carried,
        gradients,
        landscape,
        training,
    )
}


def picture(name: str) -> str:
    """Return a picture as its file is."""
    return re.sub(r">\s+<", "><", standalone(DRAWN[name]())) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="pictures, or text; default: all")
    only = parser.parse_args().only or [*DRAWN, "text"]
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in DRAWN:
        if name in only:
            (PICTURES / f"{name}.svg").write_text(picture(name), encoding="utf-8")
    if "text" in only:
        for path in sorted(LESSONS.glob("*.md")):
            path.write_text(refreshed(path.read_text(encoding="utf-8")), encoding="utf-8")
