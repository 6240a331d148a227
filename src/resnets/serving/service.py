"""A service of some models: what every request passes before it reaches its route, and after."""

import asyncio
import hmac
import logging
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute, Router
from starlette.types import Message, Receive, Scope, Send

from resnets.errors import ResnetsError
from resnets.inference.runtimes import Runtime
from resnets.serving.bodies import Bodies
from resnets.serving.decoding import Decoders
from resnets.serving.hosted import Hosted, Limits
from resnets.serving.measures import Measures
from resnets.serving.refusals import Refusal, refusal_of

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

# What needs no token, as addresses; the health, and the measures, are told to the end.
HEALTH = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
PAGE = ("/", "/page.css", "/page.js", "/engine.js", "/icon.svg")  # say nothing of the models
OPEN = (*HEALTH, *PAGE)
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    "content-security-policy": "default-src 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
GONE = 499  # the status that is counted where a client has left; nobody gets it


class Service:
    """Models by their names, and what they share."""

    def __init__(
        self,
        runtimes: Mapping[str, Runtime],
        limits: Limits | None = None,
        *,
        token: str | None = None,
        loopback: bool = True,
        report: Callable[[str], None] = _LOG.error,
    ) -> None:
        """``report`` gets what went wrong in the service itself; no answer has the traceback."""
        self.limits, self.token, self.loopback = limits or Limits(), token, loopback
        self.report = report
        self.measures = Measures()
        self.bodies = Bodies(self.limits.max_bytes, self.limits.timeout)
        self._decoders = Decoders()
        self.models = {
            name: Hosted(name, runtime, self.limits, self.measures, self._decoders)
            for name, runtime in runtimes.items()
        }
        self.draining = False
        self.in_flight = 0  # requests
        self.measures.in_flight.set_function(lambda: self.in_flight)

    def hosted(self, name: str | None) -> Hosted:
        """Return the model of a name; of one model it may lack. Raises Refusal for no model's."""
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        hint = f"choose from {', '.join(self.models)}"
        if name is None:
            raise Refusal(400, "model", "which model?", hint=f"?model=NAME: {hint}")
        if name not in self.models:
            raise Refusal(404, "model", f'no model is called "{name}"', hint=hint)
        return self.models[name]

    async def within_time(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns; it is cancelled where nobody waits for it any more.

        The body has to be read before. Raises ClientDisconnect where the client is gone, and
        Refusal where it takes longer than a request may.
        """
        working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait(
                {working, gone},
                timeout=self.limits.timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if working.done():
                return working.result()
            if gone.done():
                raise ClientDisconnect
            raise Refusal(
                503,
                "deadline",
                f"no answer within {self.limits.timeout:g} s",
                hint="come again later",
                retry_after=1,
            )
        finally:
            working.cancel()
            gone.cancel()

    def close(self) -> None:
        """End the threads, what they do now excepted."""
        self._decoders.close()
        for hosted in self.models.values():
            hosted.close()


async def _left(request: Request) -> None:
    """Return when the client of a request, whose body is read, has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Application:
    """The ASGI application: checks, counts, and turns whatever is raised into an answer."""

    def __init__(self, service: Service, routes: Sequence[BaseRoute]) -> None:
        self._service = service
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        assert scope["type"] == "http"  # neither websockets nor a lifespan
        service, status = self._service, GONE

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                if service.draining:
                    headers["connection"] = "close"
            await send(message)

        service.in_flight += 1
        try:
            self._check(scope["path"], Headers(scope=scope))
            scope["app"] = self  # without it the router answers in plain text, instead of raising
            await self._router(scope, receive, sending)
        except ClientDisconnect:
            pass
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.status == 500:
                ours = isinstance(error, ResnetsError)
                service.report(str(error) if ours else "".join(traceback.format_exception(error)))
            service.measures.refusals.labels(refusal.reason).inc()
            if status == GONE:  # nothing is sent yet
                await refusal.response()(scope, receive, sending)
        finally:
            service.in_flight -= 1
            service.measures.requests.labels(str(status)).inc()

    def _check(self, path: str, headers: Headers) -> None:
        service = self._service
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy may have seen another end of the request than we do (RFC 9112, sec. 6.3).
            raise Refusal(
                400,
                "http",
                "the body has both a Content-Length and a Transfer-Encoding",
                headers={"Connection": "close"},
            )
        host = headers.get("host")
        # A page elsewhere may have let its own name lead here (DNS rebinding).
        if service.loopback and host is not None and _without_port(host) not in _LOCAL:
            raise Refusal(
                403,
                "host",
                "this service is for this computer, and was called by another name",
                hint="http://localhost or http://127.0.0.1; a proxy has to send that as Host",
            )
        if service.draining and path not in (*HEALTH, "/metrics"):
            raise Refusal(
                503, "draining", "the service ends", hint="come again later", retry_after=1
            )
        if service.token is not None and path not in OPEN:
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {service.token}".encode()):
                raise Refusal(
                    401,
                    "token",
                    "the token is missing or another",
                    hint="Authorization: Bearer TOKEN",
                    headers={"WWW-Authenticate": "Bearer"},
                )


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and (port.isdecimal() or not port) else host).lower()
