"""`resnets show`: a model's stages and exact cost, as in Table 1 of He et al. 2015."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnets.cli.options import Checkpointing, ImageSize, Json
from resnets.cli.output import print_json, print_table, say, tell
from resnets.errors import UsageError
from resnets.zoo import get_spec, provenance

if TYPE_CHECKING:
    from resnets.training.memory import Memory

# What `--memory` looks at, where nothing else is said.
STEP = {
    "batch_size": 32,
    "precision": "float32",
    "optimizer": "sgd",
    "accumulate": 1,
    "checkpointing": False,
}


def show(
    model: Annotated[str, typer.Argument(help="A model's name; `resnets models` lists them.")],
    image_size: ImageSize = None,
    num_classes: Annotated[int | None, typer.Option(help="Classes.", min=1)] = None,
    in_channels: Annotated[int | None, typer.Option(help="Input channels.", min=1)] = None,
    flops: Annotated[
        bool, typer.Option("--flops", help="Count operations: two for each multiply-add.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="A folder to write the module graph to.", metavar="DIR")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Add the memory of a training step and a prediction.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(help="Images in memory at a time; default: 32.", min=1)
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="That training computes in; default: float32."),
    ] = None,
    optimizer: Annotated[
        Literal["sgd", "adam", "adamw", "lamb", "muon"] | None, typer.Option(help="Default: sgd.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Parts that a batch is computed in; default: 1.", min=1)
    ] = None,
    checkpointing: Checkpointing = False,
    as_json: Json = False,
) -> None:
    """Show a model: which variant it is, its stages, what it costs, where it comes from.

    Multiply-adds are those of convolutions and the classifier, for one image; no bias, norm or
    pooling. Memory is that of tensors, exact; docs/memory.md says what comes on top.

    \b
    Examples:
      resnets show resnet50
      resnets show resnet20 --num-classes 100 --json
      resnets show resnet50 --memory --batch-size 64 --precision bfloat16
      resnets show resnet50 --tensorboard runs/graph
    """
    sizes = _given(image_size=image_size, num_classes=num_classes, in_channels=in_channels)
    spec = replace(get_spec(model), **sizes)
    step = _given(
        batch_size=batch_size,
        precision=precision,
        optimizer=optimizer,
        accumulate=accumulate,
        checkpointing=checkpointing or None,
    )
    if step and not memory:
        option = next(iter(step)).replace("_", "-")
        raise UsageError(f"--{option} is about memory", hint="add --memory")
    from resnets.analysis.profiling import profile

    cost = profile(spec)
    if tensorboard:
        from resnets.analysis.drawing.module_graph import write_graph

        write_graph(spec, tensorboard)
        say(
            f"{tensorboard}: the module graph; look at it with `tensorboard --logdir {tensorboard}`"
        )
    needed: dict[str, Memory] = {}
    if memory:
        from resnets.training.memory import peak_memory

        step = {**STEP, **step}
        needed = {
            "training": peak_memory(spec, **step),
            "prediction": peak_memory(spec, batch_size=step["batch_size"], training=False),
        }
    if as_json:
        about = {"variant": spec.variant, "provenance": provenance(spec), "spec": spec.to_dict()}
        uses = {name: use.to_dict() for name, use in needed.items()}
        more = {"memory": step | uses} if needed else {}
        print_json({**about, **cost.to_dict(), "flops": 2 * cost.macs, **more})
        return
    factor, unit = (2, "flops") if flops else (1, "multiply-adds")
    tell(f"{spec.name}: {spec.variant}")
    tell(
        f"{cost.parameters:,} parameters, {factor * cost.macs:,} {unit} and {cost.activations:,} "
        f"activations at {cost.image_size}x{cost.image_size}, "
        f"receptive field {cost.receptive_field}"
    )
    for fact in provenance(spec):
        tell(f"  {fact}")
    tell("")
    print_table(
        ["stage", "output", "layers", "parameters", unit, "receptive field"],
        [
            (
                stage.name,
                "x".join(map(str, stage.output)),
                f"[{stage.layers}] x {stage.blocks}"
                if stage.name.startswith("layer")
                else stage.layers,
                stage.parameters,
                factor * stage.macs,
                stage.receptive_field,
            )
            for stage in cost.stages
        ],
    )
    if needed:
        _print_memory(step, **needed)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _print_memory(step: dict[str, Any], training: "Memory", prediction: "Memory") -> None:
    """Print what memory is used for, and when most is."""
    rows = {
        "weights": "weights, statistics",
        "gradients": "gradients",
        "optimizer": "optimizer",
        "batch": "images, labels",
        "activations": "activations kept",
    }
    columns = (training.whole, training.peak, prediction.peak)
    tell("")
    print_table(
        ["MiB", "training step", "at its peak", "prediction's peak"],
        [
            (row, *(_mebibytes(getattr(part, name)) for part in columns))
            for name, row in rows.items()
        ],
    )
    about = f"batch {step['batch_size']}, {step['precision']}, {step['optimizer']}"
    if step["accumulate"] > 1:
        about += f", {step['accumulate']} parts"
    if step["checkpointing"]:
        about += ", checkpointing"
    where = "optimizer" if training.phase == "optimizer" else f"{training.phase} pass"
    near = f", at {training.layer}" if training.layer else ""
    tell("")
    tell(f"training step ({about}): {_mebibytes(training.peak.total)} MiB, in the {where}{near}")
    tell(
        f"prediction (batch {step['batch_size']}): {_mebibytes(prediction.peak.total)} MiB, "
        f"at {prediction.layer}"
    )


def _mebibytes(size: int) -> float:
    return round(size / 2**20, 1)
