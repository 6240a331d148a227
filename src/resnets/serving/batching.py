"""Micro-batches: what many ask of one model is computed together, by one thread."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Compute = Callable[[NDArray[Any]], NDArray[np.float32]]  # of images (N, ...), as many


@dataclass(frozen=True)
class _Job:
    images: NDArray[Any]  # (N, ...)
    compute: Compute
    answer: "Future[NDArray[np.float32]]" = field(default_factory=Future)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What those have in common that are computed together."""
        return self.compute, self.images.shape[1:]


class Batcher:
    """A thread that computes images, at most ``most`` at once.

    It takes all that wait as soon as it is free. For more it waits ``wait`` seconds, and only while
    ``coming`` says that some are on their way.
    """

    def __init__(
        self,
        compute: Compute,
        most: int,
        wait: float = 0.0,
        coming: Callable[[], int] = lambda: 0,
    ) -> None:
        self._compute, self._most, self._wait, self._coming = compute, most, wait, coming
        self._jobs: deque[_Job] = deque()
        self._changed, self._ended = Condition(), False
        Thread(target=self._run, name="inference", daemon=True).start()

    def submit(
        self, images: NDArray[Any], compute: Compute | None = None
    ) -> "Future[NDArray[np.float32]]":
        """Return what will be computed of images (N, ...); cancelled, it never is.

        It is their logits (N, classes), or what another function makes of them in the same thread.
        It raises what computing them raises.
        """
        job = _Job(images, compute or self._compute)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        return job.answer

    def close(self) -> None:
        """End the thread after what it computes now; the rest is cancelled."""
        with self._changed:
            self._ended = True
            for job in self._jobs:
                job.answer.cancel()
            self._changed.notify()

    def _run(self) -> None:
        while not self._ended:
            self._compute_batch(self._next())

    def _next(self) -> list[_Job]:
        """Return what is computed next: images of one kind, none that nobody waits for."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._ended)
            if self._wait:
                enough = lambda: len(self._jobs) >= self._most or not self._coming()  # noqa: E731
                self._changed.wait_for(enough, self._wait)
            taken: list[_Job] = []
            count = 0
            while self._jobs:
                job = self._jobs[0]
                other = taken and job.kind != taken[0].kind
                if taken and (other or count + len(job.images) > self._most):
                    break
                self._jobs.popleft()
                if job.answer.set_running_or_notify_cancel():
                    taken.append(job)
                    count += len(job.images)
            return taken

    def _compute_batch(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        try:
            images = [job.images for job in jobs]
            found = jobs[0].compute(np.concatenate(images) if len(images) > 1 else images[0])
        except Exception as error:
            for job in jobs:
                job.answer.set_exception(error)
            return
        start = 0
        for job in jobs:
            job.answer.set_result(found[start : start + len(job.images)])
            start += len(job.images)
