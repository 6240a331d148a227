"""Folders of many JPEGs, made from few real photographs, for the scripts about reading them.

usage: python benchmarks/photographs.py SOURCE OUT [--count 20000] [--broken 0.01]
       python benchmarks/photographs.py SOURCE OUT --tiny 200000

SOURCE is a folder of photographs, one a class: for the figures in README.md the 1,000 of
github.com/EliSchwartz/imagenet-sample-images. In OUT each has a class folder. There it lies COUNT /
(number of photographs) times, cut by 0 to 3 pixels at each edge, of quality 95 or 96, with the
layout of colours that it has: 20,000 files of 1,000 are 2.4 GB. `--tiny` makes images of 8 x 8
instead. `--broken` damages a part of the files and lists them in OUT.broken. The same arguments
make the same files, and those that are there are not made again.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

ENDINGS = (".jpg", ".jpeg")
EACH = 130_000  # bytes of a file, a little more than typical


def sources(folder: Path) -> list[Path]:
    """Return the photographs of a folder, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)


def copies(source: Path, out: Path, count: int, tiny: bool) -> Iterator[Path]:
    """Make ``count`` files of a photograph that differ; yield those that were not there."""
    folder, original = out / source.stem, None
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{source.stem}_{number:03d}.jpg"
        if path.exists():
            continue
        if original is None:
            original = Image.open(source)
            layout = JpegImagePlugin.get_sampling(original)
            original = original.convert("L" if original.mode == "L" else "RGB")
        random = np.random.default_rng([number, *source.stem.encode()])
        left, top, right, bottom = (int(cut) for cut in random.integers(0, 4, 4))
        box = (left, top, original.width - right, original.height - bottom)
        image = original.resize((8, 8), box=box) if tiny else original.crop(box)
        part = path.with_suffix(".part")  # what has its name is whole
        image.save(part, "JPEG", quality=95 + number % 2, subsampling=layout)
        part.replace(path)
        yield path


def damage(path: Path, kind: int) -> None:
    """Make an image unreadable in one of four ways."""
    data = path.read_bytes()
    match kind % 4:
        case 0:
            path.write_bytes(data[: len(data) // 2])
        case 1:
            path.write_bytes(b"")
        case 2:
            path.write_bytes(b"<html>not found</html>")
        case 3:
            path.write_bytes(bytes(64) + data[64:])


def make(source: Path, out: Path, count: int, *, broken: float = 0.0, tiny: bool = False) -> None:
    """Make what is not there yet of ``count`` files, in threads."""
    found = sources(source)
    if not found:
        sys.exit(f"{source}: no photographs (files that end in {' or '.join(ENDINGS)})")
    counts = [count // len(found) + (i < count % len(found)) for i in range(len(found))]
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if not tiny and not any(out.iterdir()) and free < count * EACH:
        sys.exit(f"{out}: {count} files need {count * EACH >> 20} MiB, {free >> 20} MiB are free")

    def one(source: Path, count: int) -> list[Path]:
        return list(copies(source, out, count, tiny))

    with ThreadPoolExecutor() as pool:
        made = [path for paths in pool.map(one, found, counts) for path in paths]
    print(f"{out}: {len(made)} of {count} files made", flush=True)
    listed = out.with_name(f"{out.name}.broken")
    if broken and not listed.exists():
        files = sorted(path for folder in out.iterdir() for path in folder.iterdir())
        chosen = np.random.default_rng(0).permutation(len(files))[: round(broken * len(files))]
        damaged = [files[i] for i in sorted(chosen)]
        for kind, path in enumerate(damaged):
            damage(path, kind)
        names = [path.relative_to(out).as_posix() for path in damaged]
        listed.write_text("\n".join(names) + "\n", encoding="utf-8")
        print(f"{listed}: {len(names)} of them damaged")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--broken", type=float, default=0.0, metavar="PART")
    parser.add_argument("--tiny", type=int, metavar="COUNT")
    options = parser.parse_args()
    one = partial(make, options.source, options.out, broken=options.broken)
    one(options.tiny or options.count, tiny=options.tiny is not None)


if __name__ == "__main__":
    main()
