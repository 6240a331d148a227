"""Training steps and inference of models beside their peers: torchvision, timm and the runtimes.

usage: python benchmarks/models.py [MODEL...] [--training | --inference] [--batch-size N]...
       [--image-size N] [--rounds 8] [--threads N] [--out FILE.json]

All cases are in one process and measured once a round, the order reversed every round; ratios are
taken round by round. A verdict is given where the spread of the ratios bears one (6 rounds at
least), and the machine, seen by work that is always the same, was quiet enough. A peer that is not
installed is left out, one that fails or has another network of that name gets a line with the
reason. `resnets bench` measures our networks alone.
"""

import argparse
import json
import sys
from pathlib import Path

from resnets.machine import cpu

WORK = ("training", "inference")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["resnet20", "resnet50"], metavar="MODEL")
    for work in WORK:
        parser.add_argument(f"--{work}", action="append_const", dest="work", const=work)
    parser.add_argument("--batch-size", type=int, action="append", metavar="N")
    parser.add_argument("--image-size", type=int, metavar="N")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="all that was measured")
    options = parser.parse_args()
    cpu.keep_large_blocks()  # as a training does
    import torch
    from harness import comparison

    from resnets.cli.output import print_table, say
    from resnets.training.throughput import job
    from resnets.zoo import get_spec

    if options.threads:
        torch.set_num_threads(options.threads)
    jobs = [
        job(get_spec(name), work, batch, options.image_size)
        for name in options.models
        for work in options.work or WORK
        for batch in options.batch_size or ((None,) if work == "training" else (1, None))
    ]
    started, results = comparison.timestamp(), []
    for result in comparison.compare(jobs, rounds=options.rounds, say=say):
        results.append(result)
        print(result["title"])
        print_table(comparison.HEADING, comparison.table(result))
        print(f"{comparison.machine_line(result)}\n", flush=True)
    report = comparison.about(results, options.rounds, started)
    print(comparison.environment_line(report))
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    if not any(result["cases"] for result in results):
        sys.exit("nothing could be measured: the tables say why")


if __name__ == "__main__":
    main()
