"""What every HTML page has in common: one self-contained file, its style, numbers in words."""

import re
import struct
from base64 import b64decode
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from resnets import formatting
from resnets.files import write_text
from resnets.run_folder.record import Mistake


def write_page(out: Path, template: str, room: str = "resnets.report", **values: Any) -> None:
    """Write a page of a room's templates. Raises ResourceError when it cannot be written."""
    page = environment(room).get_template(template).render(values)
    # Of a name that is no UTF-8 no page can hold the bytes that are not.
    write_text(out, page.encode("utf-8", "replace").decode())


@cache
def environment(room: str, folder: str = "templates") -> Environment:
    """Return the templates of a room, such as "resnets.report", on top of the shared ones.

    ``base.css`` is the face of every page, ``base.html`` fetches nothing and runs nothing;
    ``formatting``'s functions and those below are filters. To compile a page takes longer than to
    fill it in, so they are kept.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader(room, folder), PackageLoader("resnets.report")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    words = ("count", "duration", "fact", "moment", "percent", "plural", "short", "speed")
    found.filters |= {name: getattr(formatting, name) for name in words}
    found.filters |= {each.__name__: each for each in (is_small, layers, unbroken)}
    return found


def is_small(mistake: Mistake) -> bool:
    """Say whether an image is so small that its pixels should be shown as squares."""
    head = b64decode(mistake.image.partition(",")[2])[:24]
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24:
        return False
    width, height = struct.unpack(">II", head[16:24])
    return bool(max(width, height) <= 96)


def layers(text: str) -> list[str]:
    """Return the layers of a block one by one, 3x3 written with the sign for times."""
    return re.split(r"\s*(?: /|;)\s+", re.sub(r"(?<=\d)x(?=\d)", "×", text))


def unbroken(text: str) -> str:
    """Keep a number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=(?:%|s|min|h|d)\b|%)", "\u00a0", text)
