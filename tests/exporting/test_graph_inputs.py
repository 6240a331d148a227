"""Preprocessing as part of a network, against Pillow and against Preprocess."""

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.data.preprocess import Preprocess
from resnets.exporting.inputs import DecodedImages, Pixels

SIDES = [(640, 427), (427, 640), (290, 417), (256, 256), (257, 256), (100, 90), (31, 29)]
STRIPS = [(640, 40), (1, 60), (500, 3)]


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    load = pytest.importorskip("sklearn.datasets").load_sample_images
    return [Image.fromarray(array) for array in load().images]


def checkered(width: int, height: int) -> Image.Image:
    """Edges and noise, which show every wrong weight."""
    y, x = np.mgrid[:height, :width]
    squares = 255 * ((x // 7 + y // 5) % 2)
    noise = np.random.default_rng(width).integers(-40, 40, (height, width, 3))
    return Image.fromarray((squares[..., None] + noise).clip(0, 255).astype(np.uint8))


def levels(preprocess: Preprocess, image: Image.Image, expected: torch.Tensor) -> torch.Tensor:
    """The grey levels by which the graph and what is expected differ, pixel by pixel."""
    with torch.no_grad():
        found = DecodedImages(preprocess)(torch.from_numpy(np.asarray(image).copy())[None])
    assert found.shape == expected.shape
    return ((found - expected).abs() * 255 * torch.tensor(preprocess.std).view(-1, 1, 1)).round()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "size"), [(256, 224), (32, 32), (73, 64)])
def test_scaling_is_pillows(photographs, interpolation, resize, size):
    preprocess = Preprocess(3, resize, size, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), interpolation)
    pieces = [photographs[0].crop((10, 3, 10 + w, 3 + h)) for w, h in SIDES[2:]]
    for picture in [*photographs, *pieces, *(checkered(*side) for side in SIDES + STRIPS)]:
        off = levels(preprocess, picture, preprocess(picture))
        assert off.max() <= 1, picture.size
        # Small whole sizes lead to exact halves, which Pillow's fixed point rounds either way.
        assert (off > 0).float().mean() < 0.04, picture.size


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [(41, 320), (41, 640), (100, 290)])
def test_rows_of_high_pictures_are_scaled_first(interpolation, side):
    """As all of Pillow's versions scale most images; 13 begins with the columns of these."""
    preprocess = Preprocess(3, 32, 32, (0.0,) * 3, (1.0,) * 3, interpolation)
    picture = checkered(*side)
    method = Image.Resampling[interpolation.upper()]
    rows = picture.resize((32, side[1]), method)
    whole = rows.resize((32, 32 * side[1] // side[0]), method)
    expected = preprocess(whole)  # which only cuts it
    off = levels(preprocess, picture, expected)
    assert off.max() <= 1
    assert (off > 0).float().mean() < 0.02
    if interpolation == "bilinear":
        assert levels(preprocess, picture, preprocess(picture)).max() <= 1


@pytest.mark.parametrize("side", [(32, 32), (32, 77), (78, 32), (32, 300)])
def test_what_needs_no_scaling_is_equal_bit_for_bit(side):
    image = checkered(*side)
    preprocess = Preprocess(3, 32, 28, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    pixels = torch.from_numpy(np.asarray(image).copy())[None]
    assert DecodedImages(preprocess)(pixels).equal(preprocess(image))


def test_pixels_are_normalised_bit_for_bit():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    random = np.random.default_rng(0)
    for values in ((0.4914, 0.482158, 0.446531), tuple(random.random(3 * 64).tolist())):
        preprocess = Preprocess(3, 8, 8, values, (0.247032, 0.243485, 0.261588))
        assert Pixels(preprocess)(images).equal(preprocess.normalize(images))


def test_grey_pictures():
    image = checkered(60, 50).convert("L")
    preprocess = Preprocess(1, 32, 32, (0.5,), (0.25,))
    pixels = torch.from_numpy(np.asarray(image).copy())[None, :, :, None]
    assert (DecodedImages(preprocess)(pixels) - preprocess(image)).abs().max() <= 1.01 / (
        255 * 0.25
    )
