"""`resnets evaluate`: any model on any labelled images."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.options import Device, Json, Known, Root, Threads, open_answering, takes_known
from resnets.cli.output import Progress, print_json, tell
from resnets.formatting import plural

if TYPE_CHECKING:
    from resnets.evaluation import Assessment


@takes_known()
def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            help="A run folder, a checkpoint in any format, an exported file (.onnx, .xml, .pt2), "
            "or a model's name with --weights.",
            metavar="MODEL",
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(
            help="A data set's name, a folder with a folder for each class or a table of labels, "
            "or a pack, tar or Parquet file."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test; default: test, else validation, else all."),
    ] = None,
    *,
    known: Known,
    runtime: Annotated[
        str,
        typer.Option(
            help="Who computes: auto, onnxruntime, openvino or torch. For an exported .onnx or "
            ".xml and a folder torch is not needed, nor loaded."
        ),
    ] = "auto",
    threads: Threads = 0,
    root: Root = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure a model on labelled images: accuracy, top-5 accuracy and loss, each counted once.

    Where an image may have several classes, also mean average precision and F1, at the thresholds
    that the model has.

    Labels are the names of folders, or what a table says. Where nothing names a model's classes,
    those that are numbers are its outputs, and as many classes as outputs are taken in their order,
    which is then said.
    Classes that the model does not have, or that have no images, and images that cannot be read
    are left out, said and counted.

    \b
    Examples:
      resnets evaluate runs/photos-resnet18 more-photos/ --json
      resnets evaluate model.onnx test-photos/
      resnets evaluate resnet20.pth cifar10 --preprocess "mean=0.49,0.48,0.45 std=0.2,0.2,0.2"
    """
    answering = open_answering(run, known, runtime, threads)
    from resnets.evaluation import evaluate

    progress = Progress()
    found = evaluate(
        answering,
        data,
        split=split,
        root=root,
        device=device,
        home=run,
        on_progress=progress.show,
    )
    progress.clear()
    if as_json:
        print_json(found.to_dict() | _worth(found))
    else:
        _print(found)


def _worth(found: "Assessment") -> dict[str, Any]:
    """Return how sure the accuracy is, and what is to be held against it."""
    from resnets.report.score import interval
    from resnets.report.verdict import accuracy_cautions

    return {
        "interval": list(interval(found.accuracy, len(found.labels))),
        "cautions": accuracy_cautions(found.accuracy, found.confusion, found.names),
    }


def _print(found: "Assessment") -> None:
    from resnets.data.images import printable
    from resnets.report.verdict import interval_text, several_text

    values, count = found.to_dict(), len(found.labels)
    several = f"{several_text(values)} " if found.several else ""
    top5 = (
        f", top-5 {values['top5_accuracy']:.4f}"
        if "top5_accuracy" in values and found.classes > 5
        else ""
    )
    tell(
        f"{found.part}: {plural(count, 'image')}, {several}accuracy {found.accuracy:.4f} "
        f"({interval_text(found.accuracy, count)}){top5}, loss {found.loss:.4f}"
    )
    for line in (*map(printable, _worth(found)["cautions"]), *found.sentences()):
        tell(f"  {line}")
