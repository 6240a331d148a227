"""How OpenMP's threads wait while other jobs want the same cores.

A thread that waits for the others looks for work for some milliseconds before it sleeps. Alone that
is fastest; beside another job it takes the time of the very thread that it waits for. No length is
good at both (benchmarks/README.md), so it is chosen while the program runs: GNU's OpenMP looks only
100 times when there are more of its threads than processors, as its manual says under
GOMP_SPINCOUNT. Idle threads bring that about, and their end ends it. What is computed, and by how
many threads, stays the same.
"""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

PERIOD = 0.5  # seconds between two looks
IDLE = "idle"  # what the thread that keeps the others is called
SHARED, ALONE = 0.2, 0.05  # of the time, threads ready to run for which there was no core

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@contextmanager
def sharing_cores(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Let waiting threads sleep for as long as the cores are shared.

    It does nothing where the user's own variables say how threads wait, on systems other than
    Linux, and without GNU's OpenMP.
    """
    if not sys.platform.startswith("linux") or any(name in environment for name in _WAITING):
        yield
        return
    watcher = _Watcher()
    watcher.start()
    try:
        yield
    finally:
        watcher.end()


def adapts() -> bool:
    """Return whether waiting adapts now in this process."""
    return any(isinstance(thread, _Watcher) for thread in threading.enumerate())


class _Watcher(Thread):
    """Looks again and again whether threads had to wait for a core."""

    def __init__(self) -> None:
        super().__init__(name="sharing", daemon=True)
        self._end = Event()

    def run(self) -> None:
        idle = None
        delay, at = delayed(), time.monotonic()
        while not self._end.wait(PERIOD):
            before, since = delay, at
            delay, at = delayed(), time.monotonic()
            share = (delay - before) / (at - since)
            if idle is None and share > SHARED:
                library = gnu_openmp()  # torch, which brings it, may still be loading
                idle = IdleThreads(library) if library else None
            elif idle is not None and share < ALONE:
                idle.end()
                idle = None
        if idle is not None:
            idle.end()

    def end(self) -> None:
        self._end.set()
        self.join()


def delayed() -> float:
    """Return for how many seconds threads of this process were ready and no core was there."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[1])  # nanoseconds
        except (OSError, IndexError, ValueError):  # a thread that has ended
            continue
    return total / 1e9


class IdleThreads:
    """As many sleeping OpenMP threads as there are processors, until ``end`` is called."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library, self._end = library, Event()
        self._thread = Thread(target=self._hold, name=IDLE, daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        # A parallel region in which every thread asks for its number; they stay until this thread,
        # which began them, ends.
        task = ctypes.cast(self._library.omp_get_thread_num, ctypes.c_void_p)
        self._library.GOMP_parallel(task, None, self._library.omp_get_num_procs(), 0)
        self._end.wait()

    def end(self) -> None:
        """Let them go."""
        self._end.set()
        self._thread.join()


def gnu_openmp() -> ctypes.CDLL | None:
    """Return the libgomp that is loaded, such as torch's own; None without one."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        path = line.partition("/")[2]
        if "libgomp" in path:
            return ctypes.CDLL(f"/{path}")
    return None
