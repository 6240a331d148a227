"""The page about new images beside those of a run: whether they differ, in what, and which most."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnets.files import followed
from resnets.report.style import write_page

CHANGED = 12  # classes that are shown


def write_new_images_page(
    out: Path, found: Mapping[str, Any], lines: Sequence[str], images: Sequence[str]
) -> None:
    """Write the page of what was found, as `NewImages.to_dict` has it, and ``lines`` about it.

    ``images`` are those of the remotest new ones, as data URLs.
    """
    answers = sorted(found["answers"], key=lambda each: -abs(each["new"] - each["old"]))
    write_page(
        followed(out),
        "new_images.html",
        title=found["sentence"],
        found=found,
        lines=lines,
        answers=answers[:CHANGED],
        shown=list(zip(found["remotest"], images, strict=True)),
    )
