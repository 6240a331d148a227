"""Augmentation: what it does to pixels, and that it depends on (seed, epoch, id) alone."""

from dataclasses import replace

import pytest
import torch

from resnets.data.augment import Augment, crop, cutout, pad

AUGMENT = Augment(seed=1, size=32, padding=4, fill=(120, 110, 100), cutout=8)


def pictures(count: int, channels: int = 3, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_same_result_for_any_batch_size(size, reflect):
    images, ids = pictures(100), torch.arange(100) * 7
    augment = replace(AUGMENT, reflect=reflect)
    together = augment(images, ids, 3)
    parts = [augment(images[i : i + size], ids[i : i + size], 3) for i in range(0, 100, size)]
    assert torch.equal(torch.cat(parts), together)


def test_same_result_in_any_order():
    images, ids = pictures(50), torch.arange(50)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    shuffled = AUGMENT(images[order], ids[order], 0)
    assert torch.equal(shuffled, AUGMENT(images, ids, 0)[order])


@pytest.mark.parametrize("change", ["seed", "epoch", "id"])
def test_seed_epoch_and_id_matter(change):
    images, ids = pictures(64), torch.arange(64)
    first = AUGMENT(images, ids, 0)
    augment = replace(AUGMENT, seed=2) if change == "seed" else AUGMENT
    other = augment(images, ids + 64 * (change == "id"), int(change == "epoch"))
    assert (first != other).flatten(1).any(1).float().mean() > 0.9


def offsets(count: int) -> torch.Tensor:
    """(row, column, flipped) of each sample, read off a picture whose pixels are coordinates."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    picture = torch.stack([rows + 1, columns + 1]).to(torch.uint8)
    augment = Augment(seed=5, size=32, padding=4, fill=(0, 0))
    seen = augment(picture.expand(count, 2, 32, 32), torch.arange(count), 2)
    middle = seen[:, :, 16, 15:17].long()
    flipped = middle[:, 1, 1] < middle[:, 1, 0]
    left = torch.where(flipped, middle[:, 1, 1] - 15, middle[:, 1, 0] - 15) - 1
    return torch.stack([middle[:, 0, 0] - 17, left, flipped.long()], 1)


def test_crops_and_flips_are_uniform_and_independent():
    found = offsets(40_500)
    assert found[:, :2].min() == -4
    assert found[:, :2].max() == 4
    cell = (found[:, 0] + 4) * 18 + (found[:, 1] + 4) * 2 + found[:, 2]
    counts = torch.bincount(cell, minlength=162).double()
    chi_squared = ((counts - 250) ** 2 / 250).sum().item()
    assert abs(chi_squared - 161) < 5 * (2 * 161) ** 0.5


def test_pad_fills_and_reflects():
    images = pictures(2, side=6)
    filled = pad(images, 2, torch.tensor([1, 2, 3], dtype=torch.uint8))
    assert filled.shape == (2, 3, 10, 10)
    assert torch.equal(filled[:, :, 2:8, 2:8], images)
    assert filled[:, :, 0, 0].tolist() == [[1, 2, 3]] * 2
    mirrored = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode="reflect").byte()
    assert torch.equal(pad(images, 2, None), mirrored)


def test_crop_and_flip_against_slices():
    images = pictures(3, side=40)
    top, left = torch.tensor([0, 5, 8]), torch.tensor([8, 1, 0])
    flipped = torch.tensor([False, True, False])
    result = crop(images, top, left, 32, flipped)
    assert torch.equal(result[0], images[0, :, 0:32, 8:40])
    assert torch.equal(result[1], images[1, :, 5:37, 1:33].flip(-1))
    assert torch.equal(result[2], images[2, :, 8:40, 0:32])
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_cutout_is_a_clipped_square():
    fill = torch.tensor([7, 7, 7], dtype=torch.uint8)
    images = torch.full((2, 3, 16, 16), 200, dtype=torch.uint8)
    result = cutout(images, torch.tensor([8, 0]), torch.tensor([8, 15]), 4, fill)
    expected = images.clone()
    expected[0, :, 6:10, 6:10] = 7
    expected[1, :, 0:2, 13:16] = 7
    assert torch.equal(result, expected)


def test_nothing_asked_for_changes_nothing():
    images = pictures(4)
    plain = Augment(seed=0, size=32, padding=0, fill=(0, 0, 0), mirror=False)
    assert torch.equal(plain(images, torch.arange(4), 0), images)
