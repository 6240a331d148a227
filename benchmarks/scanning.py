"""What finding the images of a folder costs, beside torchvision's ImageFolder.

usage: python benchmarks/scanning.py FOLDER [--rounds 7]

FOLDER is one of many images in class folders, such as `photographs.py SOURCE FOLDER --tiny 200000`
makes. Rows by turns, the order reversed every round, each in a process of its own, the names of
files in the system's cache: processor time (user and system), time, and by how much the process
grew, all for 100,000 files. `ImageFolder` is torchvision's where it can be imported, else the same
walk written out here. Where strace is found, it counts how often the scan looks at each file.
"""

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sized
from pathlib import Path
from tempfile import TemporaryDirectory

import rows

BY_HAND = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def image_folder(folder: Path) -> Callable[[], Sized]:
    try:
        from harness.libraries import import_library

        datasets = import_library("torchvision").datasets
    except ImportError:
        return lambda: written_out(str(folder))
    return lambda: datasets.ImageFolder(str(folder)).samples


def written_out(folder: str) -> list[tuple[str, int]]:
    """Do what torchvision 0.28's `find_classes` and `make_dataset` do."""
    found = []
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    for label, name in enumerate(names):
        for root, _, files in sorted(os.walk(os.path.join(folder, name), followlinks=True)):
            for file in sorted(files):
                path = os.path.join(root, file)
                if path.lower().endswith(BY_HAND):
                    found.append((path, label))
    return found


def scan(folder: Path) -> Callable[[], Sized]:
    from resnets.data.scan import scan

    return lambda: scan(folder)


def labelled(folder: Path) -> Callable[[], Sized]:
    from resnets.data.labelled import open_labelled

    return lambda: open_labelled(folder).samples


def names(folder: Path) -> Callable[[], Sized]:
    from resnets.data.scan import names_in

    return lambda: names_in(folder)


def digest(folder: Path) -> Callable[[], Sized]:
    from resnets.data.identity import images_digest
    from resnets.data.scan import names_in

    found = names_in(folder)
    files = [folder / name for name in found]
    return lambda: images_digest(found, files)


ROWS = {
    "ImageFolder": image_folder,
    "scan": scan,
    "labelled, for evaluate": labelled,
    "names, for predict": names,
    "digest, for predict": digest,
}


def serve(row: str, folder: Path) -> None:
    """Print the processor time, the time and the bytes that a row takes."""
    call = ROWS[row](folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, busy = time.perf_counter(), time.process_time()
    kept = call()
    busy, began = time.process_time() - busy, time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(busy, began, grown * 1024, len(kept))


def looks(folder: Path) -> str:
    """Return how often a scan asks the system about what lies in the class folders."""
    with TemporaryDirectory() as place:
        trace = Path(place, "trace")
        command = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=/stat,access,readlink"]
        subprocess.run([*command, *child("scan", folder)], check=True, stdout=subprocess.DEVNULL)
        asked = re.findall(r'"([^"/]+\.jpe?g)"', trace.read_text(), re.IGNORECASE)
    return f"looks: {len(asked):,} at {len(set(asked)):,} names of files"


def child(row: str, folder: Path) -> list[str]:
    return [sys.executable, __file__, str(folder), "--serve", row]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder)
        return

    found: dict[str, list[list[float]]] = {row: [] for row in ROWS}
    for number in range(options.rounds + 1):
        for row in list(ROWS)[:: -1 if number % 2 else 1]:
            answer = subprocess.run(
                child(row, options.folder),
                check=True,
                capture_output=True,
                text=True,
                env=rows.environment(),
            )
            if number:  # the first fills the cache
                found[row].append([float(word) for word in answer.stdout.split()])
    files = found["scan"][0][3]
    first = [values[0] for values in found["ImageFolder"]]
    print(f"{files:,.0f} files, {options.rounds} rounds; for 100,000 files, medians (range)")
    for row, rounds in found.items():
        busy, clock, memory, _ = zip(*rounds, strict=True)
        ratios = [mine / theirs for mine, theirs in zip(busy, first, strict=True)]
        scale = 1e5 / files
        print(
            f"{row:24s} {spread([scale * each for each in busy])} s of a processor, "
            f"{scale * statistics.median(clock):.2f} s, "
            f"{statistics.median(memory) / files:4.0f} bytes a file; "
            f"to ImageFolder {spread(ratios)}"
        )
    if shutil.which("strace"):
        print(looks(options.folder))


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
