"""`resnets diff`: which layers of two checkpoints differ, and how much."""

from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.cli.options import READING, Json, Known, takes
from resnets.cli.output import print_json, print_table, tell


@takes(Known, *READING)
def diff(
    first: Annotated[Path, typer.Argument(help="A checkpoint, in any format, or a run folder.")],
    second: Annotated[Path, typer.Argument(help="Another one; formats and names may differ.")],
    *,
    top: Annotated[int, typer.Option(help="How many changed tensors to print.", min=1)] = 20,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Compare two checkpoints tensor by tensor, under the names that resnets gives them.

    \b
    Examples:
      resnets diff before.pth after.pth
      resnets diff resnet50-0676ba61.pth runs/photos-resnet50 --top 5
    """
    known = Known(**options)
    from resnets.models import check_folder
    from resnets.weights.checkpoint import open_checkpoint
    from resnets.weights.compare import difference

    spec = known.spec
    for file in (first, second):
        check_folder(file)
    first_tensors, second_tensors = (
        open_checkpoint(file, spec=spec, **known.reading).tensors for file in (first, second)
    )
    found = difference(first_tensors, second_tensors)
    if as_json:
        print_json(found.to_dict())
        return
    tell(f"{len(found.same)} tensors are the same bit for bit, {len(found.changed)} differ")
    for name, keys in (("first", found.only_first), ("second", found.only_second)):
        if keys:
            tell(
                f"{len(keys)} only in the {name}: {', '.join(keys[:5])}{', ...' * (len(keys) > 5)}"
            )
    for key, (a, b) in found.shapes.items():
        tell(f"{key}: {a} and {b}")
    if found.changed:
        tell("")
        print_table(
            ["tensor", "elements", "relative change", "largest"],
            [
                (c.key, c.elements, f"{c.relative:.3g}", f"{c.largest:.3g}")
                for c in found.changed[:top]
            ],
        )
    if len(found.changed) > top:
        tell(f"and {len(found.changed) - top} more; --top shows them")
