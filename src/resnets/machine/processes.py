"""The processes that share a run, as ``torchrun`` starts them, and what they tell each other."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor

from resnets.errors import ResnetsError, ResourceError
from resnets.machine.torchrun import VARIABLES, launched

_CPU = torch.device("cpu")
# What gloo, NCCL and the store say of a process that has gone or does not answer.
_GONE = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "timed out waiting",
    "application timeout",
    "connectfullmesh failed",
    "ncclremoteerror",
    "nccl communicator was aborted",
    "collective operation timeout",
)


class PeerLost(ResnetsError):
    """Another process of this run has failed, was killed or does not answer."""

    exit_code = 75  # stopped, and resumable

    def __init__(
        self, message: str = "another process has failed, was killed or does not answer"
    ) -> None:
        super().__init__(
            message,
            hint="the first error above, or in its log, is the cause; --resume resumes the run",
        )


def lost_peer(error: BaseException) -> bool:
    """Whether an error is torch's way to say that another process has gone or does not answer."""
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in message for words in _GONE)


@contextmanager
def naming_lost_peers() -> Iterator[None]:
    """Turn whatever torch raises here because another process has gone into PeerLost."""
    try:
        yield
    except RuntimeError as error:
        if lost_peer(error):
            raise PeerLost from error
        raise


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them; all must call its methods in the same order.

    Every method but ``part`` waits for the others, and raises PeerLost when one of them has gone.
    """

    rank: int
    count: int
    local_rank: int = 0  # among those on this machine
    device: torch.device = _CPU  # where they exchange tensors

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Return this process's share of ``n`` items, contiguous and perhaps empty."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def sum(self, values: list[float]) -> list[float]:
        """Return each value summed over the processes, in float64; the same on all of them."""
        if self.count == 1 or not values:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        with naming_lost_peers():
            dist.all_reduce(total)
            return total.tolist()  # a GPU is waited for here

    def any(self, flag: bool) -> bool:
        """Return, on every process, whether ``flag`` is true on one of them."""
        return self.sum([float(flag)])[0] > 0

    def gather(self, tensor: Tensor) -> Tensor:
        """Return, on every process, all their tensors (N_i, ...) one after another, by rank.

        Parts may be empty; what follows the first dimension, and the dtype, are the same on all
        processes. Values travel as bytes, so that they arrive as they are. On the CPU.
        """
        tensor = tensor.cpu()
        if self.count == 1:
            return tensor
        lengths: list[int] = self._gather_equal(torch.tensor(len(tensor))).tolist()
        rows = tensor.new_zeros(max(lengths), *tensor.shape[1:])
        rows[: len(tensor)] = tensor
        parts = self._gather_equal(rows.flatten().view(torch.uint8))
        size = rows[:1].numel() * rows.element_size()
        kept = [part[: n * size] for part, n in zip(parts, lengths, strict=True)]
        return torch.cat(kept).view(tensor.dtype).view(sum(lengths), *tensor.shape[1:])

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values; the tensors are where they exchange them."""
        if self.count > 1:
            with naming_lost_peers():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process through what follows, and then the others, whatever it raises."""
        if not self.is_first:
            self.wait()
        try:
            yield
        finally:
            if self.is_first:
                self.wait()

    def wait(self) -> None:
        """Return when every process has come this far."""
        self.sum([0.0])

    def _gather_equal(self, tensor: Tensor) -> Tensor:
        """Return tensors that have the same shape on all processes as (processes, ...)."""
        tensor = tensor.to(self.device)
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        with naming_lost_peers():
            dist.all_gather(parts, tensor)
            return torch.stack(parts).cpu()


ALONE = Processes(0, 1)


@contextmanager
def join(device: torch.device, *, timeout: float = 600) -> Iterator[Processes]:
    """Meet the other processes of ``torchrun`` for the length of the context; else yield ALONE.

    On CUDA the process's own GPU becomes the current one, and they speak through NCCL, else
    through gloo. Nobody is waited for longer than ``timeout`` seconds.

    Raises ResourceError when there is no GPU for this process. What torch raises within the context
    because another process has gone becomes PeerLost.
    """
    if not launched():
        yield ALONE
        return
    # Not every build of torch has these.
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    rank, size, local_rank = (int(os.environ[name]) for name in VARIABLES[:3])
    gpu = _own_gpu(local_rank) if device.type == "cuda" else None
    processes = Processes(rank, size, local_rank, gpu or _CPU)
    patience = timedelta(seconds=timeout)
    with naming_lost_peers():
        store, _, _ = next(rendezvous("env://", timeout=patience))
        dist.init_process_group(
            "gloo" if gpu is None else "nccl",
            # Addresses that an earlier meeting left there are not for this one.
            store=PrefixStore(_name_meeting(store, rank, size, timeout), store),
            rank=rank,
            world_size=size,
            timeout=patience,
            device_id=gpu,
        )
        try:
            yield processes
            processes.wait()  # who leaves first would close the connections of the others
        except BaseException:
            if gpu is None:  # NCCL would wait for the others
                dist.destroy_process_group()
            raise
        dist.destroy_process_group()


def _name_meeting(store: Any, rank: int, size: int, timeout: float) -> str:
    """Return a name that the processes have not met under before; the same on all of them.

    torchrun's store outlives processes that are killed, and what they wrote. So the first process
    answers each greeting, old or new, and who has got its answer says so under the new name.
    """
    own = uuid4().hex
    if rank:
        store.set(f"greeting/{rank}", own)
        name: str = store.get(f"answer/{own}").decode()
        store.set(f"{name}/{rank}", "")
        return name
    deadline = time.monotonic() + timeout
    for other in range(1, size):
        while not store.check([f"{own}/{other}"]):
            if store.check([f"greeting/{other}"]):
                store.set(f"answer/{store.get(f'greeting/{other}').decode()}", own)
            if time.monotonic() > deadline:
                raise PeerLost
            time.sleep(0.01)
    return own


def _own_gpu(local_rank: int) -> torch.device:
    found = torch.cuda.device_count()
    if local_rank >= found:
        raise ResourceError(
            f"process {local_rank + 1} of this machine has no GPU of its own: {found} found",
            hint=f"start at most {found} here (--nproc-per-node), or use --device cpu",
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
