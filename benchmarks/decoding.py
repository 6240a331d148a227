"""What a JPEG costs to decode: Pillow and what is installed beside it, the whole or a window.

usage: python benchmarks/decoding.py PHOTOGRAPHS [--megapixels M] [--count N] [--rounds 1]
       [--threads 1] [--turn 50]

PHOTOGRAPHS is a folder of JPEGs; with `--megapixels` they are enlarged (bicubic, quality 90) first.
Every row goes from bytes in memory to the pixels of the window that training draws of an image by
area: Pillow, and each of `resnets.data.decoders.decoders()` of the whole and, where it can, of the
window alone. First all of them are compared with Pillow's bits. Turns are of TURN photographs, in
an order of rows that is drawn anew; times are of the processor, all threads together, ratios are
taken within a turn. `draft`, Pillow's decoding at a half, quarter or eighth of the scale, never
under 224 pixels for the window's shorter side, gives other pixels: it shows what that would save.
"""

import argparse
import io
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from harness.statistics import interval, paired_ratios
from photographs import sources
from PIL import Image

from resnets.data.decoders import Box, Decoder, decode_jpeg, decoders
from resnets.data.windows import random_areas
from resnets.machine.environment import environment
from resnets.machine.processes import ALONE

SIZE = 224


def by_pillow(data: bytes, box: Box) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).crop(box))


def drafted(data: bytes, box: Box) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    scale = min(1, SIZE / min(box[2] - box[0], box[3] - box[1]))
    image.draft(image.mode, (round(scale * image.width), round(scale * image.height)))
    return np.asarray(image)


def whole(data: bytes, box: Box, *, by: Decoder) -> np.ndarray:
    pixels = decode_jpeg(Image.open(io.BytesIO(data)), data, by=by)
    left, top, right, bottom = box
    return by_pillow(data, box) if pixels is None else pixels[top:bottom, left:right]


def window(data: bytes, box: Box, *, by: Decoder) -> np.ndarray:
    pixels = decode_jpeg(Image.open(io.BytesIO(data)), data, box, by=by)
    return by_pillow(data, box) if pixels is None else pixels


def enlarged(data: bytes, megapixels: float) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    size = (round(scale * image.width), round(scale * image.height))
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def boxes(files: list[bytes]) -> list[Box]:
    """Return the windows of torchvision_v1_imagenet's first epoch."""
    sizes = torch.tensor([Image.open(io.BytesIO(data)).size for data in files])
    ids = torch.arange(len(files))
    found = random_areas((sizes[:, 1], sizes[:, 0]), (0.08, 1.0), (3 / 4, 4 / 3), 0, 0, ids)
    top, left, height, width = (each.long() for each in found)
    return list(map(tuple, torch.stack([left, top, left + width, top + height], 1).tolist()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--megapixels", type=float)
    parser.add_argument("--count", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turn", type=int, default=50)
    options = parser.parse_args()

    files = [path.read_bytes() for path in sources(options.photographs)[: options.count]]
    if options.megapixels:
        files = [enlarged(data, options.megapixels) for data in files]
    photographs = list(zip(files, boxes(files), strict=True))
    rows = {"pillow": by_pillow}
    for found in decoders():
        rows[f"{found.name}, whole"] = partial(whole, by=found)
        if found.name.startswith("libjpeg-turbo"):
            rows[f"{found.name}, window"] = partial(window, by=found)
    for name, row in rows.items():
        same = 0
        for data, box in photographs:
            expected = by_pillow(data, box)
            same += np.array_equal(row(data, box).reshape(expected.shape), expected)
        print(f"{name}: Pillow's bits of {same} of {len(photographs)} windows", flush=True)
    rows["draft"] = drafted

    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in rows}
    clock: dict[str, float] = dict.fromkeys(rows, 0.0)
    turns = range(0, len(photographs), options.turn)
    with ThreadPoolExecutor(options.threads) as threads:
        for start in [start for _ in range(options.rounds) for start in turns]:
            turn = photographs[start : start + options.turn]
            for name in order.sample(list(rows), len(rows)):
                wall, began = time.perf_counter(), time.process_time()
                list(threads.map(lambda each, row=rows[name]: row(*each).nbytes, turn))
                times[name].append((time.process_time() - began) / len(turn))
                clock[name] += time.perf_counter() - wall

    seen = environment(torch.device("cpu"), ALONE, "float32")
    about = f"{len(files)} photographs, {sum(map(len, files)) / len(files) / 1e3:.0f} kB"
    print(f"{seen['processor']}; {about}; {options.threads} threads; {len(times['pillow'])} turns")
    for name, taken in times.items():
        ratios = paired_ratios(times["pillow"], taken)
        low, high = interval(ratios) or (min(ratios), max(ratios))
        rate = options.rounds * len(photographs) / clock[name]
        print(
            f"{name:26s} {1e3 * statistics.median(taken):7.2f} ms   "
            f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})   {rate:6.0f} img/s of wall"
        )


if __name__ == "__main__":
    main()
