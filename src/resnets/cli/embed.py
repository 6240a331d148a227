"""`resnets embed`: a folder of images as one table of embeddings."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.cli.arguments import chosen_part
from resnets.cli.on_ray import On, Parts, check_on, make_on
from resnets.cli.options import (
    READING,
    Device,
    Json,
    Known,
    OverwriteTable,
    PartOfAll,
    Source,
    chosen_model,
    takes,
)
from resnets.cli.output import Progress, answer, say
from resnets.errors import UsageError
from resnets.formatting import plural


@takes(Known, "weights", *READING[1:], "preprocess")
def embed(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A folder, pack, tar or Parquet file of images, or a list of their paths (.txt).",
            metavar="DIR",
        ),
    ],
    context: typer.Context,
    model: Source = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="The table: .npz or .parquet.", show_default="embeddings.npz"),
    ] = None,
    part: PartOfAll = None,
    on: On = None,
    parts: Parts = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Scale each embedding to length 1.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Images at a time.", min=1, max=128)] = 32,
    overwrite: OverwriteTable = False,
    device: Device = "auto",
    as_json: Json = False,
    **options: Any,
) -> None:
    """Write what the classifier reads of every image, its embedding, to a table with the paths.

    It may be stopped at any time: the same command resumes. A table that is there
    already is replaced with --overwrite only. Images that cannot be read are reported, listed
    beside the table and left out; the exit code is then 3. With --part it is the table of one of
    several parts, each made by a process of its own, on any machine; --on makes all of them on a
    Ray cluster, and the table of all.

    \b
    Examples:
      resnets embed photos/ --model runs/photos-resnet18
      resnets embed photos/ --model resnet50 --weights resnet50.safetensors --out photos.parquet
      resnets embed photos/ --model runs/photos-resnet18 --part 3/16 --out part-3.parquet
      resnets embed photos/ --model runs/photos-resnet18 --on ray --out all.parquet
    """
    from resnets.inference.embedding import embed_folder
    from resnets.inference.embedding_table import check_table

    known = Known(**options)
    chosen = chosen_part(context, part, out)
    out = out or Path("embeddings.npz")
    check_on(on, parts, part, out)
    check_table(out, overwrite=overwrite, part=chosen)
    network, learnt = chosen_model(model, known, head="drop")
    if not learnt:
        raise UsageError(
            f"{model}: a name alone has fresh weights, whose embeddings mean nothing",
            hint="give --weights, or a run folder as --model",
        )
    if on is not None:
        from resnets.inference.embedding_table import CHUNK
        from resnets.inference.prediction_table import image_names

        gpus = int(device.startswith("cuda"))  # of which Ray gives each task one that is free
        asked = {"normalize": normalize, "batch_size": batch_size}
        images = len(image_names([folder]))
        make_on(
            on,
            partial(_make_part, model, known, folder, "cuda" if gpus else "cpu", asked),
            out=out,
            parts=parts,
            images=images,
            batches=-(-images // CHUNK),
            paths=(model, known.weights, folder),
            package="torch",
            gpus=gpus,
            overwrite=overwrite,
            as_json=as_json,
        )
        return
    from resnets.machine.device import choose_device

    with Progress() as progress, progress.resumable():
        table = embed_folder(
            network.to(choose_device(device)),
            folder,
            out,
            normalize=normalize,
            batch_size=batch_size,
            part=chosen,
            overwrite=overwrite,
            on_progress=progress.show,
            on_broken=progress.broken,
        )
    if table.resumed:
        say(f"{plural(table.resumed, 'image')} had been done before a stop")
    if table.broken:
        say(f"left out and listed in {table.broken_list}: {plural(len(table.broken), 'image')}")
    told = f"{plural(table.images, 'image')}, {table.channels:,} numbers each"
    answer(table, as_json, f"{table.path}   {told}")
    if table.broken:
        raise typer.Exit(3)


def _make_part(
    model: str | None,
    known: Known,
    folder: Path,
    device: str,
    asked: dict[str, Any],
    out: Path,
    **told: Any,
) -> int:
    """Make the table of a part in a process of its own; return how many images it is of."""
    from resnets.inference.embedding import embed_folder

    network, _ = chosen_model(model, known, head="drop")
    table = embed_folder(network.to(device), folder, out, **asked, **told)
    return table.images + len(table.broken)
