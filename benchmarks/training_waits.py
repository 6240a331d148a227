"""What photographs cost a training: time that its steps wait, and cores that decoding takes away.

usage: python benchmarks/training_waits.py FOLDER [--model resnet18] [--rounds 6] [--steps 2]
       [--run 12] [--quick]

Batches of 64 at 224, recipe torchvision_v1_imagenet, FOLDER one of photographs in class folders. By
turns, each in a process of its own that is stopped in between, STEPS steps a turn:

- `memory`: training steps on batches that were made before;
- `threads`: training steps on batches that threads of the same process make meanwhile;
- `batches`: these batches alone, as many, nobody training.

If decoding took no more than its share, `threads` would take the processor time of `memory` and
`batches` together, and as much longer as that is more: both are compared with it, in each round.
Then `resnets train` takes RUN steps, and its own metrics say how long they waited for data.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rows
from harness.turns import Turn, serve, started

BATCH = 64
KEPT = 4  # batches of `memory`
RECIPE = ["--recipe", "torchvision_v1_imagenet"]
SETTINGS = [f"batch_size={BATCH}", "data.holdout=0"]
ROWS = ("memory", "threads", "batches")


def prepare(row: str, options: argparse.Namespace) -> Callable[[], Iterator[int]]:
    """Return what opens the folder and yields a size for each batch that its row has done."""
    from resnets.machine import cpu
    from resnets.machine.sharing import sharing_cores

    cpu.settle()  # as the command does, before torch loads
    cpu.keep_large_blocks()
    from resnets.machine.device import Machine
    from resnets.training.computing import initial_state
    from resnets.training.feed import Step, build_feed
    from resnets.training.prepare import prepare
    from resnets.training.progress import RunProgress
    from resnets.training.recipe import load_recipe
    from resnets.training.step import training_step

    recipe = load_recipe(RECIPE[1], SETTINGS)

    def begin() -> Iterator[int]:
        progress = RunProgress(quiet=True)
        machine = Machine(device="cpu")
        plan = prepare(options.folder, options.model, recipe, machine=machine, progress=progress)
        state = initial_state(plan)
        state.model.train()
        feed = build_feed(plan.dataset, plan.recipe, plan.preprocess, machine.where)

        def batches() -> Iterator[Any]:
            size = plan.preprocess.size
            steps = (Step(i, index, size) for i in range(1000) for index in feed.indices(i))
            return feed.batches(steps)

        made = cycle([*islice(batches(), KEPT)]) if row == "memory" else batches()
        with sharing_cores():
            for batch in made:
                if row != "batches":
                    data = batch.images, batch.targets, batch.labels
                    training_step(state.model, state.optimizer, *data, lr=0.01, recipe=recipe)
                yield len(batch.images)

    return begin


def measure(options: argparse.Namespace) -> dict[str, list[Turn]]:
    """Return the turns of each row."""
    command = [sys.executable, __file__, str(options.folder), "--model", options.model, "--serve"]
    turns: dict[str, list[Turn]] = {row: [] for row in ROWS}
    with ExitStack() as alive:
        workers = {
            row: alive.enter_context(started([*command, row], rows.environment(), timeout=3600))
            for row in ROWS
        }
        for number in range(options.rounds):
            for row in ROWS[:: -1 if number % 2 else 1]:
                turns[row].append(workers[row].turn(options.steps * BATCH))
    return turns


def waited(options: argparse.Namespace) -> dict[str, float]:
    """Return what the metrics of a whole run say, summed over its epochs."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "resnets", "train", str(options.folder)]
        command += ["--model", options.model, *RECIPE, "--out", f"{folder}/run"]
        for setting in (*SETTINGS, f"schedule.iterations={options.run}"):
            command += ["--set", setting]
        subprocess.run(command, env=rows.environment(), stdout=subprocess.DEVNULL, check=True)
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    return {
        key: sum(json.loads(line)[key] for line in lines)
        for key in ("samples", "train_seconds", "data_seconds")
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--run", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="a minute on two cores")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(partial(prepare, options.serve, options))
        return
    if options.quick:
        options.rounds, options.steps, options.run = 2, 1, 6
    import torch

    from resnets.machine.environment import environment
    from resnets.machine.processes import ALONE

    print(environment(torch.device("cpu"), ALONE, "float32"))
    turns = measure(options)
    print(f"{options.model}, batch {BATCH}, {options.rounds} rounds of {options.steps} steps")
    for row in ROWS:
        wall = [1000 * turn.seconds / turn.images for turn in turns[row]]
        processor = [1000 * turn.processor / turn.images for turn in turns[row]]
        print(
            f"{row:8s} {statistics.median(wall):7.1f} ms an image "
            f"({min(wall):.1f} to {max(wall):.1f}), {statistics.median(processor):7.1f} ms of "
            f"processor time ({min(processor):.1f} to {max(processor):.1f})"
        )
    ratios = {"time": [], "processor time": []}
    for memory, threads, batches in zip(*(turns[row] for row in ROWS), strict=True):
        share = (memory.processor + batches.processor) / memory.processor
        ratios["time"].append(threads.seconds / memory.seconds / share)
        ratios["processor time"].append(threads.processor / memory.processor / share)
    for name, values in ratios.items():
        print(
            f"{name} of threads over that of memory with its share for batches: "
            f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
        )
    found = waited(options)
    print(
        f"resnets train: {found['samples']} images in {found['train_seconds']:.1f} s, of which "
        f"{100 * found['data_seconds'] / found['train_seconds']:.2f} % waiting for data"
    )


if __name__ == "__main__":
    main()
