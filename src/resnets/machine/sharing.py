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
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

PERIOD = 0.5  # seconds between two looks
IDLE = "idle"  # what the thread that keeps the others is called
SHARED, ALONE = 0.2, 0.05  # of the time, threads ready to run for which there was no core

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def delayed() -> dict[int, float]:
    """Return for how many seconds each thread, by its id, was ready and no core was there."""
    found = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):  # a thread that has ended
            continue
    return found


@contextmanager
def sharing_cores(
    environment: Mapping[str, str] = os.environ,
    *,
    delays: Callable[[], dict[int, float]] = delayed,
    period: float = PERIOD,
) -> Iterator[None]:
    """Let waiting threads sleep for as long as the cores are shared.

    That is asked of ``delays`` every ``period`` seconds. It does nothing where the user's own
    variables say how threads wait, on systems other than Linux, where torch has another OpenMP than
    GNU's, and where no more threads may be started.
    """
    if not sys.platform.startswith("linux") or any(name in environment for name in _WAITING):
        yield
        return
    watcher = _Watcher(delays, period)
    watcher.start()
    try:
        yield
    finally:
        watcher.end()


def adapts() -> bool:
    """Return whether waiting adapts now in this process, which has loaded torch."""
    watched = any(isinstance(thread, _Watcher) for thread in threading.enumerate())
    return watched and gnu_openmp() is not None


class _Watcher(Thread):
    """Looks again and again whether threads had to wait for a core."""

    def __init__(self, delays: Callable[[], dict[int, float]], period: float) -> None:
        super().__init__(name="sharing", daemon=True)
        self._delays, self._period, self._end = delays, period, Event()

    def run(self) -> None:
        idle = None
        delays, at = self._delays(), time.monotonic()
        while not self._end.wait(self._period):
            before, since = delays, at
            delays, at = self._delays(), time.monotonic()
            share = sum(delays[i] - before.get(i, 0) for i in delays) / (at - since)
            if idle is None and share > SHARED:
                library = gnu_openmp()  # torch, which brings it, may still be loading
                try:
                    idle = IdleThreads(library) if library else None
                except RuntimeError:  # as many threads may not be started here
                    return
            elif idle is not None and share < ALONE:
                idle.end()
                idle = None
        if idle is not None:
            idle.end()

    def end(self) -> None:
        self._end.set()
        self.join()


class IdleThreads:
    """As many sleeping OpenMP threads as there are processors, until ``end`` is called.

    Raises RuntimeError where so many threads may not be started.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library, self._end = library, Event()
        _start_and_end(library.omp_get_num_procs())
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


def _start_and_end(count: int) -> None:
    """Have ``count`` threads for a moment: OpenMP, when it cannot start one, ends the process."""
    end = Event()
    threads = []
    try:
        for _ in range(count):
            threads.append(Thread(target=end.wait, daemon=True))
            threads[-1].start()
    finally:
        end.set()


def gnu_openmp(maps: Path = Path("/proc/self/maps")) -> ctypes.CDLL | None:
    """Return the library through which torch's OpenMP is reached, if that is GNU's; else None.

    scikit-learn, for one, brings a libgomp of its own, whose threads are others.
    """
    try:
        loaded = _loaded(maps)
        torch = next(path for _, _, path in loaded if "/libtorch_cpu." in path)
        library = ctypes.CDLL(torch)  # its symbols, and those of what it needs
    except (OSError, StopIteration):  # not loaded yet, or replaced on the disk since
        return None
    if not hasattr(library, "GOMP_parallel"):
        return None
    address = ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
    homes = [path for start, stop, path in loaded if start <= address < stop]
    return library if homes and "libgomp" in homes[0] else None


def _loaded(maps: Path) -> list[tuple[int, int, str]]:
    """Return which files are loaded where: addresses from and to, path."""
    text = maps.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"^(\w+)-(\w+) [^/\n]*(/.*)$", text, re.MULTILINE)
    return [(int(start, 16), int(stop, 16), path) for start, stop, path in found]
