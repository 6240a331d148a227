"""`resnets report`: one page for one run, or for several side by side."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.output import tell


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, or folders of several seeds.", metavar="RUN..."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page; default: report.html in the run folder.")
    ] = None,
) -> None:
    """Write a page about one run, or one that compares several.

    \b
    Examples:
      resnets report runs/demo
      resnets report runs/plain20 runs/resnet20 --out comparison.html
    """
    from resnets.report import write_report

    tell(write_report(runs, out))
