"""What it gains that glibc keeps large blocks of memory, and what huge pages would add.

usage: python benchmarks/blocks.py [--batch 128] [--rounds 14] [--steps 5]

Each variant is a process that trains resnet20 on one synthetic batch; all are ready at once and
take turns of STEPS steps, the order reversed every round, so that a slow minute of the machine is
everybody's. `default` is glibc as it is, `kept` what `resnets train` does
(`resnets.machine.cpu.keep_large_blocks`), `kept, huge` glibc's own tunables for that and for huge
pages, `kept, torch's huge` torch's own way to them.
A ratio is to `default` in the same round, its median and quartiles over the rounds; faults are
pages taken from the system in a step.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

from loop import stepper

from resnets.machine.cpu import keep_large_blocks

TUNABLES = "mmap_threshold=33554432", "trim_threshold=2147483647", "hugetlb=1"
VARIANTS = {
    "default": {},
    "kept": {},
    "kept, huge": {"GLIBC_TUNABLES": ":".join(f"glibc.malloc.{word}" for word in TUNABLES)},
    "kept, torch's huge": {"THP_MEM_ALLOC_ENABLE": "1"},
}


def work(variant: str, batch: int, steps: int) -> None:
    """Take steps whenever a line comes in; answer with images a second and page faults."""
    if variant != "default":
        keep_large_blocks()  # nothing more where glibc's tunables are set
    step = stepper(batch)
    for _ in range(3):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        faults, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        for _ in range(steps):
            step()
        rate = steps * batch / (time.perf_counter() - began)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        print(rate, faults / steps, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.batch, options.steps)
        return
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {
        name: subprocess.Popen(
            [sys.executable, *sys.argv, "--work", name], env=clean | variables, **pipes
        )
        for name, variables in VARIANTS.items()
    }
    for process in processes.values():
        process.stdout.readline()
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    faults: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(options.rounds):
        for name in list(VARIANTS)[:: -1 if number % 2 else 1]:
            print("go", file=processes[name].stdin, flush=True)
            rate, count = map(float, processes[name].stdout.readline().split())
            rates[name].append(rate)
            faults[name].append(count)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    print(f"resnet20, batch {options.batch}, {options.rounds} rounds of {options.steps} steps")
    for name, mine in rates.items():
        ratios = [a / b for a, b in zip(mine, rates["default"], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:18s} {statistics.median(mine):6.0f} img/s   ratio {median:.2f} "
            f"({low:.2f} to {high:.2f})   faults a step {statistics.median(faults[name]):.0f}"
        )


if __name__ == "__main__":
    main()
