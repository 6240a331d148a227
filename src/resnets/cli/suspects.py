"""`resnets data suspects`: labels that are likely wrong, and those that come of a second look."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.options import Compile, Device, Json, Overwrite
from resnets.cli.output import print_json, print_table, say, tell
from resnets.errors import UsageError
from resnets.formatting import percent, plural
from resnets.machine import cpu

if TYPE_CHECKING:
    from resnets.training.suspects import Suspects

SHOWN = 20  # in the terminal; the table has all


def suspects(
    run: Annotated[
        Path, typer.Argument(help="The folder of a finished run; its data are looked at.")
    ],
    folds: Annotated[
        int, typer.Option(help="How often the run is repeated, each time without a part.", min=2)
    ] = 5,
    neighbours: Annotated[int, typer.Option(help="How many nearest images are asked.", min=1)] = 10,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the run's recipe, such as schedule.epochs=5."),
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option(
            help="Train nothing: make labels of suspects.csv, whose column accept has an x, a "
            "class, or drop.",
            metavar="CSV",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of what is found; default: RUN/suspects. With --apply the new table "
            "of labels, in the folder of the images or above."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the images are now, if they have moved.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Where the weights are now that the run began from, if they have moved."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="The same of the network whose answers it learnt.")
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    compile: Compile = False,
    as_json: Json = False,
) -> None:
    """Find images of a run's training and held-out splits whose labels are likely wrong.

    The run is repeated, each time without a part of the images, which that model then judges; their
    nearest neighbours in the run's embeddings are asked too. It takes as long as so many runs, may
    be stopped at any time, and resumes by the same command. A page shows the suspects, the surest
    first; suspects.csv is for what you decide, and --apply makes a table of labels of it that
    `resnets train` takes, in which splits stay. Images and their folders are never changed.

    \b
    Examples:
      resnets data suspects runs/photos-resnet18
      resnets data suspects runs/photos-resnet18 --folds 3 --set schedule.epochs=5
      resnets data suspects runs/photos-resnet18 --apply runs/photos-resnet18/suspects/suspects.csv
          --out photos/corrected.csv
    """
    if apply is not None:
        if out is None:
            raise UsageError("--apply: where to?", hint="--out photos/corrected.csv")
        from resnets.training.suspects import apply_suspects

        done = apply_suspects(run, apply, out, data=data, overwrite=overwrite)
        if as_json:
            print_json(done.to_dict())
            return
        dropped = f", {plural(done.left_out, 'image')} left out" if done.left_out else ""
        tell(
            f"{done.path}   {plural(done.images, 'image')}, {plural(done.changed, 'label')} "
            f"changed{dropped}"
        )
        say(f"next: resnets train {shlex.quote(str(done.path))}")
        return
    cpu.keep_large_blocks()
    from resnets.machine.device import Machine
    from resnets.training.suspects import find_suspects

    found = find_suspects(
        run,
        folds=folds,
        neighbours=neighbours,
        settings=settings or [],
        out=out,
        data=data,
        weights=weights,
        teacher=teacher,
        overwrite=overwrite,
        machine=Machine(device=device, compile=compile),
    )
    print_json(found.to_dict()) if as_json else _print(found)


def _print(found: "Suspects") -> None:
    tell(
        f"{plural(len(found.suspects), 'suspect')} among {plural(found.images, 'image')}; models "
        f"that have not learnt an image agree with {percent(found.accuracy)} of the labels"
    )
    if not found.suspects:
        return
    rows = [
        (each.file, each.label, each.suggested, f"{each.score:.3f}")
        for each in found.suspects[:SHOWN]
    ]
    print_table(("file", "label", "perhaps", "score"), rows)
    if (more := len(found.suspects) - SHOWN) > 0:
        tell(f"... and {more:,} more")
    say(f"look at {found.page}; decide in {found.table}, column accept")
    if found.command:
        say(f"then: {found.command}")
