"""`resnets tune`: trials of settings, and the best of them as a recipe."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.options import Json, takes
from resnets.cli.output import print_json, print_table, say, tell
from resnets.cli.training_options import Told
from resnets.formatting import duration, percent
from resnets.machine import cpu

if TYPE_CHECKING:
    from resnets.training.tune import Tuning


@takes(Told)
def tune(
    data: Annotated[str | None, typer.Argument(help="What is trained on, as for `train`.")] = None,
    trials: Annotated[
        int | None, typer.Option(help="Runs to try.", show_default="20", min=1)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="End with the epoch after so many; may be resumed.")
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            help="What to try, such as optimizer.lr=1e-4..1e-1:log or label_smoothing=0,0.1.",
            metavar="KEY=VALUES",
            show_default="rate, weight decay, label smoothing, augmentation policy",
        ),
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="The same in a YAML file: KEY: VALUES.", metavar="FILE")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="End trials that have fallen behind.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of what is tried; training has its own.", min=0)] = 0,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: runs/DATA-MODEL[-RECIPE]-tune.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Such a folder to resume; or auto: resume if there is one.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the search that is in the folder.")
    ] = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Look for the settings that do best on the held-out split, by trials that are runs.

    What is said as to `train`, such as --weights and --set, is so for all trials. None looks at the
    test split. Trials, best.yaml and a page are in one folder; Ctrl-C or a kill loses nothing:
    --resume goes on with what would have come.

    \b
    Examples:
      resnets tune photos/ --model resnet18 --trials 20 --minutes 120
      resnets tune photos/ --search optimizer.lr=1e-3..1:log --search augment.mixup=0,0.2
      resnets tune --resume runs/photos-resnet18-tune --trials 40
    """
    told = Told(**options)
    from resnets.training.space import parse_space, read_space

    told.check_model()
    if resume in (None, "auto"):
        parse_space(read_space(search or [], space), told.asked_recipe())
    cpu.keep_large_blocks()
    from resnets.training.tune import tune as start

    found = start(
        data,
        trials=trials,
        minutes=minutes,
        search=search or [],
        space=space,
        prune=prune,
        seed=seed,
        out=out,
        resume=resume,
        overwrite=overwrite,
        **told.arguments(),
    )
    print_tuning(found, as_json)


def print_tuning(found: "Tuning", as_json: bool) -> None:
    """Print what came of a search, as a table for people or all of it for programs."""
    if as_json:
        print_json(found.to_dict())
        return
    keys = list(found.search.space)
    print_table(
        ("trial", "held out", "epochs", "time", "status", *keys),
        [
            (
                trial.name,
                percent(trial.score, 2),
                len(trial.epochs),
                duration(trial.seconds),
                trial.status,
                *(json.dumps(trial.settings.get(key)) for key in keys),
            )
            for trial in found.search.trials
        ],
    )
    best = found.search.best
    if best:
        tell(f"best: {best.name}, held-out {found.search.measure} {percent(best.score, 2)}")
        tell(f"train with: {found.command}")
    else:
        say("no trial has come to its end")
    say(f"look at {found.report}")
