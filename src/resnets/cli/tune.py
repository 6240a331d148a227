"""`resnets tune`: trials of settings, and the best of them as a recipe."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.options import (
    Checkpointing,
    Compile,
    Container,
    Device,
    Dialect,
    Ema,
    Json,
    ModelName,
    Root,
)
from resnets.cli.output import print_json, print_table, say, tell
from resnets.formatting import duration, percent
from resnets.machine import cpu

if TYPE_CHECKING:
    from resnets.training.tune import Tuning


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
    model: ModelName = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe's name, or a YAML file.", show_default="default; auto with --weights"
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start each trial from these: a file, a run folder, or published ones by name.",
            metavar="NAME|FILE|RUN",
            show_default="fresh ones",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="A network whose answers each trial learns, as for `train`.",
            metavar="RUN|FILE|MODEL@WEIGHTS",
        ),
    ] = None,
    container: Container = None,
    dialect: Dialect = None,
    ema: Ema = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Of all trials, such as schedule.epochs=10.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: runs/DATA-MODEL[-RECIPE]-tune.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Such a folder to resume; or auto: resume if there is one.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the search that is in the folder.")
    ] = False,
    root: Root = None,
    device: Device = "auto",
    compile: Compile = False,
    checkpointing: Checkpointing = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            help="Show each trial to wandb, mlflow or trackio, too; may be given several times."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for the settings that do best on the held-out split, by trials that are runs.

    No trial looks at the test split. Trials, best.yaml and a page are in one folder; Ctrl-C or a
    kill loses nothing: --resume goes on with what would have come.

    \b
    Examples:
      resnets tune photos/ --model resnet18 --trials 20 --minutes 120
      resnets tune photos/ --search optimizer.lr=1e-3..1:log --search augment.mixup=0,0.2
      resnets tune --resume runs/photos-resnet18-tune --trials 40
    """
    from resnets.training.recipe import load_recipe, unnamed
    from resnets.training.space import parse_space, read_space
    from resnets.zoo import get_spec

    # What is wrong in what was typed is found before torch takes its seconds to load.
    if model is not None:
        get_spec(model)
    if resume in (None, "auto"):
        parse_space(
            read_space(search or [], space),
            load_recipe(recipe or unnamed(weights), settings or []),
        )
    cpu.keep_large_blocks()
    from resnets.machine.device import Machine
    from resnets.training.tune import tune as start

    print_tuning(
        start(
            data,
            trials=trials,
            minutes=minutes,
            search=search or [],
            space=space,
            prune=prune,
            seed=seed,
            model=model,
            recipe=recipe,
            weights=weights,
            teacher=teacher,
            container=container,
            dialect=dialect,
            ema=ema,
            settings=settings or [],
            out=out,
            resume=resume,
            overwrite=overwrite,
            root=root,
            machine=Machine(
                device=device,
                compile=compile,
                checkpointing=checkpointing,
                track=tuple(track or ()),
            ),
        ),
        as_json,
    )


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
