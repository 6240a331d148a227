"""What waits for what: how fast images are read, and how fast the network takes them."""

import shlex
from dataclasses import dataclass

from resnets.data.photographs import Photographs

UNTOLD = 0.03  # share of the time, up to which waiting is none
_SETTLED, _STEPS = 3, 8  # steps until the queue has its length, and those that are looked at


@dataclass
class Waiting:
    """Follows the steps of a session, until it can be said what waits.

    ``source`` is what is read, ``images`` how.
    """

    source: str
    images: Photographs
    size: int  # pixels of the side of what is evaluated
    steps: int = 0
    first: float = 0.0  # images a second, of the first batch, when nothing else is computed
    samples: int = 0
    waited: float = 0.0
    worked: float = 0.0

    def add(self, samples: int, waited: float, worked: float) -> str | None:
        """Count a step of so many samples and seconds; return what there is to say, once."""
        self.steps += 1
        if self.steps == 1:
            self.first = samples / max(waited, 1e-9)
        if self.steps <= _SETTLED:
            return None
        self.samples += samples
        self.waited += waited
        self.worked += worked
        return str(self) if self.steps == _SETTLED + _STEPS else None

    def __str__(self) -> str:
        share = self.waited / (self.waited + self.worked)
        takes = self.samples / self.worked
        if share <= UNTOLD:
            reads = f"reading: {self.first:,.0f} images/s"
            return f"{reads}, the network takes {takes:,.0f}: nothing waits"
        reads = f"reading: {self.samples / (self.waited + self.worked):,.0f} images/s"
        told = (
            f"{reads}, the network would take {takes:,.0f}: training waits for images "
            f"{100 * share:.0f} % of the time"
        )
        if self.images.kept.room:
            return f"{told}; from the next epoch on they are in memory"
        if self.images.listing.root.suffix == ".pack":
            return f"{told}; packed with a smaller --side, or --raw, they are quicker to read"
        side, source = round(self.size / 0.875), shlex.quote(self.source)
        pack = f"`resnets data pack {source} --side {side} --out photos.pack`"
        return f"{told}; {pack} makes them quicker to read"
