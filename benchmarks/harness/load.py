"""What others took of the processors while we measured: Linux tells in /proc."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROC = Path("/proc")


@dataclass(frozen=True)
class Load:
    """Ticks of processor time so far, over the processors that are ours to use."""

    total: int
    busy: int  # with anyone's work
    stolen: int  # by the host of a virtual machine
    own: int  # by this process and all that it has started

    @classmethod
    def now(cls, proc: Path = PROC, cores: set[int] | None = None) -> Self | None:
        """Read the counters; None where the system has none."""
        try:
            cores = os.sched_getaffinity(0) if cores is None else cores
            names = {f"cpu{core}" for core in cores}
            lines = [line.split() for line in (proc / "stat").read_text().splitlines()]
            rows = [[int(word) for word in words[1:9]] for words in lines if words[0] in names]
            user, nice, system, idle, waiting, irq, softirq, stolen = map(
                sum, zip(*rows, strict=True)
            )
        except (OSError, AttributeError, ValueError):  # another system, or an older one
            return None
        busy = user + nice + system + irq + softirq
        return cls(busy + idle + waiting + stolen, busy, stolen, spent(os.getpid(), proc))

    def until(self, later: "Load") -> "Share":
        """Return which parts of the time between two readings others took."""
        total = max(1, later.total - self.total)
        stolen = later.stolen - self.stolen
        others = (later.busy - self.busy) - (later.own - self.own)
        return Share(stolen / total, max(0, others) / total)


@dataclass(frozen=True)
class Share:
    """Parts of the processors' time."""

    stolen: float
    others: float

    @property
    def taken(self) -> float:
        """What was not ours to use."""
        return self.stolen + self.others


def spent(root: int, proc: Path = PROC) -> int:
    """Return the ticks of a process and its descendants, those that have ended among them."""
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for path in proc.glob("[0-9]*/stat"):
        try:
            text = path.read_text(errors="replace")
            words = text.rpartition(")")[2].split()  # a name may hold anything
        except OSError:  # it has ended since it was listed
            continue
        number = int(path.parent.name)
        children[int(words[1])].append(number)
        ticks[number] = sum(map(int, words[11:15]))  # its own and its ended children's, two of each
    total, waiting = 0, [root]
    while waiting:
        number = waiting.pop()
        total += ticks.get(number, 0)
        waiting += children[number]
    return total
