"""The run folder: the only interface between training and everything after it."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from resnets.errors import CheckpointError, ResourceError, UsageError
from resnets.files import write_json, write_text


class RunFolder:
    """The files of one run, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / "run.json"
        self.recipe = path / "recipe.yaml"
        self.data = path / "data.json"
        self.metrics = path / "metrics.jsonl"
        self.mistakes = path / "mistakes.json"
        self.nonfinite = path / "nonfinite.json"
        self.weights = path / "model.safetensors"
        self.state = path / "state" / "last.safetensors"  # may be deleted when finished
        self.tensorboard = path / "tensorboard"
        self.drawing = path / "architecture.svg"
        self.report = path / "report.html"

    @property
    def how_to_go_on(self) -> str:
        """What to say to someone whose run has stopped."""
        return f"go on with: resnets train --resume {shlex.quote(str(self.path))}"

    @property
    def has_results(self) -> bool:
        """Whether the run has finished an epoch, by its metrics or its weights."""
        return self.weights.exists() or (self.metrics.exists() and self.metrics.stat().st_size > 0)

    def create(self, *, overwrite: bool = False) -> None:
        """Make the folder.

        Raises ResourceError when it cannot be made, and UsageError when something is there already,
        unless it is a run and ``overwrite`` is given, which removes the run's files and nothing
        else.
        """
        try:
            if self.path.exists() and not self.path.is_dir():
                raise ResourceError(
                    f"{self.path}: is a file, not a folder", hint="give another --out"
                )
            if self.record.exists() and overwrite:
                self._remove()
            elif self.path.exists() and any(self.path.iterdir()):
                if self.record.exists():
                    hint = "--resume goes on with it, --overwrite starts again"
                    raise UsageError(f"{self.path}: there is a run in it already", hint=hint)
                raise UsageError(
                    f"{self.path}: is not empty and not a run", hint="give another --out"
                )
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"{self.path}: cannot be made or changed: {error.strerror}",
                hint="give another --out",
            ) from None

    def _remove(self) -> None:
        for path in (self.state.parent, *vars(self).values()):
            if path == self.path:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)

    def read(self) -> dict[str, Any]:
        """Return run.json. Raises CheckpointError when there is none or it is damaged."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            if isinstance(record, dict) and {"data", "model", "status"} <= record.keys():
                return record
            problem = "its run.json is damaged"
        except OSError as error:
            problem = f"run.json: {error.strerror}"
        except ValueError:
            problem = "its run.json is damaged"
        raise CheckpointError(
            f"{self.path}: not a run folder: {problem}", hint="give a folder that train has written"
        )

    def write_record(self, record: dict[str, Any]) -> None:
        """Write run.json."""
        write_json(self.record, record)

    def write_metrics(self, lines: list[dict[str, Any]]) -> None:
        """Write metrics.jsonl: one line for each finished epoch."""
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in lines))
