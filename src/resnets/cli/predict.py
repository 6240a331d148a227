"""`resnets predict`: pictures in, labelled probabilities out."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.options import Json, Model, Preparation, prepare
from resnets.cli.output import print_json, say
from resnets.errors import UsageError


def predict(
    words: Annotated[
        list[str],
        typer.Argument(
            help="A run folder, or a checkpoint in any format, and pictures. Without the first: "
            "the resnet20 for CIFAR-10's ten classes that comes with the package.",
            metavar="[RUN] IMAGE...",
        ),
    ],
    model: Model = None,
    preprocess: Preparation = None,
    top: Annotated[int, typer.Option(help="How many classes to print.", min=1)] = 3,
    as_json: Json = False,
) -> None:
    """Say what is in pictures: the most probable classes of each.

    A picture that cannot be read is reported and the others go on; the exit code is then 3.

    \b
    Examples:
      resnets predict photo.jpg
      resnets predict runs/photos-resnet18 holiday.jpg
      resnets predict runs/demo *.png --top 1 --json
      resnets predict resnet50.pth cat.jpg --preprocess imagenet
    """
    run, images = _divided(words)
    from resnets.create import open_model
    from resnets.prediction import predict

    network = open_model(run, model)
    prepare(network, preprocess)
    predictions = []
    for prediction in predict(network, images, top=top):
        predictions.append(prediction)
        if prediction.error is not None:
            say(f"error: {prediction.error.message}\n hint: {prediction.error.hint}")
        elif not as_json:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            answers = "   ".join(f"{name} {100 * p:.1f} %" for name, p in pairs)
            print(f"{prediction.path}   {answers}", flush=True)
    if as_json:
        print_json([prediction.to_dict() for prediction in predictions])
    if any(prediction.error for prediction in predictions):
        raise typer.Exit(3)


def _divided(words: list[str]) -> tuple[Path, list[str]]:
    """Return the model's path and the pictures: all words where the first is a picture itself."""
    from resnets.data.scan import EXTENSIONS
    from resnets.weights.shipped import DEFAULT, shipped

    first, *rest = words
    if Path(first).suffix.lower() in EXTENSIONS and not Path(first).is_dir():
        model, weights = DEFAULT
        say(f"{model} for {weights}, which comes with the package; a run folder may come first")
        path = shipped(model, weights)
        assert path is not None
        return path, words
    if not rest:
        raise UsageError(f"there is no picture to look at with {first}", hint="name one after it")
    return Path(first), rest
