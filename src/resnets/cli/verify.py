"""`resnets verify`: whether a checkpoint is whole, and which tensor is not."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.options import Json
from resnets.cli.output import print_json, tell
from resnets.errors import CheckpointError


def verify(
    files: Annotated[
        list[Path], typer.Argument(help="Checkpoints or run folders.", metavar="FILE...")
    ],
    as_json: Json = False,
) -> None:
    """Check checkpoints: every digest that they carry, and that every value is a number.

    Files written by resnets have a SHA-256 for each tensor; archives of PyTorch and Keras have
    checksums for each part; published files are known by their whole SHA-256, and exported ones by
    the certificate beside them. Exits with 4 when a file is damaged.

    \b
    Examples:
      resnets verify runs/photos-resnet18
      resnets verify *.safetensors --json
    """
    from resnets.exporting.keeping import verify_export
    from resnets.weights.verify import verify

    verdicts = [verify_export(file) or verify(file) for file in files]
    if as_json:
        print_json([verdict.to_dict() for verdict in verdicts])
    else:
        for verdict in verdicts:
            tell(f"{verdict.path}: {verdict.sentence}")
    bad = [verdict for verdict in verdicts if not verdict.good]
    if bad:
        intact = all(verdict.not_finite and not verdict.damaged for verdict in bad)
        raise CheckpointError(
            f"{len(bad)} of {len(verdicts)} not good: {', '.join(str(v.path) for v in bad)}",
            hint="the values were saved so: take a checkpoint from before the training diverged"
            if intact
            else "a damaged file must be copied again from where it came from",
        )
