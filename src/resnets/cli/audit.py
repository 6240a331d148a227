"""`resnets audit`: whether a run used each image as it should."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.options import Json
from resnets.cli.output import print_json, tell
from resnets.errors import CheckpointError

if TYPE_CHECKING:
    from resnets.training.audit import Check

SHOWN = 3  # differences of a check; --json has them all


def audit(
    run: Annotated[Path, typer.Argument(help="A run folder, or one of several seeds.")],
    as_json: Json = False,
) -> None:
    """Prove that a run used each training image once per epoch, through every interruption.

    The order of every epoch is computed again from the recipe's seed, and compared with the digests
    of what the run really used, through every stop and resume. Metrics, sessions and weights must
    agree with it, and the images, where they are still there, must be those that they were. Exits
    with 4 when something does not.

    \b
    Examples:
      resnets audit runs/cifar10-resnet20
      resnets audit runs/cifar10-resnet20-seeds --json
    """
    from resnets.training import audit as auditing

    found = auditing.audit(run)
    if as_json:
        print_json(found.to_dict())
    else:
        for part in (found, *found.seeds):
            if found.seeds and part.checks:
                tell(part.path)
            for check in part.checks:
                tell(f"{check.name:<9} {'ok ' if check.ok else 'not'}  {_text(check)}")
    if not found.ok:
        others = len(found.differences) - 1
        more = f", and {others:,} more" if others else ""
        raise CheckpointError(
            f"{run}: not as it should be: {found.differences[0]}{more}",
            hint="files were changed after the run, or come from different runs; train it again",
        )


def _text(check: "Check") -> str:
    if check.ok:
        return check.found
    others = len(check.differences) - SHOWN
    more = f"; and {others:,} more" if others > 0 else ""
    return "; ".join(check.differences[:SHOWN]) + more
