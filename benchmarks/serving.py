"""What `resnets serve` costs beside the bare runtime, and other people's services beside it.

usage: python benchmarks/serving.py [ROW...] [--rounds 6] [--seconds 2] [--files DIR] [--quick]

Two models: resnet20 at 32 x 32, which computes so little that a service is mostly overhead, and
resnet18 at 224 x 224; images are PNGs of 32 x 32, and JPEGs of 500 x 375. A row is MODEL-SERVICE: a
process, with all it starts, on loopback, that lives through all rounds and is stopped while another
is measured. The client is on the same processors. Each is asked, first of all, for the answers to
all images, which have to be those of `resnets predict`.

`bare` is ONNX Runtime in one process, whose threads do not spin (which is faster beside others):
the same bytes are decoded in as many threads as there are processors while the batch before is
computed. `resnets` is `resnets serve` as it comes, `resnets-8` the same with 8 images a request;
the others are peers/serve_....py: the same file, preparation, threads and batch size. What they
need is in peers/serving.txt.

A turn of a service: as fast as it goes, 32 images on their way for SECONDS (the table of rates,
ratios to `bare`); one request after the other on the idle service ("single"); then SECONDS at half
the rate just measured, evenly spaced and by chance (Poisson), where latency counts from when a
request was due. Quantiles are over all rounds. "CPU" is processor time for an image, as fast as it
goes, of the service and not of the client, which tells even on a busy machine. Evenly spaced
requests meet no other where a service keeps up. By chance even a perfect one has a queue: where
each takes the same time (M/D/1), 1 in 100 takes 3.4 times that at half load.

`resnet20-memory`, after the rounds: 20,000 requests to a service, and what it holds on the way.
`--quick` is one round of 1 s, and 2,000 requests.
"""

import argparse
import io
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any

import files
import rows
from harness import client, turns
from harness.client import Answers, quantile
from harness.load import spent
from harness.workers import complaint

from resnets.errors import ResourceError

MODELS = {"resnet20": "image/png", "resnet18": "image/jpeg"}
MANY = "resnets-8"
SERVICES = ("resnets", MANY, "fastapi", "litserve", "bentoml")
FORMS = ("litserve", "bentoml")  # which take an image as a file of a form
NAMES = [f"{model}-{each}" for model in MODELS for each in ("bare", *SERVICES)]
MEMORY = "resnet20-memory"
COUNT = 64  # different images
ON_THEIR_WAY = 32  # images
BATCH = 8  # what `resnets serve` takes at once; and images in a request of MANY
SINGLE = 40  # requests one after the other
PROCESSORS = len(os.sched_getaffinity(0))
SAME = 1e-4  # between probabilities: rounding differs with the size of a batch
STARTING = 120.0  # seconds


def images(options: argparse.Namespace, model: str) -> list[bytes]:
    """Return what is sent: files of images."""
    from PIL import Image

    paths = sorted(files.photographs(options).rglob("*.jpg"))[:COUNT]
    if model != "resnet20":
        return [path.read_bytes() for path in paths]
    found = []
    for path in paths:
        small = io.BytesIO()
        Image.open(path).resize((32, 32)).save(small, "png")
        found.append(small.getvalue())
    return found


def as_stored(body: bytes) -> Any:
    """Return what the bytes of a file are to the functions that read images."""
    from resnets.data.images import Stored

    return Stored("", "image", lambda: io.BytesIO(body), len(body), 0)


def bare(options: argparse.Namespace, model: str) -> Callable[[], Iterator[int]]:
    """The worker of the rows called bare."""
    from concurrent.futures import ThreadPoolExecutor
    from itertools import count

    import numpy as np
    import onnxruntime

    from resnets.inference.prediction import prepared
    from resnets.inference.runtimes import open_runtime

    path = files.exported(options, model, "onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    runtime, bodies = open_runtime(path), images(options, model)

    def batches() -> Iterator[int]:
        with ThreadPoolExecutor(PROCESSORS) as pool:

            def decoded(number: int) -> Any:
                some = (bodies[(number * BATCH + i) % len(bodies)] for i in range(BATCH))
                return pool.map(lambda body: prepared(runtime, as_stored(body)), some)

            coming = decoded(0)
            for number in count(1):
                ready, coming = coming, decoded(number)
                session.run(None, {"images": np.concatenate([*ready])})
                yield BATCH

    return batches


def expected(options: argparse.Namespace, model: str) -> list[tuple[str, float]]:
    """Return the most probable class of each image and its probability."""
    from resnets.inference.prediction import predict

    warnings.simplefilter("ignore")  # random weights say nothing of what they mean
    path = files.exported(options, model, "onnxruntime")
    stored = [as_stored(body) for body in images(options, model)]
    return [(p.classes[0], p.probabilities[0]) for p in predict(path, stored, batch_size=BATCH)]


@dataclass
class Seen:
    """What was measured of a row, round by round."""

    processor: list[float] = field(default_factory=list)  # milliseconds for an image, saturated
    saturated: list[Answers] = field(default_factory=list)
    single: list[Answers] = field(default_factory=list)
    evenly: list[Answers] = field(default_factory=list)
    by_chance: list[Answers] = field(default_factory=list)

    def latency(self, kind: str, q: float) -> float:
        """Return a quantile of all latencies of a kind, in milliseconds."""
        every = [seconds for each in getattr(self, kind) for seconds in each.latencies]
        return 1e3 * quantile(every, q)

    @property
    def failed(self) -> int:
        """How many requests were not answered with 200, below saturation."""
        return sum(each.failed for each in (*self.single, *self.evenly, *self.by_chance))

    def to_dict(self) -> dict[str, Any]:
        """Return what it comes to as plain data, round by round, latencies in milliseconds."""
        kinds = {name: getattr(self, name) for name in ("single", "evenly", "by_chance")}
        late = [seconds for each in (*self.evenly, *self.by_chance) for seconds in each.late]
        return {
            "processor_ms": self.processor,
            "refused_when_saturated": [each.failed for each in self.saturated],
            "failed": self.failed,
            "client_late_ms": _quantiles(late),
            "latency_ms": {
                name: {
                    "all": _quantiles([s for each in found for s in each.latencies]),
                    "rounds": [_quantiles(each.latencies) for each in found],
                    "answered": [len(each.latencies) for each in found],
                    "answers_a_second": [each.rate for each in found],
                }
                for name, found in kinds.items()
            },
        }


def _quantiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{round(100 * q)}": 1e3 * quantile(seconds, q) for q in (0.5, 0.9, 0.99)}


class Service:
    """A service that is running."""

    def __init__(
        self, options: argparse.Namespace, model: str, kind: str, port: int, group: turns.Group
    ) -> None:
        self.seconds, self.port, self.group, self.seen = options.seconds, port, group, Seen()
        bodies, media = images(options, model), MODELS[model]
        self.images = BATCH if kind == MANY else 1  # in a request
        parts = [bodies[start : start + self.images] for start in range(0, COUNT, self.images)]
        if kind in (*FORMS, MANY):
            self.requests = [client.form(*part, media=media) for part in parts]
        else:
            self.requests = [client.post(body, media) for body in bodies]

    def check(self, wanted: list[tuple[str, float]]) -> None:
        """Raise ResourceError where its answers are others."""
        records = []
        for body in client.bodies(self.port, self.requests):
            found = json.loads(body)
            found = found if isinstance(found, list) else [found]
            records += found[0]["predictions"] if self.images > 1 else found
        for record, (name, probability) in zip(records, wanted, strict=True):
            first = record["predictions"][0]
            if first["class"] != name or abs(first["probability"] - probability) > SAME:
                raise ResourceError(f"it answers {first}, and {name} {probability:.6f} is right")

    def turn(self) -> float:
        """Ask it in all ways, and return how many images it answers in a second at most."""
        port, requests, seconds, seen = self.port, self.requests, self.seconds, self.seen
        connections, number = ON_THEIR_WAY // self.images, len(seen.saturated)
        client.saturate(port, requests, connections, count=COUNT)  # it has stood still
        client.saturate(port, requests, connections, seconds=seconds / 5)
        before = spent(self.group.pid)
        fast = client.saturate(port, requests, connections, seconds=seconds)
        took = (spent(self.group.pid) - before) / turns.TICK
        answered = self.images * fast.statuses[200]
        seen.processor.append(1e3 * took / answered if answered else float("nan"))
        seen.saturated.append(fast)
        if self.images == 1:
            seen.single.append(client.saturate(port, requests, 1, count=SINGLE))
            half = fast.rate / 2
            seen.evenly.append(client.offer(port, requests, client.evenly(half, seconds)))
            chance = client.by_chance(half, seconds, seed=number)
            seen.by_chance.append(client.offer(port, requests, chance))
        return self.images * fast.rate


def command(options: argparse.Namespace, model: str, kind: str, port: int) -> list[str]:
    """Return what starts a service. Raises ResourceError where its environment is missing."""
    path = str(files.exported(options, model, "onnxruntime"))
    if kind in ("resnets", MANY):
        words = ["-m", "resnets", "serve", f"{model}={path}", "--port", str(port)]
        return [sys.executable, *words, "--threads", str(PROCESSORS)]
    if not options.serving.exists():
        raise ResourceError(f"needs {options.serving}: {rows.MISSING['serving']}")
    return [str(options.serving), str(Path(__file__).parent / "peers" / f"serve_{kind}.py")]


@contextmanager
def running(options: argparse.Namespace, model: str, kind: str) -> Iterator[Service]:
    """Start a service that answers, and end it. Raises ResourceError where it does not."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = files.exported(options, model, "onnxruntime").resolve()
    own = {"MODEL": str(path), "PORT": str(port), "THREADS": str(PROCESSORS)}
    started = command(options, model, kind, port)
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            started,
            env=rows.environment() | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,
        )
        group = turns.Group(process.pid)
        try:
            service = Service(options, model, kind, port, group)
            deadline = time.monotonic() + STARTING
            while True:
                with suppress(OSError):
                    client.bodies(port, service.requests[:1])
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ResourceError(complaint(complaints, process.poll() or 0))
                time.sleep(0.2)
            yield service
        finally:
            group.end()
            process.wait()


@contextmanager
def bare_running(
    options: argparse.Namespace, model: str, seen: Seen
) -> Iterator[Callable[[], float]]:
    """Start the bare runtime, and yield what measures it once."""
    words = ["--serve", f"{model}-bare", "--files", options.files, "--pictures", options.pictures]
    with turns.started([sys.executable, __file__, *map(str, words)], rows.environment()) as worker:
        rate = 200.0

        def measure() -> float:
            nonlocal rate
            worker.turn(4 * BATCH)  # warm again
            turn = worker.turn(max(BATCH, round(rate * options.seconds)))
            rate = turn.images / turn.seconds
            seen.processor.append(1e3 * turn.processor / turn.images)
            return rate

        measure()
        seen.processor.clear()
        yield measure


def case(
    stack: ExitStack,
    options: argparse.Namespace,
    model: str,
    kind: str,
    wanted: list[tuple[str, float]],
    seen: dict[str, Seen],
) -> Callable[[], Callable[[], float]]:
    """Return what starts a row, and then measures it once."""

    def prepare() -> Callable[[], float]:
        if kind == "bare":
            seen[kind] = Seen()
            return stack.enter_context(bare_running(options, model, seen[kind]))
        service = stack.enter_context(running(options, model, kind))
        service.check(wanted)
        service.group.stop()
        seen[kind] = service.seen

        def measure() -> float:
            service.group.resume()
            try:
                return service.turn()
            finally:
                service.group.stop()

        return measure

    return prepare


HEADING = (
    *("", "CPU ms", "single ms", "evenly: p50", "p99", "to single"),
    *("by chance: p50", "p99", "to single", "failed"),
)


def latencies(seen: Mapping[str, Seen]) -> list[tuple[str, ...]]:
    """Return the rows under HEADING, in milliseconds."""
    found = []
    for name, each in seen.items():
        row = [name, f"{median(each.processor):.2f}" if each.processor else ""]
        if each.single:
            single = each.latency("single", 0.5)
            row.append(f"{single:.1f}")
            for kind in ("evenly", "by_chance"):
                half, most = each.latency(kind, 0.5), each.latency(kind, 0.99)
                row += [f"{half:.1f}", f"{most:.1f}", f"{most / single:.2f}"]
            row.append(str(each.failed))
        found.append((*row, *[""] * (len(HEADING) - len(row))))
    return found


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a service of resnet20 holds after so many requests, in MB."""
    marks = (200, 1000, 2000) if options.quick else (1000, 5000, 10_000, 20_000)
    held, done = {}, 0
    with running(options, "resnet20", "resnets") as service:
        for mark in marks:
            found = client.saturate(service.port, service.requests, ON_THEIR_WAY, count=mark - done)
            if found.failed:
                raise ResourceError(f"{found.failed} requests failed: {dict(found.statuses)}")
            held[mark], done = service.group.memory() / 1e6, mark
    told = ", ".join(f"{count:,}: {size:.1f} MB" for count, size in held.items())
    print(f"held by the service after so many requests: {told}\n", flush=True)
    return {"title": MEMORY, "held_mb": held}


def main() -> None:
    parser = rows.parser(__doc__, rounds=6)
    files.add_options(parser)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a measurement")
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    options = parser.parse_args()
    if options.list:
        print("\n".join([*NAMES, MEMORY]))
        return
    if options.serve:
        turns.serve(partial(bare, options, options.serve.partition("-")[0]))
        return
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    from harness.comparison import timestamp

    from resnets.cli.output import print_table

    started, results = timestamp(), []
    wanted = rows.chosen([*NAMES, MEMORY], options.rows)
    with files.folder(options):
        for model in MODELS:
            kinds = [n.partition("-")[2] for n in wanted if n.startswith(f"{model}-")]
            files.export(options, model, ["onnxruntime"])
            seen: dict[str, Seen] = {}
            kinds = [kind for kind in kinds if f"{model}-{kind}" != MEMORY]
            if kinds:
                answers = expected(options, model)
                with ExitStack() as stack:
                    cases = {
                        f"{model}-{kind}": case(stack, options, model, kind, answers, seen)
                        for kind in kinds
                    }
                    title = f"{model}, {options.rounds} rounds of {options.seconds:g} s"
                    result = rows.table(title, cases, options.rounds)
                print_table(HEADING, latencies(seen))
                print(flush=True)
                results.append(result | {"services": {k: s.to_dict() for k, s in seen.items()}})
        if MEMORY in wanted:
            results.append(memory(options))
    rows.finish(results, options, started, {})


if __name__ == "__main__":
    main()
