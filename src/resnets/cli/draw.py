"""`resnets draw`: a model as a drawing for a lecture: its stages, and its blocks enlarged."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.output import tell
from resnets.zoo import get_spec


def draw(
    model: Annotated[str, typer.Argument(help="A model's name; `resnets models` lists them.")],
    out: Annotated[
        Path | None, typer.Option(help="The drawing; default: MODEL.svg in this folder.")
    ] = None,
) -> None:
    """Draw a model: its stages, and each kind of block it has, enlarged.

    The drawing is one SVG file for browsers, slides and print.

    \b
    Examples:
      resnets draw resnet50
      resnets draw resnet20_v2 --out figures/preactivation.svg
    """
    spec = get_spec(model)
    from resnets.analysis.drawing import draw
    from resnets.files import followed, write_text

    path = out or Path(f"{model}.svg")
    write_text(followed(path), draw(spec))
    tell(path)
