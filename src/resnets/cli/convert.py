"""`resnets convert`: a checkpoint in, the same network under other names out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.cli.options import READING, Json, Known, Overwrite, prepare, takes
from resnets.cli.output import print_json, say, tell
from resnets.errors import UsageError
from resnets.files import alone, check_free
from resnets.formatting import plural


@takes(Known, *READING, "preprocess", "outputs")
def convert(
    source: Annotated[Path, typer.Argument(help="A checkpoint, in any format, or a run folder.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[
        str,
        typer.Option(help="torchvision, timm, detectron2, mmlab, huggingface, keras or native."),
    ] = "native",
    *,
    overwrite: Overwrite = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Write a checkpoint under somebody else's names, after a strict load into our network.

    torchvision, timm, detectron2 and mmlab: a state dict for torch.load, safetensors if OUT ends
    so, or detectron2's own pickle if it ends in .pkl. huggingface: a folder for from_pretrained,
    unless OUT ends like a file. keras: weights in .h5. native: our own safetensors with metadata.
    Values keep their precision. What nothing says of the network stays unknown, and is told.
    What is there already is replaced with --overwrite only.

    \b
    Examples:
      resnets convert checkpoint.pth.tar resnet50.safetensors
      resnets convert runs/photos-resnet50 detector.pth --to detectron2
    """
    known = Known(**options)
    if out.resolve() == source.resolve():
        raise UsageError(f"{out}: is the checkpoint itself", hint="give another OUT")
    from resnets.models import check_folder, from_checkpoint
    from resnets.weights.checkpoint import open_checkpoint
    from resnets.weights.outputs import given
    from resnets.weights.save import check_ending, save_weights

    check_ending(out, to)
    _check_free(out, overwrite)
    check_folder(source)
    checkpoint = open_checkpoint(source, spec=known.spec, **known.reading)
    network, report = from_checkpoint(checkpoint, known.model, dtype=checkpoint.dtype)
    prepare(network, known.preprocess)
    network.outputs = given(known.outputs) or network.outputs
    for note in report.notes:
        say(f"note: {note}")
    if network.outputs is None and "fc.weight" in report.loaded:
        say("note: nothing says what its outputs mean; --outputs softmax or sigmoid writes it down")
    if report.unexpected:
        say(f"note: left behind: {', '.join(report.unexpected[:5])}")
    head = "fc.weight" in report.loaded
    lost = [name for name in ("calibration", "thresholds") if getattr(network, name)]
    if to != "native" and lost:
        say(f"note: {to} has no place for the model's {' and '.join(lost)}, which are left behind")
    with alone(out):
        _check_free(out, overwrite)  # another may have written it meanwhile
        save_weights(network, out, dialect=to, made=checkpoint.made, head=head)
    if as_json:
        print_json(
            {
                "out": str(out),
                "model": network.spec.name,
                "dialect": to,
                "tensors": len(report.loaded),
                "classifier": head,
                "notes": list(report.notes),
                "left_behind": list(report.unexpected),
            }
        )
        return
    kept = "" if head else ", without a classifier"
    count = plural(len(report.loaded), "tensor")
    tell(f"{out}: {network.spec.name}, {count}, as {to} has them{kept}")


def _check_free(out: Path, overwrite: bool) -> None:
    """Raise UsageError where there is already what would be written."""
    for path in (out / "model.safetensors", out / "config.json") if out.is_dir() else (out,):
        check_free(path, overwrite=overwrite, option="OUT")
