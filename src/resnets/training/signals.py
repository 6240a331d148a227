"""Asking a run to stop: a signal only sets a flag, and the loop stops at the end of its step.

A first Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 is met where the run is: while data are read it ends the
command at once (130 after Ctrl-C, else by the signal itself) and nothing has begun; in training the
step ends, the state is saved, and the exit code is 130 after Ctrl-C and 75 otherwise; in the
evaluation at the end the run finishes (0), and with several seeds the next does not begin. A second
Ctrl-C ends at once, without a state (130).
"""

import os
import signal
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # Windows has the first two
SIGNALS = tuple(each for each in signal.Signals if each.name in _NAMES)


class StopRequest(AbstractContextManager["StopRequest"]):
    """While active, remembers the first of SIGNALS; a second SIGINT acts at once.

    Outside the main thread, where Python takes no signal handlers, it does nothing. With
    ``watch_parent`` the end of the process that started this one counts too: ``torchrun`` that is
    killed leaves its workers behind.
    """

    def __init__(self, *, watch_parent: bool = False) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._parent = os.getppid() if watch_parent else None
        self._own = os.getpid()

    def __enter__(self) -> "StopRequest":
        for number in SIGNALS:
            try:
                self._previous[number] = signal.signal(number, self._request)
            except ValueError:
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._own:  # a child that was forked has no run to stop
            signal.signal(number, self._previous[signal.Signals(number)] or signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    @property
    def requested(self) -> bool:
        """Whether the run should stop."""
        orphaned = self._parent is not None and os.getppid() != self._parent
        return self.signal is not None or orphaned

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, as shells have it; otherwise 75: stopped, may be resumed."""
        return 130 if self.signal == signal.SIGINT else 75
