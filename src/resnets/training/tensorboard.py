"""Scalars for TensorBoard, where the extra ``tensorboard`` is installed; otherwise nothing."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from resnets.readers.paths import spelled
from resnets.training.trackers import Config, Metrics


class TensorBoard:
    """The tracker that is always on: it writes event files into the run's own folder.

    ``purge_step`` hides what an earlier, interrupted session wrote from that step on.
    """

    def __init__(self, purge_step: int) -> None:
        self._purge_step, self._names = purge_step, ExitStack()
        self._writer: Any = None

    def begin(self, folder: Path, config: Config, tracked: str) -> str:
        """Open the files. They need no id, and recipe.yaml beside them says the configuration."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return ""
        folder = folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)  # a link to it may be all that is named
        name = self._names.enter_context(spelled(folder))
        self._writer = SummaryWriter(str(name), purge_step=self._purge_step)
        return ""

    def epoch(self, step: int, metrics: Metrics) -> None:
        """Write every number."""
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def end(self, results: Metrics, status: str) -> None:
        """Finish the files; run.json beside them says the results."""
        if self._writer is not None:
            self._writer.close()
        self._names.close()
