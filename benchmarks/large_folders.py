"""Starts on large folders: until it is known what is there, and until the first batch.

usage: python benchmarks/large_folders.py FOLDER [--rounds 3] [--pipeline PYTHON] [--epoch]
       [--latency 0 2 10]

FOLDER is one of `photographs.py`, such as 200,000 tiny files. Each row is a process of its own, by
turns; processor time, wall time, and by how much its memory has risen at most, all from where the
imports are done:

- `list`: names, classes, sizes and times of all files; `ImageFolder` is torchvision's way to that;
- `open`: the data set as `resnets train` opens it, without caches of ours, then `again` with them;
- `first batch`: the same to the first batch of 64, with caches.

With `--epoch` all images are read once, those that cannot be read left out; they must be those that
FOLDER.broken lists, where that is there. `--latency` lets every file take so many milliseconds to
open, by 2, 8 and 32 threads: the images a second, and whether the images are the same.
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rows

BATCH, SIZE = 64, 224
LIMIT = 0.05  # of broken images
DELAYED = 40  # batches
ROWS = ("list", "open", "again", "first batch", "ImageFolder")


def work(row: str, folder: Path) -> Callable[[], Any]:
    """Import what a row needs, and return what it does; that returns a number of images."""
    if row == "ImageFolder":
        from harness.libraries import import_library

        datasets = import_library("torchvision").datasets
        return lambda: len(datasets.ImageFolder(str(folder)))
    if row == "list":
        from resnets.data.sources import open_listing

        return lambda: len(open_listing(folder))
    feed = _feed(folder)
    if row == "first batch":
        return lambda: len(next(feed()).images)
    return lambda: len(_open(folder).train)


def _open(folder: Path) -> Any:
    from resnets.data import open_dataset

    return open_dataset(folder, scaled=False, memory=0, broken="skip", broken_limit=LIMIT)


def _feed(folder: Path, change: Callable[[Any], Any] = lambda data: data) -> Callable[[], Any]:
    """Return what opens the folder, lets ``change`` have the data set, and returns its batches."""
    from resnets.machine.device import Machine
    from resnets.training.feed import Step, build_feed
    from resnets.training.prepare import prepare
    from resnets.training.progress import RunProgress
    from resnets.training.recipe import load_recipe

    settings = [f"batch_size={BATCH}", f"data.image_size={SIZE}", "data.holdout=0"]
    recipe = load_recipe("torchvision_v1_imagenet", settings)
    machine, progress = Machine(device="cpu"), RunProgress(quiet=True)

    def begin() -> Iterator[Any]:
        data = change(_open(folder))
        plan = prepare(data, "resnet18", recipe, machine=machine, progress=progress)
        feed = build_feed(plan.dataset, plan.recipe, plan.preprocess, machine.where)
        return feed.batches(Step(0, index, SIZE) for index in feed.indices(0))

    return begin


def serve(row: str, folder: Path) -> None:
    """Be the process of a row: print what it took."""
    act = work(row, folder)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    count = act()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    answer = {
        "images": count,
        "seconds": seconds,
        "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "memory": 1024 * (after.ru_maxrss - before.ru_maxrss),
    }
    print(json.dumps(answer))


def measure(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return what each row took in each round."""
    found: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    for _ in range(options.rounds):
        with TemporaryDirectory() as cache:
            for row in ROWS:
                python = options.pipeline if row == "ImageFolder" else sys.executable
                command = [str(python), __file__, str(options.folder), "--serve", row]
                done = subprocess.run(
                    command,
                    env=rows.environment() | {"RESNETS_CACHE": cache},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=False,
                )
                if done.returncode == 0:
                    found[row].append(json.loads(done.stdout))
    return found


def read_all(folder: Path) -> None:
    """Read an epoch, and compare what was left out with what is known to be broken."""
    data = None

    def keep(opened: Any) -> Any:
        nonlocal data
        data = opened
        return opened

    began = time.perf_counter()
    count = sum(len(batch.images) for batch in _feed(folder, keep)())
    seconds = time.perf_counter() - began
    left_out = sorted(skipped.path for skipped in data.left_out)
    print(f"an epoch of {count} images in {seconds:.0f} s; left out: {len(left_out)}")
    listed = folder.with_name(f"{folder.name}.broken")
    if listed.exists():
        same = left_out == sorted(listed.read_text(encoding="utf-8").split())
        print(f"{listed}: {'the same' if same else 'OTHERS'}")


def delayed(folder: Path, milliseconds: list[float]) -> None:
    """Print how fast files that open late are read, and whether they are the same."""
    from resnets.data.photographs import Photographs

    def slow(data: Any, threads: int, delay: float) -> Any:
        images = data.train.images
        opened = images.listing.open

        def later(index: int) -> Any:
            time.sleep(delay / 1000)
            return opened(index)

        listing = replace(images.listing, open=later)
        images = Photographs(
            listing, images.numbers, images.store, tolerance=images.tolerance, threads=threads
        )
        return replace(data, train=replace(data.train, images=images))

    digests = set()
    for delay in milliseconds:
        for threads in (2, 8, 32):
            digest, count = hashlib.sha256(), 0
            batches = _feed(folder, lambda data, n=threads, ms=delay: slow(data, n, ms))()
            next(batches)
            began = time.perf_counter()
            for batch in islice(batches, DELAYED):
                digest.update(batch.images.contiguous().numpy().tobytes())
                count += len(batch.images)
            rate = count / (time.perf_counter() - began)
            print(f"{delay:g} ms to open a file, {threads} threads: {rate:.0f} images a second")
            digests.add(digest.hexdigest())
    print("the images are the same" if len(digests) == 1 else "THE IMAGES DIFFER")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    python = rows.ROOT / ".venv-pipeline" / "bin" / "python"
    parser.add_argument("--pipeline", type=Path, default=python, metavar="PYTHON")
    parser.add_argument("--epoch", action="store_true")
    parser.add_argument("--latency", type=float, nargs="+", metavar="MS", default=[])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder)
        return
    import torch

    from resnets.cli.output import print_table
    from resnets.machine.environment import environment
    from resnets.machine.processes import ALONE

    print(environment(torch.device("cpu"), ALONE, "float32"))
    found = measure(options)
    table = []
    for row, taken in found.items():
        if not taken:
            table.append((row, "–", "–", "–", "–"))
            continue
        seconds, processor, memory = (
            statistics.median(one[key] for one in taken)
            for key in ("seconds", "processor", "memory")
        )
        count = int(taken[0]["images"])
        table.append((row, count, f"{seconds:.2f}", f"{processor:.2f}", f"{memory / 1e6:.0f}"))
    print_table(("", "images", "seconds", "processor", "MB more"), table)
    if options.epoch:
        read_all(options.folder)
    if options.latency:
        delayed(options.folder, options.latency)


if __name__ == "__main__":
    main()
