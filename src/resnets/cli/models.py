"""`resnets models`: what there is."""

from typing import Annotated

import typer

from resnets.cli.options import Json
from resnets.cli.output import print_json, print_table, say
from resnets.zoo import ZOO, list_models


def models(
    pattern: Annotated[
        str, typer.Argument(help="Shell-style pattern, such as 'resnet*_v1'.")
    ] = "*",
    counts: Annotated[
        bool, typer.Option("--counts", help="Add exact parameters and multiply-adds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the named models; their families also take other depths (resnet26, plain14).

    \b
    Examples:
      resnets models 'resnext*'
      resnets models --counts
    """
    rows = [
        {"model": name, "depth": ZOO[name].depth, "stages": "-".join(map(str, ZOO[name].depths))}
        | ({"parameters": 0, "multiply-adds": 0} if counts else {})
        | {"classes": ZOO[name].num_classes, "size": ZOO[name].image_size}
        | {"variant": ZOO[name].variant}
        for name in list_models(pattern)
    ]
    if counts:
        from resnets.analysis.profiling import profile

        for row in rows:
            cost = profile(str(row["model"]))
            row |= {"parameters": cost.parameters, "multiply-adds": cost.macs}
    if as_json:
        print_json(rows)
    elif not rows:
        say(f'no model matches "{pattern}"; `resnets models` lists all {len(ZOO)}')
    else:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
