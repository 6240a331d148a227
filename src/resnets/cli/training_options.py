"""Options of a training, which `train` and `tune` share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.options import Checkpointing, Compile, Container, Device, Dialect, Ema, Root
from resnets.zoo import get_spec

if TYPE_CHECKING:
    from resnets.training.recipe import Recipe


@dataclass(frozen=True)
class Told:
    """How a network is trained, from what and where."""

    model: Annotated[str | None, typer.Option(help="A model's name.", show_default="resnet18")] = (
        None
    )
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe's name, or a YAML file.", show_default="default; auto with --weights"
        ),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from these: a file, a run folder, or published ones by name.",
            metavar="NAME|FILE|RUN",
            show_default="fresh ones",
        ),
    ] = None
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Learn from this network's answers too: a run folder, a file, or MODEL@WEIGHTS.",
        ),
    ] = None
    container: Container = None
    dialect: Dialect = None
    ema: Ema = False
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override, such as optimizer.lr=0.05.")
    ] = None
    root: Root = None
    device: Device = "auto"
    compile: Compile = False
    checkpointing: Checkpointing = False
    track: Annotated[
        list[str] | None,
        typer.Option(help="Show it to wandb, mlflow or trackio, too; may be given several times."),
    ] = None

    def asked_recipe(self) -> "Recipe":
        """Return the recipe that is asked for. Raises UsageError where there is none such."""
        from resnets.training.recipe import load_recipe, unnamed

        return load_recipe(self.recipe or unnamed(self.weights), self.settings or [])

    def check_model(self) -> None:
        """Raise UsageError for a name that no model has: before torch takes its time to load."""
        if self.model is not None:
            get_spec(self.model)

    def arguments(self, **machine: Any) -> dict[str, Any]:
        """Return the arguments of `resnets.train`; ``machine`` are more fields of its machine."""
        from resnets.machine.device import Machine

        given = vars(self) | {"settings": self.settings or []}
        where = {key: given.pop(key) for key in ("device", "compile", "checkpointing")}
        track = tuple(given.pop("track") or ())
        return {**given, "machine": Machine(**where, track=track, **machine)}
