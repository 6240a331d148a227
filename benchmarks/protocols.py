"""What ten crops and several scales cost beside a single crop, on photographs.

usage: python benchmarks/protocols.py PHOTOGRAPHS [--models resnet18,resnet50] [--count 24]
       [--rounds 5]

PHOTOGRAPHS is a folder, such as the 1,000 of github.com/EliSchwartz/imagenet-sample-images. Weights
are random. Each protocol is what `resnets evaluate` does from files to scores, decoding included;
it takes the same --count photographs as the others of its round, of which every round has others,
and the order is reversed every round. Costs are processor time of all threads, which others on the
machine disturb less than the clock; the clock's ratios stand beside.

Expected of ten crops are at most 10.5 single ones. Of scales, by the multiply-adds of
`resnets.profile` at each, times how much longer than high the photographs are: at most 15 % more.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resnets import create_model, profile
from resnets.data.preprocess import imagenet
from resnets.evaluation.averaged import carried_out
from resnets.evaluation.collected import answer
from resnets.evaluation.protocols import Protocol, asked
from resnets.inference.runtimes.torch_runtime import Network
from resnets.machine.cpu import keep_large_blocks
from resnets.machine.environment import environment
from resnets.machine.processes import ALONE

CASES = {
    "single crop": asked("torchvision"),
    "ten crops": asked("he2015-ten-crops"),
    "scales 224, 256, 384": asked(scales=(224, 256, 384)),
    "scales of Table 4": asked("he2015-multi-scale"),
}


def network(name: str) -> Network:
    torch.manual_seed(0)
    model = create_model(name)
    model.preprocess, model.outputs = imagenet(3, 224), "softmax"
    return Network(model)


def costs(model: Network, protocol: Protocol, files: Sequence[Path]) -> tuple[float, float]:
    """Return processor and clock seconds an image."""
    runtime = carried_out(model, protocol)
    began, used = time.perf_counter(), time.process_time()
    answer(runtime, files, np.zeros(len(files), np.int64), lambda done, total: None)
    return (time.process_time() - used) / len(files), (time.perf_counter() - began) / len(files)


def expected(name: str, protocol: Protocol, files: Sequence[Path]) -> float:
    """Return the multiply-adds of a protocol, in single crops."""
    if not protocol.scales:
        return float(protocol.views)
    sides = [Image.open(file).size for file in files]
    longer = statistics.mean(max(size) / min(size) for size in sides)
    single = profile(name).macs
    ratios = [profile(name, image_size=side).macs / single * longer for side in protocol.scales]
    return sum(ratios) * (2 if protocol.tta else 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--models", default="resnet18,resnet50")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_large_blocks()  # as `resnets evaluate` does
    every = sorted(
        f for f in options.photographs.rglob("*") if f.suffix.lower() in (".jpg", ".jpeg")
    )
    print(environment(torch.device("cpu"), ALONE, "float32"))
    for name in options.models.split(","):
        model = network(name)
        for protocol in CASES.values():
            costs(model, protocol, every[:2])  # warm up
        found: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
        looked_at: list[Path] = []
        for number in range(options.rounds):
            files = every[number :: max(1, len(every) // options.count)][: options.count]
            looked_at += files
            for case in reversed(CASES) if number % 2 else CASES:
                found[case].append(costs(model, CASES[case], files))
        print(f"{name}, {options.rounds} rounds of {options.count} photographs")
        for case, each in found.items():
            pairs = list(zip(each, found["single crop"], strict=True))
            used, clock = ([mine[k] / single[k] for mine, single in pairs] for k in (0, 1))
            usual = expected(name, CASES[case], looked_at)
            print(
                f"{case:22} {1000 * statistics.median(mine for mine, _ in each):8.1f} ms  "
                f"{statistics.median(used):6.2f} single ({min(used):.2f} to {max(used):.2f}), "
                f"by the clock {statistics.median(clock):6.2f}  arithmetic {usual:6.2f}  "
                f"ratio {statistics.median(used) / usual:.2f}"
            )


if __name__ == "__main__":
    main()
