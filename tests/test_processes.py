"""Processes that share a run: what they tell each other, and what one learns of another's end."""

import os
import subprocess
import sys
import time
from functools import cache
from itertools import chain

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from launching import launch
from resnets.errors import ResourceError
from resnets.machine.processes import (
    ALONE,
    PeerLost,
    Processes,
    join,
    lost_peer,
)
from resnets.machine.torchrun import launched, program, restarts

CPU = torch.device("cpu")
several = pytest.mark.parametrize("count", [2, 3])


def of_rank(rank: int, count: int) -> dict[str, torch.Tensor]:
    """What one process gives to be gathered: some parts are empty, one of seven images too."""
    generator = torch.Generator().manual_seed(rank)
    length = (3, 0, 4)[(rank + count) % 3]
    values = torch.randn(length, 5, generator=generator, dtype=torch.float64)
    return {
        "float64": values,
        "not finite": torch.where(values > 0, torch.nan, -torch.inf).float(),
        "bool": values[:, 0] > 0,
        "int64": (values[:, 1] * 2**60).long(),
        "bfloat16": values.bfloat16(),
        "pictures": torch.arange(7).byte()[Processes(rank, count).part(7)],
        "strided": values.T.reshape(5, length).T,
        "nothing": torch.empty(0, 2),
        "no columns": torch.empty(length, 0),
    }


def tell(processes: Processes) -> dict:
    rank, count = processes.rank, processes.count
    answers = {
        "sum": processes.sum([1, 2.0**60, 2.0**-60, rank, 0.1 * rank]),
        "sum of none": processes.sum([]),
        "any": [processes.any(rank == k) for k in range(count + 1)],
        "gathered": {k: processes.gather(v) for k, v in of_rank(rank, count).items()},
        "is_first": processes.is_first,
        "launched": (launched(), restarts(), processes.local_rank),
    }
    processes.wait()
    return answers


@cache
def told(count: int) -> list:
    return launch(count, tell)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_are_a_division(count):
    for n in range(20):
        parts = [list(range(n))[Processes(rank, count).part(n)] for rank in range(count)]
        assert list(chain(*parts)) == list(range(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_needs_nobody(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with join(torch.device("cuda")) as processes:
        assert processes is ALONE
        assert processes.is_first
        assert processes.sum([0.1, 2]) == [0.1, 2]
        assert (processes.any(True), processes.any(False)) == (True, False)
        values = torch.arange(3)
        assert processes.gather(values).equal(values)
        processes.wait()
    assert not launched()
    assert restarts() == 0
    assert not dist.is_initialized()


@several
def test_sums_and_flags_are_the_same_everywhere(count):
    ranks = range(count)
    for rank, answers in enumerate(told(count)):
        *exact, rounded = answers["sum"]
        assert exact == [count, count * 2.0**60, count * 2.0**-60, sum(ranks)]
        assert rounded == pytest.approx(sum(0.1 * r for r in ranks), rel=1e-15)
        assert rounded == told(count)[0]["sum"][-1]
        assert answers["sum of none"] == []
        assert answers["any"] == [True] * count + [False]
        assert answers["is_first"] == (rank == 0)
        assert answers["launched"] == (True, 0, rank)


@several
def test_gathered_tensors_stand_in_order_of_rank(count):
    parts = [of_rank(rank, count) for rank in range(count)]
    for answers in told(count):
        for name, found in answers["gathered"].items():
            expected = torch.cat([part[name] for part in parts])
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.flatten().view(torch.uint8).equal(expected.flatten().view(torch.uint8))
        assert answers["gathered"]["pictures"].tolist() == list(range(7))


def die_in(processes: Processes, method: str) -> None:
    if processes.rank == 0:
        os._exit(1)
    arguments = {"sum": ([1.0],), "any": (True,), "gather": (torch.ones(2),), "wait": ()}
    getattr(processes, method)(*arguments[method])


@pytest.mark.parametrize("method", ["sum", "any", "gather", "wait"])
def test_the_end_of_another_process_has_a_name(method):
    for error in launch(3, die_in, method)[1:]:
        assert isinstance(error, PeerLost)
        assert error.exit_code == 75
        assert "another process has failed" in error.message
        assert "--resume" in error.hint


def die_on_the_way_back(processes: Processes) -> None:
    model = DistributedDataParallel(nn.Linear(2, 2))
    loss = model(torch.ones(1, 2)).sum()
    if processes.rank == 0:
        os._exit(1)
    loss.backward()


def test_so_has_its_end_within_the_gradients():
    assert isinstance(launch(2, die_on_the_way_back)[1], PeerLost)


def fail(processes: Processes) -> None:
    if processes.rank == 0:
        raise RuntimeError("shapes do not match")
    processes.wait()


def test_an_error_of_its_own_stays():
    own, others = launch(2, fail)
    assert type(own) is RuntimeError
    assert str(own) == "shapes do not match"
    assert isinstance(others, PeerLost)


def linger(processes: Processes, done) -> None:
    if processes.rank == 0:
        while not done.exists():
            time.sleep(0.05)
        return
    try:
        processes.wait()
    finally:
        done.touch()


def test_waits_end(tmp_path):
    assert isinstance(launch(2, linger, tmp_path / "done", timeout=3)[1], PeerLost)


def meet_again(processes: Processes) -> list[float]:
    total = processes.sum([1.0])
    processes.wait()
    dist.destroy_process_group()
    with join(CPU) as again:
        total += again.sum([10.0])
    dist.init_process_group("gloo")  # for the end of the first meeting
    return total


def test_processes_can_meet_again():
    assert launch(2, meet_again) == [[2.0, 20.0]] * 2


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("NCCL error: ...\nncclRemoteError: A call failed possibly due to a network error", True),
        ("NCCL communicator was aborted on rank 1. ", True),
        ("[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2)", True),
        ("[pair.cc:553] Connection closed by peer [127.0.0.1]:8348.", True),
        ("Timed out waiting 1000ms for recv operation to complete", True),
        ("ncclInvalidUsage: This usually reflects invalid usage of NCCL library.", False),
        ("CUDA out of memory", False),
    ],
)
def test_lost_peers_are_told_from_other_errors(message, lost):
    assert lost_peer(RuntimeError(message)) == lost
    assert not lost_peer(ValueError(message))


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (None, "resnets"),
        ("2", "torchrun --standalone --nproc-per-node 2 -m resnets"),
        ("4", "torchrun ... -m resnets"),  # on two machines
    ],
)
def test_the_program_is_what_goes_on_as_it_began(monkeypatch, world, words):
    around = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "::1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in around.items() if world else ():
        monkeypatch.setenv(name, value)
    if world:
        monkeypatch.setenv("WORLD_SIZE", world)
    assert program() == words


def test_each_process_needs_a_gpu_of_its_own(monkeypatch):
    there = torch.cuda.device_count()
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": str(there)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with (
        pytest.raises(
            ResourceError,
            match=f"process {there + 1} of this machine has no GPU of its own: {there} found",
        ),
        join(torch.device("cuda")),
    ):
        pass


TOGETHER = """
import torch
from resnets.machine.processes import join
with join(torch.device("cpu")) as processes:
    total = processes.sum([1.0 + processes.rank])
    if processes.is_first:
        print("total", total)
"""


@pytest.mark.slow
def test_under_torchrun(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", script]
    found = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "total [6.0]\n"
