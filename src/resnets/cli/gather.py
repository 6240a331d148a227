"""`resnets gather`: the tables of all parts as the one that they are parts of."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.options import Json, Overwrite
from resnets.cli.output import Progress, answer
from resnets.formatting import plural


def gather(
    parts: Annotated[
        list[Path],
        typer.Argument(
            help="The tables that predict or embed have written with --part, in any order.",
            metavar="PART...",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="The table of all: it may end otherwise than theirs.")],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Put the tables of all parts together, and prove that every image has exactly one answer.

    The table is to the byte the one that a single process would have written. Where an image has no
    answer or two, or tables do not belong together, nothing is written: the line says which, the
    hint is the command that makes what is missing, and the exit code is 3.

    \b
    Examples:
      resnets gather part-*.parquet --out all.parquet
      resnets gather parts/*.csv --out all.csv --json
    """
    from resnets.inference.gather import gather

    with Progress() as progress:
        table = gather(parts, out, overwrite=overwrite, on_progress=progress.show)
    told = f"{plural(table.images, 'image')} of {plural(table.parts, 'part')}, each once"
    answer(table, as_json, f"{out}   {told}, {table.broken:,} of them broken")
