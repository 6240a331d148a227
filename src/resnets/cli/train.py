"""`resnets train`: from data to a run folder."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.options import Device, Json, Root
from resnets.cli.output import print_json, say


def train(
    data: Annotated[
        str | None,
        typer.Argument(help="digits, cifar10, cifar100, or a folder of pictures in class folders."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model's name.", show_default="resnet18")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe's name, or a YAML file.", show_default="default"),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override, such as optimizer.lr=0.05.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/DATA-MODEL[-RECIPE].")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="A run folder to go on with; or auto: go on if there is one.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that is in the folder.")
    ] = False,
    root: Root = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a model and leave weights, metrics and a report in a run folder.

    Ctrl-C saves and says how to go on. The test part is looked at once, at the end.

    \b
    Examples:
      resnets train photos/ --model resnet18
      resnets train cifar10 --model resnet20 --recipe he2015_cifar --set schedule.iterations=1200
    """
    from resnets.training.recipe import load_recipe
    from resnets.zoo import get_spec

    # A wrong name or recipe is found before torch takes its seconds to load.
    if model is not None:
        get_spec(model)
    if recipe is not None or settings:
        load_recipe(recipe or "default", settings or [])
    from resnets import experiment

    run = experiment.train(
        data,
        model=model,
        recipe=recipe,
        settings=settings or [],
        out=out,
        resume=resume,
        overwrite=overwrite,
        root=root,
        device=device,
    )
    if as_json:
        print_json({"run": str(run.path), "results": run.results})
        return
    for part, name in (("test", "test accuracy"), ("validation", "held-out accuracy")):
        if scores := run.results[part]:
            print(f"{name} {scores['accuracy']:.4f} ({scores['samples']:,} pictures)")
    if not (run.results["test"] or run.results["validation"]):
        say("no accuracy: the data have neither a held-out nor a test part")
    folder = shlex.quote(str(run.path))
    say(f"look at {run.report}; use it with: resnets predict {folder} PICTURE...")
