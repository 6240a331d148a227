"""A Ray cluster of two nodes on this machine, of which nothing is left in the end."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 180  # for whoever waits: a test that hangs fails
_MARK = "RESNETS_TEST_NODE"  # by which all processes of a node are known, whoever started them


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def wait_for(condition, what: str, seconds: float = SECONDS):
    """Return what ``condition`` returns as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return found


def processes(mark: str, name: str = "") -> list[int]:
    """The processes of a node, a cluster or a command, whose command line has a name in it.

    They are those whose environment has the mark, and all that these have started: Ray's workers
    write their titles over their environment.
    """
    parents, titles, found = {}, {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        number = int(folder.name)
        try:
            environment = b"\0" + (folder / "environ").read_bytes()
            titles[number] = (folder / "cmdline").read_bytes().decode(errors="replace")
            parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if f"\0{_MARK}={mark}".encode() in environment:
            found.add(number)
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [number for number in found if titles.get(number) and name in titles[number]]


def kill(mark: str) -> None:
    """Kill a node, or all of a cluster, whatever it is doing."""

    def killed() -> bool:
        there = processes(mark)
        for number in there:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return not there

    wait_for(killed, "processes of Ray that cannot be killed")


class Cluster:
    """``address`` and ``client`` are where it is joined; a second node can be added and killed."""

    def __init__(self) -> None:
        self.mark, self.nodes = secrets.token_hex(8), 0
        self.port, self.client_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.client = f"ray://127.0.0.1:{self.client_port}"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.environment["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = str(SECONDS)

    def head(self, folder: Path) -> None:
        """Start it, with a node of one processor."""
        self.node(
            *("--head", f"--port={self.port}", f"--ray-client-server-port={self.client_port}"),
            *("--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--temp-dir={folder}"),
        )

    def second(self) -> str:
        """Add a node; return the mark by which it can be killed."""
        return self.node(f"--address={self.address}", f"--node-ip-address=127.0.0.{self.nodes + 1}")

    def node(self, *words: str) -> str:
        self.nodes += 1
        mark = f"{self.mark}-{self.nodes}"
        low = 20000 + 200 * self.nodes
        usual = ("--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats")
        ports = (f"--min-worker-port={low}", f"--max-worker-port={low + 199}")
        started = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *words, *usual, *ports],
            env=self.environment | {_MARK: mark},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert started.returncode == 0, started.stderr[-2000:]
        return mark


@contextmanager
def cluster_in(folder: Path):
    """A cluster of one node, and of those that are added to it."""
    found = Cluster()
    try:
        found.head(folder)
        yield found
    finally:
        kill(found.mark)
