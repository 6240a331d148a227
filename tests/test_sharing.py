"""How OpenMP's threads wait: as ever alone, asleep while other jobs want the cores.

Other jobs come and go here as the tests say. Nothing depends on those that are really there, nor on
how long anything takes: what must come is waited for.
"""

import json
import os
import subprocess
import sys

import pytest

from resnets.machine.sharing import adapts, gnu_openmp, sharing_cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's accounts")

COMES = """
import json, os, threading, time

def comes(condition):
    for _ in range(6000):
        if condition():
            return True
        time.sleep(0.01)
    return False
"""


def python(script, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", COMES + script]
    found = subprocess.run(command, env=environment | variables, capture_output=True, check=True)
    return json.loads(found.stdout)


WAITING = """
import torch
from pathlib import Path
from resnets.machine.sharing import IdleThreads, gnu_openmp

torch.set_num_threads(2)
others = set(os.listdir("/proc/self/task"))
x = torch.zeros(2**20)
(waiting,) = set(os.listdir("/proc/self/task")) - others

def sleeps():
    status = Path("/proc/self/task", waiting, "stat").read_text()
    return status.rpartition(")")[2].split()[0] == "S"

def goes_to_sleep():
    def after_work():  # how it waits is chosen when it begins to
        x.relu()
        time.sleep(0.01)
        return sleeps()
    return comes(after_work)

def looks_for_work():
    x.relu()
    return not any(time.sleep(0.002) or sleeps() for _ in range(50))

found = [looks_for_work()]
idle = IdleThreads(gnu_openmp())
found += [goes_to_sleep() for _ in range(3)]
idle.end()
found.append(comes(looks_for_work))
print(json.dumps(found))
"""
# A thread that waits looks for work for five minutes, unless it finds its kind too many.
LONG = {"OMP_WAIT_POLICY": "active"}
several_cores = pytest.mark.skipif(
    sys.platform == "linux" and len(os.sched_getaffinity(0)) < 2,
    reason="with one core OpenMP's threads are always too many",
)


@several_cores
@pytest.mark.parametrize(
    "first",
    [
        "",
        # which brings a libgomp of its own, whose threads are others
        "import torch, sklearn.utils._openmp_helpers\n"
        "assert open('/proc/self/maps').read().count('libgomp') > 1\n",
    ],
    ids=["torch alone", "beside another OpenMP"],
)
def test_idle_threads_let_waiting_threads_sleep_until_they_end(first):
    assert python(first + WAITING, **LONG) == [True] * 5


DELAYED = """
import hashlib
from resnets.machine.sharing import delayed

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
busy = True

def work():
    while busy:
        hashlib.sha256(bytes(2**22)).digest()  # does not hold the interpreter's lock

asleep = threading.Event()
idle = threading.Thread(target=asleep.wait)
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in (idle, *threads):
    thread.start()

def each_is_delayed():
    found = delayed()
    return all(found[thread.native_id] > 0.1 for thread in threads)

found = [comes(each_is_delayed), delayed()[idle.native_id] < 0.1]
busy = False
asleep.set()
print(json.dumps(found))
"""


def test_threads_without_a_core_are_delayed():
    assert python(DELAYED) == [True, True]


WATCHED = """
from resnets.machine.sharing import IDLE, sharing_cores

class Machine:
    "Its threads wait for a core while it is busy; as newcomers, each ends before the next look."
    looks, seconds, busy, newcomers = 0, 0, True, False

    def __call__(self):
        self.looks += 1
        self.seconds += 1000 * self.busy
        return {self.looks: 1000} if self.newcomers else {1: self.seconds}

    def after(self, looks):
        end = self.looks + looks
        return comes(lambda: self.looks >= end)

def there():
    return any(thread.name == IDLE for thread in threading.enumerate())

def gone():
    return not there()

machine = Machine()
with sharing_cores({}, delays=machine, period=0.001):
    found = [machine.after(10) and gone()]  # there is no OpenMP yet
    import torch
    found += [comes(there), machine.after(10) and there()]
    machine.busy = False
    found += [comes(gone), machine.after(10) and gone()]
    machine.newcomers = True
    found += [comes(there), machine.after(10) and there()]
found.append(comes(gone))
print(json.dumps(found))
"""


def test_idle_threads_come_and_go_with_other_jobs():
    """Also with threads whose ends hide nothing of what the others waited."""
    assert python(WATCHED) == [True] * 8


REFUSED = """
import re, resource, torch
from pathlib import Path
from resnets.machine.sharing import IdleThreads, gnu_openmp

torch.set_num_threads(2)
torch.zeros(2**20).relu()
library = gnu_openmp()
used = 1024 * int(re.search(r"VmSize:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
threading.stack_size(2**26)
resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, resource.RLIM_INFINITY))
try:
    IdleThreads(library)
except RuntimeError as error:
    print(json.dumps(str(error)))
"""


def test_threads_that_may_not_be_started_are_an_error_and_not_the_end():
    """libgomp would end the process, and a training with it, unsaved."""
    assert python(REFUSED) == "can't start new thread"


def test_what_the_user_has_set_stays():
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        with sharing_cores({name: "1"}):
            assert not adapts()
    with sharing_cores({}):
        assert adapts()
    assert not adapts()


def test_a_torch_that_was_replaced_on_the_disk_is_none(tmp_path):
    maps = tmp_path / "maps"
    maps.write_text("7f0000000000-7f0000001000 r-xp 0 08:01 7 /nowhere/libtorch_cpu.so (deleted)\n")
    assert gnu_openmp(maps) is None
