"""Scalars for TensorBoard, where the extra ``tensorboard`` is installed; otherwise nothing."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from resnets.errors import unwritable
from resnets.readers.paths import spelled
from resnets.training.trackers import Config, Metrics


class TensorBoard:
    """The tracker that is always on: it writes event files into the run's own folder.

    ``purge_step`` hides what an earlier, interrupted session wrote from that step on.
    """

    def __init__(self, purge_step: int) -> None:
        self._purge_step, self._names = purge_step, ExitStack()
        self._folder = Path()
        self._writer: Any = None

    def begin(self, folder: Path, config: Config, tracked: str) -> str:
        """Open the files. They need no id, and recipe.yaml beside them says the configuration."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return ""
        self._folder = folder / "tensorboard"
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)  # a link to it may be all that is named
            name = self._names.enter_context(spelled(self._folder))
            self._writer = SummaryWriter(str(name), purge_step=self._purge_step)
        return ""

    def epoch(self, step: int, metrics: Metrics) -> None:
        """Write every number. Raises ResourceError."""
        if self._writer is not None:
            with self._writing():
                for name, value in metrics.items():
                    self._writer.add_scalar(name, value, step)
                self._writer.flush()

    def end(self, results: Metrics, status: str) -> None:
        """Finish the files; run.json beside them says the results."""
        if self._writer is not None:
            self._writer.close()
        self._names.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise ResourceError for what the library's thread cannot write, which prints it too."""
        print_it = threading.excepthook

        def leave_it(failure: Any) -> None:
            if not isinstance(failure.exc_value, OSError):
                print_it(failure)

        threading.excepthook = leave_it
        try:
            yield
        except OSError as error:
            hint = "free some space, and leave the folder where it is"
            raise unwritable(self._folder, error, hint) from None
        finally:
            threading.excepthook = print_it
