"""`resnets predict`: images in, labelled probabilities out."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.options import (
    Json,
    Known,
    OverwriteTable,
    Threads,
    default_model,
    open_answering,
    takes_known,
)
from resnets.cli.output import Progress, print_json, say, say_error, tell
from resnets.errors import UsageError
from resnets.formatting import plural
from resnets.readers.paths import FOLDER_WEIGHTS

if TYPE_CHECKING:
    from resnets.inference.prediction import Prediction


@takes_known()
def predict(
    words: Annotated[
        list[str],
        typer.Argument(
            help="A run folder, a checkpoint in any format, or an exported file (.onnx, .xml, "
            ".pt2); then images and folders of them. Without the first: the resnet20 for "
            "CIFAR-10's ten classes that comes with the package.",
            metavar="[MODEL] IMAGE|DIR...",
        ),
    ],
    *,
    known: Known,
    top: Annotated[int, typer.Option(help="How many classes to print.", min=1)] = 3,
    runtime: Annotated[
        str,
        typer.Option(
            help="Who computes: auto, onnxruntime, openvino or torch. For an exported .onnx or "
            ".xml torch is not needed, nor loaded.",
        ),
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Write a table instead: .csv, .jsonl or .parquet.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.", min=1)] = 8,
    threads: Threads = 0,
    overwrite: OverwriteTable = False,
    as_json: Json = False,
) -> None:
    """Say what is in images: the most probable classes of each.

    An image that cannot be read is reported and the others go on; the exit code is then 3. A table
    may be stopped at any time: the same command resumes. A file that is there already
    is replaced with --overwrite only.

    \b
    Examples:
      resnets predict photo.jpg
      resnets predict runs/photos-resnet18 holiday.jpg
      resnets predict model.onnx photos/ --out photos.csv
      resnets predict resnet50.pth cat.jpg --preprocess imagenet
    """
    path, images = _divided(words)
    from resnets.inference.prediction import predict
    from resnets.inference.prediction_table import check_table, pictures, predict_table

    if out is not None:
        check_table(out, overwrite=overwrite)
    names = pictures(images)
    answering = open_answering(str(path), known, runtime, threads, len(names))
    if out is None:
        broken = _print(predict(answering, names, top=top, batch_size=batch_size), as_json)
    else:
        progress = Progress()
        table = predict_table(
            answering,
            names,
            out,
            top=top,
            batch_size=batch_size,
            overwrite=overwrite,
            on_progress=progress.show,
            on_broken=progress.broken,
        )
        progress.clear()
        if table.resumed:
            say(f"{plural(table.resumed, 'image')} had been done before a stop")
        if as_json:
            print_json(table.to_dict())
        else:
            tell(f"{out}   {plural(table.pictures, 'image')}, {table.broken:,} of them broken")
        broken = table.broken > 0
    if broken:
        raise typer.Exit(3)


def _print(predictions: Iterable["Prediction"], as_json: bool) -> bool:
    """Print each prediction when it comes, or all as JSON; return whether an image is broken."""
    from resnets.data.images import printable

    records, broken = [], False
    for prediction in predictions:
        if as_json:
            records.append(prediction.to_dict())
        if prediction.error is not None:
            broken = True
            say_error(prediction.error.message, prediction.error.hint)
        elif not as_json:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            answers = "   ".join(f"{printable(name)} {100 * p:.1f} %" for name, p in pairs)
            tell(f"{printable(prediction.path)}   {answers}", flush=True)
    if as_json:
        print_json(records)
    return broken


def _divided(words: list[str]) -> tuple[Path, list[str]]:
    """Return the model's path and the images: all words where the first is of images itself."""
    first, *rest = words
    if _is_of_pictures(Path(first)):
        return default_model(), words
    if not rest:
        raise UsageError(f"there is no image to look at with {first}", hint="name one after it")
    return Path(first), rest


def _is_of_pictures(path: Path) -> bool:
    from resnets.data.scan import EXTENSIONS

    if os.path.isdir(path):  # which Path asks too, but raises where it is not allowed to look
        of_a_model = ("run.json", *FOLDER_WEIGHTS)
        return not any(os.path.exists(path / name) for name in of_a_model)
    return path.suffix.lower() in EXTENSIONS
