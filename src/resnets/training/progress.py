"""What a person sees of a run, on stderr: a live line at a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from resnets.formatting import duration, pace, printable
from resnets.run_folder.record import Epoch

LONG_SECONDS = 2.0  # of reading, before it is said how far it is
PLAIN_SECONDS = 30.0  # between lines within an epoch where there is no terminal


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Say nothing more; a run does not end for want of a reader."""
        self.quiet = True


class RunProgress:
    """Shows steps and epochs; ``quiet`` shows nothing. ``clock`` counts seconds."""

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.console = _Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task: TaskID | None = None
        self._last_line = clock()
        self._reading: float | None = None  # when it began
        self._total = 0  # images to read, once they are found
        self._changing = False  # whether a line stands there that changes

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._change("")
        self.console.print(printable(line), markup=False)

    def reading(self, done: int, total: int) -> None:
        """Show how many images are read, or found, of a total of 0, where that takes long."""
        now = self._clock()
        if self._reading is None or (total and not self._total):
            self._reading = now
            self._last_line = now - PLAIN_SECONDS  # the first line comes at once
        self._total, seconds = total, now - self._reading
        due = 0.2 if self.console.is_terminal else PLAIN_SECONDS
        line = ""
        if done == total:
            self._reading = None
        elif seconds > LONG_SECONDS and now - self._last_line >= due:
            line = f"{'read ' if total else ''}{pace(done, total, seconds)}"
        else:
            return
        if self.console.is_terminal:
            self._change(line)
        elif line:
            self.say(line)
        self._last_line = now

    def _change(self, line: str) -> None:
        """Put another line in place of the one that changes, and is gone in the end."""
        if (line or self._changing) and not self.console.quiet:
            self.console.file.write(f"\r\033[K{line}")
            self.console.file.flush()
        self._changing = bool(line)

    def step(self, epoch: str, batch: int, batches: int, text: str) -> None:
        """Show how far an epoch is."""
        if self.console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task("", text="")
            self._bar.update(
                self._task, description=epoch, completed=batch, total=batches, text=text
            )
        elif self._clock() - self._last_line > PLAIN_SECONDS:
            self._print(f"{epoch}  {100 * batch // batches:3d}%   {text}")

    def epoch(self, epoch: str, text: str) -> None:
        """Print a finished epoch."""
        self._print(f"{epoch}  {text}")

    def _print(self, line: str) -> None:
        self.say(line)
        self._last_line = self._clock()


class Clock:
    """Monotonic time of a run over its sessions, and the time that is left.

    ``step`` and ``before`` are the steps and seconds that a session begins with.
    """

    def __init__(self, step: int, before: float, steps: int) -> None:
        self._first_step, self._before, self._steps = step, before, steps
        self._began = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self._before + self.session

    def overdue(self, seconds: float) -> bool:
        """Whether it is longer than this since a state was saved."""
        return time.monotonic() - self._saved > seconds

    def saved(self) -> None:
        """Count from here on."""
        self._saved = time.monotonic()

    @property
    def session(self) -> float:
        """Seconds since this session began."""
        return time.monotonic() - self._began

    def left(self, step: int) -> float:
        """Return the seconds that the steps after ``step`` take, at the pace of this session's."""
        return self.session / (step - self._first_step) * (self._steps - step)

    def eta(self, step: int) -> str:
        """Say it."""
        return "" if step == self._steps else f"ETA {duration(self.left(step))}"


def metrics_text(line: Epoch) -> str:
    """Return one epoch's metrics as a person reads them."""
    parts = [f"loss {line.train_loss:.3f}", f"accuracy {line.train_accuracy:.3f}"]
    if line.validation_accuracy is not None:
        parts.append(f"held out {line.validation_accuracy:.3f}")
    if line.validation_map is not None:
        parts.append(f"mAP {line.validation_map:.3f}")
    parts.append(f"{line.images_per_second:.0f} img/s")
    return "   ".join(parts)
