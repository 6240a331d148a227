"""What gradient checkpointing and parts of a batch save of a training step, and what they cost.

usage: python benchmarks/memory.py [--model resnet50] [--batch 16] [--side 128] [--rounds 5]

A step is training's own: forward, backward and SGD with momentum, in float32 and channels-last.
Times are by turns in one process, the order reversed every round; the ratio is the median of the
rounds' ratios to the plain step. Memory is "counted", what `resnets show --memory` says, and
"process", how far the peak of a fresh process rises above what it was before its first step; the
weights and images were there then, and the rest of what is counted was not: it is "new".
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from resnets import get_spec
from resnets.machine.environment import environment
from resnets.machine.processes import ALONE
from resnets.nn import ResNet
from resnets.training.memory import peak_memory
from resnets.training.recipe import OptimizerRecipe, Recipe, ScheduleRecipe
from resnets.training.step import build_optimizer, training_step

CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "checkpointing": {"checkpointing": True},
    "2 parts": {"accumulate": 2},
    "4 parts": {"accumulate": 4},
    "4 parts, checkpointing": {"accumulate": 4, "checkpointing": True},
}


class Step:
    """One network and what trains it."""

    def __init__(
        self,
        model: str,
        batch: int,
        side: int,
        *,
        accumulate: int = 1,
        checkpointing: bool = False,
    ) -> None:
        torch.manual_seed(0)
        spec = replace(get_spec(model), image_size=side)
        self.recipe = Recipe(
            name="step",
            batch_size=batch,
            optimizer=OptimizerRecipe(accumulate=accumulate),
            schedule=ScheduleRecipe(iterations=1),
        )
        self.network = ResNet(spec)
        if checkpointing:
            self.network.recompute_stages()
        self.network.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.network, self.recipe.optimizer)
        images = torch.randn(batch, spec.in_channels, side, side)
        self.images = images.to(memory_format=torch.channels_last)
        self.labels = torch.arange(batch) % spec.num_classes

    def run(self) -> float:
        began = time.perf_counter()
        data = self.images, self.labels, self.labels
        training_step(self.network, self.optimizer, *data, lr=1e-3, recipe=self.recipe)
        return time.perf_counter() - began


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def risen(step: Step) -> int:
    """Run in a process of its own, for the peak never falls."""
    before = peak()
    for _ in range(2):
        step.run()
    return peak() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", choices=list(CHOICES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = (options.model, options.batch, options.side)
    if options.memory_of:
        print(json.dumps(risen(Step(*size, **CHOICES[options.memory_of]))))
        return

    process = {}
    for choice in CHOICES:
        command = [sys.executable, *sys.argv, "--memory-of", choice]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        process[choice] = json.loads(answer.stdout)
    steps = {choice: Step(*size, **how) for choice, how in CHOICES.items()}
    for step in steps.values():
        step.run()  # warm up
    times: dict[str, list[float]] = {choice: [] for choice in CHOICES}
    for number in range(options.rounds):
        for choice in reversed(CHOICES) if number % 2 else CHOICES:
            times[choice].append(steps[choice].run())

    print(environment(torch.device("cpu"), ALONE, "float32"))
    print(f"{options.model}, batch {options.batch}, {options.side} x {options.side}")
    plain = times["plain"]
    for choice, how in CHOICES.items():
        counted = peak_memory(
            options.model, batch_size=options.batch, image_size=options.side, **how
        )
        started = counted.whole.weights + counted.whole.batch
        ratio = statistics.median(a / b for a, b in zip(times[choice], plain, strict=True))
        print(
            f"{choice:24} {statistics.median(times[choice]):.2f} s "
            f"({min(times[choice]):.2f} to {max(times[choice]):.2f})  ratio {ratio:.2f}  "
            f"counted {counted.peak.total / 2**20:.0f} MiB, "
            f"of them new {(counted.peak.total - started) / 2**20:.0f}  "
            f"process +{process[choice] / 2**20:.0f} MiB"
        )


if __name__ == "__main__":
    main()
