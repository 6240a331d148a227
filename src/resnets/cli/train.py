"""`resnets train`: from data to a run folder."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.arguments import typed_again
from resnets.cli.options import Json, takes
from resnets.cli.output import answer, print_json, print_table, say, tell
from resnets.cli.training_options import Told
from resnets.errors import UsageError
from resnets.formatting import duration, percent, plural
from resnets.machine import cpu

if TYPE_CHECKING:
    from resnets.training.find_lr import FoundRate
    from resnets.training.run import Run
    from resnets.training.seeds import Comparison, Repetition

PARTS = {"test": "test", "validation": "held-out"}
NO_ACCURACY = "no accuracy: the data have neither a held-out nor a test split"


@takes(Told)
def train(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            help="digits, cifar10, cifar100, a folder of images in class folders or with "
            "labels.csv, or such a table; also a pack, tars or Parquet."
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/DATA-MODEL[-RECIPE].")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="A run folder to resume; or auto: resume if there is one.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that is in the folder.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(help="Train with so many seeds, one after another, and summarise them."),
    ] = None,
    cuda_graph: Annotated[
        bool,
        typer.Option(
            "--cuda-graph/--no-cuda-graph", help="Record the step of a GPU as a CUDA graph."
        ),
    ] = False,
    capture: Annotated[bool | None, typer.Option("--capture/--no-capture", hidden=True)] = None,
    save_every: Annotated[
        float, typer.Option(help="Minutes between states within an epoch.", metavar="MINUTES")
    ] = 10,
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr",
            help="Only look for the learning rate, by the run's first steps at rates that rise.",
        ),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Only say what would happen and how long it would take; write nothing."
        ),
    ] = False,
    calibrate: Annotated[
        str,
        typer.Option(
            help="How probabilities are calibrated on the held-out split, in the end: temperature, "
            "or vector, a scale and a bias for each class."
        ),
    ] = "temperature",
    no_calibrate: Annotated[
        bool, typer.Option("--no-calibrate", help="Leave probabilities as they come.")
    ] = False,
    false_alarms: Annotated[
        float,
        typer.Option(
            help="Which share of images of its classes the model may call unknown, to find those "
            "of none; 0: it calls none unknown."
        ),
    ] = 0.05,
    show_settings: Annotated[
        bool, typer.Option("--settings", help="Only list what --set can change, and its values.")
    ] = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Train a model and leave weights, metrics and a report in a run folder.

    Ctrl-C saves and says how to resume. The test split is looked at once, at the end. Epochs, rate,
    size of images and all else are settings of the recipe: --settings lists them, --set changes.

    \b
    Examples:
      resnets train photos/ --model resnet18
      resnets train photos/ --set schedule.epochs=60 --set data.image_size=64
      resnets train photos/ --model resnet50 --weights torchvision.IMAGENET1K_V2
      resnets train photos/ --weights runs/earlier --plan
      resnets train cifar10 --model resnet20 --recipe he2015_cifar --set schedule.iterations=1200
      resnets train cifar10 --model resnet20 --recipe he2015_cifar --seeds 5 --resume auto
      resnets train photos/ --model resnet18 --find-lr
    """
    told = Told(**options)
    if show_settings:
        from resnets.cli.recipes import print_settings
        from resnets.training.recipe import unnamed

        print_settings(told.recipe or unnamed(told.weights), told.settings or [], as_json)
        return
    if not save_every > 0:
        raise UsageError(f"states cannot be {save_every:g} minutes apart", hint="give more than 0")
    if capture is not None:
        say("note: --capture and --no-capture are called --cuda-graph and --no-cuda-graph now")
    cpu.keep_large_blocks()
    told.check_model()
    if resume in (None, "auto") and (told.recipe is not None or told.settings):
        told.asked_recipe()
    from resnets.run_folder.directory import seeds_in
    from resnets.training import seeds as repetition
    from resnets.training.train import train as start

    what = told.arguments(
        cuda_graph=cuda_graph or bool(capture),
        save_minutes=save_every,
        calibrate=None if no_calibrate else calibrate,
        false_alarms=false_alarms,
    )
    if find_lr:
        if resume not in (None, "auto"):
            raise UsageError(f"{resume} has its rate", hint="give the data in place of --resume")
        from resnets.training.find_lr import find_lr as look

        found_rate = look(data, **what)
        if repetition.is_first():
            print_rate(found_rate, context, as_json)
        return
    if plan:
        if resume is not None:
            raise UsageError("--plan looks at what has not begun", hint="leave out --resume")
        from resnets.training.outlook import plan as look_ahead

        outlook = look_ahead(data, out=out, seeds=seeds, **what)
        if repetition.is_first():
            answer(outlook, as_json, *outlook.sentences())
        return
    where: dict[str, Any] = {"out": out, "resume": resume, "overwrite": overwrite}
    if resume is not None and seeds is None and seeds_in(Path(resume)):
        raise UsageError(
            f"{resume}: holds several seeds, which are resumed together",
            hint=repetition.how_to_resume(Path(resume)),
        )
    if seeds is None:
        run = start(data, **what, **where)
        if repetition.is_first():
            print_run(run, as_json)
    else:
        found = repetition.train_seeds(data, seeds, **what, **where)
        if repetition.is_first():
            print_seeds(found, as_json)


def print_rate(found: "FoundRate", context: typer.Context, as_json: bool) -> None:
    """Print the learning rate that was found and how to use it; its page goes beside the run."""
    from resnets.report.rates import write_rate_page
    from resnets.training.recipe import load_recipe
    from resnets.training.train import default_out

    given = context.params
    recipe = load_recipe(given["recipe"] or "default", given["settings"] or [])
    run = given["out"] or default_out(given["data"], found.model, recipe)
    page = Path(f"{run}-find-lr.html")
    command = ""
    if found.settings:
        changes = [word for setting in found.settings for word in ("--set", setting)]
        command = typed_again(context, ("find_lr", "plan", "as_json"), changes)
    if as_json:
        print_json(found.to_dict() | {"command": command, "page": str(page)})
    elif found.rate:
        tell(f"learning rate {found.rate:g}: {found.reason}", f"  {found.beside}")
        tell(f"train with: {command}")
    else:
        say(found.reason)
    write_rate_page(page, found.to_dict(), command)  # last: there may be no place for it
    if not as_json:
        say(f"look at {page}")


def print_run(run: "Run", as_json: bool) -> None:
    """Print what came of a run, in sentences for people or all of it for programs."""
    if as_json:
        cautions = {part: _sentences(run, part)[1:] for part in PARTS if run.results[part]}
        print_json({"run": str(run.path), "results": run.results, "cautions": cautions})
        return
    for part, name in PARTS.items():
        if run.results[part]:
            figure, *beside = _sentences(run, part)
            tell(f"{name} {figure}")
            for caution in beside:
                tell(f"  {caution}")
    from resnets.report.verdict import calibration_sentence, unknown_sentence
    from resnets.run_folder.record import Results, from_plain

    found = from_plain(Results, run.results, run.path)
    if found.calibration:
        tell(calibration_sentence(found.calibration))
    if found.unknown:
        tell(unknown_sentence(found.unknown))
    if not (run.results["test"] or run.results["validation"]):
        say(NO_ACCURACY)
    folder = shlex.quote(str(run.path))
    say(
        f"look at {run.report}; use it with: resnets predict {folder} IMAGE..., or resnets serve "
        f"{folder}"
    )


def _sentences(run: "Run", part: str) -> list[str]:
    """Say what came of a run on a part of the data, and what is to be held against it."""
    from resnets.data.images import printable
    from resnets.report.verdict import accuracy_sentences, several_text, threshold_notes
    from resnets.run_folder.record import Score, from_plain

    scores, classes = run.results[part], [printable(name) for name in run.classes]
    found = accuracy_sentences(
        scores["accuracy"], scores["samples"], scores.get("confusion", ()), classes
    )
    if "map" in scores:
        held_out = run.results["validation"]
        held_out = held_out and from_plain(Score, held_out, run.path)
        found[0] = f"{several_text(scores)} {found[0]}"
        found += threshold_notes(held_out, classes)
    return found


def print_seeds(found: "Repetition", as_json: bool) -> None:
    """Print what came of several seeds, as a table for people or all of it for programs."""
    if as_json:
        print_json(found.to_dict())
        return
    count = plural(len(found.runs), "seed")
    took = duration(60 * found.minutes)
    title = f"{found.model} on {found.data} by {found.recipe}, {count}, {took}"
    if found.part is None or found.median is None:
        say(f"{title}: {NO_ACCURACY}")
        return
    samples = found.runs[0].results[found.part]["samples"]
    where = "test split" if found.part == "test" else "held-out split, as there is no test split"
    tell(f"{title}, {plural(samples, 'image')} of the {where}")
    several = found.measure == "mAP"
    shown = _figure if several else _both
    rows: list[tuple[str, ...]] = [
        ("median", *shown(found.median), "" if several else _chance(found.median, samples)),
        ("mean", *shown(found.mean), ""),
    ]
    if found.sd is not None:
        spread = f" ± {100 * found.sd:.2f}"
        rows[1] = ("mean ± sd", *(text + spread for text in shown(found.mean)), "")
    rows.append(("best", *shown(found.best), ""))
    for comparison in found.comparisons:
        row = comparison.row
        notes = ", ".join(note for note in (row.protocol, row.remarks) if note)
        accuracy = f"{row.accuracy_percent:.2f} %"
        rows.append(
            ("published", f"{row.error_percent:.2f} %", accuracy, f"{row.source} ({notes})")
        )
    print_table(("", "mAP", "") if several else ("", "error", "accuracy", ""), rows)
    for seed, run in zip(found.seeds, found.runs, strict=True):
        for caution in _sentences(run, found.part)[1:]:
            tell(f"seed {seed}: {caution}")
    for comparison in found.comparisons:
        tell(_verdict(comparison))
    if not found.comparisons and not several:
        tell(f"nothing is published for {found.model} on {found.data}")
    say(f"look at {found.report}")


def _chance(accuracy: float, samples: int) -> str:
    from resnets.report.verdict import interval_text

    return f"{interval_text(accuracy, samples)} for one run"


def _figure(figure: float | None) -> tuple[str, ...]:
    return (percent(figure, 2),)


def _both(accuracy: float | None) -> tuple[str, ...]:
    """Return error and accuracy in percent."""
    return percent(None if accuracy is None else 1 - accuracy, 2), percent(accuracy, 2)


def _verdict(comparison: "Comparison") -> str:
    source = comparison.row.source
    if comparison.differences:
        return f"not a reproduction of {source}: {'; '.join(comparison.differences)}"
    return f"{source}: recipe, length and data are the paper's, as far as it says"
