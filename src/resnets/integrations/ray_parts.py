"""The parts of a table as tasks of a Ray cluster, which schedules them, and repeats those it loses.

A task has a processor to itself and computes with as many threads; it reads its images in its own
threads, so that no task waits for another's. What is done of a part lies on storage that all nodes
see (`resnets.inference.attempts`): whoever begins it again resumes.
"""

import contextlib
import io
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from resnets import __version__
from resnets.errors import DataError, ResnetsError, ResourceError, UsageError, lacking
from resnets.formatting import plural
from resnets.inference.attempts import Attempts
from resnets.inference.partition import Part

RETRIES = 3  # of a part whose node or process is lost; an image may be what kills it
PERIOD = 1.0  # seconds between two looks at how far it is
_ANSWER, _LOOK = 5, 120  # seconds to wait for a head, and for a node's first process
_SHOWN = 5  # faults
_ADDRESS = re.compile(r"(ray://)?(\[[0-9A-Fa-f:]+\]|[^\s/:]+):(\d{1,5})")
_ALIKE = (
    "all need the same packages, and the model, the images and the folder of --out under the same "
    "paths, on storage that they share"
)
_OBJECTS = 100_000_000  # bytes for what tasks hand over, which is next to nothing


class Work(Protocol):
    """What makes the table of a part, in any process of any node; it is pickled."""

    def __call__(
        self,
        out: Path,
        *,
        part: Part,
        overwrite: bool,
        on_progress: Callable[[int, int], None],
        on_broken: Callable[[DataError], None],
    ) -> int:
        """Make it as `predict_table` and `embed_folder` do; return how many images it is of."""


@dataclass(frozen=True)
class Needs:
    """What a task needs of the node that it runs on.

    ``paths`` are seen from the folder ``home``; ``versions`` are those of the packages that its
    answers depend on.
    """

    home: Path
    paths: tuple[str, ...]
    versions: dict[str, str]
    processors: int = 1
    gpus: int = 0


@dataclass(frozen=True)
class State:
    """How far a table is."""

    images: int
    parts: int
    nodes: int


class Cluster:
    """The nodes of a Ray cluster that this process has joined."""

    def __init__(self, ray: Any, where: str) -> None:
        self.ray, self.where = ray, where

    def nodes(self, needs: Needs) -> dict[str, tuple[str, int]]:
        """Return the address of each node, by its id, and how many tasks it has room for."""
        found = {}
        for node in self.ray.nodes():
            has = node["Resources"]
            room = int(has.get("CPU", 0) // needs.processors)
            if needs.gpus:
                room = min(room, int(has.get("GPU", 0) // needs.gpus))
            if node["Alive"] and room:
                found[node["NodeID"]] = (node["NodeManagerAddress"], room)
        return found

    def check(self, needs: Needs) -> int:
        """Return how many tasks can run at once, if every node has what they need.

        Raises ResourceError, which says what which node lacks.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = self.nodes(needs)
        if not nodes:
            wanted = f"{needs.gpus} GPU" if needs.gpus else plural(needs.processors, "processor")
            raise ResourceError(f"{self.where}: has no node with {wanted}", hint="ray status")
        look = self.ray.remote(_looker())
        asked = {
            look.options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            ).remote(str(needs.home), needs.paths, needs.versions): address
            for node, (address, _) in nodes.items()
        }
        self.ray.wait([*asked], num_returns=len(asked), timeout=_LOOK)
        faults: list[str] = []
        for answer, address in asked.items():
            try:
                found = self.ray.get(answer, timeout=PERIOD)
            except self.ray.exceptions.RayError as error:
                found = [f"does not answer: {_first_line(error)}"]
            faults += [f"{address}: {fault}" for fault in found]
        if faults:
            more = [f"and {len(faults) - _SHOWN:,} more"] if len(faults) > _SHOWN else []
            told = ["not every node has what the parts need:", *faults[:_SHOWN], *more]
            raise ResourceError("\n".join(told), hint=_ALIKE)
        return sum(room for _, room in nodes.values())

    def compute(
        self,
        work: Work,
        attempts: Attempts,
        needs: Needs,
        *,
        overwrite: bool,
        stopped: Callable[[], bool],
        on_progress: Callable[[State], None],
        on_broken: Callable[[DataError], None],
        note: Callable[[str], None],
    ) -> bool:
        """Make all parts; return whether they are all there, False after a stop.

        Raises what a part raises, and ResourceError for one that has lost its process again and
        again. The other parts then keep what they have done.
        """
        tally = self.ray.remote(Tally).options(num_cpus=0).remote()
        compute = self.ray.remote(_compute).options(
            num_cpus=needs.processors,
            num_gpus=needs.gpus,
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )
        running = {
            compute.remote(work, attempts, number, needs, overwrite, tally): number
            for number in range(1, attempts.of + 1)
        }
        nodes, done, whole = self.nodes(needs), dict[int, int](), dict[int, int]()
        while running and not stopped():
            ready, _ = self.ray.wait([*running], num_returns=len(running), timeout=PERIOD)
            for each in ready:
                number = running.pop(each)
                whole[number], broken = self._result(each, Part(number, attempts.of))
                for message, hint in broken:
                    on_broken(DataError(message, hint=hint))
            before, nodes = nodes, self.nodes(needs)
            for node in before.keys() - nodes.keys():
                note(f"node {before[node][0]} is lost; what it was doing is resumed elsewhere")
            with contextlib.suppress(self.ray.exceptions.RayError):  # the tally's node is lost
                done = self.ray.get(tally.read.remote(), timeout=PERIOD)
            on_progress(State(sum((done | whole).values()), len(whole), len(nodes)))
        return not running

    def _result(self, task: Any, part: Part) -> "Made":
        """Return what a task has made. Raises what it has raised, and ResourceError."""
        try:
            found: Made | ResnetsError = self.ray.get(task)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            raise ResourceError(
                f"part {part}: its process was lost {RETRIES + 1} times: {_first_line(error)}",
                hint="is there enough memory? The same command resumes",
            ) from error
        if isinstance(found, ResnetsError):
            found.message = f"part {part}: {found.message}"
            raise found
        return found


@contextlib.contextmanager
def joined(address: str, environment: Mapping[str, str] = os.environ) -> Iterator[Cluster]:
    """Join a cluster, or start one on this machine, and leave or end it: no task outlives it.

    ``address`` is HOST:PORT, on a machine that is a node, ray://HOST:PORT, on any, or "ray": the
    cluster of RAY_ADDRESS, and without it a new one. What Ray prints meanwhile is dropped.

    Raises UsageError for another address, ResourceError where nothing answers or ray is missing.
    """
    where = environment.get("RAY_ADDRESS") or "local" if address == "ray" else address
    options: dict[str, Any] = {}
    _check(where)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # which it reads when it is imported
    if where == "local":
        options = {"include_dashboard": False, "object_store_memory": _OBJECTS}
        _shut_out_others()
    try:
        import ray
    except ImportError:
        raise lacking(f"--on {address} needs ray", "ray") from None
    with contextlib.redirect_stdout(io.StringIO()):  # where it tells of nodes, among our results
        try:
            try:
                ray.init(
                    where,
                    log_to_driver=False,
                    configure_logging=False,
                    logging_level="CRITICAL",
                    **options,
                )
            except Exception as error:
                raise ResourceError(
                    f"{where}: cannot be joined: {_first_line(error)}", hint="ray status"
                ) from error
            yield Cluster(ray, "this machine" if where == "local" else where)
        finally:
            ray.shutdown()


def _check(where: str) -> None:
    """Raise UsageError for what is no address, and ResourceError where nobody listens."""
    if where in ("local", "auto"):
        return
    found = _ADDRESS.fullmatch(where)
    if not found:
        raise UsageError(
            f'"{where}" is no Ray cluster',
            hint="--on ray, --on HOST:6379 on one of its nodes, or --on ray://HOST:10001",
        )
    client, host, port = found.groups()
    try:  # Ray itself would try for minutes
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ResourceError(
            f"{where}: nothing answers there: {getattr(error, 'strerror', None) or error}",
            hint="ray status, on a node, says whether the cluster runs",
        ) from None
    if client and find_spec("grpc") is None:
        raise ResourceError(
            f"{where}: needs grpcio, which is not installed",
            hint='pip install "ray[client]", or --on HOST:6379 on a node of the cluster',
        )


def _shut_out_others() -> None:
    """Let nobody else on the network give tasks to a cluster that is started here.

    Ray would do so too, by a token that it leaves in the home folder, for all clusters to come.
    """
    told = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if not any(name in os.environ for name in told):
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


class Tally:
    """How many images of each part are done: an actor, which tasks tell."""

    def __init__(self) -> None:
        self.done: dict[int, int] = {}

    def add(self, number: int, done: int) -> None:
        """Take down how many images of a part are done."""
        self.done[number] = done

    def read(self) -> dict[int, int]:
        """Return how many are done of each."""
        return self.done


Made = tuple[int, list[tuple[str, str]]]  # images, and of each that is broken error and hint


def _compute(
    work: Work, attempts: Attempts, number: int, needs: Needs, overwrite: bool, tally: Any
) -> Made | ResnetsError:
    """Make a part; return what there is to tell of it, or the error that it ended with."""
    # A node may have come since all were asked.
    if faults := _looker()(str(needs.home), needs.paths, needs.versions):
        return ResourceError(f"{socket.gethostname()}: {faults[0]}", hint=_ALIKE)
    last, broken = 0.0, list[tuple[str, str]]()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > PERIOD:
            tally.add.remote(number, done)
            last = time.monotonic()

    def write(table: Path) -> int:
        return work(
            table,
            part=Part(number, attempts.of),
            overwrite=overwrite and table != attempts.table(number),
            on_progress=tell,
            on_broken=lambda error: broken.append((error.message, error.hint)),
        )

    try:
        with contextlib.chdir(needs.home):  # paths in tables are as they were typed
            return attempts.make(number, write, overwrite=overwrite), broken
    except ResnetsError as error:
        return error


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions that packages have here, those of what reads images among them."""
    return {"resnets": __version__} | {name: version(name) for name in ("pillow", *packages)}


def _looker() -> Callable[[str, Sequence[str], dict[str, str]], list[str]]:
    """Return what tells which paths and versions a node lacks.

    A function within another travels as code: resnets may be missing too.
    """

    def look(home: str, paths: Sequence[str], versions: dict[str, str]) -> list[str]:
        import os
        from importlib import import_module, metadata

        faults = [
            f"there is no {os.path.join(home, path)}"
            for path in paths
            if not os.path.exists(os.path.join(home, path))
        ]
        for name, wanted in versions.items():
            try:
                own = name == "resnets"  # which may be no distribution, but a folder on the path
                found = import_module(name).__version__ if own else metadata.version(name)
            except ImportError:  # PackageNotFoundError is one
                found = None
            if found != wanted:
                has = f"has {name} {found}" if found else f"has no {name}"
                faults.append(f"{has}; here it is {wanted}")
        return faults

    return look


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
