"""`resnets bench`: how fast models train and predict on this machine, beside their peers."""

from pathlib import Path
from typing import Annotated

import typer

from resnets.cli.options import Json
from resnets.cli.output import print_json, print_table, say, tell
from resnets.errors import ResourceError, UsageError
from resnets.files import followed, write_json
from resnets.machine import cpu
from resnets.zoo import get_spec


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
            help="May be repeated; default: 128 for small pictures, else 16, and 1 for inference.",
            min=1,
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the input, pixels; default: the model's own.", min=1)
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="A verdict needs 6 at least, and gets sharper with more.", min=1)
    ] = 8,
    peers: Annotated[
        bool, typer.Option(help="Measure torchvision, timm and the runtimes too, where installed.")
    ] = True,
    threads: Annotated[
        int | None, typer.Option(help="Threads of every case; default: torch's choice.", min=1)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write all that was measured as JSON.", metavar="FILE.json")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure training steps and inference on this machine's processor, peers side by side.

    All cases are measured once a round, the order reversed every round, and ratios are taken round
    by round. A verdict is given where the spread of the ratios bears one, and the machine, seen by
    work that is always the same, was quiet enough; run it while nothing else runs.

    \b
    Examples:
      resnets bench
      resnets bench resnet18 --inference --batch-size 1 --batch-size 16 --out bench.json
    """
    cpu.keep_large_blocks()  # as a training does
    specs = [get_spec(name) for name in models or ("resnet20", "resnet50")]
    if out is not None and out.suffix != ".json":
        raise UsageError(f"{out}: results are JSON", hint="give a name that ends in .json")
    import torch

    from resnets.benchmarking import comparison
    from resnets.benchmarking.cases import job
    from resnets.training.opening import timestamp

    if threads:
        torch.set_num_threads(threads)
    jobs = [
        job(spec, work, batch, image_size)
        for spec in specs
        for work in ("training", "inference")
        if {"training": training, "inference": inference}[work] or training == inference
        for batch in batch_size or ((None,) if work == "training" else (1, None))
    ]
    started, results = timestamp(), []
    for result in comparison.compare(jobs, rounds=rounds, with_peers=peers, say=say):
        results.append(result)
        if not as_json:
            tell(result["title"])
            print_table(comparison.HEADING, comparison.table(result))
            tell(comparison.machine_line(result), "", flush=True)
    report = comparison.about(results, rounds, started)
    if out is not None:
        write_json(followed(out), report)
    if as_json:
        print_json(report)
    else:
        tell(comparison.environment_line(report))
    if not any(result["cases"] for result in results):
        raise ResourceError("nothing could be measured", hint="the table says why")
