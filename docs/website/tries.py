"""The pages to drop a photo on, as `resnets page` makes them, within a page of the site."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from website.sources import ROOT

KEPT = ROOT / "build/try"
_PLACE = "<!-- page: put here by docs/make_site.py -->"


@dataclass(frozen=True)
class Shown:
    """A network to try: the name of its page, what it is called, and the words that make it."""

    name: str
    title: str
    words: tuple[str, ...]


CLOTHING = "examples/clothing/clothing.onnx"
SHOWN = (
    Shown("clothing", "ResNet-18 for clothes", (CLOTHING,)),
    Shown("resnet20", "ResNet-20 for CIFAR-10", ("resnet20", "--weights", "cifar10")),
)


def make() -> None:
    """Make the pages that are not there yet.

    One that cannot be made, as without the network or ONNX, is missed on the page and no error.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    for shown in SHOWN:
        if not _kept(shown).is_file():
            out = ("--out", str(_kept(shown)))
            words = [sys.executable, "-m", "resnets", "page", *shown.words, *out]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                print(f"no page of {shown.name} to try: {done.stderr.strip()}", file=sys.stderr)


def copy(source: Path) -> None:
    """Copy the pages that there are into the site's source."""
    for shown in filter(lambda each: _kept(each).is_file(), SHOWN):
        target = source / "try" / f"{shown.name}.html"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(_kept(shown).read_bytes())


def _kept(shown: Shown) -> Path:
    """Return where a page lies between builds, named by all that it depends on."""
    return KEPT / f"{shown.name}-{_digest()}.html"


@cache
def _digest() -> str:
    """Return what the pages depend on, in short: one model, and all of the package."""
    total = sha256((ROOT / CLOTHING).read_bytes())
    for room in ("serving", "exporting", "weights", "nn"):
        for path in sorted((ROOT / "src/resnets" / room).rglob("*.*")):
            if "__pycache__" not in path.parts:
                total.update(path.read_bytes())
    return total.hexdigest()[:12]


def with_pages(page: str) -> str:
    """Return docs/try.md with the pages that there are."""
    found = [shown for shown in SHOWN if _kept(shown).is_file()]
    frames = "\n".join(
        f'<iframe class="try" loading="lazy" src="try/{each.name}.html" title="{each.title}">'
        "</iframe>\n\n"
        f"[{each.title}, alone](try/{each.name}.html)\n"
        for each in found
    )
    missing = "The site was built where the page could not be made: the commands below make it."
    return page.replace(_PLACE, frames or f"*{missing}*")
