"""The page of likely label errors: the images, their labels, what models and neighbours say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnets.formatting import plural, printable
from resnets.report.style import write_page

SHOWN = 200  # the table has all


def write_suspects_page(out: Path, found: Mapping[str, Any], images: Sequence[str]) -> None:
    """Write the page of what was found, as `Suspects.to_dict` has it.

    ``images`` are those of the first suspects, as data URLs.
    """
    suspects, count = found["suspects"], plural(found["images"], "image")
    number = plural(len(suspects), "label") if suspects else "no label"
    write_page(
        out,
        "suspects.html",
        title=f"{printable(found['data'])}: {number} of {count} to look at again",
        found=found,
        shown=list(zip(suspects, images, strict=False)),
    )
