"""How long it takes to start: import, help, a list of models, and resnet50 beside torchvision's.

usage: .venv-reference/bin/python benchmarks/startup.py [--rounds 10]     (after `make reference`)

Every figure is of a process of its own, by turns, the order reversed every round. "whole" is the
process from start to end; "less python" is that less the round's bare interpreter. "build" is only
the call that makes resnet50 with fresh weights, timed inside the process, after a collection of
garbage, which would otherwise fall into one call and not into the other. Ratios are medians of the
rounds' ratios, resnets over torchvision. torchvision's process first declares the operators that it
needs on a CPU-only torch.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

TIMED = (
    "import gc, time; gc.collect(); "
    "began = time.perf_counter(); {}; print(time.perf_counter() - began)"
)


def commands(operators: list[str]) -> dict[str, list[str]]:
    """Return what is measured, by name."""
    declare = (
        f"import torch\nfor o in {operators}:\n"
        "    torch.library.define(f'torchvision::{o}', '(Tensor x) -> Tensor')\n"
    )
    ours = "from resnets import create_model\n" + TIMED.format("create_model('resnet50')")
    theirs = "from torchvision.models import resnet50\n" + TIMED.format("resnet50()")
    return {
        "python": ["-c", "pass"],
        "import torch": ["-c", "import torch"],
        "import resnets": ["-c", "import resnets"],
        "resnets --help": ["-m", "resnets", "--help"],
        "resnets models": ["-m", "resnets", "models"],
        "create_model('resnet50')": ["-c", ours],
        "torchvision resnet50()": ["-c", declare + theirs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
    todo = commands(import_module("conftest").OPERATORS)
    whole: dict[str, list[float]] = {name: [] for name in todo}
    build: dict[str, list[float]] = {name: [] for name in todo if "resnet50" in name}
    for number in range(-1, rounds):  # the first warms the file cache
        for name in reversed(todo) if number % 2 else todo:
            began = time.perf_counter()
            command = [sys.executable, *todo[name]]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            if number >= 0:
                whole[name].append(time.perf_counter() - began)
                if name in build:
                    build[name].append(float(answer.stdout))

    torch = import_module("torch").__version__
    torchvision = import_module("torchvision").__version__
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(
        f"python {sys.version.split()[0]}, torch {torch}, torchvision {torchvision}, "
        f"{os.cpu_count()} cores, OMP_NUM_THREADS {threads}, {rounds} rounds"
    )
    print(f"{'':26} {'whole, median (range)':>28}   {'less python':>11}")
    for name, times in whole.items():
        rest = statistics.median(a - b for a, b in zip(times, whole["python"], strict=True))
        print(
            f"{name:26} {1000 * statistics.median(times):9.0f} ms "
            f"({1000 * min(times):5.0f} to {1000 * max(times):5.0f})   {1000 * rest:8.0f} ms"
        )
    for what, times in (("whole", whole), ("build", build)):
        mine, theirs = times["create_model('resnet50')"], times["torchvision resnet50()"]
        ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
        print(
            f"resnet50, {what}: {1000 * statistics.median(mine):.0f} ms, torchvision "
            f"{1000 * statistics.median(theirs):.0f} ms, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
