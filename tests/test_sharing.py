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
began = time.monotonic()
for thread in threads:
    thread.start()
time.sleep(0.4)
found = delayed()
waited = sum(found[thread.native_id] for thread in threads)
print(json.dumps(waited / (time.monotonic() - began)))
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


WITH_SCIKIT = f"""
import torch, sklearn.utils._openmp_helpers
assert open("/proc/self/maps").read().count("libgomp") > 1
{WAITING}
"""


def test_the_threads_are_those_of_torch_whatever_else_brings_an_openmp():
    before, during, _ = python(WITH_SCIKIT)
    assert during < before / 2


def test_a_torch_that_was_replaced_on_the_disk_is_none(monkeypatch):
    maps = "7f0000000000-7f0000001000 r-xp 0 08:01 7 /nowhere/libtorch_cpu.so (deleted)\n"
    monkeypatch.setattr(sharing.Path, "read_text", lambda *_, **__: maps)
    assert sharing.gnu_openmp() is None


REFUSED = """
import ctypes, json, threading, torch
from resnets.sharing import IdleThreads, gnu_openmp

class Refusing(threading.Thread):
    def start(self):
        raise RuntimeError("can't start new thread")

torch.set_num_threads(2)
torch.zeros(2**20).relu()
from resnets import sharing
sharing.Thread = Refusing
try:
    IdleThreads(gnu_openmp())
except RuntimeError as error:
    print(json.dumps(str(error)))
"""


def test_threads_that_may_not_be_started_are_an_error_and_not_the_end():
    """libgomp would end the process, and a training with it, unsaved."""
    assert python(REFUSED) == "can't start new thread"


SHORT = """
import hashlib, json, os, threading, time
from resnets.sharing import IDLE, sharing_cores

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
import torch
torch.set_num_threads(2)

def work(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hashlib.sha256(bytes(2**20)).digest()

seen = []
with sharing_cores({}):
    end = time.monotonic() + 6
    while time.monotonic() < end:  # threads that come and go, two at any time
        threads = [threading.Thread(target=work, args=[0.3]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen.append(any(thread.name == IDLE for thread in threading.enumerate()))
print(json.dumps(seen[-8:]))
"""


def test_threads_that_end_do_not_hide_what_the_others_waited():
    assert all(python(SHORT))
