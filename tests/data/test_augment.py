"""Augmentation: what it does to pixels, and that it depends on (seed, epoch, id) alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.data.augment import Augment, crop, cutout, lighting, pad

AUGMENT = Augment(seed=1, size=32, padding=4, fill=(120, 110, 100), cutout=8)


def pictures(count: int, channels: int = 3, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


KINDS = {
    "padded": {},
    "reflected": {"reflect": True},
    "area": {"padding": 0, "area": (0.08, 1.0)},
    "scale": {"padding": 0, "scale": (33, 50)},
    "shift": {"padding": 0, "shift": 0.2},
    "alternate": {"mirror": "alternate"},
    "lighting": {"lighting": 0.3},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_same_result_for_any_batch_size(size, kind):
    images, ids = pictures(100), torch.arange(100) * 7
    augment = replace(AUGMENT, **KINDS[kind])
    together = augment(images, ids, 3)
    assert together.shape == (100, 3, 32, 32)
    assert together.is_contiguous(memory_format=torch.channels_last)
    parts = [augment(images[i : i + size], ids[i : i + size], 3) for i in range(0, 100, size)]
    assert torch.equal(torch.cat(parts), together)


@pytest.mark.parametrize("kind", KINDS)
def test_small_pictures_for_any_batch_size(kind):
    images, ids = pictures(40), torch.arange(40) * 7
    augment = replace(AUGMENT, **KINDS[kind])
    together = augment(images, ids, 3, 20)
    assert together.shape == (40, 3, 20, 20)
    assert together.dtype == torch.uint8
    parts = [augment(images[i : i + 9], ids[i : i + 9], 3, 20) for i in range(0, 40, 9)]
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
    """(row, column, flipped) of each sample, read off an image whose pixels are coordinates."""
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


def test_small_pictures_show_the_same_crops():
    """Where each crop lies is found by comparison; Pillow then scales that part of the image."""
    images, ids = pictures(12), torch.arange(12)
    augment = Augment(seed=1, size=32, padding=4, fill=(120, 110, 100))
    padded = pad(images, 4, torch.tensor(augment.fill, dtype=torch.uint8))
    for source, full, small in zip(
        padded, augment(images, ids, 0), augment(images, ids, 0, 20), strict=True
    ):
        [(top, left, flipped)] = [
            (top, left, flipped)
            for top in range(9)
            for left in range(9)
            for flipped in (False, True)
            if torch.equal(
                source[:, top : top + 32, left : left + 32], full.flip(-1) if flipped else full
            )
        ]
        picture = Image.fromarray(source.permute(1, 2, 0).numpy())
        box = (left, top, left + 32, top + 32)
        expected = picture.resize((20, 20), Image.Resampling.BILINEAR, box=box)
        shown = small.flip(-1) if flipped else small
        difference = np.abs(shown.permute(1, 2, 0).int().numpy() - np.asarray(expected, int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.004


@pytest.mark.parametrize("kind", ["area", "scale", "shift"])
def test_seed_epoch_and_id_matter_to_windows(kind):
    images, ids = pictures(64), torch.arange(64)
    augment = replace(AUGMENT, **KINDS[kind], mirror=False, cutout=0)
    first = augment(images, ids, 0)
    for other in (
        augment(images, ids, 1),
        augment(images, ids + 64, 0),
        replace(augment, seed=2)(images, ids, 0),
    ):
        assert (first != other).flatten(1).any(1).float().mean() > 0.9


def test_a_shift_between_pixels_moves_a_ramp():
    """On a ramp of two grey levels a pixel, an image's shift is read off its middle."""
    ramp = (2 * torch.arange(32) + 90).byte().expand(2000, 3, 32, 32)
    augment = Augment(seed=1, size=32, padding=0, fill=(0, 0, 0), mirror=False, shift=0.25)
    seen = augment(ramp, torch.arange(2000), 0)
    moved = (seen[:, 0, 16, 16].double() - ramp[0, 0, 16, 16]) / 2
    assert moved.abs().max() == 8
    assert set((2 * moved).long().tolist()) == set(range(-16, 17))
    far = seen[moved == 8][0, 0, 16]
    assert (far[-8:] == ramp[0, 0, 0, -1]).all()


def test_alternating_flips_show_both_sides_in_any_two_epochs():
    images, ids = pictures(1000, side=8), torch.arange(1000)
    augment = Augment(seed=1, size=8, padding=0, fill=(0, 0, 0), mirror="alternate")
    epochs = [augment(images, ids, epoch) for epoch in range(5)]
    flipped = (epochs[0] != images).flatten(1).any(1)
    assert torch.equal(epochs[0][flipped], images[flipped].flip(-1))
    assert abs(flipped.sum() - 500) < 5 * 250**0.5
    for before, after in pairwise(epochs):
        assert torch.equal(after, before.flip(-1))


def test_lighting_against_its_formula():
    generator = torch.Generator().manual_seed(0)
    amounts = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    images = pictures(30)
    components = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    change = (amounts.numpy() * [0.2175, 0.0188, 0.0045]) @ components.T
    exact = images.numpy() / 255 + change[:, :, None, None]
    expected = (255 * exact).clip(0, 255)
    assert np.abs(lighting(images, amounts).numpy() - expected).max() < 0.5 + 1e-4
    assert (expected == 0).any()
    assert (expected == 255).any()


def test_lighting_varies_along_the_principal_colours():
    grey = torch.full((20_000, 3, 2, 2), 128, dtype=torch.uint8)
    augment = Augment(seed=1, size=2, padding=0, fill=(0, 0, 0), lighting=0.5)
    seen = augment(grey, torch.arange(20_000), 0).double()
    assert (seen == seen[:, :, :1, :1]).all()
    colours = seen[:, :, 0, 0] - 128
    # The principal components of what is seen are AlexNet's; rounding adds 1/12 to each.
    values, vectors = torch.linalg.eigh(torch.cov(colours.T))
    spread = 255 * 0.5 * torch.tensor([0.0045, 0.0188, 0.2175], dtype=torch.float64)
    expected = spread.square() + 1 / 12
    assert ((values - expected).abs() < 5 * expected * (2 / 20_000) ** 0.5).all()
    first = torch.tensor([0.5675, 0.5808, 0.5836], dtype=torch.float64)
    assert (vectors[:, 2] @ first).abs() > 0.999
    assert (colours.mean(0).abs() < 5 * colours.std(0) / 20_000**0.5).all()


def test_cutout_shrinks_with_the_picture():
    grey = torch.full((200, 3, 32, 32), 200, dtype=torch.uint8)
    augment = Augment(seed=1, size=32, padding=0, fill=(7, 7, 7), cutout=8)
    full, half = (
        (augment(grey, torch.arange(200), 0, size)[:, 0] == 7).double() for size in (32, 16)
    )
    assert half.sum((1, 2)).max() == 16
    # Both squares are centred alike: averaged over 2 x 2 pixels the large one covers the small.
    covered = torch.nn.functional.max_pool2d(full, 2)
    assert (half <= covered).all()


def test_what_cannot_be_augmented():
    with pytest.raises(ValueError, match="lighting is for 3 channels, not 1"):
        Augment(seed=0, size=8, padding=0, fill=(0,), lighting=0.1)
    with pytest.raises(ValueError, match="a crop of 32 does not fit in images of 31"):
        Augment(seed=0, size=32, padding=0, fill=(0, 0, 0), scale=(31, 40))
