"""What data cost a training step: the real feed against the same batch again and again.

usage: python benchmarks/data_overhead.py [--root DIR] [--rounds 6] [--steps 20]

Trains resnet20 with batch 128 on CIFAR-10 by he2015_cifar. A round is STEPS steps fed by the data
set (gather, pad, crop, flip, normalise) and STEPS steps on one batch that stays as it is, the order
of the two changing from round to round. The ratio is of medians over the rounds.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from resnets.machine.device import Machine
from resnets.machine.environment import environment
from resnets.machine.processes import ALONE
from resnets.training.computing import initial_state
from resnets.training.feed import build_feed
from resnets.training.prepare import prepare
from resnets.training.progress import RunProgress
from resnets.training.recipe import load_recipe
from resnets.training.step import training_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()

    recipe = load_recipe("he2015_cifar")
    plan = prepare(
        "cifar10",
        "resnet20",
        recipe,
        machine=Machine(device="cpu"),
        progress=RunProgress(quiet=True),
        root=options.root,
    )
    state, device = initial_state(plan), plan.machine.where
    feed = build_feed(plan.dataset, plan.recipe, plan.preprocess, device)
    indices = feed.indices(0)
    still = feed.batch(indices[0], 0)

    def run(fed: bool) -> float:
        began = time.monotonic()
        for step in range(options.steps):
            batch = feed.batch(indices[step], 0) if fed else still
            data = batch.images, batch.targets, batch.labels
            training_step(state.model, state.optimizer, *data, lr=0.01, recipe=recipe)
        return options.steps * recipe.batch_size / (time.monotonic() - began)

    run(True)  # warm up
    rates: dict[bool, list[float]] = {True: [], False: []}
    for number in range(options.rounds):
        for fed in (True, False) if number % 2 else (False, True):
            rates[fed].append(run(fed))
    print(environment(torch.device("cpu"), ALONE, recipe.precision))
    for fed, name in ((False, "one batch again and again"), (True, "fed by the data set")):
        low, median, high = min(rates[fed]), statistics.median(rates[fed]), max(rates[fed])
        print(f"{name:28s} {median:6.1f} img/s   ({low:.1f} to {high:.1f})")
    ratios = [a / b for a, b in zip(rates[True], rates[False], strict=True)]
    print(f"fed / still, median of rounds: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
