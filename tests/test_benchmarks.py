"""What rounds of measurements say: by written-out numbers, and one small real run."""

import ast
import os
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.errors import ResourceError
from resnets.nn import ResNet
from resnets.training.throughput import job, ours
from resnets.zoo import get_spec

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from harness import client, comparison, peers  # noqa: E402
from harness.load import Load, Share  # noqa: E402
from harness.rounds import Rounds, interleave  # noqa: E402
from harness.statistics import interval, margin, paired_ratios, unrest, verdict  # noqa: E402
from harness.turns import started  # noqa: E402
from harness.workers import fresh  # noqa: E402
from photographs import make  # noqa: E402

QUIET = 0.02


def test_pairing():
    assert paired_ratios([2, 9], [1, 3]) == [2, 3]
    with pytest.raises(ValueError, match="shorter"):
        paired_ratios([1, 2], [1])


@pytest.mark.parametrize("count", range(1, 14))
def test_the_interval_is_as_wide_as_the_sign_test_wants(count):
    """Each value is above the median or below it like a coin: count the coins that miss it."""

    def missed(left: int) -> float:
        """How often fewer than ``left`` + 1 of the values lie on one side of the median."""
        coins = [sum(signs) for signs in product((0, 1), repeat=count)]
        return sum(above <= left or above >= count - left for above in coins) / len(coins)

    bounds = interval([*range(count)][::-1])
    if bounds is None:
        assert missed(0) > 0.05
        return
    low, high = bounds
    assert low + high == count - 1
    assert missed(low) <= 0.05
    assert missed(low + 1) > 0.05


def test_what_the_machine_cannot_tell():
    rounds = [[100, 90, 100], [100, 100, 104], [100, 99, 100]]  # quartiles 5, 2 and 0.5 % apart
    assert unrest(rounds) == pytest.approx(0.02)
    few, many = [*range(95, 106, 5)], [*range(95, 106)]
    assert unrest([few]) == pytest.approx(unrest([many]))  # more cases make no noise
    assert margin(0.04, None) == 0.04
    assert margin(0.04, 0.17) == 0.17
    assert margin(0.0, 0.0) == 0.02  # nobody is quieter


@pytest.mark.parametrize(
    ("ratios", "margin", "expected"),
    [
        ([2, 2, 2, 2, 2], QUIET, "too few rounds to tell"),
        ([1.03, 1.04, 1.05, 1.06, 1.07, 1.08], QUIET, "faster"),
        ([1.01, 1.04, 1.05, 1.06, 1.07, 1.08], QUIET, "too noisy to tell"),  # one within 2 %
        ([1.03, 1.04, 1.05, 1.06, 1.07, 1.08], 0.04, "too noisy to tell"),
        ([0.5, 0.6, 0.7, 0.8, 0.9, 0.97], QUIET, "slower"),
        ([0.99, 1.0, 1.0, 1.01, 1.02, 1.04], QUIET, "the same within 5 %"),
        ([0.99, 1.0, 1.0, 1.01, 1.02, 1.06], QUIET, "too noisy to tell"),
        ([1.0] * 6, 0.17, "too noisy to tell"),  # equal by chance, on a machine that takes 17 %
        ([1.8, 1.9, 2.0, 2.0, 2.1, 2.2], 0.17, "faster"),  # which twice as fast shows all the same
        # of 9 rounds, one may go astray on either side
        ([0.5, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 1.09, 9.0], QUIET, "faster"),
    ],
)
def test_no_verdict_that_the_spread_does_not_bear(ratios, margin, expected):
    assert verdict(ratios, margin) == expected


def proc(folder, cores, processes):
    """A /proc: ticks of each core, and of processes (number, parent, four kinds of ticks)."""
    folder.mkdir()
    lines = [f"cpu{i} " + " ".join(map(str, ticks)) for i, ticks in enumerate(cores)]
    (folder / "stat").write_text("\n".join(["cpu 9 9 9 9 9 9 9 9 0 0", *lines, "intr 1"]))
    for number, parent, ticks in processes:
        (folder / str(number)).mkdir()
        fields = ["R", parent, *[0] * 9, *ticks]
        # A name may hold anything, also a part of a letter.
        words = f"{number} (a) \udce2\udc82 b) " + " ".join(map(str, fields))
        (folder / str(number) / "stat").write_bytes(os.fsencode(words))
    return folder


def test_what_others_took_of_our_processors(tmp_path):
    me = os.getpid()
    idle = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    before = proc(tmp_path / "before", [idle, idle, idle], [(me, 1, (0, 0, 0, 0))])
    after = proc(
        tmp_path / "after",
        # user, nice, system, idle, waiting, irq, softirq, stolen; the third is not ours to use
        [(50, 0, 10, 30, 4, 1, 1, 4, 9, 9), (60, 10, 0, 20, 0, 0, 0, 10, 0, 0), (99,) * 10],
        # a child of ours, its child, and a stranger
        [
            (me, 1, (20, 5, 7, 3)),
            (7, me, (10, 5, 0, 0)),
            (8, 7, (1, 1, 0, 0)),
            (9, 1, (80, 0, 0, 0)),
        ],
    )
    readings = [Load.now(folder, {0, 1}) for folder in (before, after)]
    assert readings[1].own == 35 + 15 + 2
    share = readings[0].until(readings[1])
    assert share == Share(stolen=14 / 200, others=(132 - 52) / 200)
    assert share.taken == pytest.approx(0.47)
    assert Load.now(tmp_path / "nowhere", {0, 1}) is None


def test_rounds_by_turns_and_failures_that_cost_one_line():
    measured, said = [], []

    def case(name: str, fails_at: int = 99):
        def measure() -> float:
            measured.append(name)
            if measured.count(name) == fails_at:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 GB\nat line 3")
            return 1.0

        return lambda: measure

    def broken():
        raise ImportError("no module named b\nmore")

    cases = {"a": case("a"), "b": broken, "c": case("c"), "d": case("d", fails_at=3)}
    found = interleave(cases, 4, yardstick=lambda: measured.append("-") or 5.0, say=said.append)
    assert "".join(measured) == "-a-c-d-" + "-d-c-a-" + "-a-c-d-" + "-c-a-"
    assert found.rates == {"a": [1.0] * 4, "c": [1.0] * 4}
    assert [len(values) for values in found.yardsticks] == [4, 4, 4, 3]
    assert found.failed == {"b": "no module named b", "d": "out of memory"}
    assert said == ["b: left out: no module named b", "d: left out: out of memory"]
    nobody = interleave({"b": broken}, 4, yardstick=lambda: 1.0)
    assert (nobody.rates, nobody.yardsticks) == ({}, [])


def test_a_summary_by_written_out_numbers():
    ours = [100.0, 110, 100, 100, 100, 100]
    found = Rounds(
        rates={"ours": ours, "theirs": [2 * rate for rate in ours]},
        yardsticks=[[100.0, 103, 100]] * 6,
        failed={"gone": "not here"},
    )
    result = comparison.summarise(found, Share(stolen=0.06, others=0.01))
    first, second = result["cases"]
    assert first == {
        "name": "ours",
        "rates": ours,
        "rate": {"low": 100, "median": 100, "high": 100},
    }
    assert second["ratio"] == {"low": 2, "median": 2, "high": 2}
    assert (second["interval"], second["verdict"]) == ((2, 2), "faster")
    machine = result["machine"]
    assert machine["gflops"] == 100
    assert machine["unrest"] == pytest.approx(0.015)
    assert (machine["margin"], machine["noisy"]) == (pytest.approx(0.07), True)
    assert comparison.table(result) == [
        ("ours", "100", "100 to 100", "1", "", ""),
        ("theirs", "200", "200 to 200", "2.00", "2.00 to 2.00", "faster"),
        ("gone", "–", "", "", "", "not here"),
    ]
    assert comparison.machine_line(result) == (
        "machine noisy: a fixed product of matrices differed by 1.5 % within a round, other "
        "processes took 1.0 % of the processors' time, the host 6.0 %; differences under 7.0 % "
        "cannot be told"
    )
    alone = comparison.summarise(found, None)  # a system that does not tell
    assert (alone["machine"]["margin"], alone["machine"]["noisy"]) == (0.02, False)
    nothing = comparison.summarise(Rounds(failed={"ours": "out of memory"}), None)
    assert comparison.machine_line(nothing) == "nothing was measured"
    assert comparison.table(nothing) == [("ours", "–", "", "", "", "out of memory")]


WORKER = """
import sys
from harness.workers import Closed, Window

seconds = iter((10.0, 14.0))
window = Window(warm_up=2, batches=3, clock=lambda: next(seconds))
print("a library that talks")
try:
    for batch in range(100):
        {line}
        window.tick(8)
except Closed:
    assert batch == 4
assert not {{"torch", "numpy"}} & set(sys.modules)
"""


PATHS = os.pathsep.join([str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])


def worker(line: str, **options):
    return fresh(
        [sys.executable, "-c", WORKER.format(line=line)],
        {"WORD": "set", "PYTHONPATH": PATHS},
        **options,
    )


def test_a_process_of_its_own_measures_after_its_warm_up():
    line = "import os; assert os.environ['WORD'] == 'set'"
    assert worker(line) == {"rate": 3 * 8 / 4, "versions": {}}


@pytest.mark.parametrize("batch", [0, 3])
def test_a_process_that_fails_is_told_by_its_last_line(batch):
    with pytest.raises(ResourceError, match=r"^ValueError: no such thing$"):
        worker(f"if batch == {batch}: raise ValueError('no such thing')")


def test_a_process_that_does_not_answer_is_ended():
    with pytest.raises(ResourceError, match=r"no answer within 0\.5 s"):
        worker("import time; time.sleep(60)", timeout=0.5)


FEED = """
import threading
from harness.turns import serve

def batches():
    made = 0
    while True:
        made += 1
        {line}
        yield 8

def prepare():
    print("a library that talks")
    return batches

serve(prepare)
"""


def feed(line: str):
    command = [sys.executable, "-c", FEED.format(line=line)]
    return started(command, {**os.environ, "PYTHONPATH": PATHS}, timeout=60)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_a_feed_of_its_own_stands_still_between_turns(tmp_path):
    counts = tmp_path / "counts"
    busy = f"threading.Thread(target=lambda: open({str(counts)!r}, 'a').write('x')).start()"
    with feed(busy) as worker:
        assert worker.first["versions"] == {}
        turns = [worker.turn(20), worker.turn(8)]
        assert [turn.images for turn in turns] == [24, 8]
        assert all(turn.seconds > 0 and turn.processor >= 0 for turn in turns)
        assert worker.memory() > 1 << 20
        state = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state == "T"  # stopped
    assert counts.read_text() in ("x" * 4, "x" * 5)  # one batch ahead may be begun
    assert not Path(f"/proc/{worker.pid}").exists()


@pytest.mark.parametrize("batch", [1, 3])
def test_a_feed_that_fails_is_told_by_its_last_line(batch):
    fails = f"if made == {batch}: raise ValueError('no such thing\\n  hint: another')"
    with (
        pytest.raises(ResourceError, match=r"^ValueError: no such thing$"),
        feed(fails) as worker,
    ):
        worker.turn(32)


def answering(count: int, status: bytes = b"200 OK"):
    """Answer nobody before so many requests are there; return the socket and their bodies."""
    sock = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []
    everybody = threading.Barrier(count)

    def answer(connection: socket.socket) -> None:
        with connection, suppress(threading.BrokenBarrierError):
            head, _, body = connection.recv(4096).partition(b"\r\n\r\n")
            if not head:
                return  # it was opened and not needed
            received.append(body)
            everybody.wait(60)
            connection.sendall(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n")
            connection.sendall(b"Content-Length: 2\r\n\r\nok")

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=[sock.accept()[0]], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return sock, received


@pytest.mark.parametrize("status", [200, 503])
def test_a_client_that_sends_when_it_is_time(status):
    """Whoever waits for answers before it sends again would wait for ever here."""
    sock, received = answering(3, f"{status} X".encode())
    with sock:
        requests = [client.post(name, "image/png") for name in (b"a", b"b")]
        found = client.offer(sock.getsockname()[1], requests, [0.0, 0.1, 0.2])
    assert sorted(received) == [b"a", b"a", b"b"]
    assert found.statuses == {status: 3}
    assert found.failed == (0 if status == 200 else 3)
    # From when it was due: the first had to wait for the last.
    assert (max(found.latencies) > 0.2) if status == 200 else not found.latencies


def test_so_many_requests_are_on_their_way():
    sock, received = answering(2)
    with sock:
        found = client.saturate(sock.getsockname()[1], [client.post(b"a", "x/y")], 2, count=6)
    assert found.statuses[200] == len(received)
    assert 6 <= len(received) <= 7


def test_times_of_requests():
    assert [*client.evenly(4, 1)] == [0, 0.25, 0.5, 0.75]
    times = [*client.by_chance(50, 100, seed=1)]
    assert times == [*client.by_chance(50, 100, seed=1)] == sorted(times)
    assert times[-1] < 100
    assert len(times) == pytest.approx(5000, rel=0.05)
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # of the exponential distribution
    assert [client.quantile([3, 1, 2, 4], q) for q in (0, 0.25, 0.5, 0.99, 1)] == [1, 1, 2, 4, 4]


def test_photographs_are_made_of_few_and_some_damaged(tmp_path):
    for name, size in (("cat", (40, 30)), ("dog", (23, 50))):
        Image.effect_noise(size, 40).convert("RGB").save(tmp_path / f"{name}.jpg")
    for out in ("a", "b"):
        make(tmp_path, tmp_path / out, 10, broken=0.4)
    a, b = (sorted((tmp_path / out).rglob("*.jpg")) for out in ("a", "b"))
    assert [path.name for path in a[::5]] == ["cat_000.jpg", "dog_000.jpg"]
    assert [path.read_bytes() for path in a] == [path.read_bytes() for path in b]
    damaged = set((tmp_path / "a.broken").read_text().split())
    assert len(damaged) == 4
    seen = set()
    for path in a:
        name = path.relative_to(tmp_path / "a").as_posix()
        try:
            with Image.open(path) as image:
                image.load()
        except OSError:
            assert name in damaged
        else:
            assert name not in damaged
            seen.add(path.read_bytes())
    assert len(seen) == 6  # no two alike
    make(tmp_path, tmp_path / "tiny", 4, tiny=True)
    for path in (tmp_path / "tiny").rglob("*.jpg"):
        with Image.open(path) as image:
            assert image.size == (8, 8)


def test_a_plain_step_is_the_same_computation_as_ours():
    training = job(get_spec("resnet8"), "training", 4, 16)
    losses = [ours(training)().loss, peers.plain(training.network(), training)()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Library:
    """Models of others: a resnet18 that is ours, and a resnet34 with a stride elsewhere."""

    def list_models(self):
        return ["resnet18", "resnet34"]

    def get_model(self, name, num_classes):
        return ResNet(get_spec({"resnet34": "resnet34_a"}.get(name, name)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("resnet34", "its resnet34 is another network"), ("resnet20", "it has no resnet20")],
)
def test_another_network_is_no_peer(name, reason):
    with pytest.raises(ResourceError, match=f"^{reason}$"):
        peers.counterpart(Library(), job(get_spec(name), "inference", 1, 32))


def test_the_same_network_is_a_peer():
    alone = job(get_spec("resnet18"), "inference", 2, 32)
    assert torch.allclose(peers.counterpart(Library(), alone)(), ours(alone)(), atol=1e-4)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_computes_what_we_export(runtime, tmp_path):
    pytest.importorskip(runtime)
    alone = job(get_spec("resnet8"), "inference", 2, 16)
    made = [peers.exported(runtime, alone, tmp_path)() for _ in range(2)]  # it is exported once
    for logits in made:
        assert np.allclose(logits, ours(alone)(), atol=1e-5)
    assert peers.installed(alone, tmp_path).keys() >= {runtime}
    assert runtime not in peers.installed(job(get_spec("resnet8"), "training", 2, 16), tmp_path)


def test_jobs_are_measured_beside_their_peers():
    """One that has another network costs a line."""
    said = []

    def others(each, folder):
        return {"library": lambda: peers.counterpart(Library(), each)}

    jobs = [job(get_spec(name), "inference", 1, 32) for name in ("resnet18", "resnet20")]
    found = list(comparison.compare(jobs, rounds=1, peers=others, seconds=0.01, say=said.append))
    assert [[case["name"] for case in result["cases"]] for result in found] == [
        ["resnets", "library"],
        ["resnets"],
    ]
    assert found[0]["title"] == "resnet18 inference, batch 1, 32x32"
    assert found[1]["failed"] == {"library": "it has no resnet20"}
    assert "library: left out: it has no resnet20" in said
    assert all(rate > 0 for result in found for case in result["cases"] for rate in case["rates"])
    report = comparison.about(found, 1, comparison.timestamp())
    assert report["environment"]["torch"] == torch.__version__
    assert f"torch {torch.__version__}" in comparison.environment_line(report)


# What the default suite does not run, with the peers' tests, which need their libraries.
ROOT = BENCHMARKS.parent
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("benchmarks", "docs", "examples", "reference", "results")
    for path in (ROOT / folder).glob("*.py")
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_finds_what_it_imports(script):
    """Of the package, at the places where it stands today; others' libraries may be missing."""
    tree = ast.parse((ROOT / script).read_text(encoding="utf-8"))
    ours = ("resnets", "harness", "rows", "files")
    found = [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ours
        for alias in node.names
    ]
    for module, name in found:
        there = import_module(module)
        assert hasattr(there, name) or find_spec(f"{module}.{name}"), f"{module}.{name}"
