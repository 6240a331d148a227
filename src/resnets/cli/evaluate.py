"""`resnets evaluate`: a trained model on any labelled data."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.options import Device, Json, Root
from resnets.cli.output import print_json


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder or its model.safetensors.")],
    data: Annotated[str, typer.Argument(help="A data set's name or a folder of pictures.")],
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test; default: test, else validation, else all."),
    ] = None,
    root: Root = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure a trained model: loss, accuracy and top-5 accuracy, each picture counted once.

    \b
    Examples:
      resnets evaluate runs/demo digits
      resnets evaluate runs/photos-resnet18 more-photos/ --json
    """
    from resnets.evaluation import evaluate_run

    part, scores = evaluate_run(run, data, split=split, root=root, device=device)
    if as_json:
        print_json({"split": part, **scores.to_dict()})
        return
    values = scores.to_dict()
    print(
        f"{part}: {values['samples']:,} pictures, accuracy {values['accuracy']:.4f}, "
        f"top-5 {values['top5_accuracy']:.4f}, loss {values['loss']:.4f}"
    )
