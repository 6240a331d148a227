"""Threads that decode images, within a bound on the memory that all of them take together."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Lock
from typing import TypeVar

from resnets.data.headers import MAX_PIXELS, ImageError, check_size, identified, told
from resnets.data.images import Stored
from resnets.data.pipeline import THREADS

T = TypeVar("T")


class Decoders:
    """Threads that read images, of no more pixels at a time than a single image may have.

    One of that size takes up to 20 bytes a pixel on its way (WebP with transparency): without this
    bound a file of some kilobytes for each core would use up the memory of a computer.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, "decoding")
        self._turn, self._changed, self._pixels = Lock(), Condition(), 0

    def submit(self, read: Callable[[Stored], T], image: Stored) -> "Future[T]":
        """Return what ``read`` will return of an image; cancelled, it is never begun."""
        return self._pool.submit(self._within_bound, read, image)

    def close(self) -> None:
        """End the threads, what they do now excepted."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _within_bound(self, read: Callable[[Stored], T], image: Stored) -> T:
        pixels = _pixels(image)
        with self._turn, self._changed:  # in order, so that small ones do not keep a large one out
            self._changed.wait_for(lambda: self._pixels + pixels <= MAX_PIXELS)
            self._pixels += pixels
        try:
            return read(image)
        finally:
            with self._changed:
                self._pixels -= pixels
                self._changed.notify()


def _pixels(image: Stored) -> int:
    """Return how many pixels will be decoded; none of what will be refused by its header."""
    name = str(image)
    try:
        with told(name), image.open() as file:
            found = identified(file, name)
            check_size(found, name)
            return found.width * found.height
    except (ImageError, MemoryError):  # of which ``read`` will tell
        return 0
