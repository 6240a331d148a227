"""`resnets convert`: a checkpoint in, the same network under other names out."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.output import say


def convert(
    source: Annotated[Path, typer.Argument(help="A checkpoint, in any format, or a run folder.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[
        str,
        typer.Option(help="torchvision, timm, detectron2, mmlab, huggingface, keras or native."),
    ] = "native",
    model: Annotated[
        str | None, typer.Option(help="The network it holds, where the file does not say.")
    ] = None,
) -> None:
    """Write a checkpoint under somebody else's names, after a strict load into our network.

    torchvision, timm, detectron2 and mmlab: a state dict for torch.load, or safetensors if OUT ends
    so. huggingface: a folder for from_pretrained, if OUT has no ending. keras: weights in .h5.
    native: our own safetensors with a passport.

    \b
    Examples:
      resnets convert checkpoint.pth.tar resnet50.safetensors
      resnets convert runs/photos-resnet50 detector.pth --to detectron2
    """
    from resnets.create import from_checkpoint
    from resnets.weights.checkpoint import open_checkpoint
    from resnets.weights.save import save_weights

    checkpoint = open_checkpoint(source)
    network, report = from_checkpoint(checkpoint, model)
    for note in report.notes:
        say(f"note: {note}")
    save_weights(network, out, dialect=to, made=checkpoint.made)
    print(f"{out}: {network.spec.name}, {len(report.loaded)} tensors, as {to} has them")
