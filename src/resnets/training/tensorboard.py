"""Scalars for TensorBoard, where the extra ``tensorboard`` is installed; otherwise nothing."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from resnets.readers.paths import spelled


class Scalars:
    """Writes an epoch's metrics as event files in ``folder``.

    ``purge_step`` hides what an earlier, interrupted session wrote from that step on.
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        self._names = ExitStack()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            folder.mkdir(parents=True, exist_ok=True)  # a link to it may be all that is named
            self._writer = SummaryWriter(
                str(self._names.enter_context(spelled(folder))), purge_step=purge_step
            )

    def add(self, step: int, metrics: dict[str, Any]) -> None:
        """Write every number of ``metrics`` at ``step``, train_loss as train/loss."""
        if self._writer is None:
            return
        for name, value in metrics.items():
            if isinstance(value, int | float) and name not in ("step", "epoch"):
                tag = name.replace("train_", "train/").replace("validation_", "validation/")
                self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Finish the files."""
        if self._writer is not None:
            self._writer.close()
        self._names.close()
