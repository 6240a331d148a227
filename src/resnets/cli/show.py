"""`resnets show`: a model's stages and exact cost, as in Table 1 of He et al. 2015."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.cli.options import Json
from resnets.cli.output import print_json, print_table, say
from resnets.provenance import provenance
from resnets.zoo import get_spec


def show(
    model: Annotated[str, typer.Argument(help="A model's name; `resnets models` lists them.")],
    image_size: Annotated[
        int | None, typer.Option(help="Side of the input, pixels; default: the model's own.", min=1)
    ] = None,
    num_classes: Annotated[int | None, typer.Option(help="Classes.", min=1)] = None,
    in_channels: Annotated[int | None, typer.Option(help="Input channels.", min=1)] = None,
    flops: Annotated[
        bool, typer.Option("--flops", help="Count operations: two for each multiply-add.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="A folder to write the module graph to.", metavar="DIR")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a model: which variant it is, its stages, what it costs, where it comes from.

    Multiply-adds are those of convolutions and the classifier, for one picture; no bias, norm or
    pooling.

    \b
    Examples:
      resnets show resnet50
      resnets show resnet20 --num-classes 100 --json
      resnets show resnet50 --tensorboard runs/graph
    """
    changes: dict[str, Any] = {
        "image_size": image_size,
        "num_classes": num_classes,
        "in_channels": in_channels,
    }
    spec = get_spec(model)
    spec = replace(spec, **{name: value for name, value in changes.items() if value is not None})
    from resnets.profiling import profile

    cost = profile(spec)
    if tensorboard:
        from resnets.drawing.graph import write_graph

        write_graph(spec, tensorboard)
        say(
            f"{tensorboard}: the module graph; look at it with `tensorboard --logdir {tensorboard}`"
        )
    if as_json:
        about = {"variant": spec.variant, "provenance": provenance(spec), "spec": spec.to_dict()}
        print_json({**about, **cost.to_dict(), "flops": 2 * cost.macs})
        return
    factor, unit = (2, "flops") if flops else (1, "multiply-adds")
    print(f"{spec.name}: {spec.variant}")
    print(
        f"{cost.parameters:,} parameters, {factor * cost.macs:,} {unit} and {cost.activations:,} "
        f"activations at {cost.image_size}x{cost.image_size}, "
        f"receptive field {cost.receptive_field}"
    )
    for fact in provenance(spec):
        print(f"  {fact}")
    print()
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
