"""The service under clients that mean no good: it stays up, small and right."""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from adversary import FAMILIES, PNG, Attack, answers, attack, fault_of, largest, sent

from resnets.data.headers import MAX_PIXELS
from served import Client, Toy, client_of, served

TESTS = Path(__file__).parents[1]
LARGEST = 4 << 20  # bytes of a body
SERVE_TOY = f"""
from resnets.serving import running
from resnets.serving.hosted import Limits
from resnets.serving.service import Service
from served import Toy

sock = running.bound("127.0.0.1", 0)
service = Service({{"net": Toy()}}, Limits(max_bytes={LARGEST}, timeout=5), report=print)
running.serve(service, sock, lambda: print("serving net at", running.url(sock), flush=True))
"""


@contextmanager
def victim(*words: str):
    """A service in a process of its own; it has said nothing and ends in peace."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("serving net at"), line + process.stdout.read()
            yield process, client_of(line.split()[-1])
        finally:
            process.terminate()
        said = process.stdout.read()
        assert process.wait(60) == 0
        assert said == ""


def memory(process: subprocess.Popen, kind: str = "VmRSS") -> int:
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("the memory of a process is known on Linux only")
    return 1024 * int(re.search(rf"{kind}:\s*(\d+) kB", status.read_text())[1])


# All that strangers can make it hold: the bodies that it keeps at once, each as it came, as text
# and as values, and an image of the most pixels; of all kinds WebP with transparency takes most.
MOST = 8 * 3 * LARGEST + 20 * MAX_PIXELS


def endure(client: Client, numbers: range, patience: float) -> list[tuple[str, str]]:
    """What was wrong with the answers to attacks of these numbers."""

    answered = []

    def fault(number: int) -> tuple[str, str | None]:
        against = attack(number)
        try:
            found = sent((client.host, client.port), against, patience)
            answered.append(found != b"")
            return against.name, fault_of(found)
        except (OSError, ValueError, KeyError) as error:  # no connection, no HTTP, no JSON
            return against.name, repr(error)

    with ThreadPoolExecutor(16) as pool:
        faults = [(name, why) for name, why in pool.map(fault, numbers) if why]
    assert sum(answered) > len(numbers) / 10  # most, unless others use the computer too
    return faults


def rest(client: Client) -> None:
    """Wait until nothing is left to do."""
    end = time.monotonic() + 120
    while client.measure("queue_length") or client.measure("working"):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_each_kind_of_attack():
    with victim("-W", "ignore", "-c", SERVE_TOY) as (process, client):
        right, before = client.post(PNG).json, memory(process)
        assert endure(client, range(12 * len(FAMILIES)), 0.2) == []
        assert client.post(PNG).json == right
        assert memory(process, "VmHWM") - before < MOST


def test_two_lengths_end_the_connection():
    """So that nothing hidden in a body is taken for the next request."""
    hidden = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lines = (
        b"POST /predict HTTP/1.1",
        b"Host: localhost",
        b"Content-Length: %d" % (5 + len(hidden)),
        b"Transfer-Encoding: chunked",
        b"",
        b"0\r\n\r\n" + hidden,
    )
    with served({"toy": Toy()}) as client:
        found = sent((client.host, client.port), Attack("", [b"\r\n".join(lines)]), patience=60)
    ((status, headers, _),) = answers(found)  # and then the connection was closed
    assert (status, headers[b"connection"]) == (400, b"close")


@pytest.mark.slow
def test_ten_thousand_attacks(tmp_path, resnets):
    model = tmp_path / "net.onnx"
    assert resnets("export", "resnet20", "--weights", "cifar10", "--out", model)[0] == 0
    limits = ("--max-bytes", str(LARGEST), "--timeout", "5")
    with victim("-m", "resnets", "serve", str(model), "--port", "0", *limits) as (process, client):
        right, before, grown = client.post(PNG).json, memory(process), []
        for start in range(0, 10_000, 1000):
            assert endure(client, range(start, start + 1000), 1.0) == []
            rest(client)
            assert client.post(PNG).json == right
            grown.append(memory(process) - before)
        with ThreadPoolExecutor(16) as pool:
            data = largest()
            assert {reply.status for reply in pool.map(client.post, [data] * 16)} <= {200, 503}
        rest(client)
        assert client.post(PNG).json == right
        assert memory(process, "VmHWM") - before < MOST
        # What has once been used is kept by the allocator: it is no more after all than half way.
        assert max(grown[5:]) < max(grown[:5]) + (64 << 20), grown
