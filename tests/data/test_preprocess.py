"""Preprocessing: measured exactly, applied alike to batches and images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.data.dataset import MemoryImages, whole
from resnets.data.preprocess import Preprocess, identity, imagenet, measure, stored_side
from resnets.errors import CheckpointError, DataError, UsageError


def pixels(count=50, side=12, channels=3) -> np.ndarray:
    shape = (count, side, side, channels)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("size", [12, 9])
def test_channel_statistics_against_numpy(size):
    data = pixels()
    split = whole(MemoryImages(torch.from_numpy(data)), torch.zeros(50))
    start = round((12 - size) / 2)
    middle = data[:, start : start + size, start : start + size] / 255
    measured = measure(split, size, "channel")
    assert measured.mean == pytest.approx(middle.mean((0, 1, 2)), abs=1e-6)
    assert measured.std == pytest.approx(middle.std((0, 1, 2)), abs=1e-6)


def test_pixel_mean_is_the_mean_picture():
    data = pixels()
    split = whole(MemoryImages(torch.from_numpy(data)), torch.zeros(50))
    measured = measure(split, 12, "pixel_mean")
    assert measured.std == (1.0, 1.0, 1.0)
    mean = (data / 255).mean(0).transpose(2, 0, 1)
    assert np.allclose(np.reshape(measured.mean, (3, 12, 12)), mean, atol=1e-6)
    batch = split.batch(torch.arange(50))[0]
    assert measured(batch).mean(0).abs().max() < 1e-5
    assert measured.channel_mean == pytest.approx(mean.mean((1, 2)), abs=1e-6)


def test_normalise_formula_and_layout():
    preprocess = Preprocess(3, 12, 12, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    data = torch.from_numpy(pixels(4)).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    result = preprocess(data)
    torch.testing.assert_close(result, (data / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_and_picture_are_the_same(channels, tmp_path):
    preprocess = Preprocess(channels, 16, 14, (0.5,) * channels, (0.2,) * channels)
    data = pixels(1, 40, channels)
    picture = Image.fromarray(data[0].squeeze())
    picture.save(tmp_path / "a.png")
    batch = torch.from_numpy(data).permute(0, 3, 1, 2)
    expected = preprocess(picture)
    assert expected.shape == (1, channels, 14, 14)
    assert torch.equal(preprocess(batch), expected)
    assert torch.equal(preprocess(tmp_path / "a.png"), expected)
    assert torch.equal(preprocess([picture, str(tmp_path / "a.png")])[1:], expected)


def test_stored_pictures_are_cropped_as_decoded_ones():
    preprocess = identity(3, 112)
    data = pixels(2, 128)
    stored = torch.from_numpy(data).permute(0, 3, 1, 2)
    assert torch.equal(preprocess(stored)[:1], preprocess(Image.fromarray(data[0])))


def test_a_cropped_size_is_no_exception():
    """Raw pixels of the crop's size are scaled like any others, as an image of that size is."""
    preprocess = identity(3, 112)
    data = pixels(1, 112)
    batch = torch.from_numpy(data).permute(0, 3, 1, 2)
    assert torch.equal(preprocess(batch), preprocess(Image.fromarray(data[0])))


def test_json_round_trip():
    split = whole(MemoryImages(torch.from_numpy(pixels())), torch.zeros(50))
    for kind in ("channel", "pixel_mean"):
        preprocess = measure(split, 9, kind)
        again = Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict())))
        assert again == preprocess
    for damage in ({"mean": [1.0] * 7}, {"size": None}, {"extra": 1}):
        with pytest.raises(CheckpointError, match="preprocessing in the file is damaged"):
            Preprocess.from_dict(preprocess.to_dict() | damage)


def test_what_is_no_batch(tmp_path):
    preprocess = identity(3, 8)
    for batch in (
        torch.rand(1, 3, 8, 8),
        torch.zeros(3, 8, 8).byte(),
        torch.zeros(1, 1, 8, 8).byte(),
    ):
        with pytest.raises(UsageError, match=r"a batch must be uint8 \(N, 3, H, W\)"):
            preprocess(batch)
    for nothing in ([], np.zeros((8, 8, 3), np.uint8)[None], [torch.zeros(3, 8, 8).byte()]):
        with pytest.raises(UsageError, match=r"no images|is no image and no file"):
            preprocess(nothing)
    with pytest.raises(DataError, match="cannot be read"):
        preprocess(tmp_path / "missing.png")


def test_measuring_says_how_far_it_is():
    split, told = whole(MemoryImages(torch.zeros(300, 4, 4, 1).byte()), torch.zeros(300)), []
    measure(split, 4, "channel", report=lambda *numbers: told.append(numbers))
    assert told == [(256, 300), (300, 300)]


def test_blank_pictures_do_not_divide_by_zero():
    split = whole(MemoryImages(torch.full((4, 8, 8, 1), 7, dtype=torch.uint8)), torch.zeros(4))
    preprocess = measure(split, 8, "channel")
    assert preprocess(split.batch(torch.arange(4))[0]).abs().max() < 1e-3
    assert stored_side(224) == 256


def test_imagenets_constants_whatever_the_data():
    split = whole(MemoryImages(torch.zeros(2, 12, 12, 3, dtype=torch.uint8)), torch.zeros(2))
    measured, usual = measure(split, 9, "imagenet"), imagenet(3, 9)
    assert (measured.mean, measured.std) == (usual.mean, usual.std)
    assert (measured.resize, measured.size) == (12, 9)
    grey = whole(MemoryImages(torch.zeros(2, 12, 12, 1, dtype=torch.uint8)), torch.zeros(2))
    with pytest.raises(UsageError, match="ImageNet's constants are for 3 channels, not 1"):
        measure(grey, 9, "imagenet")


def test_a_large_batch_is_normalised_as_its_images_are():
    """It lies in memory of its own kind."""
    preprocess = imagenet(3, 224)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 224, 224, 3), dtype=torch.uint8, generator=generator)
    images = images.permute(0, 3, 1, 2)
    together = preprocess.normalize(images)
    assert together.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(
        together, torch.cat([preprocess.normalize(some) for some in images.split(7)])
    )
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocess.mean, preprocess.std))
    assert torch.allclose(together, (images.double() / 255 - mean).div(std).float(), atol=1e-5)
