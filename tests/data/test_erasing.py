"""Random erasing: its boxes, and what is in them."""

from collections import Counter
from math import log, sqrt

import pytest
import torch

from resnets.data.erasing import Erasing

ERASING = Erasing(seed=1, probability=0.5)


def images(count: int, side: int = 24) -> torch.Tensor:
    """Normalised, and nowhere 0."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(count, 3, side, side, generator=generator) + 1
    return values.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_same_result_for_any_batch_and_order(size, noise):
    batch, ids = images(100), torch.arange(100) * 7
    erasing = Erasing(1, 0.5, noise=noise)
    together = erasing(batch.clone(), ids, 3)
    assert together.is_contiguous(memory_format=torch.channels_last)
    parts = [
        erasing(batch[i : i + size].clone(), ids[i : i + size], 3) for i in range(0, 100, size)
    ]
    assert torch.equal(torch.cat(parts), together)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    assert torch.equal(erasing(batch[order], ids[order], 3), together[order])


@pytest.mark.parametrize("change", ["seed", "epoch", "id"])
def test_seed_epoch_and_id_matter(change):
    ids, erasing = torch.arange(100), Erasing(2 if change == "seed" else 1, 1.0)
    boxes = torch.stack(Erasing(1, 1.0).boxes((24, 24), ids, 0))
    other = erasing.boxes((24, 24), ids + (change == "id"), int(change == "epoch"))
    assert (boxes == torch.stack(other)).all(0).sum() < 5


def test_a_box_of_each_channel_is_zero_and_the_rest_stays():
    batch, ids = images(200), torch.arange(200)
    erased = ERASING(batch.clone(), ids, 0)
    top, left, height, width = ERASING.boxes((24, 24), ids, 0)
    for i in range(200):
        expected = batch[i].clone()
        expected[:, top[i] : top[i] + height[i], left[i] : left[i] + width[i]] = 0
        assert torch.equal(erased[i], expected)


def test_boxes_are_as_large_and_as_long_as_asked():
    """In whole pixels of a large image: area and aspect are uniform, one in its logarithm."""
    ids, shape = torch.arange(40_000), (4000, 4000)
    erasing = Erasing(3, 0.25, (0.05, 0.2), (0.5, 2.0))
    top, left, height, width = erasing.boxes(shape, ids, 0)
    there = height > 0
    assert there.double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert ((top >= 0) & (top + height <= 4000) & (left >= 0) & (left + width <= 4000)).all()
    area = (height * width)[there] / 16e6
    aspect = (height / width)[there].log() / log(2)
    for values, low, high in ((area, 0.05, 0.2), (aspect, -1, 1)):
        share = (values - low) / (high - low)
        assert -0.01 < share.min() < 0.01
        assert 0.99 < share.max() < 1.01
        counts = Counter((20 * share).long().clamp(0, 19).tolist())
        expected = len(share) / 20
        squares = sum((counts[i] - expected) ** 2 / expected for i in range(20))
        assert abs(squares - 19) < 4 * sqrt(2 * 19)
    places = (top / (4000 - height))[there]
    assert places.mean().item() == pytest.approx(0.5, abs=0.02)
    assert places.std().item() == pytest.approx(1 / sqrt(12), abs=0.01)


def test_what_never_fits_is_left_out():
    """A box is smaller than the image on both sides, as in torchvision and timm."""
    whole = Erasing(0, 1.0, (1.0, 1.0), (1.0, 1.0))
    half = Erasing(0, 1.0, (0.4, 0.5), (4.0, 4.0))  # higher than the square
    for erasing in (whole, half):
        assert torch.equal(erasing(images(10), torch.arange(10), 0), images(10))


def test_noise_is_normal_and_each_pixels_own():
    count, noise = 4000, Erasing(1, 0.5, noise=True)
    changed = noise(images(count), torch.arange(count), 0)
    inside = changed != images(count)
    _, _, height, width = noise.boxes((24, 24), torch.arange(count), 0)
    assert torch.equal(inside.sum((1, 2, 3)), 3 * height * width)
    values = changed[inside]
    assert values.mean().item() == pytest.approx(0, abs=0.01)
    assert values.std().item() == pytest.approx(1, abs=0.01)
    assert len(values.unique()) > 0.9 * len(values)  # of 2**24 in float32
