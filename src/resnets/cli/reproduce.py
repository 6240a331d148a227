"""`resnets reproduce`: a table of a paper again, and beside it what the paper prints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.arguments import typed_again
from resnets.cli.options import Device, Json, Root
from resnets.cli.output import print_json, print_table, say, tell
from resnets.errors import UsageError
from resnets.formatting import duration, plural
from resnets.machine import cpu

if TYPE_CHECKING:
    from resnets.machine.device import Machine
    from resnets.studies.experiments import Asked, Images
    from resnets.studies.row_costs import RowCost


def reproduce(
    context: typer.Context,
    table: Annotated[
        str | None, typer.Argument(help="Such as he2015.table6; without one all are listed.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the tables.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would run, and how long; write nothing.")
    ] = False,
    scale: Annotated[
        str, typer.Option(help="Of the paper's iterations, such as 1/40 or 0.025.")
    ] = "1",
    seeds: Annotated[int, typer.Option(help="One of all rows first, then the next.", min=1)] = 1,
    rows: Annotated[
        str | None, typer.Option(help="Only these, by the names that --plan has.", metavar="ROW,…")
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="The smaller stand-in, where --list names one.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="In every recipe, such as precision=bfloat16."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: runs/reproduce-TABLE[-small][-SCALE].")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="ImageNet's images, for tables that need them.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights-for",
            help="Evaluate a row by the table's protocol instead of training it: a file, a run, or "
            "published weights by name. Several of one row are an ensemble.",
            metavar="ROW=FILE|NAME",
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="Only the second of three shares of rows and seeds: 2/3, on storage that all see.",
            metavar="K/N",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="End with the epoch after so many; exit code 75.")
    ] = None,
    kept: Annotated[
        Path | None,
        typer.Option(help="A folder of results: the same experiments in it are shown beside."),
    ] = None,
    root: Root = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train the rows of a paper's table, and put what comes of them beside what it prints.

    Page, Markdown and JSON are rewritten after every seed: n, median, mean ± sd, interval, and in
    words what this is no reproduction of. What was stopped goes on by the same command.

    \b
    Examples:
      resnets reproduce he2015.table6 --plan
      resnets reproduce he2015.table6 --rows resnet20 --seeds 5
      resnets reproduce he2015.table6 --scale 1/160 --seeds 3
      resnets reproduce he2016.table1 --small --scale 1/160 --seeds 3 --set precision=bfloat16
      resnets reproduce he2015.table3 --data imagenet/ --weights-for resnet50_v1=resnet50.pth
    """
    from resnets.papers.paper_tables import find_table

    if table is None or listing:
        if table is not None:
            raise UsageError("--list lists all tables", hint=f"resnets reproduce {table} --plan")
        _list(data, root, as_json)
        return
    chosen = find_table(table)  # before torch takes its seconds to load
    names = tuple(filter(None, (rows or "").replace(" ", "").split(",")))
    if rows is not None and not names:
        raise UsageError(f'--rows "{rows}" names no row', hint=f"--rows {chosen.rows[0].key}")
    chosen.chosen(names, small=small)
    weights_for: dict[str, list[str]] = {}
    for text in weights or ():
        row, equals, file = text.partition("=")
        if not (row and equals and file):
            raise UsageError(f'--weights-for is "{text}"', hint="give ROW=FILE")
        weights_for.setdefault(row, []).append(file)
    cpu.keep_large_blocks()
    from resnets.inference.partition import Part
    from resnets.machine.device import Machine
    from resnets.studies.experiments import Asked, Images, parse_scale
    from resnets.studies.reproduction import reproduce as start

    asked = Asked(chosen, parse_scale(scale), seeds, names, small, tuple(settings or ()))
    machine = Machine(device=device)
    if plan:
        _plan(asked, Images(data, root), weights_for, machine, as_json)
        return
    found = start(
        chosen,
        scale=asked.scale,
        seeds=seeds,
        rows=names,
        small=small,
        settings=settings or (),
        out=out,
        data=data,
        root=root,
        weights=weights_for,
        part=None if part is None else Part.parse(part),
        minutes=minutes,
        kept=kept,
        command=typed_again(context, ("as_json",), ()),
        machine=machine,
    )
    values = found.values()
    if as_json:
        print_json(values)
        return
    from resnets.report.reproduced import markdown

    tell(*markdown(values).splitlines())
    if found.report.exists():
        say(f"look at {found.report}")


def _list(data: str | None, root: Path | None, as_json: bool) -> None:
    """Print the tables, and which of them this machine has the images for."""
    from resnets.papers.paper_tables import TABLES
    from resnets.studies.experiments import Images

    images = Images(data, root)
    if as_json:
        print_json(
            [
                {
                    "table": table.key,
                    "source": table.source,
                    "title": table.title,
                    "shows": table.shows,
                    "datasets": list(table.datasets),
                    "rows": [row.key for row in table.rows],
                    "small": table.small.says if table.small else "",
                    "lacks": _lacks(table.datasets, images),
                }
                for table in TABLES.values()
            ]
        )
        return
    print_table(
        ("table", "on", "rows", "here", "shows"),  # the longest last, where a terminal wraps
        [
            (
                table.key,
                ", ".join(table.datasets),
                len(table.rows),
                _lacks(table.datasets, images) or "can be trained",
                table.shows,
            )
            for table in TABLES.values()
        ],
    )
    for table in TABLES.values():
        if table.small:
            tell(f"{table.key} --small: {table.small.says}")


def _lacks(datasets: tuple[str, ...], images: "Images") -> str:
    return ", ".join(f"no {each}" for each in datasets if images.of(each) is None)


def _wrapped(text: str, indent: str = "") -> None:
    """Print a sentence of any length in lines of a terminal's width."""
    lines = wrap(text, 100, initial_indent=indent, subsequent_indent=indent)
    tell(*lines, flush=True)


def _plan(
    asked: "Asked",
    images: "Images",
    weights: Mapping[str, Sequence[str]],
    machine: "Machine",
    as_json: bool,
) -> None:
    """Print what would run, a row when it is known."""
    from resnets.studies.row_costs import plan

    def show(found: "RowCost") -> None:
        if not as_json:
            row = found.experiment.row
            _wrapped(f"{row.key}: {row.label}")
            for sentence in found.sentences():
                _wrapped(sentence, indent="    ")

    asked.check(weights, images)
    if not as_json:
        for sentence in (f"{asked.table.source}: {asked.table.title}", *asked.changes):
            _wrapped(sentence)
    found = plan(asked, images=images, weights=weights, machine=machine, each=show)
    if as_json:
        rows = [each.to_dict() for each in found]
        print_json({"table": asked.table.key, "changes": asked.changes, "rows": rows})
        return
    known = [each.seconds for each in found if each.seconds is not None and not each.like]
    if known:
        _wrapped(
            f"in all {duration(asked.seeds * sum(known))} for {plural(asked.seeds, 'seed')} of "
            f"{plural(len(known), 'row')} on this machine as busy as it is now, estimated from a "
            "few measured steps of each row"
        )
    tell("nothing was written")
