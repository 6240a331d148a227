"""A service on a socket: from the first request it takes to the last that it has accepted."""

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import FrameType

import h11
import uvicorn
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from resnets.errors import ResourceError, UsageError
from resnets.serving import answering, inference_routes, pages
from resnets.serving.refusals import Refusal
from resnets.serving.service import Application, Service

PATIENCE = 10.0  # seconds for the headers of a request, and for the rest of a body that is refused
KEEP_ALIVE = 75  # seconds between two requests; more than proxies wait, which would meet an end
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def routes(service: Service) -> list[Route]:
    """Return all addresses of a service; `resnets.serving.openapi` describes them."""
    return [
        *answering.routes(service),
        *inference_routes.routes(service),
        *pages.routes(service),
    ]


def bound(host: str, port: int) -> socket.socket:
    """Return a socket for an address; port 0 is any that is free.

    Raises UsageError for an address that is none of this computer, and ResourceError for one that
    is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{host}: is no address of this computer: {reason}",
            hint="--host 127.0.0.1 is for this computer alone, 0.0.0.0 for all that reach it",
        ) from None
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise ResourceError(
            f"{host}:{port}: cannot be served at: {error.strerror}",
            hint="--port 0 takes one that is free",
        ) from None
    return sock


def url(sock: socket.socket) -> str:
    """Return the address of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this computer reaches a bound socket."""
    return ip_address(sock.getsockname()[0]).is_loopback


class Server(uvicorn.Server):
    """Serves until a signal, or `drain`; then what is accepted is answered, and nothing else.

    A second signal ends the process at once, as if nobody had taken it.
    """

    def __init__(self, service: Service, started: Callable[[], None] = lambda: None) -> None:
        """``started`` is called when requests are taken."""
        super().__init__(
            uvicorn.Config(
                Application(service, routes(service)),
                http=_Connection,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                log_level="critical",  # what happens is answered and counted
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=1,  # of what is left after `on_tick` has waited for it
            )
        )
        self._service, self._started = service, started
        self._end = 0.0

    def drain(self) -> None:
        """Take no new request, and end when all are answered or their time is over."""
        self._end = time.monotonic() + self._service.limits.timeout
        self._service.draining = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        self._started()

    async def on_tick(self, counter: int) -> bool:
        """Tell, ten times a second, whether it has ended."""
        ended = await super().on_tick(counter)
        done = self._service.in_flight == 0 or time.monotonic() > self._end
        return ended or (self._service.draining and done)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the first signal drain the service; uvicorn's own raises it again in the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._first_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _first_signal(self, number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self.drain()


def serve(service: Service, sock: socket.socket, started: Callable[[], None]) -> None:
    """Answer requests at a bound socket until a signal; see `Server`."""
    for name in ("asyncio", "python_multipart"):  # which tell of each broken connection and body
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        for hosted in service.models.values():
            hosted.warm_up()
        Server(service, started).run([sock])
    finally:
        service.close()


class _Connection(H11Protocol):
    """uvicorn's connection, which does not wait for ever, and says in JSON what it refuses."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._next_look = self.loop.call_later(PATIENCE, self._look, self.cycle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self, before: RequestResponseCycle | None) -> None:
        """Close a connection on which a request, or a refused one's body, has not come to its end.

        A refused one is answered at once; what still comes of its body is thrown away until then.
        """
        over = before is None or before.response_complete
        resting = before is not None and self.conn.their_state is h11.IDLE
        if before is self.cycle and over and not (resting and not self.conn.trailing_data[0]):
            self.transport.abort()
        else:
            self._next_look = self.loop.call_later(PATIENCE, self._look, self.cycle)

    def send_400_response(self, msg: str) -> None:
        answer = Refusal(400, "http", "this is no HTTP request").response()
        headers = [*answer.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
