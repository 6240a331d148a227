"""`resnets study`: claims of the papers put to nets of one's own, a page each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.arguments import typed_again
from resnets.cli.options import Device, Json, Root, option, options_of, with_parameters
from resnets.cli.output import Progress, answer, say
from resnets.errors import UsageError

if TYPE_CHECKING:
    from resnets.studies.study import Study
    from resnets.studies.trained_runs import Training

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@dataclass(frozen=True)
class Asked:
    """What every study is asked: its nets, and the images that they are shown."""

    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Run folders, weights files, or resnet20, which comes with the package.",
            metavar="RUN...",
        ),
    ] = None
    data: Annotated[
        str | None, typer.Option(help="Images to show; default: those that a net was trained on.")
    ] = None
    root: Root = None
    images: Annotated[
        int | None, typer.Option(help="How many of them; default: as the study has it.", min=1)
    ] = None
    seed: Annotated[int, typer.Option(help="Which, and whatever else is drawn.", min=0)] = 0
    device: Device = "auto"

    @property
    def measured(self) -> dict[str, Any]:
        """The arguments of a study that looks at nets."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return {"runs": [], **given}


@dataclass(frozen=True)
class Trained:
    """What a study of training is asked: its runs, or how it trains small ones."""

    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Run folders to compare; without any, small nets are trained.", metavar="RUN..."
        ),
    ] = None
    data: Annotated[str, typer.Option(help="What they are trained on, as for `train`.")] = "digits"
    root: Root = None
    scale: Annotated[
        str | None,
        typer.Option(
            help="The part of the schedule that they are trained.",
            show_default="1 of digits' 200 iterations, 1/160 of the paper's",
        ),
    ] = None
    seeds: Annotated[int, typer.Option(help="How often each is trained.", min=1)] = 3
    seed: Annotated[int, typer.Option(help="The first of these seeds.", min=0)] = 0
    device: Device = "auto"

    @property
    def training(self) -> "Training":
        """How small nets are trained. Raises UsageError for a scale that is none."""
        from resnets.studies.experiments import parse_scale
        from resnets.studies.trained_runs import Training

        scale = None if self.scale is None else parse_scale(self.scale)
        given = {key: value for key, value in vars(self).items() if key not in ("runs", "scale")}
        return Training(**given, scale=scale)


@app.callback()
def study() -> None:
    """Put the papers' claims to nets of your own: figure, numbers, what was found; one page each.

    \b
    Examples:
      resnets study responses resnet20
      resnets study responses runs/plain20 runs/resnet20 --out runs/compared
    """


def _study(command: Callable[..., "Study"]) -> None:
    """Make a command of a function that returns a `Study`: shared options, a page, its sentences.

    Its parameter ``asked``, an `Asked` or a `Trained`, is filled from the shared options; ``out``,
    if it has one, is the folder of the page, ``progress`` what says how far it is.
    """
    takes = signature(command).parameters
    kind = takes["asked"].annotation
    shared = options_of(kind)

    @wraps(command)
    def called(context: typer.Context, out: Path | None, as_json: bool, **given: Any) -> None:
        folder = out or Path("runs") / f"study-{context.info_name}"
        with Progress() as progress:
            asked = kind(**{each.name: given.pop(each.name) for each in shared})
            ours = {"asked": asked, "out": folder, "progress": progress}
            found = command(**given, **{key: ours[key] for key in ours.keys() & takes.keys()})
        from resnets.studies.study import write

        made_of = replace(found.made_of, command=typed_again(context, ("as_json",), ()))
        found = replace(found, made_of=made_of)
        page = write(found, folder)
        answer(found, as_json, *found.found, f"the page: {page}")

    parameters = [
        option("context", typer.Context),
        *shared,
        *(each for name, each in takes.items() if name not in ("asked", "out", "progress")),
        option("out", _Folder, None),
        option("as_json", Json, False),
    ]
    app.command()(with_parameters(called, parameters))


_Folder = Annotated[Path | None, typer.Option(help="Folder; default: runs/study-NAME.")]


@_study
def responses(asked: Asked) -> "Study":
    """Measure how much each layer changes the signal (He et al. 2015, Fig. 7).

    The standard deviation of each 3x3 layer's response after batch norm, before activation and
    addition, of several nets side by side.

    \b
    Examples:
      resnets study responses resnet20
      resnets study responses runs/plain20 runs/plain56 runs/resnet20 runs/resnet56
    """
    from resnets.studies.layer_responses import study

    return study(**asked.measured)


@_study
def gradients(
    asked: Asked,
    draws: Annotated[
        int, typer.Option(help="Lines between two images, and draws of fresh weights.", min=1)
    ] = 4,
    points: Annotated[
        int, typer.Option(help="Places on a line, and as many more on its beginning.", min=9)
    ] = 49,
) -> "Study":
    """Follow gradients by depth and along lines through input space (Balduzzi et al. 2017).

    Without RUN, of plain and residual nets of 8, 20 and 56 layers with fresh weights, with and
    without batch norm, on digits unless --data says another; with RUN, of these nets, trained and
    with fresh weights.

    \b
    Examples:
      resnets study gradients
      resnets study gradients runs/plain20 runs/resnet20 --draws 10
    """
    from resnets.studies.gradients import study

    return study(**asked.measured, draws=draws, points=points)


@_study
def lesion(
    asked: Asked,
    progress: Progress,
    draws: Annotated[
        int, typer.Option(help="Of blocks for each number that is deleted or reordered.", min=1)
    ] = 5,
) -> "Study":
    """Drop blocks of trained nets, one by one and several, and reorder them (Veit et al. 2016).

    What is left of a dropped block is its shortcut; nothing is trained again. Of plain nets, which
    have none, pairs of layers that keep the shape are left out. The error is counted on 2,000 test
    images, or as many as --images says.

    \b
    Examples:
      resnets study lesion resnet20
      resnets study lesion runs/resnet56 runs/plain56 --images 10000
    """
    from resnets.studies.lesion import study

    return study(**asked.measured, draws=draws, on_progress=progress.show)


@_study
def paths(
    asked: Asked,
    progress: Progress,
    draws: Annotated[
        int, typer.Option(help="Paths of each length, drawn for every 16 images.", min=1)
    ] = 10,
) -> "Study":
    """Measure which of the 2^n paths through a net carry its gradient (Veit et al. 2016).

    A path goes through the branch or the shortcut of every block. For each number of branches: how
    many paths there are, what one of them carries back to the image, their product, and what all
    of them come to together, on 128 training images or as many as --images says.

    \b
    Examples:
      resnets study paths resnet20
      resnets study paths runs/resnet20 runs/resnet56 --images 512 --draws 20
    """
    from resnets.studies.gradient_paths import study

    return study(**asked.measured, draws=draws, on_progress=progress.show)


@_study
def landscape(
    asked: Asked,
    out: Path,
    progress: Progress,
    steps: Annotated[
        int, typer.Option(help="Points to a side of the square: an odd number.", min=5)
    ] = 21,
    span: Annotated[
        float, typer.Option(help="How far filters move, in their own lengths.", min=0.001)
    ] = 1.0,
    line: Annotated[bool, typer.Option("--line", help="Along one direction only.")] = False,
    ignore: Annotated[
        str, typer.Option(help="What does not move: biasbn (as in the paper) or nothing.")
    ] = "biasbn",
    batch_norm: Annotated[
        str,
        typer.Option(
            help="Its statistics: running (the run's, as in the paper) or precise (measured anew "
            "at every point)."
        ),
    ] = "running",
) -> "Study":
    """Draw the loss around trained nets, with and without shortcuts (Li et al. 2018).

    Weights are moved along two random directions, scaled filter by filter; the loss is on 1,024
    training images or as many as --images says. Scale and colours are the same for all nets.
    Points are kept in the folder of --out: the same command resumes. Without RUN it trains
    resnet20 and plain20 into OUT/runs, on digits or what --data says.

    \b
    Examples:
      resnets study landscape
      resnets study landscape runs/resnet20 runs/plain20 --steps 31 --images 4096
    """
    from resnets.studies.landscape import study

    with progress.resumable():
        return study(
            **asked.measured,
            out=out,
            steps=steps,
            span=span,
            line=line,
            ignore=ignore,
            batch_norm=batch_norm,
            report=say,
            on_progress=progress.show,
        )


@_study
def degradation(asked: Trained, out: Path) -> "Study":
    """Compare plain and residual nets of two depths through training (He et al. 2015, Fig. 1, 6).

    Without RUN it trains plain20, plain56, resnet20 and resnet56 into OUT/runs, which the same
    command resumes: on digits small ones in about two minutes, on --data cifar10 by a part of the
    paper's schedule. With RUN it reads runs that are there, of two models or more.

    \b
    Examples:
      resnets study degradation
      resnets study degradation runs/plain20 runs/plain56 runs/resnet20 runs/resnet56
      resnets study degradation --data cifar10 --scale 1/40
    """
    from resnets.studies.degradation import study

    return study(asked.runs or [], out=out, training=asked.training, report=say)


@_study
def depth(
    asked: Trained,
    out: Path,
    model: Annotated[str, typer.Option(help="What is trained where no RUN is given.")] = "resnet20",
    survival: Annotated[
        str, typer.Option(help="Probabilities that its last block survives.", metavar="P,P,...")
    ] = "1,0.8,0.5",
) -> "Study":
    """Drop blocks at random in training: error and cost (Huang et al. 2016).

    Without RUN it trains a net with each survival probability into OUT/runs, which the same command
    resumes: on digits in some two minutes. With RUN it reads runs that differ in drop_path.

    \b
    Examples:
      resnets study depth
      resnets study depth --model resnet56 --survival 1,0.5 --data cifar10 --scale 1/40
      resnets study depth runs/resnet56 runs/resnet56-dropping
    """
    from resnets.studies.stochastic_depth import study

    try:
        survivals = [float(word) for word in survival.split(",")]
    except ValueError:
        raise UsageError(
            f'--survival "{survival}": no probabilities', hint="--survival 1,0.8,0.5"
        ) from None
    return study(
        asked.runs or [],
        out=out,
        training=asked.training,
        report=say,
        model=model,
        survivals=survivals,
    )
