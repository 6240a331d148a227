"""`resnets features`: a page about what a network sees in an image."""

from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.cli.options import READING, Known, Source, chosen_model, said_meaning, takes
from resnets.cli.output import tell


@takes(Known, "weights", *READING[1:], "preprocess", "outputs", "head")
def features(
    image: Annotated[Path, typer.Argument(help="An image.")],
    model: Source = None,
    *,
    top: Annotated[int, typer.Option(help="How many classes to look for.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("features.html"),
    **options: Any,
) -> None:
    """Show what a network sees: the maps of every stage, and where it finds its classes.

    The page is one HTML file. Where a class is found is Grad-CAM's answer (Selvaraju et al. 2017),
    for the most probable classes. A model given by name alone has fresh weights.

    \b
    Examples:
      resnets features truck.jpg
      resnets features holiday.jpg --model runs/photos-resnet18
      resnets features holiday.jpg --model resnet50 --weights resnet50.safetensors --top 5
    """
    known = Known(**options)
    network, learnt = chosen_model(model, known)
    if learnt and hasattr(network.fc, "out_features"):
        said_meaning(network.outputs, network.spec.num_classes)
    from resnets.analysis.features import write_features

    source = known.weights or model or "the package's own"
    tell(write_features(network, image, out, top=top, learnt=learnt, source=source))
