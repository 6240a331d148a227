"""What `resnets.runtimes` costs: exported files by it and by the bare runtime, in turns.

usage: python benchmarks/bare.py [--models resnet50 resnet20] [--rounds 20] [--seconds 0.25]
       [--files DIR] [--root DATA]

Two processes that do the same differ by a tenth (see README.md), so that both are in one: each
round measures each for some calls on the same pictures, in the reversed order of the round before.
Files are exported once, into --files where that is given; see files.py for what they hold.
"""

import argparse
import statistics
import time

import files
from inference import JOBS, noise

from resnets.runtimes import open_runtime

VARIANTS = ("onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet50", "resnet20"], choices=JOBS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.25, help="of a turn, about")
    files.add_options(parser)
    options = parser.parse_args()
    print(f"{'':28s} {'batch':>5s} {'ms a call':>10s}   speed over the bare runtime (quartiles)")
    with files.folder(options):
        for model in options.models:
            files.export(options, model, VARIANTS)
            size, batches = JOBS[model]
            for variant in VARIANTS:
                path = files.exported(options, model, variant)
                calls = {"bare": files.bare(path), "ours": open_runtime(path).logits}
                for batch in batches:
                    images = noise(batch, size)
                    seconds = turns(calls, images, options.rounds, options.seconds)
                    low, middle, high = statistics.quantiles(
                        [bare / ours for bare, ours in zip(*seconds.values(), strict=True)], n=4
                    )
                    print(
                        f"{model + ' ' + variant:28s} {batch:5d} "
                        f"{1000 * statistics.median(seconds['bare']):10.2f}   "
                        f"{middle:.3f} ({low:.3f} to {high:.3f})",
                        flush=True,
                    )


def turns(calls: dict, images, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the seconds of a call of each, a figure for each round."""
    for call in calls.values():
        call(images)
    began = time.perf_counter()
    calls["bare"](images)
    count = max(2, round(seconds / (time.perf_counter() - began)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            calls[name](images)
            began = time.perf_counter()
            for _ in range(count):
                calls[name](images)
            found[name].append((time.perf_counter() - began) / count)
    return found


if __name__ == "__main__":
    main()
