"""The page of the learning-rate finder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnets.files import followed
from resnets.report.plots import rate_curve
from resnets.report.style import write_page


def write_rate_page(out: Path, found: Mapping[str, Any], command: str = "") -> None:
    """Write the page of what the finder has found, as its ``to_dict`` has it.

    ``command`` trains with it.
    """
    rate, losses = found["rate"], found["smoothed"]
    title = f"Learning rate {rate:g}" if rate else "No learning rate to suggest"
    write_page(
        followed(out),
        "rates.html",
        title=f"{title}: {found['model']} on {found['data']}",
        plot=rate_curve(found["rates"], found["losses"], losses, rate),
        command=command,
        **found,
    )
