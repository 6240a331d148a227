"""Micro-batches: what many ask of one model is computed together, by one thread."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Compute = Callable[[NDArray[Any]], NDArray[np.float32]]  # of images (N, ...), as many


def _future() -> "asyncio.Future[NDArray[np.float32]]":
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False)
class Job:
    """Images that are computed together, and who waits for what comes of them.

    It is made by the loop. Threads hand it on, and it returns to the loop once: each way between
    threads costs as much as a small image.
    """

    compute: Compute
    images: NDArray[Any] = field(default_factory=lambda: np.empty(0))  # (N, ...)
    answer: "asyncio.Future[NDArray[np.float32]]" = field(default_factory=_future)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What those have in common that are computed together."""
        return self.compute, self.images.shape[1:]


def settle(jobs: Sequence[Job], found: NDArray[np.float32] | Exception) -> None:
    """Let jobs be answered by what was found of all their images, or by an error; in any thread."""
    with suppress(RuntimeError):  # the loop has ended, and nobody waits
        jobs[0].answer.get_loop().call_soon_threadsafe(_settle, jobs, found)


def _settle(jobs: Sequence[Job], found: NDArray[np.float32] | Exception) -> None:
    start = 0
    for job in jobs:
        stop = start + len(job.images)
        if job.answer.done():  # cancelled
            pass
        elif isinstance(found, Exception):
            job.answer.set_exception(found)
        else:
            job.answer.set_result(found[start:stop])
        start = stop


class Batcher:
    """A thread that computes images, at most ``most`` at once.

    It takes all that wait as soon as it is free. For more it waits ``wait`` seconds, and only while
    ``coming`` says that some are on their way. What is cancelled is not computed.
    """

    def __init__(self, most: int, wait: float, coming: Callable[[], int]) -> None:
        self._most, self._wait, self._coming = most, wait, coming
        self._jobs: deque[Job] = deque()
        self._changed, self._ended = Condition(), False
        Thread(target=self._run, name="inference", daemon=True).start()

    def put(self, job: Job) -> None:
        """Let a job be computed, and answered by that, or by what computing it raises."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def close(self) -> None:
        """End the thread after what it computes now; the loop has ended, and nobody waits."""
        with self._changed:
            self._ended = True
            self._jobs.clear()
            self._changed.notify()

    def _run(self) -> None:
        while not self._ended:
            if jobs := self._next():
                _compute(jobs)
            del jobs  # large, and the next may be long in coming

    def _next(self) -> list[Job]:
        """Return what is computed next: images of one kind, none that nobody waits for."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._ended)
            if self._wait:
                enough = lambda: len(self._jobs) >= self._most or not self._coming()  # noqa: E731
                self._changed.wait_for(enough, self._wait)
            taken: list[Job] = []
            count = 0
            while self._jobs:
                job = self._jobs[0]
                other = taken and job.kind != taken[0].kind
                if taken and (other or count + len(job.images) > self._most):
                    break
                self._jobs.popleft()
                if not job.answer.cancelled():
                    taken.append(job)
                    count += len(job.images)
            return taken


def _compute(jobs: Sequence[Job]) -> None:
    found: NDArray[np.float32] | Exception
    try:
        images = [job.images for job in jobs]
        found = jobs[0].compute(np.concatenate(images) if len(images) > 1 else images[0])
    except Exception as error:
        found = error
    settle(jobs, found)
