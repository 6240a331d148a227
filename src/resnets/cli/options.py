"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Root = Annotated[
    Path | None, typer.Option(help="Where CIFAR is; default: $RESNETS_DATA or the user's cache.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
