"""A search for settings as its folder has it: tune.json, and a run folder for each trial."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnets.errors import CheckpointError
from resnets.files import write_json
from resnets.readers.documents import damaged, read_json
from resnets.readers.fields import Count, Real
from resnets.run_folder.directory import RunFolder, readable
from resnets.run_folder.record import Taught, Weights, from_plain, to_plain

SCHEMA_VERSION = 1
SEARCH = "tune.json"


@dataclass(frozen=True)
class Trial:
    """A run of a search, in the folder ``name``; scores are fractions, on the held-out split."""

    name: str
    settings: dict[str, Any]
    # running, finished, pruned, diverged (its loss was NaN) or refused (settings that do not go
    # together)
    status: str = "running"
    score: Real | None = None  # of the weights that are kept; of a pruned trial, its last
    loss: Real | None = None  # the same
    epochs: tuple[Real, ...] = ()  # the score after each epoch
    seconds: Real | None = None
    reason: str = ""  # why it was refused, or diverged


@dataclass(frozen=True)
class Search:
    """tune.json: what is searched, where, and what came of it so far."""

    model: str  # a name; or what a spec is called
    data: str  # its name
    source: str  # where it is, or what `data.given` says
    fingerprint: str
    space: dict[str, str]
    seed: Count
    count: Count  # trials that are wanted
    prune: bool
    measure: str = "accuracy"  # or mean average precision, where an image may have several classes
    spec: dict[str, Any] | None = None  # where the model was given so
    root: str | None = None
    weights: Weights | None = None
    teacher: Taught | None = None
    trials: tuple[Trial, ...] = ()

    @property
    def best(self) -> Trial | None:
        """The finished trial of the highest score; of equal ones, that of the lower loss."""
        finished = [trial for trial in self.trials if trial.status == "finished"]
        return max(finished, key=lambda t: (t.score or 0, -(t.loss or 0)), default=None)

    def with_last(self, **values: Any) -> "Search":
        """Return the search with values of its last trial changed."""
        *before, last = self.trials
        return replace(self, trials=(*before, replace(last, **values)))


class SearchFolder:
    """The files of a search, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / SEARCH
        self.recipe = path / "recipe.yaml"  # what the trials have in common
        self.best = path / "best.yaml"
        self.report = path / "report.html"

    def trial(self, name: str) -> RunFolder:
        """Return the folder of a trial."""
        return RunFolder(self.path / name)

    def trials(self) -> list[RunFolder]:
        """Return the folders of all trials that have begun."""
        return [RunFolder(file.parent) for file in sorted(self.path.glob("trial-*/run.json"))]

    def read(self) -> Search:
        """Return tune.json. Raises CheckpointError where there is none, or it is damaged."""
        if not self.record.exists():
            raise CheckpointError(
                f"{self.path}: not a search: there is no {SEARCH} in it",
                hint="give the folder that `resnets tune` printed",
            )
        with readable(self.record):
            values = read_json(self.record)
        if not isinstance(values, dict) or values.pop("schema_version", None) != SCHEMA_VERSION:
            raise damaged(self.record, f"not of schema version {SCHEMA_VERSION}")
        return from_plain(Search, values, self.record)

    def write(self, search: Search) -> None:
        """Write tune.json, whole or not at all."""
        write_json(self.record, {"schema_version": SCHEMA_VERSION, **to_plain(search)})
