"""Windows: resampled as Pillow does, and chosen as the papers say."""

import random
from math import ceil, exp, log, sqrt

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.data.windows import random_areas, random_scales, random_shifts, resample

IDS = torch.arange(4000)

BILINEAR = Image.Resampling.BILINEAR


def pictures(count: int, side: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, side, side, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def numbers(count: int, low: float, high: float, seed: int) -> torch.Tensor:
    """Multiples of 1/64, which Pillow's single precision boxes hold exactly."""
    values = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    return (64 * (low + (high - low) * values)).round() / 64


def pillow(image, size, top, left, height, width) -> torch.Tensor:
    """Pillow's resize of a window of an image (C, H, W): columns, then rows.

    Each on its own, because Pillow 13 begins with the rows of images that shrink more in height.
    """
    scaled = []
    for plane in map(Image.fromarray, image.numpy()):
        narrow = plane.resize(
            (size, plane.height), BILINEAR, box=(left, 0, left + width, plane.height)
        )
        scaled.append(narrow.resize((size, size), BILINEAR, box=(0, top, size, top + height)))
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in scaled]))


def assert_nearly_equal(result: torch.Tensor, expected: torch.Tensor, part: float = 0.004) -> None:
    """Pillow's weights have 22 bits, ours 16: a value near a half may fall to the other side."""
    difference = (result.int() - expected.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).double().mean() < part


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("side", "size"), [(32, 32), (64, 32), (48, 20), (20, 31), (33, 3), (1, 4)]
)
def test_windows_inside_are_pillows(side, size, channels):
    images = pictures(24, side, channels)
    height, width = (numbers(24, side / 5, side, seed) for seed in (1, 2))
    top, left = numbers(24, 0, 1, 3) * (side - height), numbers(24, 0, 1, 4) * (side - width)
    result = resample(images, top, left, height, width, size)
    windows = zip(*(v.tolist() for v in (top, left, height, width)), strict=True)
    expected = [pillow(image, size, *window) for image, window in zip(images, windows, strict=True)]
    assert_nearly_equal(result, torch.stack(expected))
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [24, 10, 40])
def test_windows_that_reach_outside_repeat_the_border(size):
    """Every window reaches across at least two borders, by more than the filter is wide."""
    images, reach = pictures(24, 24), numbers(4, 0, 7, 1)
    starts = torch.cat([-reach, reach])  # of windows as large as the image
    top, left = starts.repeat(3), starts.flip(0).roll(1).repeat(3)
    side = torch.full((24,), 24.0)
    result = resample(images, top, left, side, side, size)
    expected = []
    for image, row, column in zip(images, top.tolist(), left.tolist(), strict=True):
        rows, columns = ((max(0, ceil(-v)), max(0, ceil(v))) for v in (row, column))
        canvas = torch.from_numpy(np.pad(image.numpy(), ((0, 0), rows, columns), mode="edge"))
        expected.append(pillow(canvas, size, row + rows[0], column + columns[0], 24, 24))
    assert_nearly_equal(result, torch.stack(expected))


def test_whole_windows_of_the_same_size_are_crops():
    images = pictures(3, 20)
    top, left = torch.tensor([0, 5, -3]), torch.tensor([8, 1, 11])
    side, flipped = torch.full((3,), 12), torch.tensor([False, True, False])
    result = resample(images, top, left, side, side, 12, flipped)
    assert torch.equal(result[0], images[0, :, 0:12, 8:20])
    assert torch.equal(result[1], images[1, :, 5:17, 1:13].flip(-1))
    padded = torch.nn.functional.pad(images[2:].float(), (3, 3, 3, 3), mode="replicate").byte()
    assert torch.equal(result[2], padded[0, :, 0:12, 14:26])


def test_mirrored_windows_and_blank_pictures():
    images = pictures(20, 30)
    window = numbers(20, -4, 9, 1), numbers(20, -4, 9, 2), *[numbers(20, 9, 30, 3)] * 2
    plain = resample(images, *window, 13)
    mirrored = resample(images, *window, 13, torch.ones(20, dtype=torch.bool))
    assert torch.equal(mirrored, plain.flip(-1))
    for level in (1, 255):
        blank = torch.full_like(images, level)
        assert (resample(blank, *window, 13) == level).all()


@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_picture_does_not_depend_on_its_batch(size):
    images = pictures(100, 24)
    window = numbers(100, -9, 9, 1), numbers(100, -2, 3, 2), *[numbers(100, 5, 40, 3)] * 2
    together = resample(images, *window, 17)
    parts = [
        resample(images[i : i + size], *(v[i : i + size] for v in window), 17)
        for i in range(0, 100, size)
    ]
    assert torch.equal(torch.cat(parts), together)


def distance(values: torch.Tensor, low: float, high: float) -> float:
    """Kolmogorov and Smirnov's, from the uniform distribution, times the root of the count."""
    found = ((values.double().sort().values - low) / (high - low)).clamp(0, 1)
    steps = torch.arange(len(values) + 1) / len(values)
    gaps = torch.maximum((found - steps[:-1]).abs(), (found - steps[1:]).abs())
    return gaps.max().item() * len(values) ** 0.5


# Beyond 2.6 lies one distance in a million.
FAR = 2.6


def test_areas_and_aspects_are_uniform_where_all_fit():
    windows = random_areas((2000, 2000), (0.08, 0.5), (3 / 4, 4 / 3), 1, 2, IDS)
    top, left, height, width = windows
    assert all(torch.equal(v, v.round()) for v in windows)
    assert distance(height * width / 2000**2, 0.08, 0.5) < FAR
    assert distance(torch.log(width / height), log(3 / 4), log(4 / 3)) < FAR
    assert distance(top / (2000 - height), 0, 1) < FAR
    assert distance(left / (2000 - width), 0, 1) < FAR
    table = torch.corrcoef(torch.stack([*windows[:2], height * width, width / height]))
    assert (table - table.diag().diag()).abs()[2:, 2:].max() < 5 / 4000**0.5


def reference_areas(height, width, area, aspect, draw: random.Random) -> tuple[int, int]:
    """The height and width that torchvision's RandomResizedCrop draws."""
    for _ in range(10):
        target = height * width * draw.uniform(*area)
        ratio = exp(draw.uniform(log(aspect[0]), log(aspect[1])))
        w, h = round(sqrt(target * ratio)), round(sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return h, w
    if width / height < aspect[0]:
        return round(width / aspect[0]), width
    if width / height > aspect[1]:
        return height, round(height * aspect[1])
    return height, width


@pytest.mark.parametrize("shape", [(100, 100), (60, 140)])
def test_areas_are_torchvisions_where_some_do_not_fit(shape):
    area, aspect = (0.4, 1.0), (3 / 4, 4 / 3)
    windows = random_areas(shape, area, aspect, 0, 0, IDS)
    assert (windows.top >= 0).all()
    assert (windows.left >= 0).all()
    assert (windows.top + windows.height <= shape[0]).all()
    assert (windows.left + windows.width <= shape[1]).all()
    draw = random.Random(0)
    drawn = torch.tensor([reference_areas(*shape, area, aspect, draw) for _ in IDS]).double()
    # The largest gap between two samples' distributions, in units of its standard deviation.
    for ours, theirs in ((windows.height, drawn[:, 0]), (windows.width, drawn[:, 1])):
        edges = torch.arange(max(shape) + 1.0, dtype=torch.float64)
        below = [torch.searchsorted(v.sort().values, edges, right=True) for v in (ours, theirs)]
        gap = (below[0] - below[1]).abs().max().item() / len(IDS)
        assert gap * (len(IDS) / 2) ** 0.5 < FAR


def test_a_long_picture_gives_its_middle():
    aspect = (3 / 4, 4 / 3)
    tall = random_areas((100, 20), (1, 1), aspect, 0, 0, IDS[:9])
    assert torch.stack(tall).T.tolist() == [[36, 0, 27, 20]] * 9
    wide = random_areas((20, 100), (1, 1), aspect, 0, 0, IDS[:9])
    assert torch.stack(wide).T.tolist() == [[0, 36, 20, 27]] * 9
    whole = random_areas((30, 35), (1, 1), (1, 1.2), 0, 0, IDS[:9])
    assert (whole.height * whole.width >= 30 * 34).all()


def test_scaled_crops_are_crops_of_scaled_pictures():
    images = pictures(30, 40)
    windows = random_scales((40, 40), (28, 60), 24, 0, 1, torch.arange(30))
    result = resample(images, *windows, 24)
    expected = []
    for image, top, left, height, _ in zip(images, *map(torch.Tensor.tolist, windows), strict=True):
        side = round(24 * 40 / height)
        row, column = (round(v * side / 40) for v in (top, left))
        scaled = pillow(image, side, 0, 0, 40, 40)
        expected.append(scaled[:, row : row + 24, column : column + 24])
    # From 40 to 50 pixels all weights are tenths, so that one value in ten is a half.
    assert_nearly_equal(result, torch.stack(expected), part=0.03)


def test_scales_are_uniform():
    top, left, height, width = random_scales((50, 70), (30, 39), 30, 4, 0, IDS)
    side = (30 * 50 / height).round().long()
    assert torch.equal(height, width)
    counts = torch.bincount(side, minlength=40)[30:].double()
    assert ((counts - 400) ** 2 / 400).sum() < 9 + 5 * 18**0.5
    last = (side - 30, side * 70 // 50 - 30)  # the places where a crop may begin
    for start, end in zip((top, left), last, strict=True):
        place = (start * side / 50).round().long()
        assert (place >= 0).all()
        assert (place <= end).all()
        chosen = place[side == 39]
        expected = len(chosen) / (int(end[side == 39][0]) + 1)
        counts = torch.bincount(chosen).double()
        freedom = len(counts) - 1
        chi_squared = ((counts - expected) ** 2 / expected).sum()
        assert chi_squared < freedom + 5 * (2 * freedom) ** 0.5


def test_shifts_are_uniform_and_centred():
    top, left, height, width = random_shifts((32, 32), 0.125, 32, 4, 0, IDS)
    assert set(height.tolist()) == set(width.tolist()) == {32.0}
    assert distance(top, -4, 4) < FAR
    assert distance(left, -4, 4) < FAR
    assert abs(torch.corrcoef(torch.stack([top, left]))[0, 1]) < 5 / 4000**0.5
    top, _, height, _ = random_shifts((40, 40), 0.1, 30, 4, 0, IDS)
    assert distance(top, 1, 9) < FAR
    assert (height == 30).all()
