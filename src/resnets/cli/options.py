"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Root = Annotated[
    Path | None, typer.Option(help="Where CIFAR is; default: $RESNETS_DATA or the user's cache.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Model = Annotated[
    str | None, typer.Option(help="The network it holds, where the checkpoint does not say.")
]
Container = Annotated[
    str | None, typer.Option(help="The key of the network, where a file holds several.")
]
Dialect = Annotated[
    str | None, typer.Option(help="Whose names a file uses, where that is not clear.")
]
Ema = Annotated[bool, typer.Option("--ema", help="Take the averaged weights of a training run.")]
