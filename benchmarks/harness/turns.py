"""Feeds in processes of their own that live through all rounds and stand still between their turns.

What reads ahead must not do so while another is measured, so a worker's whole process group is
stopped when its turn is over. The worker's side, `serve`, needs nothing but Python.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import IO, Any

from harness.load import spent
from harness.workers import complaint, versions
from resnets.errors import ResourceError

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Turn:
    """What a worker did in its turn, with all processes that it has started."""

    images: int
    seconds: float
    processor: float  # seconds, user and system


@dataclass(frozen=True)
class Group:
    """A process that was started in a session of its own, with all it has started."""

    pid: int

    def stop(self) -> None:
        """Let it stand still."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        os.killpg(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """End it; it may have ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def memory(self) -> int:
        """Return the bytes that it holds, what its processes share counted once."""
        total = 0
        for path in Path("/proc").glob("[0-9]*"):
            try:
                group = int((path / "stat").read_text().rpartition(")")[2].split()[2])
                if group == self.pid:
                    lines = (path / "smaps_rollup").read_text().splitlines()
                    # Not mapped files: the kernel may take those pages back.
                    kinds = ("Pss_Anon:", "Pss_Shmem:")
                    total += sum(int(line.split()[1]) for line in lines if line.startswith(kinds))
            except OSError:  # it has ended since it was listed
                continue
        return 1024 * total


class Worker:
    """The parent's side of a process that takes batches from a feed; it stands still at first."""

    def __init__(self, process: "subprocess.Popen[str]", complaints: IO[str]) -> None:
        self._process, self._complaints, self.pid = process, complaints, process.pid
        self._group = Group(self.pid)
        self.memory = self._group.memory
        self.first = self._answer()  # seconds to the first batch, its processor time, versions
        self._group.stop()

    def turn(self, images: int) -> Turn:
        """Let it take at least so many images. Raises ResourceError with its last line."""
        before = spent(self.pid)
        self._group.resume()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has failed since
            print(images, file=self._process.stdin, flush=True)
        answer = self._answer()
        self._group.stop()
        processor = (spent(self.pid) - before) / TICK
        return Turn(answer["images"], answer["seconds"], processor)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return dict(json.loads(line))
        raise ResourceError(complaint(self._complaints, self._process.wait()))


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], *, timeout: float = 900
) -> Iterator[Worker]:
    """Start a worker that has made its first batch, and end it with all that it has started.

    Raises ResourceError with the last line that it has written to stderr when it fails; after
    ``timeout`` seconds it is ended.
    """
    with (
        TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            [*command],
            env={**environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        group = Group(process.pid)
        watch = Timer(timeout, group.end)
        watch.start()
        try:
            yield Worker(process, complaints)
        finally:
            watch.cancel()
            group.end()


def serve(prepare: Callable[[], Callable[[], Iterator[int]]]) -> None:
    """Be a worker: what ``prepare`` returns opens data and gives endless batches by their sizes.

    The first batch is timed from there on. What a library prints goes to stderr: stdout is for the
    answers.
    """
    sys.stdout.flush()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=channel, flush=True)

    begin = prepare()
    began, before = time.perf_counter(), spent(os.getpid())
    batches = begin()
    next(batches)
    seconds, processor = time.perf_counter() - began, (spent(os.getpid()) - before) / TICK
    say(seconds=seconds, processor=processor, versions=versions())
    for line in sys.stdin:
        wanted, taken, began = int(line), 0, time.perf_counter()
        while taken < wanted:
            taken += next(batches)
        say(images=taken, seconds=time.perf_counter() - began)
