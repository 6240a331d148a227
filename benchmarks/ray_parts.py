"""What `resnets predict --on` costs beside plain `predict`, on one and two nodes of a Ray cluster.

usage: python benchmarks/ray_parts.py [--model resnet50] [--pictures 400] [--rounds 5] [--files DIR]

Rows are one command over the same images, JPEGs of 500 x 375 that are made up, with random weights
(`resnet20`: its own) and torch: `predict --threads 1`, `predict --threads 2`, and `predict --on
HOST:PORT` on one node, or two, of one processor each. The cluster is started for a row of a round
and ended after it. Images a second are those of the command less the time of the same command over
two batches, which is the start: ray is loaded and joined, each node is asked what it has, its
processes load torch. The order is reversed every round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import files

from ray_cluster import cluster_in
from resnets.errors import ResourceError

ROWS = {"plain-1": ("--threads", "1"), "plain-2": ("--threads", "2"), "ray-1": (), "ray-2": ()}
FEW = 16  # images: two batches


@contextmanager
def words_of(row: str) -> Iterator[tuple[str, ...]]:
    """What is added to the command of a row, while its cluster is there."""
    with ExitStack() as stack:
        if not row.startswith("ray"):
            yield ROWS[row]
            return
        folder = stack.enter_context(TemporaryDirectory(prefix="r"))
        cluster = stack.enter_context(cluster_in(Path(folder)))
        for _ in range(int(row[-1]) - 1):
            cluster.second()
        yield ("--on", cluster.address)


def seconds(model: Path, images: list[Path], words: tuple[str, ...], folder: Path) -> float:
    """Return how long the command over some images takes."""
    listed, table = folder / "images.txt", folder / "table.csv"
    listed.write_text("".join(f"{image}\n" for image in images))
    command = [sys.executable, "-m", "resnets", "predict", str(model), str(listed)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    began = time.perf_counter()
    subprocess.run(
        [*command, "--out", str(table), "--overwrite", *words],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--files", type=Path, default=Path("runs/exports"), help="where they are kept"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    model = files.weights(options, options.model).resolve()
    images = [each.resolve() for each in sorted(files.photographs(options).rglob("*.jpg"))]
    starts: dict[str, list[float]] = {row: [] for row in ROWS}
    rates: dict[str, list[float]] = {row: [] for row in ROWS}
    with TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for row in [*ROWS][:: -1 if number % 2 else 1]:
                with words_of(row) as words:
                    start = seconds(model, images[:FEW], words, Path(folder))
                    whole = seconds(model, images, words, Path(folder))
                if whole <= start:
                    raise ResourceError("the start takes as long as the whole: more --pictures")
                starts[row].append(start)
                rates[row].append((len(images) - FEW) / (whole - start))
                print(f"{row}: start {start:.1f} s, whole {whole:.1f} s", file=sys.stderr)
    print(f"| {len(images)} images | images/s, median (range) | start, s |\n| --- | --- | --- |")
    for row in ROWS:
        low, high = min(rates[row]), max(rates[row])
        rate, start = statistics.median(rates[row]), statistics.median(starts[row])
        print(f"| {row} | {rate:.1f} ({low:.1f} to {high:.1f}) | {start:.1f} |")
    if options.out:
        options.out.write_text(json.dumps({"starts": starts, "rates": rates}, indent=1) + "\n")


if __name__ == "__main__":
    main()
