"""`resnets show`: a model's stages and exact cost, as in Table 1 of He et al. 2015."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from resnets.cli.output import Json, print_json, print_table
from resnets.zoo import get_spec


def show(
    model: Annotated[str, typer.Argument(help="A model's name; `resnets models` lists them.")],
    image_size: Annotated[
        int | None, typer.Option(help="Side of the input, pixels; default: the model's own.", min=1)
    ] = None,
    num_classes: Annotated[int | None, typer.Option(help="Classes.", min=1)] = None,
    in_channels: Annotated[int | None, typer.Option(help="Input channels.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Show a model: which variant it is, its stages, and what it costs.

    Multiply-adds are those of convolutions and the classifier, for one picture.

    \b
    Examples:
      resnets show resnet50
      resnets show resnet20 --num-classes 100 --json
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
    if as_json:
        print_json({"variant": spec.variant, "spec": spec.to_dict(), **cost.to_dict()})
        return
    print(f"{spec.name}: {spec.variant}")
    print(
        f"{cost.parameters:,} parameters, {cost.macs:,} multiply-adds and {cost.activations:,} "
        f"activations at {cost.image_size}x{cost.image_size}, "
        f"receptive field {cost.receptive_field}\n"
    )
    print_table(
        ["stage", "output", "layers", "parameters", "multiply-adds", "receptive field"],
        [
            (
                stage.name,
                "x".join(map(str, stage.output)),
                f"[{stage.layers}] x {stage.blocks}"
                if stage.name.startswith("layer")
                else stage.layers,
                stage.parameters,
                stage.macs,
                stage.receptive_field,
            )
            for stage in cost.stages
        ],
    )
