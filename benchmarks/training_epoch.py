"""Whole epochs of CIFAR-10, data and augmentation included: our loop beside other people's.

usage: python benchmarks/training_epoch.py [ROW...] [--rounds 8] [--batches 20] [--root DIR]

ResNet-20, batches of 128 unless a row says otherwise. Every row is a process of its own, fresh in
every round, in the environment that has it (`make reference`, `make peers`): it makes WARM-UP
batches, then BATCHES more are timed, end to end. The order is reversed every round, and ratios are
taken to the first row of the same round.

Rows: `ours` is `resnets train` itself (recipe he2015_cifar: gather, pad, crop, flip, normalise,
ledger, progress); `ours-synthetic` the same on one batch that stays; `ours-unsettled` without what
commands settle (`resnets.machine.cpu`, `resnets.machine.sharing`), `ours-bfloat16` with `--set
precision=bfloat16`, for processors that have such arithmetic. `akamaster-N`, `timm-N` have N loader
workers; `timm-channels-last-N` is timm's own option. `keras-BACKEND-FEED-BATCH` is Keras's example:
fed by ImageDataGenerator, as it is, or by bare arrays without augmentation.
"""

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import rows
from harness.workers import Window
from rows import Row


def ours(
    window: Window,
    options: argparse.Namespace,
    *,
    synthetic: bool = False,
    settled: bool = True,
    precision: str = "float32",
) -> None:
    from resnets.machine import cpu
    from resnets.machine.sharing import sharing_cores

    if settled:  # as the command line does, before torch loads
        cpu.settle()
        cpu.keep_large_blocks()
    from tempfile import TemporaryDirectory

    import resnets
    from resnets.training.feed import Feed
    from resnets.training.progress import RunProgress

    def tick(*_: Any) -> None:
        window.tick(128)

    def still(feed: Feed, indices: list[Any], epoch: int, _: Any) -> Iterator[Any]:
        batch = feed.batch(indices[0], epoch)
        for _ in indices:
            yield batch

    # Where the loop would show its progress, it ticks.
    RunProgress.step = tick  # type: ignore[method-assign]
    if synthetic:
        Feed.batches = still  # type: ignore[assignment, method-assign]
    steps = options.warm_up + options.batches + 1
    settings = ["batch_size=128", f"schedule.iterations={steps}", f"precision={precision}"]
    with TemporaryDirectory() as folder, sharing_cores() if settled else nullcontext():
        out = Path(folder) / "run"
        resnets.train(
            "cifar10",
            model="resnet20",
            recipe="he2015_cifar",
            settings=settings,
            out=out,
            root=options.root,
            device="cpu",
            quiet=True,
        )


def akamaster(window: Window, options: argparse.Namespace, *, workers: int) -> None:
    from peers import akamaster, cifar

    akamaster.train(window, *cifar.read(options.root), workers)


def timm(
    window: Window, options: argparse.Namespace, *, workers: int, channels_last: bool = False
) -> None:
    from peers import cifar, timm_loop

    timm_loop.train(window, *cifar.read(options.root), workers, channels_last)


def keras(window: Window, options: argparse.Namespace, **choices: Any) -> None:
    from peers import cifar, keras_example

    keras_example.train(window, *cifar.read(options.root), **choices)


ROWS = {
    "ours": Row("own", ours),
    "ours-synthetic": Row("own", partial(ours, synthetic=True)),
    "ours-unsettled": Row("own", partial(ours, settled=False)),
    "ours-bfloat16": Row("own", partial(ours, precision="bfloat16")),
    **{f"akamaster-{n}": Row("reference", partial(akamaster, workers=n)) for n in (0, 2, 4)},
    **{f"timm-{n}": Row("reference", partial(timm, workers=n)) for n in (0, 1, 2)},
    **{
        f"timm-channels-last-{n}": Row("reference", partial(timm, workers=n, channels_last=True))
        for n in (0, 1, 2)
    },
    **{
        f"keras-{backend}-{feed}-{size}": Row(
            "reference" if (backend, feed) == ("torch", "arrays") else "peers",
            partial(keras, backend=backend, batch_size=size, generator=feed == "generator"),
        )
        for backend in ("tensorflow", "torch")
        for feed in ("generator", "arrays")
        for size in (32, 128)
    },
}


def main() -> None:
    parser = rows.parser(__doc__, rounds=8)
    parser.add_argument("--batches", type=int, default=20, help="timed in a round")
    parser.add_argument("--warm-up", type=int, default=5, help="batches before them")
    parser.add_argument("--root", type=Path, help="where CIFAR-10's binary files are")
    options = parser.parse_args()
    if options.list:
        print("\n".join(ROWS))
        return
    if options.serve:
        window = Window(options.warm_up, options.batches)
        rows.serve(ROWS[options.serve], window, options)
        return
    from harness.comparison import timestamp

    started = timestamp()
    words = ["--batches", str(options.batches), "--warm-up", str(options.warm_up)]
    words += ["--root", str(options.root)] if options.root else []
    seen: dict[str, str] = {}
    cases = {
        name: rows.case(name, ROWS[name], options, words, seen)
        for name in rows.chosen(ROWS, options.rows)
    }
    title = f"CIFAR-10, ResNet-20, batch 128, {options.batches} batches, {options.rounds} rounds"
    result = rows.table(title, cases, options.rounds)
    rows.finish([result], options, started, seen)


if __name__ == "__main__":
    main()
