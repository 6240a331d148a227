"""Work that is done ahead in threads and handed out in order: a bounded part of it at any time."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Decoders and Pillow's scaling work without the interpreter's lock; what they need it for keeps
# about six cores busy, and more threads than that do no harm.
THREADS = min(16, os.cpu_count() or 1)
AHEAD = 2  # batches that are read while one is used


def read_ahead(
    read: Callable[[T], R],
    batches: Iterable[Sequence[T]],
    *,
    threads: int = THREADS,
    ahead: int = AHEAD,
) -> Generator[list[R], None, None]:
    """Yield what ``read`` returns for the items of each batch; the next are read meanwhile.

    ``batches`` is asked for no more than ``ahead`` batches before their turn, which bounds the
    memory. Results, and their order, do not depend on ``threads``. What ``read`` raises comes up
    when its batch is due. Whoever stops waits for the items that are being read, no longer.
    """
    pool = ThreadPoolExecutor(threads)
    begun = ([pool.submit(read, item) for item in batch] for batch in batches)
    try:
        reading: deque[list[Future[R]]] = deque(islice(begun, ahead))
        while reading:
            found = [future.result() for future in reading.popleft()]
            reading.extend(islice(begun, 1))
            yield found
    finally:
        pool.shutdown(cancel_futures=True)
