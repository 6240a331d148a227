"""The report: one HTML file about a run, or about several side by side."""

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from resnets.errors import UsageError
from resnets.files import followed
from resnets.formatting import percent
from resnets.papers.paper_tables import published
from resnets.report import comparison, plots
from resnets.report.reliability import reliability_diagram
from resnets.report.score import class_names, class_scores, headline, interval
from resnets.report.sentence import comparisons, sentence
from resnets.report.style import write_page
from resnets.report.verdict import (
    accuracy_cautions,
    calibration_sentence,
    threshold_notes,
    unknown_sentence,
)
from resnets.run_folder.directory import seeds_in
from resnets.run_folder.reading import RunRecord, read_run
from resnets.run_folder.record import Calibrated, ClassScore, LabelSets, Score

PAGE = "report.html"
SHOWN_CLASSES = 20  # the rest folds away
USUAL = 0.9  # coverage


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of one run, or of several side by side, and return where it is.

    A folder of several seeds stands for its runs. ``out`` is a file or a folder; without it the
    page goes to the run's folder, or to the folder that the runs have in common. Raises
    CheckpointError for a folder that is not a good run.
    """
    records = [read_run(path) for path in _distinct(runs)]
    if not records:
        raise UsageError("no run to report on", hint="name one or more run folders")
    if out is not None:
        out = out / PAGE if out.is_dir() else followed(out)
    elif len(records) == 1:
        out = records[0].path / PAGE
    else:
        parents = [record.path.resolve().parent for record in records]
        out = Path(os.path.commonpath(parents)) / PAGE
    if len(records) == 1:
        _write_run_page(out, records[0])
    else:
        _write_comparison_page(out, records)
    return out


def _distinct(runs: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for run in chain.from_iterable(seeds_in(Path(run)) or [Path(run)] for run in runs):
        found.setdefault(run.resolve(), run)
    return list(found.values())


def _write_run_page(out: Path, run: RunRecord) -> None:
    best = headline(run)
    confusion = best.score.confusion if best else ()
    samples = best.score.samples if best else None
    scores = class_scores(confusion, run.data.classes)
    covered = _covered(best.score) if best else None
    write_page(
        out,
        "run.html",
        title=sentence(run),
        run=run,
        best=best,
        interval=interval(best.accuracy, samples) if best and samples else None,
        cautions=_cautions(run),
        comparisons=comparisons(run),
        curves=plots.curves(run.epochs),
        confusion=plots.confusion_matrix(confusion, run.data.classes),
        trusted=_trusted(run.results.calibration),
        calibrated=run.results.calibration and calibration_sentence(run.results.calibration),
        unknown=run.results.unknown and unknown_sentence(run.results.unknown),
        weakest=scores[:SHOWN_CLASSES],
        others=scores[SHOWN_CLASSES:],
        confusions=confusions(confusion, run.data.classes),
        labels=_labels(best.score.classes, run.data.classes) if best else [],
        thresholds=threshold_notes(run.results.validation, run.data.classes),
        covered=covered,
        covered_classes=_covered_classes(covered, run.data.classes) if covered else [],
    )


def _covered(score: Score) -> LabelSets | None:
    """Return the label sets of which there is most to tell: by class, at the usual coverage."""
    found = [each for each in score.label_sets if each.class_covered]
    return min(found, key=lambda each: abs(each.coverage - USUAL), default=None)


def _covered_classes(sets: LabelSets, classes: Sequence[str]) -> list[tuple[str, float, float]]:
    """Return each class's name, share covered and mean size of a set, least covered first."""
    names = class_names(classes, len(sets.class_covered))
    rows = zip(names, sets.class_covered, sets.class_size, strict=True)
    found = [(name, share, size) for name, share, size in rows if share is not None and size]
    return sorted(found, key=lambda row: row[1])


def _trusted(found: Calibrated | None) -> plots.Plot | None:
    """Draw how far probabilities hold, before and after calibration."""
    if found is None:
        return None
    curves = {"as answered": found.after or found.before}
    if found.after:
        curves["before calibration"] = found.before
    return reliability_diagram({name: vars(each.reliability) for name, each in curves.items()})


def _cautions(run: RunRecord) -> list[str]:
    """Return what went wrong, and what is to be held against the accuracy at the top."""
    best = headline(run)
    found = best and accuracy_cautions(best.accuracy, best.score.confusion, run.data.classes)
    return [*run.warnings, *(found or [])]


def _labels(scores: Sequence[ClassScore], classes: Sequence[str]) -> list[tuple[str, ClassScore]]:
    """Return the classes of which an image may have several, weakest first, absent ones last."""
    named = zip(class_names(classes, len(scores)), scores, strict=True)

    def strength(pair: tuple[str, ClassScore]) -> float:
        return 2.0 if pair[1].average_precision is None else pair[1].average_precision

    return sorted(named, key=strength)


def confusions(
    confusion: Sequence[Sequence[int]], classes: Sequence[str]
) -> list[tuple[str, str, int]]:
    """Return which class was most often taken for which, and how often."""
    names = class_names(classes, len(confusion))
    found = [
        (names[i], names[j], count)
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda c: -c[2])[:10]


def _write_comparison_page(out: Path, runs: list[RunRecord]) -> None:
    names = comparison.distinct([run.path for run in runs])
    named = list(zip(names, runs, strict=True))
    datasets = list(dict.fromkeys(run.data.name for run in runs))
    title = f"{len(runs)} runs on {' and '.join(datasets)}"
    scores = [(best, run) for run in runs if (best := headline(run))]
    most = None
    if scores and len(datasets) == 1:
        best, winner = max(scores, key=lambda pair: pair[0].figure)
        most = best.figure
        title += f": at best {percent(most)} {best.part} {best.name}, {winner.model.name}"
    own_cautions = [f"{name}: {line}." for name, run in named for line in _cautions(run)]
    write_page(
        out,
        "comparison.html",
        title=title,
        runs=[
            (name, run, headline(run), published(run.model.name, run.data.name)[:1], plots.key(i))
            for i, (name, run) in enumerate(named)
        ],
        beside=[(name, lines) for name, run in named if (lines := comparisons(run))],
        most=most,
        names=names,
        plots=plots.overlay([(name, run.epochs) for name, run in named]),
        differences=comparison.differences(runs),
        repeated=comparison.repeated(runs),
        cautions=[*comparison.cautions(runs), *own_cautions],
    )
