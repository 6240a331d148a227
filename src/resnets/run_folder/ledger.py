"""The sample ledger: which samples a run has trained on, step by step, as a chain of digests.

Each step's link is the SHA-256 of the link before it and of the positions in the training split
that the step really used, over all processes. A resumed run continues the chain, so that the last
link of an epoch is right only if every sample was used in its place, once, through every
interruption.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from resnets.run_folder.record import LedgerLine


@dataclass
class Ledger:
    """A line for each finished epoch, and the chain of the one that is under way."""

    lines: list[LedgerLine] = field(default_factory=list)
    link: str = ""
    samples: int = 0

    def add(self, positions: ArrayLike) -> None:
        """Enter the samples of a step: their positions in the training split, int64 (N,)."""
        packed = np.asarray(positions).astype("<i8").tobytes()
        self.link = hashlib.sha256(self.link.encode() + packed).hexdigest()
        self.samples += len(packed) // 8

    def close(self, epoch: int, steps: int) -> None:
        """End an epoch, counted from 0, of so many steps."""
        self.lines.append(LedgerLine(epoch + 1, steps, self.samples, self.link))
        self.link, self.samples = "", 0
