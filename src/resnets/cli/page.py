"""`resnets page`: one HTML file that answers in any browser, without a network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.options import (
    Json,
    Known,
    Overwrite,
    Root,
    check_says_itself,
    note_unsaid,
    open_network,
    takes,
)
from resnets.cli.output import answer, say

if TYPE_CHECKING:
    from resnets.nn import ResNet


@takes(Known)
def page(
    run: Annotated[
        str,
        typer.Argument(
            help="A run folder, a checkpoint in any format, a model's name with --weights, or an "
            "exported .onnx file.",
            metavar="RUN|FILE",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page, an .html file.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="In 8-bit integers: a quarter of the model's size.")
    ] = False,
    max_loss: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Points of accuracy that --int8 may lose; default: as of resnets export.",
        ),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            help="The package of onnxruntime-web, or its folder; default: what is in the cache, or "
            "is fetched from npm's registry once.",
            metavar="FILE.tgz",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A data set's name or folder: for --int8, and images to prove the page with; "
            "default: the run's own."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder of images to prove the page with.")
    ] = None,
    root: Root = None,
    *,
    overwrite: Overwrite = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Write a page that answers by double click: one file, no network and no server.

    It holds the model and what computes it, onnxruntime-web. When it is opened it answers eight
    images that lie in it, and says how far its probabilities are from those of training.

    \b
    Examples:
      resnets page runs/photos-resnet18 --out demo.html
      resnets page runs/photos-resnet18 --int8 --out small.html
      resnets page model.onnx --images photos/ --out demo.html
    """
    known = Known(**options)
    from resnets.inference.runtimes import is_export
    from resnets.serving.demo import check_page, write_page

    check_page(out, overwrite=overwrite)
    model: str | ResNet = run
    made: dict[str, Any] | None = None
    if is_export(Path(run)):
        check_says_itself(run, known)
    else:
        model, made = open_network(run, known)
        note_unsaid(model)
    written = write_page(
        model,
        out,
        runtime,
        name=_named(run),
        int8=int8,
        max_loss=max_loss,
        made=made,
        data=data,
        images=images,
        root=root,
        overwrite=overwrite,
        report=say,
    )
    answer(written, as_json, *written.sentences())


def _named(run: str) -> str:
    path = Path(run).resolve()
    return path.name if path.is_dir() else path.stem
