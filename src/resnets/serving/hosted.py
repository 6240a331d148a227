"""A model by its name, ready to answer many at once."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnets.data.images import MODES, Stored
from resnets.data.preprocess import preprocess_of
from resnets.errors import DataError
from resnets.formatting import plural
from resnets.inference.prediction import Prediction, SetSizes, labelled, prepared
from resnets.inference.runtimes import Runtime
from resnets.serving.batching import Batcher, Compute, Job, Logits, settle
from resnets.serving.decoding import Decoders
from resnets.serving.measures import Measures
from resnets.serving.refusals import Refusal

AHEAD = 3  # batches of prepared images: as many as `read_batches` has


@dataclass(frozen=True)
class Limits:
    """How much a service does at once, and for how long."""

    max_batch: int = 8  # images
    max_wait: float = 0.0  # seconds that a batch waits for more images
    queue: int = 128  # images of a model that are accepted and not yet answered
    timeout: float = 30.0  # seconds to receive a body, and as many again to answer it
    max_bytes: int = 32 << 20  # of a body


class Hosted:
    """A model that answers what is asked at the same time in batches.

    Images wait as they were sent; for those that are decoded there is room for three batches. What
    is cancelled is neither decoded nor computed any more.
    """

    def __init__(
        self, name: str, runtime: Runtime, limits: Limits, measures: Measures, decoders: Decoders
    ) -> None:
        self.name, self.runtime = name, runtime
        self._limits, self._decoders = limits, decoders
        self._dropped, self._decode_time = measures.dropped, measures.decoding.labels(name)
        self._batch_time, self._batch_size = (
            measures.inference.labels(name),
            measures.batches.labels(name),
        )
        # Images of exports that take them whole differ in size.
        most = 1 if runtime.input == "pictures" else limits.max_batch
        self._most, self._room = most, asyncio.Semaphore(AHEAD * most)
        self._queued = self._computing = 0
        self._decoding: set[int] = set()  # the threads that do: adding to it is atomic
        self._batcher = Batcher(most, limits.max_wait, lambda: len(self._decoding))
        measures.watch(name, lambda: self._queued, self._working)

    def warm_up(self) -> None:
        """Answer one image, so that the first request does not wait for what is done once.

        Raises what the model raises where it cannot be computed.
        """
        size = getattr(self.runtime, "size", None) or (224, 224)
        image = Image.new(MODES[self.runtime.spec.in_channels], (size[1], size[0]))
        self.runtime.logits(self.runtime.prepare(image))

    def check_room(self, count: int = 1) -> None:
        """Raise Refusal where so many images more would not be accepted."""
        if count > self._limits.queue:
            raise Refusal(
                413,
                "too many images",
                f"{plural(count, 'image')} at once, {self._limits.queue} are accepted",
                hint="send them in several requests",
            )
        if self._queued + count > self._limits.queue:
            raise Refusal(
                429,
                "queue full",
                f"{plural(self._queued, 'image')} wait already, {self._limits.queue} may",
                hint="come again later",
                retry_after=1,
            )

    async def predictions(
        self, images: Sequence[Stored], top: int | None = None, sizes: SetSizes | None = None
    ) -> list[Prediction]:
        """Return the prediction of each image; a broken one has its error.

        Raises Refusal where too many wait, and what `Runtime.logits` and `labelled` raise.
        """
        with self._accepted(len(images)):
            return await _all(*(self._predicted(image, top, sizes) for image in images))

    async def logits(self, images: NDArray[Any]) -> Logits:
        """Return the logits (N, classes) of images in the form that the model takes.

        Raises as `predictions` does.
        """
        with self._accepted(len(images)):
            starts = range(0, len(images), self._most)
            parts = [images[start : start + self._most] for start in starts]
            return np.concatenate(await _all(*map(self._computed, parts)))

    async def seen(
        self, image: Stored, look: Compute
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return what a network sees of an image, uint8 (C, H, W), and what ``look`` finds in it.

        ``look`` is called with a batch, normalised, where nothing else computes. Raises as
        `predictions` does, and DataError for a broken image.
        """
        preprocess = preprocess_of(self.runtime)
        with self._accepted(1):
            async with self._room:
                squares = self._decoders.submit(preprocess.squares, image)
                seen = await asyncio.wrap_future(squares)
                return seen[0], (await self._computed(preprocess.normalized(seen), look))[0]

    async def logits_of(self, images: Sequence[Stored]) -> Logits:
        """Return the logits (N, classes) of images in files.

        Raises as `predictions` does, and DataError where one cannot be read.
        """
        with self._accepted(len(images)):
            return np.concatenate(await _all(*map(self._answered, images)))

    def close(self) -> None:
        """Answer no more."""
        self._batcher.close()

    @contextmanager
    def _accepted(self, count: int) -> Iterator[None]:
        self.check_room(count)
        self._queued += count
        try:
            yield
        finally:
            self._queued -= count

    async def _predicted(
        self, image: Stored, top: int | None, sizes: SetSizes | None
    ) -> Prediction:
        try:
            found = await self._answered(image)
        except DataError as error:
            return Prediction(str(image), error=error)
        return labelled(self.runtime, [str(image)], found, top, sizes)[0]

    async def _answered(self, image: Stored) -> Logits:
        """Return the logits (1, classes) of an image. Raises DataError where it cannot be read."""
        job = Job(self._compute)
        try:
            async with self._room:
                self._decoders.submit(partial(self._decode, job), image)
                return await job.answer
        except asyncio.CancelledError:
            self._dropped.labels("inference" if len(job.images) else "decoding").inc()
            raise

    async def _computed(self, images: NDArray[Any], compute: Compute | None = None) -> Logits:
        job = Job(compute or self._compute, images)
        self._batcher.put(job)
        return await job.answer

    def _decode(self, job: Job, image: Stored) -> None:
        """Read an image that somebody waits for, and let it be computed; in one of the threads."""
        if job.answer.cancelled():
            return
        self._decoding.add(get_ident())
        try:
            with self._decode_time.time():
                found: NDArray[Any] | Exception = prepared(self.runtime, image)
        except Exception as error:  # of the model, or of memory
            found = error
        finally:
            self._decoding.discard(get_ident())
        if isinstance(found, Exception):
            settle([job], found)
        else:
            job.images = found
            self._batcher.put(job)

    def _working(self) -> int:
        return len(self._decoding) + self._computing

    def _compute(self, images: NDArray[Any]) -> Logits:
        """Return the logits of a batch, in the one thread that does that."""
        self._computing = len(images)
        try:
            with self._batch_time.time():
                return self.runtime.logits(images)
        finally:
            self._batch_size.observe(len(images))
            self._computing = 0


async def _all(*work: Any) -> list[Any]:
    """Return what all of them return, or raise what one raises when all have ended."""
    if len(work) == 1:
        return [await work[0]]
    found = await asyncio.gather(*work, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return found
