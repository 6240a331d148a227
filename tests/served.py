"""A service on a free port of this computer while a test runs, and a client of it."""

import http.client
import json
import queue
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from resnets.data.preprocess import identity
from resnets.inference.runtimes import Runtime
from resnets.serving import running
from resnets.serving.hosted import Limits
from resnets.serving.service import Service
from resnets.zoo import get_spec


class Toy(Runtime):
    """Answers by mean colours, as soon as it may."""

    name, version, input, made = "toy", "0", "normalized", {}
    classes, outputs = ("red", "green", "blue"), "softmax"
    spec, preprocess = replace(get_spec("resnet20"), num_classes=3), identity(3, 8)

    def __init__(self) -> None:
        self.may, self.batches = threading.Event(), queue.Queue()
        self.may.set()

    def logits(self, images):
        self.batches.put(len(images))
        assert self.may.wait(60)
        return images.mean((1, 2)) / 255 if self.input == "pictures" else images.mean((2, 3))

    def digest(self) -> str:
        return "toy"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self.body
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    host: str
    port: int
    drain: Callable[[], None] = lambda: None

    def ask(self, method: str, path: str, body: Any = None, headers: Any = ()) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def post(self, image: bytes, query: str = "", media: str = "image/png") -> Reply:
        return self.ask("POST", f"/predict{query}", image, {"Content-Type": media})

    def post_parts(self, parts: Mapping[str, bytes], query: str = "") -> Reply:
        return self.post(multipart(parts), query, "multipart/form-data; boundary=EdGe")

    def measure(self, name: str) -> float:
        """The sum of all samples of a measure."""
        text = self.get("/metrics").body.decode()
        return sum(map(float, re.findall(rf"^resnets_{name}(?:{{.*}})? (\S+)$", text, re.M)))


def multipart(parts: Mapping[str, bytes]) -> bytes:
    """A body with files, its boundary EdGe."""
    head = '--EdGe\r\nContent-Disposition: form-data; name="image"; filename="{}"\r\n\r\n'
    texts = [head.format(name).encode() + data + b"\r\n" for name, data in parts.items()]
    return b"".join([*texts, b"--EdGe--\r\n"])


def client_of(url: str) -> Client:
    """A client of an address as `serve` prints it."""
    parts = urlsplit(url)
    return Client(parts.hostname or "", parts.port or 0)


@contextmanager
def started(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process whose output is read; killed where a test fails while it runs."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def served(
    runtimes: Mapping[str, Runtime], limits: Limits | None = None, **options: Any
) -> Iterator[Client]:
    """Serve models in a thread; drained at the end."""
    sock = running.bound("127.0.0.1", 0)
    begun = threading.Event()
    service = Service(runtimes, limits, **options)
    server = running.Server(service, begun.set)
    client = replace(client_of(running.url(sock)), drain=server.drain)
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    assert begun.wait(60)
    try:
        yield client
    finally:
        server.drain()
        thread.join()
        service.close()
