"""Bodies of requests: counted while they stream, in memory only, within limits."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from resnets.data.images import Stored
from resnets.serving.refusals import Refusal

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

AT_ONCE = 8  # bodies of the largest size, whose bytes may be in memory
_HEADERS, _HEADER = 8, 4096  # of a part: how many, and bytes of one


class Upload(Stored):
    """An image that came with a request. Its name is what the sender calls it, never a path."""

    def __init__(self, data: bytes | bytearray, name: str = "the image") -> None:
        whole = bytes(data)  # which what opens it need not copy
        super().__init__("", name, partial(io.BytesIO, whole), len(data), 0)

    def __str__(self) -> str:
        return self.name


class Bodies:
    """How much a body may hold, and all that are in memory together."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds, self.held = most, seconds, 0

    @contextmanager
    def of(self, request: Request) -> Iterator["Body"]:
        """Give the body of a request, whose bytes count until the ``with`` ends."""
        body = Body(self, request)
        try:
            yield body
        finally:
            self.held -= body.size


class Body:
    """The body of one request, of which nothing is read until it is asked for."""

    def __init__(self, bodies: Bodies, request: Request) -> None:
        self._bodies, self._request, self.size = bodies, request, 0
        media, options = parse_options_header(request.headers.get("content-type"))
        self.media, self._boundary = media.decode("latin-1"), options.get(b"boundary", b"")

    async def whole(self) -> bytearray:
        """Return all of it.

        Raises Refusal for one that is too large, encoded or slow, and ClientDisconnect for a part.
        """
        data = bytearray()
        await self._received(data.extend)
        return data

    async def images(self, most: int) -> list[Upload]:
        """Return the images: one of a raw body, at most so many of a multipart one.

        Raises as `whole` does, and Refusal for what holds none or is no multipart.
        """
        if self.media.startswith("image/") or self.media == "application/octet-stream":
            return [Upload(await self.whole())]
        if self.media != "multipart/form-data":
            raise Refusal(
                415,
                "media type",
                f"the body is {self.media or 'of no media type'}, not an image",
                hint="Content-Type: image/jpeg with the bytes of an image, or multipart/form-data "
                "with files: curl -F image=@photo.jpg",
            )
        if not self._boundary:
            raise _broken("its Content-Type names no boundary")
        parts = _Parts(most)
        limits = {"max_header_count": _HEADERS, "max_header_size": _HEADER}
        try:
            await self._received(MultipartParser(self._boundary, parts.callbacks(), **limits).write)
        except FormParserError as error:
            raise _broken(str(error)) from None
        if not parts.ended:
            raise _broken("its last boundary is missing")
        if not parts.found:
            raise _broken("it holds no file")
        return [Upload(data, name) for name, data in parts.found]

    async def _received(self, take: Callable[[bytes], object]) -> None:
        """Hand out each chunk when it comes, and keep none."""
        try:
            async with asyncio.timeout(self._bodies.seconds):
                async for chunk in self._chunks():
                    take(chunk)
        except TimeoutError:
            raise Refusal(
                408, "slow body", f"the body took longer than {self._bodies.seconds:g} s"
            ) from None

    async def _chunks(self) -> AsyncIterator[bytes]:
        headers, bodies = self._request.headers, self._bodies
        if headers.get("content-encoding", "identity") != "identity":
            raise Refusal(
                415, "content encoding", "the body is compressed", hint="send the image as it is"
            )
        if int(headers.get("content-length", 0)) > bodies.most:
            raise self._too_large()
        async for chunk in self._request.stream():
            self.size += len(chunk)
            bodies.held += len(chunk)
            if self.size > bodies.most:
                raise self._too_large()
            if bodies.held > AT_ONCE * bodies.most:
                raise Refusal(
                    503, "memory", "too many large bodies", hint="come again later", retry_after=1
                )
            yield chunk

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            "body too large",
            f"the body is larger than {self._bodies.most:,} bytes",
            hint="send a smaller image, or start the service with a larger --max-bytes",
        )


class _Parts:
    """The files of a multipart body while it is parsed: their names and bytes."""

    def __init__(self, most: int) -> None:
        self.found: list[tuple[str, bytearray]] = []
        self.ended = False
        self._most = most
        self._field, self._value = bytearray(), bytearray()
        self._disposition = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._begin,
            "on_part_data": lambda data, start, end: self.found[-1][1].extend(data[start:end]),
            "on_end": self._end,
        }

    def _header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _begin(self) -> None:
        kind, options = parse_options_header(self._disposition)
        self._disposition = b""
        name = options.get(b"filename")
        if kind != b"form-data" or name is None:
            raise _broken(
                "a part of it is no file", hint="parameters belong to the address: ?top=5"
            )
        if len(self.found) == self._most:
            raise Refusal(
                413,
                "too many images",
                f"more than {self._most} images",
                hint="send them in several requests",
            )
        self.found.append((name.decode("utf-8", "replace") or "the image", bytearray()))

    def _end(self) -> None:
        self.ended = True


def _broken(reason: str, hint: str = "curl -F image=@photo.jpg sends one that is right") -> Refusal:
    return Refusal(400, "multipart", f"the body is no multipart of files: {reason}", hint=hint)
