"""Policies: what they draw, and their pixels by the published definitions, written by hand."""

import pickle
from collections import Counter
from dataclasses import replace
from math import atan, cos, degrees, radians, sin, sqrt, tan

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Resampling

from resnets.data.augment import Augment
from resnets.data.operations import Operation, apply
from resnets.data.policies import (
    ColorJitter,
    Policy,
    RandAugment,
    TimmRandAugment,
    TrivialAugment,
)
from resnets.data.views import Crops

FILL = (10, 200, 90)
PARTS = {
    "randaugment": RandAugment(),
    "trivialaugment": TrivialAugment(),
    "timm": TimmRandAugment(2, 7),
    "jitter": ColorJitter(0.4, 0.5, 0.6, 0.1),
}
MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
SIGNED = (*MOVES, "Brightness", "Color", "Contrast", "Sharpness")


def policy(*names: str, fill: tuple[int, ...] = FILL, seed: int = 1) -> Policy:
    return Policy(seed, fill, tuple(PARTS[name] for name in names))


def image(channels: int = 3, side: int = 20) -> Image.Image:
    """Smooth colours with noise over them, from black to white."""
    rows, columns = np.mgrid[:side, :side]
    noise = np.random.default_rng(0).integers(0, 80, (side, side, 3))
    smooth = np.stack([rows * 9, columns * 9, (rows + columns) * 5], 2)
    levels = np.clip(smooth + noise - 10, 0, 255).astype(np.uint8)
    return Image.fromarray(levels if channels == 3 else levels[:, :, 0])


def is_uniform(counts: Counter, cells: int) -> bool:
    expected = counts.total() / cells
    squares = sum((n - expected) ** 2 / expected for n in counts.values())
    squares += expected * (cells - len(counts))
    return abs(squares - (cells - 1)) < 4 * sqrt(2 * (cells - 1))


# What is drawn


def test_randaugment_takes_every_operation_equally_often():
    drawn = policy("randaugment").draw(torch.arange(40_000), 0, 224)
    pairs = Counter(tuple(operation.name for operation in operations) for operations in drawn)
    assert is_uniform(pairs, 14**2)
    pairs_of_signs = Counter(
        tuple(operation.amount > (operation.name in SIGNED[5:]) for operation in operations)
        for operations in drawn
        if all(operation.name in SIGNED for operation in operations)
    )
    assert is_uniform(pairs_of_signs, 4)


def test_magnitudes_of_randaugment():
    """Of bin 9 of 30; translations are whole pixels of the side."""
    drawn = policy("randaugment").draw(torch.arange(3000), 0, 224)
    found: dict[str, set[float]] = {}
    for operation in (operation for operations in drawn for operation in operations):
        found.setdefault(operation.name, set()).add(round(operation.amount, 6))
        assert operation.resampling == Resampling.BILINEAR
    expected = {
        ("Identity", "AutoContrast", "Equalize"): {0},
        ("ShearX", "ShearY"): {0.09, -0.09},
        ("TranslateX", "TranslateY"): {30, -30},  # of 30.45
        ("Rotate",): {9, -9},
        ("Brightness", "Color", "Contrast", "Sharpness"): {1.27, 0.73},
        ("Posterize",): {7},
        ("Solarize",): {179},  # of 178.5: what is at least that is inverted
    }
    assert found == {name: amounts for names, amounts in expected.items() for name in names}


def test_trivialaugment_takes_every_strength_equally_often():
    drawn = policy("trivialaugment").draw(torch.arange(40_000), 0, 224)
    assert {len(operations) for operations in drawn} == {1}
    assert is_uniform(Counter(operation.name for (operation,) in drawn), 14)
    for name, most in (("ShearX", 0.99), ("TranslateY", 32), ("Rotate", 135), ("Color", 0.99)):
        middle = name == "Color"
        sizes = [abs(o.amount - middle) for (o,) in drawn if o.name == name]
        steps = Counter(round(30 * size / most) for size in sizes)
        assert max(sizes) == pytest.approx(most)
        if name != "TranslateY":  # whose pixels are whole: not all 31 are apart
            assert is_uniform(steps, 31)
    assert {o.amount for (o,) in drawn if o.name == "Posterize"} == {2, 3, 4, 5, 6, 7, 8}


def test_magnitudes_of_timm():
    drawn = policy("timm").draw(torch.arange(60_000), 0, 100)
    lengths = Counter(len(operations) for operations in drawn)
    assert is_uniform(Counter({0: lengths[0], 1: lengths[1] / 2, 2: lengths[2]}), 3)
    operations = [operation for operations in drawn for operation in operations]
    assert is_uniform(Counter(operation.name for operation in operations), 15)
    moved = Counter(o.resampling for o in operations if o.name in MOVES)
    assert is_uniform(moved, 2)
    assert set(moved) == {Resampling.BILINEAR, Resampling.BICUBIC}
    for name, scale in (("Rotate", 3), ("ShearX", 0.03), ("TranslateX", 4.5), ("Color", 0.09)):
        amounts = torch.tensor([o.amount - (name == "Color") for o in operations if o.name == name])
        levels = amounts.abs() / scale
        assert levels.mean().item() == pytest.approx(7, abs=0.05)
        assert levels.std().item() == pytest.approx(0.5, abs=0.05)
        assert (amounts > 0).double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert {o.amount for o in operations if o.name == "Posterize"} == {1, 2}  # 1 from 7.5 on
    assert {type(o.amount) for o in operations if o.name == "SolarizeAdd"} == {int}


def test_timms_magnitudes_end_at_ten():
    strongest = Policy(0, FILL, (TimmRandAugment(1, 10, noise=3, probability=1),))
    drawn = [o for (o,) in strongest.draw(torch.arange(20_000), 0, 100)]
    angles = [abs(o.amount) for o in drawn if o.name == "Rotate"]
    assert max(angles) == 30
    assert sum(angle == 30 for angle in angles) / len(angles) == pytest.approx(0.5, abs=0.05)
    assert min(o.amount for o in drawn if o.name == "Posterize") == 0
    assert min(o.amount for o in drawn if o.name == "Brightness") == 0.1


def test_jitter_draws_factors_and_an_order():
    drawn = policy("jitter").draw(torch.arange(40_000), 0, 32)
    assert is_uniform(Counter(tuple(o.name for o in operations) for operations in drawn), 24)
    limits = {"Brightness": (0.6, 1.4), "Contrast": (0.5, 1.5), "Color": (0.4, 1.6)}
    for name, (low, high) in {**limits, "Hue": (-0.1, 0.1)}.items():
        amounts = [o.amount for operations in drawn for o in operations if o.name == name]
        parts = Counter(int(50 * (amount - low) / (high - low)) for amount in amounts)
        assert set(parts) == set(range(50))
        assert is_uniform(parts, 50)


def test_jitter_leaves_out_what_has_no_strength():
    drawn = Policy(0, FILL, (ColorJitter(0, 2.0, 0, 0),)).draw(torch.arange(5000), 0, 32)
    assert {tuple(o.name for o in operations) for operations in drawn} == {("Contrast",)}
    amounts = [operations[0].amount for operations in drawn]
    assert 0 <= min(amounts) < 0.01  # not below 0, and 3 at most
    assert 2.99 < max(amounts) < 3


@pytest.mark.parametrize("name", PARTS)
def test_draws_depend_on_seed_epoch_and_id_alone(name):
    ids = torch.arange(300) * 7
    drawn = policy(name).draw(ids, 3, 64)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert policy(name).draw(ids[order], 3, 64) == [drawn[i] for i in order]
    assert [policy(name).draw(i[None], 3, 64)[0] for i in ids] == drawn
    others = (
        policy(name, seed=2).draw(ids, 3, 64),
        policy(name).draw(ids, 4, 64),
        policy(name).draw(ids + 1, 3, 64),
    )
    for other in others:
        assert sum(a == b for a, b in zip(drawn, other, strict=True)) < 100
    assert pickle.loads(pickle.dumps((policy(name), drawn))) == (policy(name), drawn)


def test_parts_follow_one_another_as_each_alone():
    ids = torch.arange(50)
    together = policy("timm", "jitter").draw(ids, 0, 64)
    parts = zip(*(policy(name).draw(ids, 0, 64) for name in ("timm", "jitter")), strict=True)
    assert together == [first + second for first, second in parts]


# What it does to pixels


def blended(degenerate: np.ndarray, levels: np.ndarray, factor: float) -> np.ndarray:
    """Haeberli & Voorhies 1994, in floats of 32 bits, cut off."""
    difference = levels.astype(np.float32) - degenerate.astype(np.float32)
    values = degenerate.astype(np.float32) + np.float32(factor) * difference
    return np.clip(values, 0, 255).astype(np.uint8)


def luma(levels: np.ndarray) -> np.ndarray:
    """ITU-R 601-2, in 16 bits."""
    weights = np.array([19595, 38470, 7471])
    return ((levels.astype(np.int64) @ weights + 2**15) >> 16).astype(np.uint8)


def smoothed(levels: np.ndarray) -> np.ndarray:
    """A 3x3 mean with five times its middle; the border stays."""
    padded = levels.astype(np.int64)
    sums = 4 * padded[1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            height, width = levels.shape[:2]
            sums = sums + padded[row : height - 2 + row, column : width - 2 + column]
    result = levels.copy()
    result[1:-1, 1:-1] = np.floor(sums / 13 + 0.5)
    return result


def equalized(levels: np.ndarray) -> np.ndarray:
    counts = np.bincount(levels.ravel(), minlength=256)
    step = (counts.sum() - counts[counts > 0][-1]) // 255
    table = (step // 2 + np.cumsum(counts) - counts) // step
    return np.minimum(table, 255).astype(np.uint8)[levels]


def contrasted(levels: np.ndarray) -> np.ndarray:
    low, high = int(levels.min()), int(levels.max())
    table = [int(level * (255 / (high - low)) - low * (255 / (high - low))) for level in range(256)]
    return np.clip(table, 0, 255).astype(np.uint8)[levels]


def by_channel(function, levels: np.ndarray) -> np.ndarray:
    return np.stack([function(levels[:, :, i]) for i in range(levels.shape[2])], 2)


def moved(levels: np.ndarray, matrix: tuple[float, ...], fill, resampling) -> np.ndarray:
    """Each pixel's centre taken to the source by (x, y) -> (ax + by + c, dx + ey + f)."""
    a, b, c, d, e, f = matrix
    height, width, _ = levels.shape
    result = np.empty_like(levels)
    for y in range(height):
        for x in range(width):
            u, v = (
                a * (x + 0.5) + b * (y + 0.5) + c,
                d * (x + 0.5) + e * (y + 0.5) + f,
            )
            if not (0 <= u < width and 0 <= v < height):
                result[y, x] = fill
            elif resampling == Resampling.NEAREST:
                result[y, x] = levels[int(v), int(u)]
            else:
                left, top = int(np.floor(u - 0.5)), int(np.floor(v - 0.5))
                columns, rows = (
                    np.clip([start, start + 1], 0, length - 1)
                    for start, length in ((left, width), (top, height))
                )
                corners = levels[rows][:, columns].astype(np.float64)
                across = corners[:, 0] + (corners[:, 1] - corners[:, 0]) * (u - 0.5 - left)
                result[y, x] = across[0] + (across[1] - across[0]) * (v - 0.5 - top)
    return result


def turned(angle: float, side: int) -> tuple[float, ...]:
    """The matrix of a rotation about the middle, counter-clockwise."""
    a, b = round(cos(radians(-angle)), 15), round(sin(radians(-angle)), 15)
    half = side / 2
    return a, b, -a * half - b * half + half, -b, a, b * half - a * half + half


LEVELS = np.asarray(image())
LOOKUPS = {
    Operation("Posterize", 3): LEVELS & 0b11100000,
    Operation("Posterize", 8): LEVELS,
    Operation("Posterize", 0): LEVELS * 0,
    Operation("Solarize", 179): np.where(LEVELS < 179, LEVELS, 255 - LEVELS),
    Operation("SolarizeAdd", 77): np.where(LEVELS < 128, LEVELS + 77, LEVELS),
    Operation("Invert"): 255 - LEVELS,
    Operation("Equalize"): by_channel(equalized, LEVELS),
    Operation("AutoContrast"): by_channel(contrasted, LEVELS),
    Operation("Identity"): LEVELS,
}
ENHANCED = {
    "Brightness": LEVELS * 0,
    "Color": np.repeat(luma(LEVELS)[:, :, None], 3, 2),
    "Contrast": np.full_like(LEVELS, int(luma(LEVELS).mean() + 0.5)),
    "Sharpness": by_channel(smoothed, LEVELS),
}
SLOPE = tan(radians(degrees(atan(0.21))))
MATRICES = {
    Operation("ShearX", SLOPE): (1, SLOPE, 0, 0, 1, 0),
    Operation("ShearY", -SLOPE): (1, 0, 0, -SLOPE, 1, 0),
    Operation("TranslateX", -3): (1, 0, -3, 0, 1, 0),
    Operation("TranslateX", 4.725): (1, 0, 4.725, 0, 1, 0),
    Operation("TranslateY", -6.3): (1, 0, 0, 0, 1, -6.3),
    Operation("Rotate", 27): turned(27, 20),
    Operation("Rotate", -121.5): turned(-121.5, 20),
}


@pytest.mark.parametrize("operation", LOOKUPS, ids=str)
def test_lookups(operation):
    assert (np.asarray(apply(image(), operation, FILL)) == LOOKUPS[operation]).all()


@pytest.mark.parametrize("factor", [0.01, 0.1, 0.73, 1.0, 1.27, 1.9])
@pytest.mark.parametrize("name", ENHANCED)
def test_enhancements(name, factor):
    found = np.asarray(apply(image(), Operation(name, factor), FILL))
    assert (found == blended(ENHANCED[name], LEVELS, factor)).all()


@pytest.mark.parametrize("resampling", [Resampling.NEAREST, Resampling.BILINEAR])
@pytest.mark.parametrize("operation", MATRICES, ids=str)
def test_moves(operation, resampling):
    found = np.asarray(apply(image(), operation._replace(resampling=resampling), FILL))
    expected = moved(LEVELS, MATRICES[operation], FILL, resampling)
    assert (found == expected).all()


def test_bicubic_moves_by_whole_pixels_exactly():
    operation = Operation("TranslateY", 5, Resampling.BICUBIC)
    found = np.asarray(apply(image(), operation, FILL))
    assert (found[:15] == LEVELS[5:]).all()
    assert (found[15:] == FILL).all()


def test_hue_turns_pure_colours():
    """A third of the circle takes red to green, to the 256 steps that Pillow has."""
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    found = np.asarray(apply(red, Operation("Hue", 1 / 3), FILL))
    assert (found == (0, 255, 0)).all()
    assert np.abs(np.asarray(apply(red, Operation("Hue", 0.5), FILL)) - (0, 255, 255)).max() <= 6
    assert apply(image(1), Operation("Hue", 0.3), (0,)) == image(1)


@pytest.mark.parametrize("name", PARTS)
def test_grey_images_are_the_grey_part_of_colour(name):
    """Equal channels stay equal, and are what the image of mode L becomes."""
    grey, colour = image(1), image(1).convert("RGB")
    drawn = policy(name).draw(torch.arange(150), 0, 20)
    for operations in drawn:
        found = np.asarray(policy(fill=(70, 70, 70)).apply(colour, operations))
        expected = np.asarray(policy(fill=(70,)).apply(grey, operations))
        assert (found == expected[:, :, None]).all()


def test_no_strength_changes_nothing():
    """But for the operations without strength, and white, which a solarized image inverts."""
    grey = image(1).point(lambda level: min(level, 254))
    weakest = Policy(0, (1,), (RandAugment(2, 0),))
    drawn = weakest.draw(torch.arange(500), 0, 20)
    still = [o for o in drawn if not {x.name for x in o} & {"AutoContrast", "Equalize"}]
    assert len(still) > 300
    assert all(weakest.apply(grey, operations) == grey for operations in still)


def test_mirrored_moves():
    flipped = image().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for amount in (-7, 3):
        there = apply(image(), Operation("TranslateX", amount), FILL)
        back = apply(flipped, Operation("TranslateX", -amount), FILL)
        assert there.transpose(Image.Transpose.FLIP_LEFT_RIGHT) == back


def test_an_operation_that_there_is_none_of():
    with pytest.raises(ValueError, match="no operation Blur"):
        apply(image(), Operation("Blur"), FILL)


# Batches


@pytest.mark.parametrize("side", [20, 80])  # the larger ones by several threads
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PARTS)
def test_a_batch_is_its_images_one_by_one(name, channels, side):
    changes = policy(name, "jitter", fill=FILL[:channels])
    single = [image(channels, side).rotate(9 * i) for i in range(12)]
    pixels = np.stack([np.asarray(i).reshape(side, side, channels) for i in single])
    batch, ids = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.arange(12) + 5
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = changes(batch, ids, 2)
    finally:
        torch.set_num_threads(threads)
    assert found.dtype == torch.uint8
    assert found.is_contiguous(memory_format=torch.channels_last)
    drawn = changes.draw(ids, 2, side)
    for i, row in enumerate(found.permute(0, 2, 3, 1).numpy()):
        expected = np.asarray(changes.apply(single[i], drawn[i])).reshape(row.shape)
        assert (row == expected).all()
        assert torch.equal(changes(batch[i : i + 1], ids[i : i + 1], 2)[0], found[i])


def test_crops_of_photographs_are_changed_once_they_are_mirrored():
    photograph, ids, sides = image(side=60), torch.arange(30), torch.full((30,), 60)
    plain = Augment(seed=1, size=24, padding=0, fill=FILL, area=(0.2, 1.0))
    changes = policy("trivialaugment", "jitter")
    crops, changed = (
        [cut(photograph.crop) for cut in Crops(augment, 2, 24).of(ids, sides, sides)]
        for augment in (plain, replace(plain, policy=changes))
    )
    for crop, drawn, found in zip(crops, changes.draw(ids, 2, 24), changed, strict=True):
        assert (np.asarray(found) == np.asarray(changes.apply(crop, drawn))).all()


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="for 1 channel or 3, not 4"):
        Policy(0, (0, 0, 0, 0), (RandAugment(),))
