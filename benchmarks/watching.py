"""What it costs a training that is alone to be watched: one process, with and without by turns.

usage: python benchmarks/watching.py [--batch 64 128] [--rounds 16]

`resnets.machine.sharing` looks twice a second for how long threads were kept from running. Each
turn is some steps of resnet20 on one synthetic batch; the order is reversed every round. It says
too how often the watcher changed how threads wait, which alone should be never.
"""

import argparse
import statistics
import time
from contextlib import nullcontext

from loop import stepper

from resnets.machine import sharing

PICTURES = 640  # of a turn, about a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=16)
    options = parser.parse_args()
    changes = []
    make = sharing.IdleThreads
    sharing.IdleThreads = lambda library: changes.append(1) or make(library)
    for batch in options.batch:
        step = stepper(batch)
        for _ in range(8):
            step()

        def turn(watched: bool, step=step, batch=batch) -> float:
            with sharing.sharing_cores({}) if watched else nullcontext():
                began = time.perf_counter()
                for _ in range(PICTURES // batch):
                    step()
                return time.perf_counter() - began

        ratios = []
        for number in range(options.rounds):
            order = (True, False) if number % 2 else (False, True)
            seconds = {watched: turn(watched) for watched in order}
            ratios.append(seconds[False] / seconds[True])
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"batch {batch}: watched over not watched {middle:.3f} ({low:.3f} to {high:.3f}), "
            f"changed {len(changes)} times",
            flush=True,
        )


if __name__ == "__main__":
    main()
