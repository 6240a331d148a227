"""What freezing and gradient checkpointing save of a training step: time and memory.

usage: python benchmarks/freezing.py [--model resnet50] [--batch 8] [--side 128] [--rounds 5]

A step is forward, backward and SGD with momentum over all levels of a backbone. Times are by turns
in one process, the order reversed every round. Memory is by processes of their own, two numbers:
what autograd keeps between forward and backward (counted exactly, each storage once, weights not),
and how far the process's peak rises above what it was before its first step.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch

from resnets import Backbone, create_backbone
from resnets.machine.environment import environment
from resnets.machine.processes import ALONE

CHOICES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "frozen_stages=1": {"frozen_stages": 1},
    "frozen_stages=2": {"frozen_stages": 2},
    "frozen_stages=3": {"frozen_stages": 3},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "frozen_stages=2, gradient_checkpointing": {
        "frozen_stages": 2,
        "gradient_checkpointing": True,
    },
}


class Step:
    """One backbone and what trains it."""

    def __init__(self, model: str, batch: int, side: int, choice: str) -> None:
        torch.manual_seed(0)
        self.backbone: Backbone = create_backbone(model, **CHOICES[choice]).train()
        self.optimizer = torch.optim.SGD(self.backbone.parameters(), 1e-3, momentum=0.9)
        self.x = torch.randn(batch, 3, side, side)

    def loss(self) -> torch.Tensor:
        maps = self.backbone(self.x).values()
        return torch.stack([x.square().mean() for x in maps]).sum()

    def run(self) -> float:
        began = time.perf_counter()
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()
        return time.perf_counter() - began

    def kept(self) -> int:
        """Bytes that autograd keeps until the backward pass."""
        own = {p.untyped_storage().data_ptr() for p in self.backbone.parameters()}
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss()
        del loss
        return sum(storages.values())


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_memory(step: Step) -> dict[str, int]:
    """Run in a process of its own: the steps come first, for the peak never falls."""
    before = peak()
    for _ in range(2):
        step.run()
    return {"risen": peak() - before, "kept": step.kept()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", choices=list(CHOICES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = (options.model, options.batch, options.side)
    if options.memory_of:
        print(json.dumps(measure_memory(Step(*size, options.memory_of))))
        return

    memory = {}
    for choice in CHOICES:
        command = [sys.executable, *sys.argv, "--memory-of", choice]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        memory[choice] = json.loads(answer.stdout)
    steps = {choice: Step(*size, choice) for choice in CHOICES}
    for step in steps.values():
        step.run()  # warm up
    times: dict[str, list[float]] = {choice: [] for choice in CHOICES}
    for number in range(options.rounds):
        for choice in reversed(CHOICES) if number % 2 else CHOICES:
            times[choice].append(steps[choice].run())

    print(environment(torch.device("cpu"), ALONE, "float32"))
    print(f"{options.model}, batch {options.batch}, {options.side} x {options.side}")
    first = times["nothing"]
    for choice in CHOICES:
        ratio = statistics.median(a / b for a, b in zip(times[choice], first, strict=True))
        print(
            f"{choice:40} {statistics.median(times[choice]):.2f} s "
            f"({min(times[choice]):.2f} to {max(times[choice]):.2f})  ratio {ratio:.2f}  "
            f"kept {memory[choice]['kept'] / 2**20:.0f} MiB  "
            f"peak +{memory[choice]['risen'] / 2**20:.0f} MiB"
        )


if __name__ == "__main__":
    main()
