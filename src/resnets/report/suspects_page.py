"""The page of likely label errors: the images, their labels, what models and neighbours say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnets.files import write_text
from resnets.formatting import plural, printable
from resnets.report.style import environment

SHOWN = 200  # the table has all


def write_suspects_page(out: Path, found: Mapping[str, Any], images: Sequence[str]) -> None:
    """Write the page of what was found, as `Suspects.to_dict` has it.

    ``images`` are those of the first suspects, as data URLs.
    """
    suspects, count = found["suspects"], plural(found["images"], "image")
    number = plural(len(suspects), "label") if suspects else "no label"
    page = environment("resnets.report").get_template("suspects.html")
    text = page.render(
        title=f"{printable(found['data'])}: {number} of {count} to look at again",
        found=found,
        shown=list(zip(suspects, images, strict=False)),
    )
    # Of a name that is no UTF-8 no page can hold the bytes that are not.
    write_text(out, text.encode("utf-8", "replace").decode())
