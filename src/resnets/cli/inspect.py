"""`resnets inspect`: what a checkpoint is, whose, and which network it holds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.cli.options import Container, Dialect, Ema, Json, Model
from resnets.cli.output import print_json, print_table
from resnets.wording import percent
from resnets.zoo import get_spec


def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint, in any format, or a run folder.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Pictures like those it was trained on: compares v1 with v1.5."),
    ] = None,
    model: Model = None,
    container: Container = None,
    dialect: Dialect = None,
    ema: Ema = False,
    as_json: Json = False,
) -> None:
    """Say what a checkpoint holds, without running anything in it.

    v1 and v1.5 weights have the same names and shapes. With --images both variants answer on the
    pictures. The one that the weights were trained as is surer of its answers, and its batch norms
    meet the means that they have stored.

    \b
    Examples:
      resnets inspect checkpoint.pth.tar
      resnets inspect resnet50.pth --images photos/
    """
    from resnets.weights.checkpoint import open_checkpoint

    spec = get_spec(model) if model else None
    checkpoint = open_checkpoint(file, container=container, dialect=dialect, ema=ema, spec=spec)
    about = checkpoint.to_dict()
    if images is not None:
        from resnets.data.scan import pictures_in
        from resnets.variants import compare_variants

        found = compare_variants(checkpoint, pictures_in(images))
        about["variants"] = [vars(fit) for fit in found]
    if as_json:
        print_json(about)
        return
    variants = about.pop("variants", [])
    for name, value in about.items():
        if value not in (None, "", [], {}):
            print(f"{name.replace('_', ' '):<12}{_in_words(value)}")
    if variants:
        print()
        print_table(
            ["variant", "confidence", "off its statistics", "pictures"],
            [
                (
                    fit["variant"],
                    percent(fit["confidence"]),
                    f"{fit['deviation']:.3f}",
                    fit["pictures"],
                )
                for fit in variants
            ],
        )
        best, other = variants
        close = best["deviation"] > 0.9 * other["deviation"]
        print()
        print(
            "too close to tell: give more pictures, like those it was trained on"
            if close
            else f"{best['variant']} fits better: its norms meet what they have stored"
        )


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        shown = ", ".join(map(str, value[:5]))
        return shown + (f" and {len(value) - 5} more" if len(value) > 5 else "")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
