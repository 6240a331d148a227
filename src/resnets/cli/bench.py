"""`resnets bench`: how fast models train and answer on this machine."""

from typing import Annotated, Any

import typer

from resnets.cli.options import ImageSize, Json
from resnets.cli.output import print_json, print_table, say
from resnets.formatting import plural, speed
from resnets.machine import cpu
from resnets.zoo import get_spec

SECONDS = 0.5  # at least, of one measurement


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Names of models.", show_default="resnet20 resnet50", metavar="MODEL"),
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Training steps only, without --inference.")
    ] = False,
    inference: Annotated[
        bool, typer.Option("--inference", help="Inference only, without --training.")
    ] = False,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(
            help="May be repeated; default: 128 for small images, else 16, and 1 for inference.",
            min=1,
        ),
    ] = None,
    image_size: ImageSize = None,
    rounds: Annotated[int, typer.Option(help="Measurements, of half a second each.", min=1)] = 8,
    threads: Annotated[
        int | None, typer.Option(help="Threads; default: torch's choice.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure training steps and inference on this machine's processor, in images a second.

    \b
    Examples:
      resnets bench
      resnets bench resnet18 --inference --batch-size 1 --batch-size 16 --json
    """
    cpu.keep_large_blocks()  # as a training does
    specs = [get_spec(name) for name in models or ("resnet20", "resnet50")]
    import torch

    from resnets.machine.environment import environment
    from resnets.machine.processes import ALONE
    from resnets.training.throughput import job, measured

    if threads:
        torch.set_num_threads(threads)
    jobs = [
        job(spec, work, batch, image_size)
        for spec in specs
        for work in ("training", "inference")
        if {"training": training, "inference": inference}[work] or training == inference
        for batch in batch_size or ((None,) if work == "training" else (1, None))
    ]
    results: list[dict[str, Any]] = []
    for each in jobs:
        say(f"{each.title}: {plural(rounds, 'round')}")
        results.append(measured(each, rounds, SECONDS))
    if as_json:
        about = environment(torch.device("cpu"), ALONE, "float32")
        print_json({"schema_version": 2, "environment": about, "results": results})
        return
    rows = [
        (
            *(result[key] for key in ("model", "work", "batch_size", "image_size")),
            *(speed(result["rate"][key]) for key in ("median", "low", "high")),
        )
        for result in results
    ]
    print_table(("model", "", "batch", "size", "img/s", "from", "to"), rows)
