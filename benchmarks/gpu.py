"""How fast a CUDA GPU trains resnet20 on CIFAR-10's shapes, beside an eager loop with a loader.

usage: python benchmarks/gpu.py [--minutes 9] [--epochs 4] [--images 50000] [--device cuda]

The images are random bytes of CIFAR-10's number and size; speed does not depend on them. Our rows
are whole runs of `resnets.train`: whole epochs with their data, augmentation, checks, ledger and
saved state, of which the first is left out. The loader's row is the usual script: images cropped
and flipped one by one by worker processes, eager steps. The floor is arithmetic alone (243 MFLOP a
image) and memory traffic alone (5.8 to 8.3 MB an image in bfloat16), at an H200's 790 TFLOP/s
and 4.3 TB/s. Without such a GPU it says "not measured".
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from resnets import create_model
from resnets.data.dataset import Dataset, MemoryImages, whole
from resnets.machine.device import Machine
from resnets.machine.environment import environment
from resnets.machine.processes import ALONE
from resnets.training.train import train

FLOOR = "floor of an H200: 15 ms of arithmetic, 68 to 96 ms of memory traffic an epoch"


def pictures(count: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)
    train = whole(MemoryImages(pixels), torch.randint(10, (count,), generator=generator))
    few = train.subset(torch.arange(100))
    return Dataset("random", tuple("0123456789"), train, None, few, "random", mirror=True)


def ours(batch: int, precision: str, options: argparse.Namespace, **how: bool) -> float:
    """Return the seconds of an epoch, from the clock of a whole run."""
    settings = [f"batch_size={batch}", f"precision={precision}", "data.holdout=0"]
    settings += ["schedule.iterations=null", f"schedule.epochs={options.epochs}"]
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            pictures(options.images),
            model="resnet20",
            recipe="he2015_cifar",
            settings=settings,
            out=Path(folder) / "run",
            machine=Machine(device=options.device, quiet=True, **how),
        )
        lines = (run.path / "metrics.jsonl").read_text().splitlines()
        clock = [json.loads(line)["seconds"] for line in lines]
    return (clock[-1] - clock[0]) / (len(clock) - 1)


def measured_algorithms(options: argparse.Namespace) -> float:
    """`ours` with convolution algorithms that cuDNN measures instead of guessing.

    Which it takes may differ between two runs, and with it their last bits.
    """
    torch.backends.cudnn.benchmark = True
    try:
        return ours(128, "bfloat16", options, cuda_graph=True)
    finally:
        torch.backends.cudnn.benchmark = False


class OneByOne(torch.utils.data.Dataset):
    """What a script's data set does for an image: pad, crop, flip, normalise."""

    def __init__(self, dataset: Dataset) -> None:
        self.pixels = dataset.train.images.pixels
        self.labels = dataset.train.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        image = F.pad(self.pixels[number].permute(2, 0, 1), (4, 4, 4, 4))
        top, left, mirror = (int(torch.randint(n, ())) for n in (9, 9, 2))
        image = image[:, top : top + 32, left : left + 32]
        image = image.flip(2) if mirror else image
        return (image.float() / 255 - 0.47) / 0.25, int(self.labels[number])


def script(batch: int, options: argparse.Namespace) -> float:
    """Return the seconds of an epoch of an eager loop that a DataLoader feeds, in bfloat16."""
    device = torch.device(options.device)
    workers = min(16, os.cpu_count() or 1)
    dataset = OneByOne(pictures(options.images))
    loader = torch.utils.data.DataLoader(
        dataset,
        batch,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    model = create_model("resnet20").to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=1e-4)
    spans = []
    for _ in range(options.epochs):
        began = time.monotonic()
        for images, labels in loader:
            images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
            labels = labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16):
                loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
        spans.append(time.monotonic() - began)
    return statistics.median(spans[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    if options.device == "cuda" and not torch.cuda.is_available():
        print("not measured: there is no CUDA GPU here")
        return
    rows: dict[str, Callable[[], float]] = {
        "graph, bfloat16, 128": lambda: ours(128, "bfloat16", options, cuda_graph=True),
        "the same, cuDNN's algorithms measured": lambda: measured_algorithms(options),
        "graph, bfloat16, 1024": lambda: ours(1024, "bfloat16", options, cuda_graph=True),
        "graph, float32, 128": lambda: ours(128, "float32", options, cuda_graph=True),
        "graph and compiled, bfloat16, 128": lambda: ours(
            128, "bfloat16", options, cuda_graph=True, compile=True
        ),
        "step by step, bfloat16, 128": lambda: ours(128, "bfloat16", options),
        "DataLoader and eager steps, bfloat16, 128": lambda: script(128, options),
    }
    print(json.dumps(environment(torch.device(options.device), ALONE, "bfloat16")))
    print(f"{'':44s} s an epoch     images/s", flush=True)
    for name, measure in rows.items():
        if time.monotonic() > deadline:
            print(f"{name:44s} not measured: no time left")
            continue
        try:
            seconds = measure()
        except Exception as error:
            print(f"{name:44s} failed: {type(error).__name__}: {str(error)[:200]}", flush=True)
            continue
        print(f"{name:44s} {seconds:10.3f} {options.images / seconds:13,.0f}", flush=True)
    print(FLOOR)


if __name__ == "__main__":
    main()
