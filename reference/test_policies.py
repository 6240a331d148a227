"""Policies against torchvision's and timm's: the same pixels, and the same distributions.

Images tell what happened to them: how often each result occurs in our draws and in theirs is
compared without looking at how either draws.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from math import sqrt
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Resampling
from timm.data import auto_augment, random_erasing
from torchvision import transforms
from torchvision.transforms import InterpolationMode, functional
from torchvision.transforms.autoaugment import _apply_op

from resnets.data.erasing import Erasing
from resnets.data.operations import Operation, apply
from resnets.data.policies import (
    ColorJitter,
    Policy,
    RandAugment,
    TimmRandAugment,
    TrivialAugment,
)

MODES = {
    Resampling.NEAREST: InterpolationMode.NEAREST,
    Resampling.BILINEAR: InterpolationMode.BILINEAR,
    Resampling.BICUBIC: InterpolationMode.BICUBIC,
}
FILL = (124, 116, 104)
PHOTOGRAPH = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
PHOTOGRAPH.load()


def photograph(side: int, mode: str = "RGB") -> Image.Image:
    return PHOTOGRAPH.resize((side, side), box=(60, 20, 480, 440)).convert(mode)


def results(part: object, image: Image.Image, count: int, fill=FILL) -> Counter[bytes]:
    """How often each image comes out of so many draws of ours."""
    policy = Policy(1, fill, (part,))
    drawn = Counter(policy.draw(torch.arange(count), 2, image.width))
    found: Counter[bytes] = Counter()
    for operations, times in drawn.items():
        found[policy.apply(image, operations).tobytes()] += times
    return found


def their_results(transform: Callable, image: Image.Image, count: int) -> Counter[bytes]:
    return Counter(transform(image).tobytes() for _ in range(count))


def alike(some: Iterable, others: Iterable) -> None:
    """Two samples of one distribution, by chi-squared; what is rare stands together."""
    some, others = Counter(some), Counter(others)
    cells = [(some[key], others[key]) for key in some.keys() | others.keys()]
    common = [pair for pair in cells if sum(pair) >= 12]
    rare = [pair for pair in cells if sum(pair) < 12]
    cells = [*common, (sum(a for a, _ in rare), sum(b for _, b in rare))]
    ratio = sqrt(sum(b for _, b in cells) / sum(a for a, _ in cells))
    squares = sum((a * ratio - b / ratio) ** 2 / (a + b) for a, b in cells if a + b)
    free = sum(a + b > 0 for a, b in cells) - 1
    assert free > 0
    assert abs(squares - free) < 4 * sqrt(2 * free), (squares, free)


def alike_numbers(some: Iterable[float], others: Iterable[float]) -> None:
    """Two samples of one distribution, by Kolmogorov and Smirnov."""
    some, others = np.sort(np.fromiter(some, float)), np.sort(np.fromiter(others, float))
    points = np.concatenate([some, others])
    shares = [np.searchsorted(s, points, "right") / len(s) for s in (some, others)]
    bound = 1.95 * sqrt(1 / len(some) + 1 / len(others))  # one in a thousand
    assert np.abs(shares[0] - shares[1]).max() < bound


@pytest.mark.parametrize("resampling", MODES)
@pytest.mark.parametrize(("mode", "fill"), [("RGB", FILL), ("RGB", (0, 0, 0)), ("L", (120,))])
def test_each_operation_of_randaugment(resampling, mode, fill):
    """At every magnitude the images that can come out are theirs, and each is seen."""
    image = photograph(96, mode)
    for magnitude in range(31):
        ours = results(RandAugment(1, magnitude, 31, (resampling,)), image, 800, fill)
        theirs: set[bytes] = set()
        space = transforms.RandAugment()._augmentation_space(31, (96, 96))
        for name, (magnitudes, signed) in space.items():
            value = float(magnitudes[magnitude]) if magnitudes.ndim else 0.0
            for number in (value, -value) if signed else (value,):
                theirs.add(_apply_op(image, name, number, MODES[resampling], fill).tobytes())
        assert set(ours) == theirs


@pytest.mark.parametrize("resampling", MODES)
def test_each_operation_of_trivialaugment(resampling):
    image = photograph(224)
    policy = Policy(1, FILL, (TrivialAugment(31, (resampling,)),))
    drawn = {operations[0] for operations in policy.draw(torch.arange(20_000), 0, 224)}
    ours = {(o.name, policy.apply(image, (o,)).tobytes()) for o in drawn}
    theirs = {
        (name, _apply_op(image, name, sign * float(number), MODES[resampling], FILL).tobytes())
        for name, (magnitudes, signed) in (
            transforms.TrivialAugmentWide()._augmentation_space(31).items()
        )
        for number in magnitudes.reshape(-1)
        for sign in ((1, -1) if signed else (1,))
    }
    assert ours == theirs


@pytest.mark.parametrize("side", [32, 96, 160, 176, 224, 299, 331, 384, 662])
@pytest.mark.parametrize("bins", [2, 11, 31])
def test_translations_of_any_size(side, bins):
    """Which are rounded towards 0: 331 is where whole pixels meet 32-bit arithmetic."""
    space = transforms.RandAugment()._augmentation_space(bins, (side, side))
    for magnitude in range(bins):
        drawn = Policy(0, FILL, (RandAugment(1, magnitude, bins),)).draw(torch.arange(400), 0, side)
        ours = {o.amount for (o,) in drawn if o.name == "TranslateX"}
        pixels = int(float(space["TranslateX"][0][magnitude]))
        assert ours == {pixels, -pixels}


@pytest.mark.parametrize(
    ("part", "theirs"),
    [
        (RandAugment(1), transforms.RandAugment(1, interpolation=MODES[Resampling.BILINEAR])),
        (RandAugment(), transforms.RandAugment(interpolation=MODES[Resampling.BILINEAR])),
        (
            RandAugment(3, 4, 11, (Resampling.NEAREST,)),
            transforms.RandAugment(3, 4, 11, InterpolationMode.NEAREST),
        ),
        (
            TrivialAugment(),
            transforms.TrivialAugmentWide(interpolation=MODES[Resampling.BILINEAR]),
        ),
        (
            TrivialAugment(7, (Resampling.NEAREST,)),
            transforms.TrivialAugmentWide(7, InterpolationMode.NEAREST),
        ),
    ],
)
def test_draws_of_torchvision(part, theirs):
    image = photograph(24)
    ours = results(part, image, 20_000, (0, 0, 0))
    alike(ours, their_results(theirs, image, 20_000))


def timm_transform(config: str) -> Callable:
    return auto_augment.rand_augment_transform(config, {"translate_const": 100, "img_mean": FILL})


@pytest.mark.parametrize("magnitude", range(10))
def test_each_operation_of_timm(magnitude):
    """10 keeps no bits of a posterized image, with which timm ends in an error of Pillow's."""
    random.seed(0)
    np.random.seed(0)
    image = photograph(96)
    part = TimmRandAugment(1, magnitude, noise=0, probability=1)
    theirs = timm_transform(f"rand-m{magnitude}-n1-p1-inc1")
    ours = results(part, image, 2000)
    others = their_results(theirs, image, 2000)
    assert set(ours) == set(others)
    alike(ours, others)


@pytest.mark.parametrize(("count", "probability"), [(1, 0.5), (2, 0.5), (3, 0.8)])
def test_draws_of_timm(count, probability):
    random.seed(1)
    np.random.seed(1)
    image = photograph(24)
    part = TimmRandAugment(count, 7, noise=0, probability=probability)
    theirs = timm_transform(f"rand-m7-n{count}-p{probability}-inc1")
    alike(results(part, image, 20_000), their_results(theirs, image, 20_000))


THEIR_NAMES = {
    "Color": "ColorIncreasing",
    "Contrast": "ContrastIncreasing",
    "Brightness": "BrightnessIncreasing",
    "Sharpness": "SharpnessIncreasing",
    "Posterize": "PosterizeIncreasing",
    "Solarize": "SolarizeIncreasing",
    "TranslateX": "TranslateXRel",
    "TranslateY": "TranslateYRel",
}


@pytest.mark.parametrize("magnitude", [6, 7, 8])
def test_magnitudes_of_timm(magnitude):
    """With the noise of mstd0.5: what each operation is called with, and its pixels."""
    random.seed(2)
    image = photograph(96)
    part = TimmRandAugment(1, magnitude, 0.5, 1)
    by_name: dict[str, list[Operation]] = {}
    for (operation,) in Policy(3, FILL, (part,)).draw(torch.arange(30_000), 0, 96):
        by_name.setdefault(operation.name, []).append(operation)
    assert len(by_name) == 15
    for name, operations in by_name.items():
        hparams = {"img_mean": FILL, "magnitude_std": 0.5}
        op = auto_augment.AugmentOp(THEIR_NAMES.get(name, name), 1, magnitude, hparams)
        function, side = op.aug_fn, 96 if name.startswith("Translate") else 1
        if op.level_fn is not None:
            op.aug_fn = lambda image, amount, **_: amount
            alike_numbers((o.amount for o in operations), (side * op(image) for _ in range(2000)))
        for operation in operations[:20]:
            amount = operation.amount / side
            amounts = [int(amount) if name == "Posterize" else amount] if op.level_fn else []
            expected = function(image, *amounts, fillcolor=FILL, resample=operation.resampling)
            assert apply(image, operation, FILL).tobytes() == expected.tobytes(), operation


JITTERS = [ColorJitter(0.4, 0.4, 0.4), ColorJitter(0.4, 1.5, 0.2, 0.1), ColorJitter(hue=0.5)]
ADJUST = {
    "Brightness": functional.adjust_brightness,
    "Contrast": functional.adjust_contrast,
    "Color": functional.adjust_saturation,
    "Hue": functional.adjust_hue,
}


@pytest.mark.parametrize("jitter", JITTERS)
def test_draws_of_jitter(jitter):
    theirs = transforms.ColorJitter(
        jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    )
    limits = (theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue)
    drawn = Policy(4, FILL, (jitter,)).draw(torch.arange(20_000), 1, 224)
    orders, amounts = [], {name: [] for name in ADJUST}
    for _ in range(20_000):
        order, *factors = theirs.get_params(*limits)
        given = [(list(ADJUST)[i], factors[i]) for i in order if factors[i] is not None]
        orders.append(tuple(name for name, _ in given))
        for name, factor in given:
            amounts[name].append(factor)
    if len(set(orders)) > 1:
        alike((tuple(o.name for o in operations) for operations in drawn), orders)
    for name, factors in amounts.items():
        ours = [o.amount for operations in drawn for o in operations if o.name == name]
        assert bool(ours) == bool(factors)
        if ours:
            alike_numbers(ours, factors)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("jitter", JITTERS)
def test_pixels_of_jitter(jitter, mode):
    image = photograph(96, mode)
    policy = Policy(5, FILL if mode == "RGB" else (1,), (jitter,))
    for operations in policy.draw(torch.arange(100), 0, 96):
        expected = image
        for operation in operations:
            expected = ADJUST[operation.name](expected, operation.amount)
        assert policy.apply(image, operations).tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", [(32, 32), (40, 20)])
@pytest.mark.parametrize(
    ("scale", "ratio"),
    [((0.02, 0.33), (0.3, 3.3)), ((0.5, 1.0), (0.3, 3.3)), ((0.02, 0.33), (1.0, 1.0))],
)
def test_boxes_of_torchvision(shape, scale, ratio):
    images, count = torch.ones(1, *shape), 20_000
    theirs = [
        transforms.RandomErasing.get_params(images, scale, ratio, [0.0])[:4] for _ in range(count)
    ]
    nothing = (0, 0, *shape)  # all of the image is put in place of itself
    erasing = Erasing(6, 1.0, scale, ratio)
    boxes = torch.stack(erasing.boxes(shape, torch.arange(count), 0), 1).tolist()
    ours = [tuple(box) if box[2] or box[3] else nothing for box in boxes]
    for kept in ((0,), (1,), (2,), (3,), (2, 3), (0, 2), (1, 3)):
        alike(*([tuple(box[i] for i in kept) for box in some] for some in (ours, theirs)))


def test_how_often_torchvision_erases():
    images, count = torch.ones(1, 16, 16), 20_000
    theirs = transforms.RandomErasing(0.3)
    erased = [bool((theirs(images) == 0).any()) for _ in range(count)]
    ours = Erasing(7, 0.3)(torch.ones(count, 1, 16, 16), torch.arange(count), 0)
    alike(erased, (ours == 0).flatten(1).any(1).tolist())


def test_noise_is_timms():
    random.seed(3)
    count, shape = 3000, (3, 16, 16)
    theirs = random_erasing.RandomErasing(0.5, mode="pixel", device="cpu")
    expected = theirs(torch.full((count, *shape), 9.0))
    area, aspect = (theirs.min_area, theirs.max_area), (0.3, 1 / 0.3)
    erasing = Erasing(8, 0.5, area, aspect, noise=True)
    ours = erasing(torch.full((count, *shape), 9.0), torch.arange(count), 0)
    alike(*((x != 9).sum((1, 2, 3)).tolist() for x in (ours, expected)))
    alike(*((x != 9)[:, 0].nonzero()[:, 1].tolist()[::50] for x in (ours, expected)))
    alike_numbers(*(x[x != 9].tolist() for x in (ours, expected)))
