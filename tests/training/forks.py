"""Call functions in forks of one clean process that has imported everything: cheap, and mortal.

A fork that is killed takes nothing with it but what a killed run would. Forks can also be started
together, as ``torchrun`` starts the processes of a run.
"""

import os
import pickle
import signal
import traceback
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection

from torch.distributed import TCPStore

SECONDS = 600  # for whoever waits: a test that hangs fails


def forked(function, *args):
    """Return what ``function`` returns or raises in a fork, or the signal that ended it."""
    return _results([{}], function, args)[0]


def launched_together(count: int, function, *args) -> list:
    """Return the same for ``count`` forks, each with the environment of a ``torchrun`` process.

    They meet by way of one store, which keeps what the killed have written, as torchrun's does.
    """
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(_store().port)}
    shared |= {"WORLD_SIZE": str(count), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"TORCHELASTIC_RESTART_COUNT": "0"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return _results([shared | rank for rank in ranks], function, args)


def _results(environments: list[dict[str, str]], function, args) -> list:
    connection, process = _origin()
    connection.send((environments, function, args))
    if not connection.poll(SECONDS):
        os.killpg(process.pid, signal.SIGKILL)
        _origin.cache_clear()
        raise TimeoutError(f"a fork did not end within {SECONDS} seconds")
    results = []
    for status, answer in connection.recv():
        if os.WIFSIGNALED(status):
            results.append(signal.Signals(os.WTERMSIG(status)))
            continue
        text, result = pickle.loads(answer)
        print(text, end="")
        results.append(result)
    return results


@cache
def _store() -> TCPStore:
    return TCPStore("localhost", 0, is_master=True, wait_for_workers=False)


@cache
def _origin():
    """The process that the forks are of. It computes nothing, so that it stays without threads."""
    context = get_context("forkserver")
    here, there = context.Pipe()
    process = context.Process(target=_fork_on_request, args=(there,), daemon=True)
    process.start()
    return here, process


def _fork_on_request(connection: Connection) -> None:
    import torch._dynamo  # DistributedDataParallel does

    import resnets.training.train  # noqa: F401

    os.setpgid(0, 0)
    torch.set_num_threads(1)
    while True:
        try:
            environments, function, args = connection.recv()
        except EOFError:
            return
        forks = [_fork(environment, function, args) for environment in environments]
        answers = []
        for process, descriptor in forks:
            with os.fdopen(descriptor, "rb") as pipe:
                answer = pipe.read()
            answers.append((os.waitpid(process, 0)[1], answer))
        connection.send(answers)


def _fork(environment: dict[str, str], function, args) -> tuple[int, int]:
    """Return the process that calls ``function``, and where its answer can be read."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    os.environ.update(environment)
    text = ""
    try:
        result = function(*args)
    except BaseException as error:
        result, text = error, traceback.format_exc()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(pickle.dumps((text, result)))
    os._exit(0)
