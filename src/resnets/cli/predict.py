"""`resnets predict`: images in, labelled probabilities out."""

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.arguments import chosen_part
from resnets.cli.on_ray import On, Parts, check_on, make_on
from resnets.cli.options import (
    Json,
    Known,
    OverwriteTable,
    PartOfAll,
    Threads,
    default_model,
    model_beside,
    open_answering,
    takes,
)
from resnets.cli.output import Progress, answer, print_json, say, say_error, tell
from resnets.errors import UsageError
from resnets.formatting import plural
from resnets.readers.paths import FOLDER_WEIGHTS

if TYPE_CHECKING:
    from resnets.inference.prediction import Prediction

SHOWN = 10  # classes of a label set


@takes(Known)
def predict(
    words: Annotated[
        list[str],
        typer.Argument(
            help="A run folder, a checkpoint in any format, or an exported file (.onnx, .xml, "
            ".pt2); then images, and folders, packs, tars or Parquet files of them, or lists of "
            "their paths (.txt). Without the first: the resnet20 for CIFAR-10's ten classes that "
            "comes with the package.",
            metavar="[MODEL] IMAGE|DIR...",
        ),
    ],
    context: typer.Context,
    *,
    top: Annotated[
        int | None,
        typer.Option(
            help="How many classes to print at most: 3, or where an image may have several all "
            "that are above their thresholds.",
            min=1,
            show_default=False,
        ),
    ] = None,
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
    part: PartOfAll = None,
    on: On = None,
    parts: Parts = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Also the set of classes among which an image's own is with this probability, 0.5 "
            "to 0.99."
        ),
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(
            help="How --coverage chooses them: lac (the smallest sets), aps or raps.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at a time.", min=1)] = 8,
    threads: Threads = 0,
    overwrite: OverwriteTable = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Say what is in images: the most probable classes of each.

    Of a model whose images may have several classes, they are those above their thresholds, or
    none. An image that seems to be of none of the classes is marked as unknown, where the model
    tells: train --false-alarms has fitted from where on.

    An image that cannot be read is reported and the others are done; the exit code is then 3. A
    table may be stopped at any time: the same command resumes. A file that is there already is
    replaced with --overwrite only. With --part it is one of several, each made by a process
    of its own, on any machine; --on makes all of them on a Ray cluster, and the table of all.

    \b
    Examples:
      resnets predict photo.jpg
      resnets predict runs/photos-resnet18 holiday.jpg
      resnets predict model.onnx photos/ --out photos.csv
      resnets predict model.onnx photos.txt --part 3/16 --out part-3.csv
      resnets predict model.onnx photos/ --on ray --parts 64 --out all.parquet
      resnets predict runs/photos-resnet18 holiday.jpg --coverage 0.9
      resnets predict resnet50.pth cat.jpg --preprocess imagenet
    """
    known = Known(**options)
    check_on(on, parts, part, out)
    model: str | None
    model, *images = words
    if _is_of_images(Path(model)):  # --model is then the model itself, as of other commands
        model, images = model_beside(known), words
        known = replace(known, model=None)
    elif not images:
        raise UsageError(f"there is no image to look at with {model}", hint="name one after it")
    if sets and coverage is None:
        raise UsageError("--sets is of label sets", hint=f"--coverage 0.9 --sets {sets}")
    from resnets.inference.prediction import predict
    from resnets.inference.prediction_table import check_table, image_names, predict_table

    chosen = chosen_part(context, part, out)
    if out is not None:
        check_table(out, overwrite=overwrite, part=chosen)
    names = image_names(images)
    opened = model or str(default_model())
    answering = open_answering(opened, known, runtime, threads, len(names))
    asked: dict[str, Any] = {"top": top, "batch_size": batch_size, "coverage": coverage}
    asked |= {"sets": sets} if sets else {}
    if on is not None and out is not None:
        processors = max(1, threads)
        make_on(
            on,
            partial(_make_part, model, images, known, answering.name, processors, asked),
            out=out,
            parts=parts,
            images=len(names),
            batches=-(-len(names) // batch_size),
            paths=(model, known.weights, *images),
            package=answering.name,
            processors=processors,
            overwrite=overwrite,
            as_json=as_json,
        )
        return
    if out is None:
        broken = _print(predict(answering, names, **asked), as_json)
    else:
        with Progress() as progress, progress.resumable():
            table = predict_table(
                answering,
                names,
                out,
                **asked,
                part=chosen,
                overwrite=overwrite,
                on_progress=progress.show,
                on_broken=progress.broken,
            )
        if table.resumed:
            say(f"{plural(table.resumed, 'image')} had been done before a stop")
        told = f"{plural(table.images, 'image')}, {table.broken:,} of them broken"
        answer(table, as_json, f"{out}   {told}")
        broken = table.broken > 0
    if broken:
        raise typer.Exit(3)


def _make_part(
    model: str | None,
    images: list[str],
    known: Known,
    runtime: str,
    threads: int,
    asked: dict[str, Any],
    out: Path,
    **told: Any,
) -> int:
    """Make the table of a part in a process of its own; return how many images it is of."""
    from resnets.inference.prediction_table import image_names, predict_table

    names, opened = image_names(images), model or str(default_model())
    answering = open_answering(opened, known, runtime, threads, len(names))
    return predict_table(answering, names, out, **asked, **told).images


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
            answers = answers or "none of its classes"
            if prediction.unknown:
                answers = f"unknown; nearest: {answers}"
            if prediction.label_set is not None:
                names, more = prediction.label_set[:SHOWN], len(prediction.label_set) - SHOWN
                rest = f" and {more:,} more" if more > 0 else ""
                answers += f"   {{{', '.join(map(printable, names))}{rest}}}"
            tell(f"{printable(prediction.path)}   {answers}", flush=True)
    if as_json:
        print_json(records)
    return broken


def _is_of_images(path: Path) -> bool:
    from resnets.data.class_folders import EXTENSIONS
    from resnets.data.sources import begins_with_images, holds_archives
    from resnets.run_folder.directory import RECORD, seeds_in

    if os.path.isdir(path):  # which Path asks too, but raises where it is not allowed to look
        has_model = any(os.path.exists(path / name) for name in (RECORD, *FOLDER_WEIGHTS))
        return not (has_model or seeds_in(path))
    ending = path.suffix.lower()
    if ending == ".tar" and os.path.exists(path):
        return begins_with_images(path)
    named = ending in {*EXTENSIONS, ".pack", ".parquet", ".txt"}
    return named or (not os.path.exists(path) and holds_archives(path))  # as a pattern does
