"""A client of HTTP services that sends when it is time, whatever is still unanswered.

A client that waits for an answer before it sends again asks least when the service is slowest
(coordinated omission). Here a request has a time at which it is due, and its latency is counted
from then, also where the client itself is late.
"""

import asyncio
import gc
import math
import random
import re
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
Answered = Callable[[int, bytes], None]  # of a status (0: the connection broke), and a body
READY = 64  # connections that are open before the first request
PATIENCE = 60.0  # seconds for what is unanswered at the end
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)


@dataclass
class Answers:
    """What came back: seconds from when a request was due to its answer, and how it went."""

    latencies: list[float] = field(default_factory=list)  # of those that were answered with 200
    statuses: Counter[int] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)  # seconds from due to sent: the client's own
    rate: float = 0.0  # answers a second

    @property
    def failed(self) -> int:
        """How many were answered otherwise than with 200, or not at all."""
        return self.statuses.total() - self.statuses[200]


def quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that a share ``q`` of the values does not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def post(body: bytes, media: str, path: str = "/predict") -> bytes:
    """Return a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def form(*bodies: bytes, media: str, name: str = "images") -> bytes:
    """Return a request with a form of files."""
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="image"'
    head = f"--edge\r\n{disposition}\r\nContent-Type: {media}\r\n\r\n".encode()
    parts = b"".join(head + body + b"\r\n" for body in bodies)
    return post(parts + b"--edge--\r\n", "multipart/form-data; boundary=edge")


class _Connection(asyncio.Protocol):
    """A connection with at most one request on its way."""

    def __init__(self, idle: "list[_Connection]") -> None:
        self._idle, self._received = idle, bytearray()
        self._answered: Answered | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, request: bytes, answered: Answered) -> None:
        self._answered = answered
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = bytes(self._received[:end])
        if length := _LENGTH.search(head):
            whole = len(self._received) >= end + int(length[1])
        else:
            whole = bool(_CHUNKED.search(head)) and self._received.endswith(b"0\r\n\r\n")
        if whole:
            status, body = int(head.split(b" ", 2)[1]), bytes(self._received[end:])
            self._received.clear()
            answered, self._answered = self._answered, None
            if _CLOSE.search(head):
                self.transport.close()
            else:
                self._idle.append(self)
            if answered:
                answered(status, body)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        answered, self._answered = self._answered, None
        if answered:
            answered(0, b"")


class Client:
    """Connections to one address, as many as are needed."""

    def __init__(self, port: int) -> None:
        self._port, self._idle = port, list[_Connection]()
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()

    async def open(self, count: int) -> None:
        """Have so many connections at hand."""
        make = lambda: _Connection(self._idle)  # noqa: E731
        ways = (self._loop.create_connection(make, "127.0.0.1", self._port) for _ in range(count))
        self._idle += [connection for _, connection in await asyncio.gather(*ways)]

    def send(self, request: bytes, answered: Answered) -> None:
        """Send a request at once, or as soon as there is a connection for it."""
        if self._idle:
            self._idle.pop().send(request, answered)
        else:
            opening = self._loop.create_task(self._send(request, answered))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _send(self, request: bytes, answered: Answered) -> None:
        try:
            await self.open(1)
        except OSError:
            answered(0, b"")
        else:
            self.send(request, answered)

    def close(self) -> None:
        """Close what is idle."""
        for connection in [*self._idle]:
            connection.transport.abort()


def evenly(rate: float, seconds: float) -> Iterator[float]:
    """Yield times that are as far from each other as ``rate`` a second says."""
    yield from (number / rate for number in range(round(rate * seconds)))


def by_chance(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield the times of a Poisson process: requests of many who do not know of each other."""
    numbers, at = random.Random(seed), 0.0
    while (at := at + numbers.expovariate(rate)) < seconds:
        yield at


def offer(port: int, requests: Sequence[bytes], times: Iterable[float]) -> Answers:
    """Send requests, in turn, at their times in seconds from now."""
    return _run(_offer(port, requests, [*times] or [0.0]))


async def _offer(port: int, requests: Sequence[bytes], times: Sequence[float]) -> Answers:
    client, loop, found = Client(port), asyncio.get_running_loop(), Answers()
    await client.open(READY)
    done = loop.create_future()
    began = loop.time() + 0.01

    def fire(number: int) -> None:
        due = began + times[number]
        found.late.append(loop.time() - due)

        def answered(status: int, body: bytes) -> None:
            found.statuses[status] += 1
            if status == 200:
                found.latencies.append(loop.time() - due)
            if found.statuses.total() == len(times) and not done.done():
                done.set_result(None)

        if number + 1 < len(times):
            loop.call_at(began + times[number + 1], fire, number + 1)
        client.send(requests[number % len(requests)], answered)

    loop.call_at(began + times[0], fire, 0)
    try:
        await asyncio.wait_for(done, times[-1] + PATIENCE)
    except TimeoutError:
        found.statuses[0] += len(times) - found.statuses.total()
    found.rate = found.statuses[200] / (loop.time() - began)
    client.close()
    return found


def saturate(
    port: int, requests: Sequence[bytes], connections: int, *, seconds: float = 0, count: int = 0
) -> Answers:
    """Keep so many requests on their way, for ``seconds``, or until ``count`` are answered."""
    return _run(_saturate(port, requests, connections, seconds, count))


async def _saturate(
    port: int, requests: Sequence[bytes], connections: int, seconds: float, count: int
) -> Answers:
    client, loop, found = Client(port), asyncio.get_running_loop(), Answers()
    await client.open(connections)
    done, sent, ended = loop.create_future(), 0, 0
    began = loop.time()

    def next_one() -> None:
        nonlocal sent
        due, number = loop.time(), sent
        sent += 1

        def answered(status: int, body: bytes) -> None:
            nonlocal ended
            found.statuses[status] += 1
            now = loop.time()
            if status == 200:
                found.latencies.append(now - due)
            if now - began < seconds or (count and sent < count):
                loop.call_soon(next_one)
                return
            found.rate = found.rate or found.statuses[200] / (now - began)
            ended += 1
            if ended == connections:
                done.set_result(None)

        client.send(requests[number % len(requests)], answered)

    for _ in range(connections):
        next_one()
    await asyncio.wait_for(done, seconds + 10 * PATIENCE)
    client.close()
    return found


def bodies(port: int, requests: Sequence[bytes]) -> list[bytes]:
    """Return what requests are answered with, one by one. Raises ConnectionError for no 200."""
    return _run(_bodies(port, requests))


async def _bodies(port: int, requests: Sequence[bytes]) -> list[bytes]:
    client, found = Client(port), list[bytes]()
    for request in requests:
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        client.send(request, lambda status, body, future=future: future.set_result((status, body)))  # type: ignore[misc]
        status, body = await asyncio.wait_for(future, PATIENCE)
        if status != 200:
            raise ConnectionError(f"{status}: {body[:200].decode(errors='replace')}")
        found.append(body)
    client.close()
    return found


def _run(work: Awaitable[T]) -> T:
    async def working() -> T:
        return await work

    # epoll counts whole milliseconds, select does not.
    new = lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())  # noqa: E731
    with asyncio.Runner(loop_factory=new) as runner, _no_collection():
        return runner.run(working())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let the client never stand still to look for garbage."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
