"""`resnets inspect`: what a checkpoint is, whose, and which network it holds."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.options import READING, Json, Known, takes
from resnets.cli.output import print_json, print_table, say_error, tell
from resnets.errors import ResnetsError
from resnets.formatting import percent

if TYPE_CHECKING:
    from resnets.data.images import Stored


@takes(Known, *READING)
def inspect(
    files: Annotated[
        list[Path],
        typer.Argument(help="Checkpoints, in any format, or run folders.", metavar="FILE..."),
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Images like those it was trained on: compares v1 with v1.5."),
    ] = None,
    keys: Annotated[
        bool,
        typer.Option("--keys", help="Also every module in the file, which of ours it is, and why."),
    ] = False,
    *,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Say what checkpoints hold, without running anything in them.

    v1 and v1.5 weights have the same names and shapes. With --images both variants answer on the
    images. The one that the weights were trained as is surer of its answers, and its batch norms
    meet the means that they have stored. One that cannot be read does not hide the others; the exit
    code is then that of the first.

    \b
    Examples:
      resnets inspect checkpoint.pth.tar
      resnets inspect checkpoint.pth.tar --keys
      resnets inspect resnet50.pth --images photos/
      resnets inspect *.safetensors --json
    """
    known = Known(**options)
    found = None
    if images is not None:
        from resnets.data.sources import images_in

        found = images_in(images)
    look = partial(_look, found=found, keys=keys, spec=known.spec, **known.reading)
    if len(files) == 1:
        about = look(files[0])
        print_json(about) if as_json else _print(about)
        return
    told, code = [], 0
    for file in files:
        try:
            told.append(look(file))
        except ResnetsError as error:
            say_error(error.message, error.hint)
            told.append({"file": str(file), "error": error.message})
            code = code or error.exit_code
    if as_json:
        print_json(told)
    else:
        _print_each([about for about in told if "error" not in about])
    if code:
        raise typer.Exit(code)


def _look(
    file: Path, *, found: "Sequence[Path | Stored] | None", keys: bool, **known: Any
) -> dict[str, Any]:
    """Return what a checkpoint holds and, where asked for, its keys and how its variants fit."""
    from resnets.models import check_folder
    from resnets.weights.checkpoint import open_checkpoint

    check_folder(file)
    checkpoint = open_checkpoint(file, **known)
    about = checkpoint.to_dict()
    if checkpoint.thresholds:
        about["thresholds"] = dict(zip(checkpoint.classes, checkpoint.thresholds, strict=True))
    if keys:
        about["alignment"] = checkpoint.state.alignment
    if found is not None:
        from resnets.evaluation.variants import compare_variants

        about["variants"] = [vars(fit) for fit in compare_variants(checkpoint, found)]
    return about


def _print_each(told: list[dict[str, Any]]) -> None:
    for number, about in enumerate(told):
        if number:
            tell("")
        tell(about.pop("file"))
        _print(about)


def _print(about: dict[str, Any]) -> None:
    variants, alignment = about.pop("variants", []), about.pop("alignment", [])
    about["unknown"] = ", ".join(about["unknown"])  # all: what is cut off would pass for known
    for name, value in about.items():
        if value not in (None, "", [], {}):
            tell(f"{name.replace('_', ' '):<12}{_in_words(value)}")
    if alignment:
        tell("")
        shapes = (" x ".join(map(str, module["shape"])) for module in alignment)
        print_table(
            ["in the file", "here", "shape", "why"],
            [
                (module["theirs"], module["ours"], shape, module["why"])
                for module, shape in zip(alignment, shapes, strict=True)
            ],
        )
    if variants:
        tell("")
        print_table(
            ["variant", "confidence", "off its statistics", "images"],
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
        tell("")
        tell(
            "too close to tell: give more images, like those it was trained on"
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
