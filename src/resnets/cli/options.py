"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.output import say
from resnets.errors import UsageError

if TYPE_CHECKING:
    from resnets.nn import ResNet

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Root = Annotated[
    Path | None, typer.Option(help="Where CIFAR is; default: $RESNETS_DATA or the user's cache.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Model = Annotated[
    str | None, typer.Option(help="The network it holds, where the checkpoint does not say.")
]
Container = Annotated[
    str | None, typer.Option(help="The key of the network, where a file holds several.")
]
Dialect = Annotated[
    str | None, typer.Option(help="Whose names a file uses, where that is not clear.")
]
Ema = Annotated[bool, typer.Option("--ema", help="Take the averaged weights of a training run.")]
Source = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A run folder, a checkpoint, or a model's name; default: the resnet20 for CIFAR-10's "
        "ten classes that comes with the package.",
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="Weights for a model that is given by name.", metavar="FILE")
]
Preparation = Annotated[
    str | None,
    typer.Option(
        "--preprocess", help="imagenet: prepare pictures so, where the checkpoint does not say how."
    ),
]


def prepare(network: "ResNet", preparation: str | None) -> None:
    """Give a network the preprocessing that ``--preprocess`` names. Raises UsageError."""
    if preparation is None:
        return
    if preparation != "imagenet":
        raise UsageError(f'no preprocessing is called "{preparation}"', hint="there is: imagenet")
    from resnets.data.preprocess import imagenet

    network.preprocess = imagenet(network.spec.in_channels, network.spec.image_size)


def is_path(word: str) -> bool:
    """Whether a word means a file or a folder, rather than a model's name."""
    path = Path(word)
    return path.exists() or bool(path.suffix) or len(path.parts) > 1


def default_model() -> Path:
    """Return the weights that are meant where no model is named, and say so."""
    from resnets.weights.shipped import DEFAULT, shipped

    model, weights = DEFAULT
    say(f"{model} for {weights}, which comes with the package; name a run folder for your own")
    path = shipped(model, weights)
    assert path is not None
    return path


def chosen_model(model: str | None, weights: str | None) -> tuple["ResNet", bool]:
    """Return the model that ``--model`` and ``--weights`` mean, and whether it has learnt anything.

    Raises UsageError for a name that no model has, and CheckpointError for a bad file.
    """
    if model is None:
        if weights is not None:
            raise UsageError("--weights: of which model?", hint="give its name as --model")
        model = str(default_model())
    if weights is None and is_path(model):
        from resnets.create import open_model

        return open_model(model), True
    from resnets.zoo import get_spec

    spec = get_spec(model)  # before torch takes its seconds to load
    import torch

    from resnets.create import create_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # fresh weights are the same every time
        return create_model(spec, weights=weights).eval(), weights is not None
