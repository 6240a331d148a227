"""The page of an evaluation: what evaluation.json says, to be read, printed and sent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnets.formatting import percent, plural
from resnets.report import plots
from resnets.report.page import SHOWN_CLASSES, confusions
from resnets.report.reliability import reliability_diagram
from resnets.report.style import write_page
from resnets.report.verdict import paired_text


def write_evaluation_page(out: Path, record: Mapping[str, Any]) -> None:
    """Write the page of an evaluation's record."""
    names = [each["name"] for each in record["classes"]]
    several, confusion = "map" in record, record.get("confusion", ())
    classes = sorted(record["classes"], key=lambda each: _strength(each, several))
    measured = f"{plural(record['samples'], 'image')} of {Path(record['data']['source']).name}"
    members = record.get("members", ())
    who = f"{len(members)} models together" if members else record["models"][0]["name"]
    figure = record["map"] if several else record["accuracy"]
    curves = {"as answered": record["reliability"]}
    if raw := record.get("uncalibrated"):
        curves |= {"before calibration": raw["reliability"]}
    write_page(
        out,
        "evaluation.html",
        title=f"{who}: {percent(figure)} {'mAP' if several else 'accuracy'} on {measured}",
        found=record,
        several=several,
        trusted=reliability_diagram(curves),
        members=[(each, paired_text(each)) for each in members],
        together=paired_text(record),
        figures=_figures(members),
        confusion=plots.confusion_matrix(confusion, names),
        confusions=confusions(confusion, names),
        weakest=classes[:SHOWN_CLASSES],
        others=classes[SHOWN_CLASSES:],
    )


def _strength(each: Mapping[str, Any], several: bool) -> float:
    """Return what classes are sorted by, the weakest first, those without images last."""
    value = each["average_precision"] if several else each["recall"]
    return 2.0 if value is None else float(value)


def _figures(members: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what members are compared in, and what it is called."""
    names = {
        "accuracy": "accuracy",
        "map": "mAP",
        "top5_accuracy": "top-5",
        "log_loss": "log loss",
        "brier": "Brier",
        "ece": "calibration error",
    }
    return {key: name for key, name in names.items() if members and key in members[0]}
