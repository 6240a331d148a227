"""The sentences that matter: what came out, and how that stands beside what was published."""

from resnets.formatting import duration, percent, plural
from resnets.papers.paper_tables import published
from resnets.papers.published import Published
from resnets.report.score import headline
from resnets.run_folder.reading import RunRecord


def sentence(run: RunRecord) -> str:
    """Say in one sentence what was trained on what, and what came of it."""
    best = headline(run)
    none = "nothing held out to measure" if run.status == "finished" else "no accuracy yet"
    accuracy = f"{percent(best.figure)} {best.part} {best.name}" if best else none
    cost = [_extent(run)]
    if run.progress.seconds is not None:
        cost.append(f"{duration(run.progress.seconds)}{machine(run)}")
    tail = ", ".join(part for part in [accuracy, *cost] if part)
    return f"{run.model.name} on {run.data.name}: {tail}"


def machine(run: RunRecord) -> str:
    """Say on what the run was computed: " on 2 CPU threads"; empty when it is not known."""
    device = str(run.environment.get("device", ""))
    threads = run.environment.get("threads")
    if device == "cpu" and isinstance(threads, int):
        return f" on {plural(threads, 'CPU thread')}"
    return f" on {device}" if device else ""


def _extent(run: RunRecord) -> str:
    done, planned = run.progress.epoch, run.progress.epochs
    if done is None:
        return "" if run.status == "finished" else run.status
    if run.status == "finished" or planned is None:
        if done < 1 and run.progress.step is not None:
            return plural(run.progress.step, "iteration")
        early = planned is not None and done < planned
        return (
            f"{done:g} of {plural(planned or 0, 'epoch')}, ended early"
            if early
            else plural(done, "epoch")
        )
    # Rounded down, so that a run that lacks a step is not said to lack none.
    so_far = f"{int(done * 10) / 10:g} of {plural(planned, 'epoch')}"
    words = {"stopped": "stopped after ", "failed": "failed after ", "running": "running, at "}
    return f"{words.get(run.status, '')}{so_far}"


def comparisons(run: RunRecord) -> list[str]:
    """Return a sentence for each published number of this model on this data."""
    return [_compare(run, row) for row in published(run.model.name, run.data.name)]


def _compare(run: RunRecord, row: Published) -> str:
    details = [row.source]
    if row.protocol != "test":
        details.append(row.protocol)
    if row.remarks:
        details.append(row.remarks)
    details.extend(_budget(run, row))
    value = "no figure" if row.accuracy_percent is None else f"{row.accuracy_percent:g} %"
    text = f"published: {value} ({'; '.join(details)})"
    best = headline(run)
    if best is None or row.accuracy_percent is None:
        return text
    points = round(100 * best.accuracy, 2) - row.accuracy_percent
    distance = (
        "this run is level with it"
        if abs(points) < 0.005
        else f"this run is {abs(points):.2f} points {'above' if points > 0 else 'below'}"
    )
    if best.part != "test" and row.dataset != "imagenet":
        distance += ", measured on its held-out split and not on the test set"
    return f"{text}; {distance}"


def _budget(run: RunRecord, row: Published) -> list[str]:
    """Say how long the paper trained, and how long this run did, in the paper's unit."""
    here = run.progress
    step = None if here.step is None else f"{here.step:,}"
    epoch = None if here.epoch is None else f"{round(here.epoch, 1):g}"
    for planned, done, unit in (
        (row.iterations, step, "iterations"),
        (row.epochs, epoch, "epochs"),
    ):
        if planned is not None:
            return [f"{planned:,} {unit}" + (f", this run: {done}" if done else "")]
    return []
