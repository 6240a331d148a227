"""Weights & Biases, MLflow and Trackio behind one interface, which TensorBoard has too.

Each is spoken to in a process of its own (`training.tracking`). Where it is, its library's own
settings say: WANDB_PROJECT, WANDB_MODE, MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME,
TRACKIO_PROJECT. It is sent the recipe, facts of model and data, the epochs' metrics and the
results: no code, no paths, no host or user, nothing about the machine.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from resnets.run_folder.record import Epoch, to_plain

PROJECT = "resnets"  # where the user names none
Config = Mapping[str, Any]
Metrics = Mapping[str, float]


class Tracker(Protocol):
    """Something that shows a run's metrics; whatever its methods raise ends it, and no run."""

    def begin(self, folder: Path, config: Config, tracked: str) -> str:
        """Begin to follow the run in ``folder``, or go on, and return its id there, of one line.

        ``tracked`` is the id that an earlier session was given, else empty.
        """

    def epoch(self, step: int, metrics: Metrics) -> None:
        """Show the metrics of an epoch that has ended after ``step`` steps."""

    def end(self, results: Metrics, status: str) -> None:
        """Show what came of it; ``status`` is finished, stopped, failed or killed."""


class WandB:
    """Weights & Biases. What it would look at by itself, it does not: code, git, host, hardware."""

    def begin(self, folder: Path, config: Config, tracked: str) -> str:
        """Begin or resume the run; offline it is written into ``folder``'s own folder."""
        import wandb

        quiet = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            dir=os.environ.get("WANDB_DIR", str(folder / "tracking")),
            config=dict(config),
            id=tracked or None,
            resume="allow",
            settings=quiet,
        )
        return str(self._run.id)

    def epoch(self, step: int, metrics: Metrics) -> None:
        """Log at ``step``, which W&B demands to rise: what it has it ignores."""
        self._run.log(dict(metrics), step=step)

    def end(self, results: Metrics, status: str) -> None:
        """Write the summary, and close."""
        self._run.summary.update({**results, "status": status})
        self._run.finish(exit_code=0 if status == "finished" else 1)


class MLflow:
    """MLflow, on the server or store that MLFLOW_TRACKING_URI names, else its own default."""

    def begin(self, folder: Path, config: Config, tracked: str) -> str:
        """Begin the run, or open it again."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = client = MlflowClient()
        if tracked:
            client.update_run(tracked, status="RUNNING")
            self._id = tracked
            return tracked
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        there = client.get_experiment_by_name(name)
        experiment = there.experiment_id if there else client.create_experiment(name)
        self._id = client.create_run(experiment, run_name=folder.name).info.run_id
        parameters = [Param(key, str(value)) for key, value in config.items()]
        for start in range(0, len(parameters), 100):  # as many as it takes at once
            client.log_batch(self._id, params=parameters[start : start + 100])
        return str(self._id)

    def epoch(self, step: int, metrics: Metrics) -> None:
        """Log in one request."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        batch = [Metric(key, value, now, step) for key, value in metrics.items()]
        self._client.log_batch(self._id, metrics=batch)

    def end(self, results: Metrics, status: str) -> None:
        """Log the results, and say how it ended."""
        self.epoch(0, results)
        words = {"finished": "FINISHED", "failed": "FAILED"}
        self._client.set_terminated(self._id, words.get(status, "KILLED"))


class Trackio:
    """Trackio, which keeps runs in a file of the user's cache, for `trackio show`."""

    def begin(self, folder: Path, config: Config, tracked: str) -> str:
        """Begin or resume the run."""
        import trackio

        self._module = trackio
        run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=tracked or None,
            config=dict(config),
            resume="must" if tracked else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return str(run.name)

    def epoch(self, step: int, metrics: Metrics) -> None:
        """Log at ``step``."""
        self._module.log(dict(metrics), step=step)

    def end(self, results: Metrics, status: str) -> None:
        """Log the results, and close."""
        if results:
            self._module.log(dict(results))
        self._module.finish()


def numbers_of(line: Epoch) -> dict[str, float]:
    """Return the numbers of an epoch, train_loss as train/loss."""
    return {
        name.replace("train_", "train/").replace("validation_", "validation/"): value
        for name, value in to_plain(line).items()
        if isinstance(value, int | float) and name not in ("step", "epoch")
    }


TRACKERS: dict[str, type[WandB] | type[MLflow] | type[Trackio]] = {
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}
# What these libraries and theirs would tell their makers.
SILENT = {
    "DO_NOT_TRACK": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
