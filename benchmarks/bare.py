"""What `resnets.inference.runtimes` costs: exported files by it and by the bare runtime, in turns.

usage: python benchmarks/bare.py [--models resnet50 resnet20] [--rounds 12] [--seconds 0.25]
       [--files DIR] [--root DATA] [--out FILE.json]

Two processes that do the same differ by a tenth (see README.md), so that both are in one. The
order is reversed every round, and ratios are taken to the bare runtime. Files are exported once,
into --files where that is given; see files.py for what they hold.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import files
import rows
from harness.comparison import timestamp
from inference import JOBS, noise

from resnets.inference.runtimes import open_runtime
from resnets.training.throughput import timed

VARIANTS = ("onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet50", "resnet20"], choices=JOBS)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.25, help="of a measurement, about")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="all that was measured")
    files.add_options(parser)
    options = parser.parse_args()
    started, results = timestamp(), []
    with files.folder(options):
        for model in options.models:
            files.export(options, model, VARIANTS)
            size, batches = JOBS[model]
            for variant in VARIANTS:
                path = files.exported(options, model, variant)
                calls: dict[str, Callable[[Any], Any]] = {
                    "bare": files.bare(path),
                    "resnets": open_runtime(path).logits,
                }
                for batch in batches:
                    images = noise(batch, size)
                    cases = {
                        name: partial(timed, partial(call, images), batch, seconds=options.seconds)
                        for name, call in calls.items()
                    }
                    title = f"{model}, {variant}, batch {batch}, {options.rounds} rounds"
                    results.append(rows.table(title, cases, options.rounds))
    rows.finish(results, options, started, {})


if __name__ == "__main__":
    main()
