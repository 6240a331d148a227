"""Cases in processes of their own, fresh every round, for what cannot share a process fairly.

A worker gets ready, says so, and measures when it is told to. It may run in any environment that
finds this module, which needs nothing but Python.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from threading import Timer
from typing import IO, Any

from resnets.errors import ResourceError

READY, GO = "ready", "go"
_PACKAGES = (
    *("torch", "torchvision", "timm", "keras", "tensorflow", "onnxruntime", "openvino"),
    *("PIL", "webdataset", "nvidia.dali", "simplejpeg"),
)


def fresh(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, timeout: float = 900
) -> dict[str, Any]:
    """Start a worker, let it get ready, let it measure, and return what it answers.

    That is its ``rate`` in images a second, and the ``versions`` of what it has computed with.

    Raises ResourceError with the last line that it has written to stderr when it fails, and when
    it has not answered after ``timeout`` seconds.
    """
    with (
        TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            [*command],
            env=None if environment is None else {**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        watch = Timer(timeout, process.kill)
        watch.start()
        answer = ""
        try:
            if process.stdout.readline().strip() == READY:
                with suppress(BrokenPipeError):  # it has failed since
                    print(GO, file=process.stdin, flush=True)
                    answer = process.stdout.readline()
            process.wait()
            late = watch.finished.is_set()
        finally:
            watch.cancel()
            process.kill()
        if answer:
            return dict(json.loads(answer))
        last = complaint(complaints, process.returncode)
        raise ResourceError(f"no answer within {timeout:g} s" if late else last)


def complaint(written: IO[str], code: int) -> str:
    """Return the last line that a process has written before it failed, but for a hint."""
    written.seek(0)
    lines = [line for line in written.read().splitlines() if line.strip()]
    said = [line for line in lines if not line.lstrip().startswith("hint:")]
    return said[-1] if said else f"exit code {code}"


class Window:
    """The worker's side: a window over batches, opened on command after a warm-up.

    What a library prints goes to stderr meanwhile: stdout is for the answer.
    """

    def __init__(
        self, warm_up: int, batches: int, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.warm_up, self.batches, self._clock = warm_up, batches, clock
        self._done = self._images = 0
        sys.stdout.flush()
        self._channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def tick(self, images: int) -> None:
        """Count a finished batch; raises Closed after the last one, the answer given."""
        self._done += 1
        if self._done > self.warm_up:
            self._images += images
        if self._done == self.warm_up:
            self._say(READY)
            sys.stdin.readline()
            self._began = self._clock()
        elif self._done == self.warm_up + self.batches:
            seconds = self._clock() - self._began
            self._say(json.dumps({"rate": self._images / seconds, "versions": versions()}))
            raise Closed

    def _say(self, line: str) -> None:
        print(line, file=self._channel, flush=True)


def versions() -> dict[str, str]:
    """Return the versions of what this process has computed with, by package."""
    loaded = {name: sys.modules[name] for name in _PACKAGES if name in sys.modules}
    return {name: module.__version__ for name, module in loaded.items()}


class Closed(Exception):
    """The window is closed: there is nothing left to measure."""
