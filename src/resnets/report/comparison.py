"""Several runs side by side: what differs between them, and what equal ones say together."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.formatting import percent, plural
from resnets.report.score import headline
from resnets.run_folder.reading import RunRecord


def distinct(paths: Sequence[Path]) -> list[str]:
    """Return the names of files or folders, with as many parents as it takes to tell them apart."""
    whole = [path.resolve().parts for path in paths]
    for parts in range(1, max(map(len, whole)) + 1):
        names = ["/".join(path[-parts:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


@dataclass(frozen=True)
class Difference:
    """A setting that is not the same in all runs; a value is empty where it is not set."""

    name: str
    values: tuple[str, ...]


def differences(runs: Sequence[RunRecord]) -> list[Difference]:
    """Return the settings in which the runs differ, in the order in which they appear."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    found = []
    for name in names:
        values = tuple("" if name not in r.settings else _plain(r.settings[name]) for r in runs)
        if len(set(values)) > 1:
            found.append(Difference(name, values))
    return found


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def repeated(runs: Sequence[RunRecord]) -> list[str]:
    """Say mean and standard deviation for runs that differ in nothing but their seed."""
    groups: dict[tuple[Any, ...], list[RunRecord]] = {}
    for run in runs:
        # Unknown settings or data cannot be said to be equal.
        if run.status == "finished" and run.settings and run.data.fingerprint:
            settings = {key: value for key, value in run.settings.items() if key != "seed"}
            same = (run.model.name, run.data.fingerprint, repr(sorted(settings.items())))
            groups.setdefault(same, []).append(run)
    sentences = []
    for group in groups.values():
        scores = [best for run in group if (best := headline(run))]
        seeds = {run.seed for run in group}
        if len(scores) < 2 or len(seeds) < len(group) or len({s.part for s in scores}) > 1:
            continue
        figures = [score.figure for score in scores]
        sentences.append(
            f"{group[0].model.name}, {plural(len(scores), 'seed')}: "
            f"{percent(statistics.mean(figures), 2)} mean {scores[0].part} {scores[0].name}, "
            f"standard deviation {100 * statistics.stdev(figures):.2f} points"
        )
    return sentences


def cautions(runs: Sequence[RunRecord]) -> list[str]:
    """Say why the accuracies of these runs cannot be compared straight away, if they cannot."""
    found = []
    if len({run.data.name for run in runs}) > 1:
        found.append("The runs are on different data: their accuracies cannot be compared.")
    elif len({run.data.fingerprint for run in runs}) > 1:
        found.append(
            "The data has the same name but not the same fingerprint: "
            "the runs saw different samples."
        )
    elif len({run.data.classes for run in runs}) > 1:
        found.append("The runs tell other classes apart: their accuracies cannot be compared.")
    if len({best.part for run in runs if (best := headline(run))}) > 1:
        found.append("Some accuracies are on test data and some on held-out data.")
    if unfinished := sum(run.status != "finished" for run in runs):
        verb = "is" if unfinished == 1 else "are"
        found.append(f"{unfinished} of the {len(runs)} runs {verb} not finished.")
    return found
