"""How long it takes to list models and to build resnet50, beside torchvision.

usage: .venv-reference/bin/python benchmarks/build.py [--rounds 10]     (after `make reference`)

Listing runs in fresh processes (import and list_models(), the interpreter's own start subtracted).
Building is interleaved in one process: resnets and torchvision by turns, the order reversed every
round; the ratio is the median of the rounds' ratios.
"""

import argparse
import statistics
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import torch

import resnets


def fresh(code: str, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.monotonic() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
    import_module("conftest")  # declares the operators that torchvision needs
    torchvision = import_module("torchvision")
    listing = fresh("import resnets; resnets.list_models()", rounds) - fresh("pass", rounds)
    print(f"import resnets and list_models(): {1000 * listing:.0f} ms")
    builders = {
        "resnets": lambda: resnets.create_model("resnet50"),
        "torchvision": lambda: torchvision.models.resnet50(),
    }
    times: dict[str, list[float]] = {name: [] for name in builders}
    for build in builders.values():
        build()
    for number in range(rounds):
        for name in list(builders)[:: 1 if number % 2 else -1]:
            began = time.monotonic()
            builders[name]()
            times[name].append(time.monotonic() - began)
    for name, values in times.items():
        median, best = 1000 * statistics.median(values), 1000 * min(values)
        print(f"{name:12s} {median:6.0f} ms   (best {best:.0f})")
    ratios = [a / b for a, b in zip(times["resnets"], times["torchvision"], strict=True)]
    print(f"resnets / torchvision, median of rounds: {statistics.median(ratios):.2f}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
