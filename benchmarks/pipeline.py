"""From files to batches: photographs through our feed and through other people's loaders.

usage: python benchmarks/pipeline.py [ROW...] [--photographs DIR] [--files DIR] [--quick]
       [--rounds 9] [--images 1280] [--count 20000]

Batches of 64 random crops by area at 224, flipped, in random order, from COUNT files that
`photographs.py` makes of the real PHOTOGRAPHS; they are kept in FILES, with the packs and tars that
are made of them. Every row is a process of its own, in the environment that has it, which lives
through all rounds and is stopped, with all its children, while another is measured. A turn is
IMAGES images, and the order is reversed every round.

Three tables: images a second of wall time; of processor time (user and system, of a row's whole
process group); and the first batch and memory. Ratios are to the torchvision row that is fastest in
wall time, taken within a round. The first batch is timed from where a process has imported what it
needs: at a first start, without our caches, and at a second. Memory is the largest sum, after any
turn, over the processes of a row: what they share is counted once, mapped files are not.

`ours-SOURCE` is the feed of `resnets train` (recipe torchvision_v1_imagenet), normalised float32;
`-uint8` is what it normalises. They decode with the fastest of what is installed, but for those
that name another. The number of the others is that of their workers. `--quick` takes one row of
each kind, fewer and shorter turns and one start.
"""

import argparse
import io
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import rows
from harness.turns import Turn, Worker, serve, started

from resnets.errors import ResourceError

BATCH = 64
WARM_UP = 2 * BATCH
ENOUGH = 10**6  # epochs
Begin = Callable[[], Iterator[int]]

FOLDER, SHARDS = "photographs", "shards"
PACKS = {"pack-jpeg.pack": ["--side", "256"], "pack-raw.pack": ["--side", "256", "--raw"]}
SOURCES = {"folder": FOLDER, "tar": SHARDS, **{name.removesuffix(".pack"): name for name in PACKS}}
SHARD = 1000  # images
WORKERS = (0, 1, 2, 4)
PILLOW = "pillow"


def ours(source: Path, floats: bool, decoder: str | None = None) -> Begin:
    """Return the feed of a training that reads ``source``; ``floats`` as a step gets them."""
    from resnets.machine import cpu
    from resnets.machine.sharing import sharing_cores

    cpu.settle()  # as the command line does, before torch loads
    cpu.keep_large_blocks()
    from resnets.data import decoders, open_dataset
    from resnets.data.photographs import Request
    from resnets.data.views import Crops
    from resnets.machine.device import Machine
    from resnets.training.feed import Step, build_feed
    from resnets.training.prepare import prepare
    from resnets.training.progress import RunProgress
    from resnets.training.recipe import load_recipe

    if decoder is not None:
        found = tuple(each for each in decoders.decoders() if each.name.startswith(decoder))
        if not found and decoder != PILLOW:
            raise ResourceError(f"{decoder} is not installed")
        decoders.decoders = lambda: found  # type: ignore[assignment]
    recipe = load_recipe("torchvision_v1_imagenet", [f"batch_size={BATCH}", "data.holdout=0"])
    machine, progress = Machine(device="cpu"), RunProgress(quiet=True)

    def begin() -> Iterator[int]:
        # As `train` opens it, but that no pixels are kept: on some machines all would be.
        data = open_dataset(source, scaled=False, memory=0)
        plan = prepare(data, "resnet18", recipe, machine=machine, progress=progress)
        feed = build_feed(plan.dataset, plan.recipe, plan.preprocess, machine.where)
        size = plan.preprocess.size
        steps = (Step(i, index, size) for i in range(ENOUGH) for index in feed.indices(i))
        requests = (
            Request(feed.split.ids[step.index], Crops(feed.augment, step.epoch, size))
            for step in steps
        )
        batches = feed.batches(steps) if floats else feed.split.images.read(requests)
        with sharing_cores():
            for batch in batches:
                yield len(batch.images)

    return begin


@dataclass(frozen=True)
class Row:
    """One line of the tables: whose feed, of which of the files, and how."""

    library: str  # "ours", or a function of peers/photographs.py
    source: str
    choices: Mapping[str, Any]
    quick: bool = False

    def begin(self, files: Path) -> Begin:
        """Import what it needs, and return what opens the data."""
        if self.library == "ours":
            return ours(files / self.source, **self.choices)
        from peers import photographs

        begin: Begin = getattr(photographs, self.library)(files / self.source, **self.choices)
        return begin


def _rows() -> Iterator[tuple[str, Row]]:
    floats, levels = {"floats": True}, {"floats": False}
    for name, source in SOURCES.items():
        yield f"ours-{name}", Row("ours", source, floats, quick=True)
        yield f"ours-{name}-uint8", Row("ours", source, levels, quick=name == "folder")
    for decoder in (PILLOW, "simplejpeg"):
        yield f"ours-folder-{decoder}", Row("ours", FOLDER, floats | {"decoder": decoder})
    for n in WORKERS:
        yield f"torchvision-{n}", Row("torchvision", FOLDER, floats | {"workers": n}, n == 2)
    for n in WORKERS:
        yield f"timm-{n}", Row("timm", FOLDER, {"workers": n}, n == 2)
    for library, source in (("webdataset", SHARDS), ("dali", FOLDER)):
        yield f"{library}-2", Row(library, source, floats | {"workers": 2}, quick=True)
    for library, source in (("torchvision", FOLDER), ("webdataset", SHARDS), ("dali", FOLDER)):
        yield f"{library}-2-uint8", Row(library, source, levels | {"workers": 2})


ROWS = dict(_rows())
REFERENCES = [f"torchvision-{n}" for n in WORKERS]


@dataclass
class Seen:
    """What was measured of a row beside its wall times."""

    starts: list[dict[str, float]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    memory: int = 0  # bytes


def case(
    name: str,
    options: argparse.Namespace,
    alive: ExitStack,
    seen: Seen,
    versions: dict[str, str],
) -> Callable[[], Callable[[], float]]:
    """Return what prepares a row's measurement; its worker lives as long as ``alive``."""
    row = ROWS[name]

    def start(stack: ExitStack) -> Worker:
        python = Path(sys.executable) if row.library == "ours" else options.pipeline
        if not python.exists():
            raise ResourceError(f"needs {python}: {rows.MISSING['pipeline']}")
        command = [str(python), __file__, "--serve", name, "--files", str(options.files)]
        cache = {"RESNETS_CACHE": str(options.files / "caches" / name)}
        worker = stack.enter_context(started(command, rows.environment() | cache))
        first = worker.first
        versions.update(first["versions"])
        seen.starts.append({key: first[key] for key in ("seconds", "processor")})
        return worker

    def prepare() -> Callable[[], float]:
        for _ in range(options.starts - 1):
            with ExitStack() as stack:
                start(stack)
        worker = start(alive)
        worker.turn(WARM_UP)

        def measure() -> float:
            turn = worker.turn(options.images)
            seen.turns.append(turn)
            seen.memory = max(seen.memory, worker.memory())
            return turn.images / turn.seconds

        return measure

    return prepare


def make_files(options: argparse.Namespace, names: list[str]) -> None:
    """Make what is not there yet of the files that the chosen rows read."""
    import photographs

    folder = options.files / FOLDER
    if options.photographs:
        photographs.make(options.photographs, folder, options.count)
    elif not folder.exists():
        sys.exit(f"{folder} is not there: give --photographs, a folder of real ones")
    wanted = {ROWS[name].source for name in names}
    images = sorted(folder.rglob("*.jpg"))
    if SHARDS in wanted:
        write_shards(options.files / SHARDS, images)
    for name in wanted & PACKS.keys():
        path = options.files / name
        if not path.exists():
            command = [sys.executable, "-m", "resnets", "data", "pack", str(folder)]
            command += ["--out", str(path), *PACKS[name]]
            print(" ".join(command), flush=True)
            subprocess.run(command, env=rows.environment(), check=True)


def write_tar(path: Path, members: dict[str, Path | bytes]) -> None:
    """Write a tar of files, or of bytes, by name, unless it is there."""
    if path.exists():
        return
    part = path.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else content.read_bytes()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    part.replace(path)
    print(f"{path}: {len(members)} members", flush=True)


def write_shards(folder: Path, images: list[Path]) -> None:
    """Write the images in random order into tars as WebDataset has them."""
    folder.mkdir(exist_ok=True)
    classes = {name: i for i, name in enumerate(sorted({path.parent.name for path in images}))}
    random.Random(0).shuffle(images)
    for start in range(0, len(images), SHARD):
        members: dict[str, Path | bytes] = {}
        for number, path in enumerate(images[start : start + SHARD], start):
            members[f"{number:08d}.jpg"] = path
            members[f"{number:08d}.cls"] = str(classes[path.parent.name]).encode()
        write_tar(folder / f"{start // SHARD:05d}.tar", members)


def read_once(folder: Path) -> None:
    """Let the system cache what it can of all files."""

    def read(path: Path) -> None:
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, (path for path in folder.rglob("*") if path.is_file())))


def report(
    found: Any, share: Any, seen: dict[str, Seen], options: argparse.Namespace
) -> dict[str, Any]:
    """Print the three tables and return them as plain data."""
    from harness import comparison
    from harness.rounds import Rounds

    from resnets.cli.output import print_table
    from resnets.data.decoders import decoders

    reference = [name for name in REFERENCES if name in found.rates]
    reference.sort(key=lambda name: -statistics.median(found.rates[name]))
    names = [*reference[:1], *(name for name in found.rates if name not in reference[:1])]
    processor = {name: [t.images / t.processor for t in seen[name].turns] for name in names}
    results: dict[str, Any] = {}
    for title, rates in (("wall", {n: found.rates[n] for n in names}), ("processor", processor)):
        rounds = Rounds(rates, found.yardsticks, found.failed)
        results[title] = comparison.summarise(rounds, share)
        print(f"Images a second of {title} time")
        print_table(comparison.HEADING, comparison.table(results[title]))
        print()
    print("The first batch, by start: seconds (of processor time); memory")
    starts = {
        name: [f"{s['seconds']:.2f} ({s['processor']:.2f})" for s in seen[name].starts]
        for name in names
    }
    print_table(
        ("", *(f"start {i + 1}" for i in range(options.starts)), "MB"),
        [(name, *starts[name], f"{seen[name].memory / 1e6:.0f}") for name in names],
    )
    print(comparison.machine_line(results["wall"]))
    print(f"ours decodes with {', '.join(each.name for each in decoders()) or PILLOW}, the first\n")
    return results | {"rows": {name: asdict(seen[name]) for name in names}}


def main() -> None:
    parser = rows.parser(__doc__, rounds=9)
    parser.add_argument("--files", type=Path, default=rows.ROOT / "runs" / "pipeline")
    parser.add_argument("--photographs", type=Path, help="real ones, where FILES has none yet")
    parser.add_argument("--count", type=int, default=20_000, help="files made of them")
    parser.add_argument("--images", type=int, default=1280, help="in a turn")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(ROWS))
        return
    if options.serve:
        serve(partial(ROWS[options.serve].begin, options.files))
        return
    names = rows.chosen(ROWS, options.rows)
    if options.quick:
        names = [name for name in names if ROWS[name].quick]
        options.rounds, options.images, options.starts = 8, 640, 1
    make_files(options, names)
    shutil.rmtree(options.files / "caches", ignore_errors=True)
    read_once(options.files)

    from harness import comparison

    from resnets.cli.output import say

    began = comparison.timestamp()
    seen, versions = {name: Seen() for name in names}, {}
    with ExitStack() as alive:
        cases = {name: case(name, options, alive, seen[name], versions) for name in names}
        found, share = comparison.measure(cases, options.rounds, say)
    result = report(found, share, seen, options)
    rows.finish([result], options, began, versions)


if __name__ == "__main__":
    main()
