"""Photographs from file to batch: which parts are seen, and the same bits by whatever way."""

import hashlib
import random
import tarfile
import time
from dataclasses import replace
from itertools import count
from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from resnets.data import counter, open_dataset
from resnets.data.packing import Encoding, pack
from resnets.data.photographs import Photographs, Request
from resnets.data.sources import open_listing
from resnets.data.views import Crops
from resnets.machine.device import Machine
from resnets.machine.processes import Processes
from resnets.training.feed import Step, build_feed
from resnets.training.prepare import prepare
from resnets.training.progress import RunProgress
from resnets.training.recipe import load_recipe

SIZE = 24
COUNT = 400
EPOCH = 1
CPU = torch.device("cpu")


def photograph(number: int) -> Image.Image:
    """Clouds of colour with some noise, of a size and shape of its own."""
    draw = np.random.default_rng(number)
    height, width = (int(side) for side in draw.integers(20, 90, 2))
    coarse = draw.integers(0, 256, (5, 6, 3), np.uint8)
    clouds = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = draw.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(clouds) + noise, 0, 255).astype(np.uint8))


# As cameras and programs write them; the last two are turned by their tags.
KINDS = (
    ("jpg", {"quality": 95, "subsampling": "4:4:4"}),
    ("jpg", {"quality": 80, "subsampling": "4:2:0"}),
    ("jpg", {"quality": 90, "subsampling": "4:2:2", "progressive": True}),
    ("png", {}),
    ("jpg", {"quality": 95, "exif": {0x0112: 6}}),
    ("tif", {"compression": "tiff_lzw", "exif": {0x0112: 8}}),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """400 files of six kinds in four classes; every seventh is grey."""
    root = tmp_path_factory.mktemp("photographs") / "photos"
    for number in range(COUNT):
        ending, options = KINDS[number % len(KINDS)]
        path = root / f"class-{number % 4}" / f"{number:03d}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = photograph(number)
        if "exif" in options:
            exif = Image.Exif()
            exif.update(options["exif"])
            options = options | {"exif": exif}
        (image.convert("L") if number % 7 == 0 else image).save(path, **options)
    return root


@pytest.fixture(scope="module")
def packed(photos):
    pack(open_listing(photos), photos.with_name("photos.pack"), Encoding())
    return photos.with_name("photos.pack")


@pytest.fixture(scope="module")
def tarred(photos):
    with tarfile.open(photos.with_name("photos.tar"), "w") as tar:
        for path in sorted(photos.rglob("*.*"), key=lambda path: path.name):  # another order
            tar.add(path, path.relative_to(photos).as_posix())
    return photos.with_name("photos.tar")


def feed(data, *settings, threads=2, opener=None):
    """The feed of a training by torchvision's recipe; ``opener`` wraps what opens a file."""
    given = [f"data.image_size={SIZE}", "data.holdout=0", *settings]
    recipe = load_recipe("torchvision_v1_imagenet", given)
    dataset = open_dataset(data, scaled=False, memory=0)
    images = dataset.train.images
    listing = images.listing
    listing = replace(listing, open=opener(listing.open)) if opener else listing
    images = Photographs(listing, images.numbers, images.store, threads=threads)
    dataset = replace(dataset, train=replace(dataset.train, images=images))
    machine, progress = Machine(device="cpu"), RunProgress(quiet=True)
    plan = prepare(dataset, "resnet20", recipe, machine=machine, progress=progress)
    return build_feed(plan.dataset, plan.recipe, plan.preprocess, CPU)


def steps(made, epochs=(EPOCH,)):
    return [Step(epoch, index, SIZE) for epoch in epochs for index in made.indices(epoch)]


def digest(batches) -> str:
    """Of all pixels and labels in their order, whatever the batches."""
    found = hashlib.sha256()
    for batch in batches:
        for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
            found.update(image.contiguous().numpy().tobytes() + bytes([label]))
    return found.hexdigest()


@pytest.fixture(scope="module")
def expected(photos):
    """The digest of an epoch, made one by one by Pillow alone."""
    made = feed(photos, "batch_size=64")
    found = hashlib.sha256()
    mean, std = (np.array(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = []
    for path in sorted(photos.rglob("*.*")):
        with Image.open(path) as image:
            images.append(ImageOps.exif_transpose(image).convert("RGB"))
    for i in torch.cat(made.indices(EPOCH)).tolist():
        image, one = images[i], torch.tensor([i])
        sides = torch.tensor([image.height]), torch.tensor([image.width])
        top, left, height, width = map(int, made.augment.windows(sides, one, EPOCH))
        crop = image.crop((left, top, left + width, top + height))
        crop = crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        if counter.integers(2, made.seed, "mirror", EPOCH, one):
            crop = ImageOps.mirror(crop)
        levels = np.asarray(crop).astype(np.float32) - (255 * mean).astype(np.float32)
        values = levels * (1 / (255 * std)).astype(np.float32)
        found.update(values.transpose(2, 0, 1).tobytes() + bytes([i // 100]))
    return found.hexdigest()


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 64), (2, 7), (8, 400), (3, 1)])
def test_batches_are_pillows_crops_whoever_makes_them(photos, expected, threads, batch_size):
    made = feed(photos, f"batch_size={batch_size}", threads=threads)
    assert digest(made.batches(steps(made))) == expected


@pytest.mark.parametrize("source", ["packed", "tarred"])
def test_packs_and_tars_give_the_same(source, request, expected):
    made = feed(request.getfixturevalue(source), "batch_size=50", threads=3)
    assert digest(made.batches(steps(made))) == expected


def test_a_slow_disk_changes_nothing(photos, expected):
    """Files open when they like: some at once, some long after those behind them."""
    number = count()

    def slow(opened):
        def later(index):
            time.sleep((0, 0.005, 0, 0.02, 0.001)[next(number) % 5])
            return opened(index)

        return later

    made = feed(photos, "batch_size=50", threads=8, opener=slow)
    assert digest(made.batches(steps(made))) == expected


def test_from_any_step_on(photos):
    made = feed(photos, "batch_size=30")
    wanted = steps(made, (0, 1))[8:20]  # an epoch has 14
    whole = [digest([batch]) for batch in made.batches(wanted)]
    for start in (5, 6):
        other = feed(photos, "batch_size=30", threads=5)
        assert [digest([batch]) for batch in other.batches(wanted[start:])] == whole[start:]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_read_their_parts_of_the_same_order(photos, expected, size):
    made = feed(photos, "batch_size=60")
    parts = []
    for rank in range(size):
        mine = [
            replace(step, index=step.index[Processes(rank, size).part(len(step.index))])
            for step in steps(made)
        ]
        parts.append([*feed(photos, threads=rank + 1).batches(mine)])
    together = (batch for batches in zip(*parts, strict=True) for batch in batches)
    assert digest(together) == expected


HEIGHT, WIDTH, MAPS = 200, 250, 40  # of the maps below


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Images whose colours say where a pixel lies: red the column, green the row."""
    root = tmp_path_factory.mktemp("maps") / "maps"
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    for number in range(MAPS):
        path = root / "map" / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        blue = np.full_like(rows, number)
        Image.fromarray(np.stack([columns, rows, blue], -1)).save(path)
    (root / "other").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(root / "other" / "0.bmp")
    return root


@pytest.fixture(scope="module")
def seen(maps):
    """2,000 crops of the maps, float64 (N, 3, SIZE, SIZE)."""
    made, ids = feed(maps), torch.arange(MAPS)
    requests = (Request(ids, Crops(made.augment, epoch, SIZE)) for epoch in range(2000 // MAPS))
    answers = made.split.images.read(requests)
    return torch.cat([answer.images for answer in answers]).double()


def test_windows_as_their_pixels_show_them_are_torchvisions(seen):
    """Area, aspect and place of what is seen against torchvision's own way to draw them."""
    # A ramp stays one: its values between two samples tell the extent, those around the middle
    # the place. Where the window ends the filter is cut off, so these samples are not asked.
    first, last = 3, SIZE - 4
    red, green = seen[:, 0, SIZE // 2], seen[:, 1, :, SIZE // 2]
    slope = [(ramp[:, last] - ramp[:, first]) / (last - first) * SIZE for ramp in (red, green)]
    middle = [(ramp[:, last] + ramp[:, first]) / 2 + 0.5 for ramp in (red, green)]
    mirrored = slope[0] < 0
    assert 0.46 < mirrored.double().mean() < 0.54  # 2,000 coins: four standard deviations
    found = [slope[0].abs() * slope[1], slope[0].abs() / slope[1], *middle]
    for ours, theirs in zip(found, zip(*map(torchvisions, range(4000)), strict=True), strict=True):
        assert apart(ours, torch.tensor(theirs)) < 1.95  # once in a thousand, if they are equal


def torchvisions(seed: int) -> tuple[float, float, float, float]:
    """Area, aspect and middle of a window as RandomResizedCrop.get_params draws it."""
    draw = random.Random(seed)
    for _ in range(10):
        area = HEIGHT * WIDTH * draw.uniform(0.08, 1)
        aspect = exp(draw.uniform(log(3 / 4), log(4 / 3)))
        width, height = round(sqrt(area * aspect)), round(sqrt(area / aspect))
        if 0 < width <= WIDTH and 0 < height <= HEIGHT:
            top, left = draw.randint(0, HEIGHT - height), draw.randint(0, WIDTH - width)
            return width * height, width / height, left + width / 2, top + height / 2
    return HEIGHT * HEIGHT * 1.25, 1.25, WIDTH / 2, HEIGHT / 2  # all of it: its aspect is allowed


def apart(some: torch.Tensor, others: torch.Tensor) -> float:
    """Kolmogorov and Smirnov's distance of two samples, in units of its standard deviation."""
    points = torch.cat([some, others]).sort().values
    a, b = (
        torch.searchsorted(values.sort().values, points, right=True) / len(values)
        for values in (some, others)
    )
    return float((a - b).abs().max() / sqrt(1 / len(some) + 1 / len(others)))


def test_a_crop_can_reach_every_pixel(maps, seen):
    """Each lies within some window, and crops show the corners."""
    made = feed(maps)
    reached = np.zeros((HEIGHT, WIDTH), bool)
    ids, sides = torch.arange(MAPS), (torch.full((MAPS,), HEIGHT), torch.full((MAPS,), WIDTH))
    for epoch in range(80):
        windows = (values.int().tolist() for values in made.augment.windows(sides, ids, epoch))
        for top, left, height, width in zip(*windows, strict=True):
            reached[top : top + height, left : left + width] = True
    assert reached.all()
    red, green, _ = seen.unbind(1)
    for column in (0, WIDTH - 1):
        for row in (0, HEIGHT - 1):  # crops are coarser than the maps
            assert ((red - column).abs() + (green - row).abs()).min() < 12
