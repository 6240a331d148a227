"""`resnets evaluate`: any models on any labelled images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.options import Device, Json, Known, Root, Threads, open_answering, takes
from resnets.cli.output import Progress, print_json, print_table, say, tell
from resnets.errors import UsageError
from resnets.formatting import plural
from resnets.machine import cpu

if TYPE_CHECKING:
    from resnets.evaluation import Assessment


def _list_protocols(name: str | None) -> str | None:
    """Answer `--protocol list`, which takes no model and no data."""
    if name == "list":
        from resnets.data.preprocess import imagenet
        from resnets.evaluation.protocols import PROTOCOLS

        usual = imagenet(3, 224)
        for each, (protocol, source) in PROTOCOLS.items():
            tell(f"{each}: {protocol.settled(usual).sentence}", f"  {source}")
        raise typer.Exit
    return name


def _scales(text: str | None) -> list[int]:
    """Return what ``--scales`` says. Raises UsageError."""
    words = (text or "").replace(",", " ").split()
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise UsageError(f'--scales is "{text}"', hint="give pixels such as 224,256,384,480,640")
    return [*map(int, words)]


@takes(Known)
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="A run folder, a checkpoint in any format, an exported file (.onnx, .xml, .pt2), "
            "or a model's name with --weights. Several, or a folder of several seeds, are an "
            "ensemble.",
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
    class_names: Annotated[
        Path | None,
        typer.Option(
            help="Words for names of classes, such as synsets: lines `n01440764 tench`, CSV or "
            "JSON.",
            metavar="FILE",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for evaluation.json, a page and each model's scores, which are not "
            "computed again; default: nothing is written.",
            metavar="FOLDER",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="How images are shown, by a name such as he2015-ten-crops; list shows all. "
            "Default: as each model's own preprocessing has it. The options below go before its "
            "settings.",
            metavar="NAME",
            callback=_list_protocols,
            is_eager=True,
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="The side of a crop, in pixels; with --scales of a window.")
    ] = None,
    resize: Annotated[
        int | None, typer.Option(help="The shorter side of the image that crops are cut of.")
    ] = None,
    crop_fraction: Annotated[
        float | None, typer.Option(help="In its place: the crop's side over that, as timm has it.")
    ] = None,
    crops: Annotated[
        int | None, typer.Option(help="1: the middle; 10: also corners, and mirror images.")
    ] = None,
    scales: Annotated[
        str | None,
        typer.Option(
            help="Whole images at these shorter sides, such as 224,256,384,480,640, the classifier "
            "slid over the map; with --crops 10, crops of each.",
        ),
    ] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Mirror images too.")] = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Measure models on labelled images: accuracy and how far probabilities can be trusted.

    Accuracy comes with its 95 % interval (Wilson), top-5, balanced accuracy and F1; probabilities
    with log loss, Brier score and calibration error (ECE). Where an image may have several classes,
    also mean average precision, at the thresholds that the model has.

    Several models answer the same images, and together the mean of their probabilities. Each is
    compared with the first: paired difference, its interval, and McNemar's exact test.

    Labels are the names of folders, or what a table says. Where nothing names a model's classes,
    those that are numbers are its outputs, and as many classes as outputs are taken in their order,
    which is then said.
    Classes that the model does not have, or that have no images, and images that cannot be read
    are left out, said and counted.

    \b
    Examples:
      resnets evaluate runs/photos-resnet18 more-photos/ --json
      resnets evaluate model.onnx test-photos/
      resnets evaluate runs/photos-seeds runs/photos-resnet50 photos/
      resnets evaluate runs/photos-resnet18 photos/ --crops 10
      resnets evaluate resnet50 imagenet/ --weights resnet50.pth --protocol he2015-multi-scale
      resnets evaluate resnet20.pth cifar10 --preprocess "mean=0.49,0.48,0.45 std=0.2,0.2,0.2"
    """
    known = Known(**options)
    from resnets.evaluation.protocols import asked
    from resnets.run_folder.directory import seeds_in

    shown = asked(
        protocol,
        size=size,
        resize=resize,
        crop_fraction=crop_fraction,
        crops=crops,
        scales=_scales(scales),
        tta=tta,
    )
    words: list[str] = []
    for word in models:
        words += [str(run) for run in seeds_in(Path(word))] or [word]
    cpu.keep_large_blocks()  # many views are taken at once, batch after batch
    answering = [open_answering(word, known, runtime, threads) for word in words]
    from resnets.evaluation import evaluate

    with Progress() as progress:
        found = evaluate(
            answering,
            data,
            split=split,
            root=root,
            device=device,
            home=words,
            class_names=class_names,
            out=out,
            protocol=shown,
            on_progress=progress.show,
        )
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    if out is not None:
        say(f"look at {out / 'evaluation.html'}")


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
    together = f"{len(found.members)} models together: " if found.members else ""
    tell(
        f"{found.part}: {plural(count, 'image')}, {together}{several}accuracy "
        f"{found.accuracy:.4f} ({interval_text(found.accuracy, count)}){top5}, "
        f"loss {found.loss:.4f}",
        f"  {_trust(values)}",
    )
    if found.members:
        _print_members(values)
    for line in (*map(printable, values["cautions"]), *found.sentences()):
        tell(f"  {line}")


def _trust(values: dict[str, Any]) -> str:
    """Say how well classes are told however many images they have, and what probabilities are."""
    parts = []
    if "balanced_accuracy" in values:
        parts.append(f"balanced accuracy {values['balanced_accuracy']:.4f}")
        parts.append(f"F1 (macro) {values['f1_macro']:.4f}")
    if "brier" in values:
        parts.append(f"Brier score {values['brier']:.4f}")
        parts.append(f"calibration error {values['ece']:.4f}")
    if raw := values.get("uncalibrated"):
        parts.append(f"before calibration {raw['ece']:.4f}")
    return ", ".join(parts)


def _print_members(values: dict[str, Any]) -> None:
    from resnets.report.verdict import paired_text

    figures = {"accuracy": "accuracy", "map": "mAP", "log_loss": "log loss", "ece": "ECE"}
    figures = {key: name for key, name in figures.items() if key in values}
    rows = [
        (each["name"], *(f"{each[key]:.4f}" for key in figures), paired_text(each))
        for each in (
            *values["members"],
            {"name": "mean", **values["members_mean"]},
            {"name": "together", **values},
        )
    ]
    print_table(("model", *figures.values(), "accuracy beside the first"), rows)
