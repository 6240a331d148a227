"""The sample ledger: which samples a run has trained on, step by step, as a chain of digests.

Each step's link is the SHA-256 of the link before it and of the positions in the training part that
the step really used, over all processes. Going on continues the chain, so that the last link of an
epoch is right only if every sample was used in its place, once, through every interruption.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from resnets.data.order import batch_bounds


@dataclass
class Ledger:
    """A line for each finished epoch, and the chain of the one that is under way."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    link: str = ""
    samples: int = 0

    def add(self, positions: Tensor) -> None:
        """Enter the samples of a step: their positions in the training part, int64 (N,)."""
        self.link = _link(self.link, positions)
        self.samples += len(positions)

    def close(self, epoch: int, steps: int) -> None:
        """End an epoch, counted from 0, of so many steps."""
        line = {"epoch": epoch + 1, "steps": steps, "samples": self.samples, "sha256": self.link}
        self.lines.append(line)
        self.link, self.samples = "", 0


def expected(order: Tensor, batch_size: int, epoch: int, steps: int) -> dict[str, Any]:
    """Return the line of an epoch, counted from 0, whose samples were used in this order.

    ``steps`` is fewer than the epoch has when the run ends within it.
    """
    ledger = Ledger()
    for start, stop in batch_bounds(len(order), batch_size)[:steps]:
        ledger.add(order[start:stop])
    ledger.close(epoch, steps)
    return ledger.lines[0]


def _link(before: str, positions: Tensor) -> str:
    return hashlib.sha256(before.encode() + positions.numpy().astype("<i8").tobytes()).hexdigest()
