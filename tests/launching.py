"""Start several processes as ``torchrun`` does, each within `join`, and collect what they return.

None joins before all are there, so that they meet soon, however busy the machine is.

They are forks of one clean process that has imported torch already, so that a launch is cheap.
"""

import os
import pickle
import traceback
from multiprocessing import connection, get_context

import torch
from torch.distributed import TCPStore

from resnets.machine.processes import join

SECONDS = 600  # for whoever waits: a test that hangs fails
_starter = get_context("forkserver")
# DistributedDataParallel imports torch._dynamo.
_starter.set_forkserver_preload(["pytest", "resnets.evaluation.network", "torch._dynamo"])


def launch(count: int, function, *args, timeout: float = SECONDS) -> list:
    """Return what ``function(processes, *args)`` returns, or raises, in each of ``count`` ones."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    # As torchrun sets them; the store is the launcher's own, not the first process's.
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port)}
    shared |= {"WORLD_SIZE": str(count), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"TORCHELASTIC_RESTART_COUNT": "0"}
    receivers, workers, there = [], [], _starter.Barrier(count)
    for rank in range(count):
        receiver, sender = _starter.Pipe(duplex=False)
        own = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        worker = _starter.Process(target=_work, args=(sender, there, own, timeout, function, args))
        worker.start()
        sender.close()
        receivers.append(receiver)
        workers.append(worker)
    try:
        return [_received(receiver) for receiver in receivers]
    finally:
        for worker in workers:
            worker.join(1)
            worker.kill()
            worker.join()
            worker.close()


def _received(receiver: connection.Connection):
    with receiver:
        if not receiver.poll(SECONDS):
            raise TimeoutError(f"a process did not end within {SECONDS} seconds")
        try:
            text, result = pickle.loads(receiver.recv_bytes())
        except EOFError:
            return None  # it was killed
    if text:
        print(text)
    return result


def _work(sender, there, environment, timeout, function, args) -> None:
    os.environ |= environment
    torch.set_num_threads(1)
    there.wait(SECONDS)
    text = ""
    try:
        with join(torch.device("cpu"), timeout=timeout) as processes:
            result = function(processes, *args)
    except Exception as error:
        result, text = error, traceback.format_exc()
    # As plain bytes: torch would send tensors as open files, which end with this process.
    sender.send_bytes(pickle.dumps((text, result)))
