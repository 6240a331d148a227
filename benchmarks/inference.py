"""How fast a trained network answers: eager torch, and exported files in their runtimes.

usage: python benchmarks/inference.py [ROW...] [--rounds 8] [--seconds 2] [--files DIR]

Every row is a process of its own, fresh in every round, in the environment that has it (`make
reference` for torchvision); the order is reversed every round, and ratios are taken to a table's
first row. A row is MODEL-BATCH-VARIANT: `torchvision` (for resnet20 the plainly written net),
`eager`, `channels-last`, `onnxruntime` and `openvino` (the exported file through
`resnets.inference.runtimes`), `...-own-choice` (by the runtime alone in the precision that it
chooses for this processor), `...-int8`.

Files are exported once, into --files where that is given; see files.py for what they hold.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import files
import rows
from files import exported
from harness.workers import Window
from rows import Row

JOBS = {"resnet50": (224, (1, 16)), "resnet18": (224, (1, 16)), "resnet20": (32, (1, 128))}
VARIANTS = (
    *("torchvision", "eager", "channels-last", "onnxruntime", "openvino"),
    *("onnxruntime-int8", "openvino-int8", "openvino-own-choice"),
)
RUNTIMES = ("onnxruntime", "openvino")
OWN_CHOICE = "-own-choice"


def repeat(window: Window, options: argparse.Namespace, call: Callable[[], Any], n: int) -> None:
    """Warm a call up, then tick it for about the seconds that are asked for."""
    call()
    began = time.perf_counter()
    call()
    window.batches = max(1, round(options.seconds / (time.perf_counter() - began)))
    while True:
        call()
        window.tick(n)


def noise(batch: int, size: int) -> Any:
    import numpy as np

    shape = (batch, 3, size, size)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def torch_row(
    window: Window, options: argparse.Namespace, *, model: str, variant: str, batch: int
) -> None:
    import torch

    images = torch.from_numpy(noise(batch, JOBS[model][0]))
    if variant == "torchvision" and model == "resnet20":
        from peers.akamaster import resnet20

        network: Any = resnet20()
    elif variant == "torchvision":
        from harness.libraries import import_library

        network = import_library("torchvision").models.get_model(model)
    else:
        from resnets import create_model

        network = create_model(model)
    if variant == "channels-last":
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    network.eval()
    with torch.inference_mode():
        repeat(window, options, lambda: network(images), batch)


def file_row(
    window: Window, options: argparse.Namespace, *, model: str, variant: str, batch: int
) -> None:
    from resnets.inference.runtimes import open_runtime

    images = noise(batch, JOBS[model][0])
    runtime = open_runtime(exported(options, model, variant), variant.partition("-")[0])
    repeat(window, options, lambda: runtime.logits(images), batch)


def own_choice_row(
    window: Window, options: argparse.Namespace, *, model: str, variant: str, batch: int
) -> None:
    path, images = exported(options, model, variant), noise(batch, JOBS[model][0])
    call = files.bare(path, own_choice=True)
    repeat(window, options, lambda: call(images), batch)


def row(model: str, batch: int, variant: str) -> Row:
    if variant in ("torchvision", "eager", "channels-last"):
        serve, here = torch_row, variant != "torchvision" or model == "resnet20"
    else:
        serve, here = own_choice_row if variant.endswith(OWN_CHOICE) else file_row, True
    work = partial(serve, model=model, variant=variant, batch=batch)
    return Row("own" if here else "reference", work)


ROWS = {
    f"{model}-{batch}-{variant}": row(model, batch, variant)
    for model, (_, batches) in JOBS.items()
    for batch in batches
    for variant in VARIANTS
}


def main() -> None:
    parser = rows.parser(__doc__, rounds=8)
    parser.add_argument("--seconds", type=float, default=2, help="of a measurement, about")
    files.add_options(parser)
    options = parser.parse_args()
    if options.list:
        print("\n".join(ROWS))
        return
    if options.serve:
        rows.serve(ROWS[options.serve], Window(warm_up=1, batches=1), options)
        return
    from harness.comparison import timestamp

    started, seen, results = timestamp(), {}, []
    wanted = rows.chosen(ROWS, options.rows)
    with files.folder(options):
        words = ["--files", str(options.files), "--seconds", str(options.seconds)]
        for model, (size, batches) in JOBS.items():
            for batch in batches:
                names = [name for name in wanted if name.startswith(f"{model}-{batch}-")]
                if not names:
                    continue
                variants = {name.removeprefix(f"{model}-{batch}-") for name in names}
                runtimes = {v.removesuffix(OWN_CHOICE) for v in variants if v.startswith(RUNTIMES)}
                files.export(options, model, sorted(runtimes))
                cases = {n: rows.case(n, ROWS[n], options, words, seen) for n in names}
                title = f"{model}, batch {batch}, {size}x{size}, {options.rounds} rounds"
                result = rows.table(title, cases, options.rounds)
                results.append(result)
    rows.finish(results, options, started, seen)


if __name__ == "__main__":
    main()
