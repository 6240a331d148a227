"""The folder of a reproduction: what of a table is there, and the files that say so."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnets.errors import UsageError
from resnets.evaluation.kept import RECORD
from resnets.files import write_json
from resnets.readers.documents import read_json
from resnets.report.reproduced import write_reproduction
from resnets.run_folder.directory import RECORD as RUN
from resnets.run_folder.directory import RunFolder, seeds_in
from resnets.studies.experiments import Asked, Experiment, Images, experiments
from resnets.studies.measured import Measured, measured_alone, measured_runs, same_experiment

SCHEMA_VERSION = 1
# How images are shown where a table says more than "test": a name of `evaluation.protocols`.
SHOWN = {
    "1-crop": "torchvision",
    "1-crop at 320": "resnext-320",
    "10-crop": "he2015-ten-crops",
    "multi-scale": "he2015-multi-scale",
    "ensemble, multi-scale": "he2015-multi-scale",
}


@dataclass(frozen=True)
class TableFolder:
    """What is asked of a table, where it is, and with which images and weights."""

    asked: Asked
    path: Path
    images: Images
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by row: not trained
    kept: str | Path | None = None
    command: str = ""

    @classmethod
    def default(cls, asked: Asked) -> Path:
        """Return the folder that is meant where none is named."""
        parts = ["reproduce", asked.table.key, "small" if asked.small else ""]
        parts.append("" if asked.scale == 1 else str(asked.scale).replace("/", "-"))
        return Path("runs") / "-".join(filter(None, parts))

    @property
    def record(self) -> Path:
        """The table as JSON."""
        return self.path / "table.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.record.with_suffix(".html")

    @property
    def markdown(self) -> Path:
        """The table in Markdown."""
        return self.record.with_suffix(".md")

    def check_same(self) -> None:
        """Raise UsageError where the folder has another reproduction or a run, or none is kept."""
        if self.kept is not None and not Path(self.kept).is_dir():
            raise UsageError(f"{self.kept}: no such folder of results", hint="leave out --kept")
        if (self.path / RUN).exists():
            raise UsageError(f"{self.path}: is a run itself", hint="give another --out")
        if not self.record.exists():
            return
        there = read_json(self.record)
        words = [there.get("table"), *there.get("options", ())] if isinstance(there, dict) else []
        if words != [self.asked.table.key, *self.asked.options]:
            said = shlex.join(map(str, words)) or "something else"
            raise UsageError(f"{self.path}: is of {said}", hint="give another --out")

    def seed(self, experiment: Experiment, seed: int) -> Path:
        """Return the run folder of a seed, counted from 0."""
        return self.path / experiment.name / f"seed-{experiment.recipe.seed + seed}"

    def evaluation(self, experiment: Experiment, run: Path | None = None) -> Path:
        """Return where a row's run, or its weights, are measured by the table's protocol."""
        if run is not None:
            return self.path / f"{experiment.row.key}-{run.name}"
        files = "\0".join(self.weights[experiment.row.key])  # of others there is another
        digest = hashlib.sha256(files.encode("utf-8", "surrogateescape")).hexdigest()
        return self.path / f"{experiment.row.key}-weights-{digest[:8]}"

    def lacks(self, experiment: Experiment) -> str:
        """Say why a row cannot be trained here; empty where it can."""
        if experiment.row.lacks and experiment.row.key not in self.weights:
            return experiment.row.lacks
        there = self.images.of(experiment.dataset) is not None
        return "" if there else self.images.lacking(experiment.dataset)

    def measured(self, experiment: Experiment) -> Measured | None:
        """Return what there is of a row."""
        if files := self.weights.get(experiment.row.key):
            record = self.evaluation(experiment) / RECORD
            return measured_alone(experiment, record, files) if record.exists() else None
        if experiment.row.lacks:
            return None
        runs = [run for run in seeds_in(self.path / experiment.name) if finished(run)]
        by_protocol: dict[Path, Path] = {}
        if experiment.dataset == "imagenet":
            places = {run: self.evaluation(experiment, run) / RECORD for run in runs}
            by_protocol = {run: place for run, place in places.items() if place.exists()}
            runs = list(by_protocol)
        return measured_runs(experiment, runs, by_protocol) if runs else None

    def values(self) -> dict[str, Any]:
        """Return the table as it stands, as JSON-able values."""
        table, asked = self.asked.table, self.asked
        return {
            "schema_version": SCHEMA_VERSION,
            "table": table.key,
            "source": table.source,
            "title": table.title,
            "shows": table.shows,
            "left_out": table.note,
            "scale": str(asked.scale),
            "options": asked.options,
            "changes": asked.changes,
            "seeds": asked.seeds,
            "command": self.command,
            "rows": [self._row(experiment) for experiment in experiments(asked)],
        }

    def _row(self, experiment: Experiment) -> dict[str, Any]:
        row, figure, found = experiment.row, experiment.row.figure, self.measured(experiment)
        weighed = row.key in self.weights
        trains = not row.lacks and not weighed
        # What training itself measures is not what a protocol does.
        kept = self.kept if trains and not protocol_of(experiment) else None
        before = same_experiment(experiment, kept) if kept else None
        return {
            "key": row.key,
            "label": row.label,
            "published": {
                "source": figure.source,
                "model": figure.model,
                "dataset": figure.dataset,
                "protocol": figure.protocol,
                "error_percent": figure.error_percent,
                "top5_percent": figure.top5_percent,
                "printed": figure.printed,
                "note": figure.note,
                "parameters": row.parameters,
            },
            "model": "" if row.lacks else experiment.spec.name,
            "dataset": experiment.dataset,
            "recipe": experiment.recipe.name if trains else "",
            "settings": list(row.settings),
            "iterations": experiment.iterations if trains else None,
            "scale": str(self.asked.scale),
            "folder": experiment.name if trains else "",
            "measured": found.to_dict() if found else None,
            "before": before.to_dict() if before else None,
            "lacks": ""
            if found
            else self.lacks(experiment) or f"not {'evaluated' if weighed else 'trained'} yet",
        }

    def write(self) -> None:
        """Write page, Markdown and JSON."""
        values = self.values()
        write_json(self.record, values)
        write_reproduction(self.record, values)


def finished(run: Path) -> bool:
    """Whether a run folder has a run that has come to its end."""
    folder = RunFolder(run)
    return folder.record.exists() and folder.read_record(partial=True).finished


def protocol_of(experiment: Experiment) -> str | None:
    """Return by which protocol a row is measured beyond what training does; None by none."""
    return SHOWN.get(experiment.row.figure.protocol) if experiment.dataset == "imagenet" else None
