"""How OpenMP's threads wait: as ever alone, asleep while other jobs want the cores."""

import json
import os
import subprocess
import sys

import pytest

from resnets import sharing
from resnets.sharing import adapts, sharing_cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's accounts")

WAITING = """
import json, time, torch
from resnets.sharing import IdleThreads, gnu_openmp

torch.set_num_threads(2)
x = torch.zeros(2**20)

def used():
    # Of the time between regions that are a millisecond apart, what a waiting thread uses.
    processor, wall = time.process_time(), time.perf_counter()
    for _ in range(200):
        torch.relu(x)
        time.sleep(1e-3)
    return (time.process_time() - processor) / (time.perf_counter() - wall)

x.relu()
before = used()
idle = IdleThreads(gnu_openmp())
time.sleep(0.1)
during = used()
idle.end()
print(json.dumps([before, during, used()]))
"""


def python(script, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, env=environment | variables, capture_output=True, check=True)
    return json.loads(found.stdout)


def test_idle_threads_let_waiting_threads_sleep_until_they_end():
    before, during, after = python(WAITING)
    assert during < before / 2
    assert during < after / 2


DELAYED = """
import hashlib, json, os, threading, time
from resnets.sharing import delayed

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
end = time.monotonic() + 0.5

def work():
    while time.monotonic() < end:
        hashlib.sha256(bytes(2**22)).digest()  # does not hold the interpreter's lock

threads = [threading.Thread(target=work) for _ in range(2)]
before, began = delayed(), time.monotonic()
for thread in threads:
    thread.start()
time.sleep(0.4)
print(json.dumps((delayed() - before) / (time.monotonic() - began)))
"""


def test_threads_without_a_core_are_delayed():
    assert python(DELAYED) > sharing.SHARED


WATCHED = """
import hashlib, json, os, threading, time
from resnets.sharing import IDLE, sharing_cores

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
busy = True

def work():
    while busy:
        hashlib.sha256(bytes(2**22)).digest()

def comes_to(there, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(thread.name == IDLE for thread in threading.enumerate()) == there:
            return True
        time.sleep(0.05)
    return False

with sharing_cores({}):
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    found = [comes_to(True, seconds=2)]  # there is no OpenMP yet
    import torch
    found.append(comes_to(True))
    busy = False
    found.append(comes_to(False))
    busy = True
    again = [threading.Thread(target=work) for _ in range(2)]
    for thread in again:
        thread.start()
    found.append(comes_to(True))
found.append(comes_to(False))
busy = False
print(json.dumps(found))
"""


def test_idle_threads_come_and_go_with_other_jobs():
    assert python(WATCHED) == [False, True, True, True, True]


def test_what_the_user_has_set_stays():
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        with sharing_cores({name: "1"}):
            assert not adapts()
    with sharing_cores({}):
        assert adapts()
    assert not adapts()
