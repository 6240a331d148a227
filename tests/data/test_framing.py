"""Which square of an image is seen: torchvision's, timm's, or all of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.data import open_dataset
from resnets.data.framing import Frame
from resnets.data.preprocess import Preprocess
from resnets.errors import CheckpointError, UsageError
from resnets.exporting.inputs import DecodedImages
from resnets.weights import catalog

SIZES = sorted({(e.preprocess["resize"], e.preprocess["size"]) for e in catalog.entries()})
ZEROS, ONES = (0.0,) * 3, (1.0,) * 3
# What an image's side may be beside the shorter one, once that is scaled.
MARGINS = (0, 1, 2, 3, 4, 5, 6, 7, 30, 31, 100, 101, 102, 103, 333)


def places(width: int, height: int) -> Image.Image:
    """An image whose pixels say where they are: column and row in two bytes each."""
    y, x = np.mgrid[:height, :width].astype(np.uint16)
    return Image.fromarray(
        np.stack([x % 256, y % 256, x // 256 * 16 + y // 256], 2).astype(np.uint8)
    )


def centre(array: np.ndarray, size: int) -> np.ndarray:
    """As torchvision's CenterCrop: round((length - size) / 2.0)."""
    top, left = (round((length - size) / 2.0) for length in array.shape[:2])
    return array[top : top + size, left : left + size]


def seen(preprocess: Preprocess, image: Image.Image) -> np.ndarray:
    """The pixels (H, W, C) that a network sees."""
    return preprocess.squares(image)[0].transpose(1, 2, 0)


def test_the_catalogue_has_sizes_of_every_kind():
    assert {(resize - size) % 4 for resize, size in SIZES} >= {0, 1, 3}, SIZES


@pytest.mark.parametrize(("resize", "size"), SIZES)
def test_a_picture_is_cut_once(resize, size):
    preprocess = Preprocess(3, resize, size, ZEROS, ONES)
    for margin in MARGINS:
        for side in ((resize + margin, resize), (resize, resize + margin)):
            image = places(*side)  # nothing to scale: what differs is where it is cut
            found = seen(preprocess, image)
            assert np.array_equal(found, centre(np.asarray(image), size)), side
            stored = torch.from_numpy(np.asarray(preprocess.frame(image)).copy())
            batch = preprocess.fitted(stored.permute(2, 0, 1)[None])
            assert np.array_equal(batch[0].permute(1, 2, 0), found), side


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [(403, 300), (300, 403), (333, 500), (97, 61), (80, 1900)])
def test_a_picture_is_scaled_and_cut_as_torchvision_does(side, interpolation):
    image = places(*side)
    for resize, size in ((235, 224), (256, 224), (73, 64), (9, 8)):
        shorter, longer = sorted(side)
        target = [resize if n == shorter else int(resize * longer / shorter) for n in side]
        whole = np.asarray(image.resize(target, Image.Resampling[interpolation.upper()]))
        preprocess = Preprocess(3, resize, size, ZEROS, ONES, interpolation)
        assert np.array_equal(seen(preprocess, image), centre(whole, size))


@pytest.mark.parametrize("margin", MARGINS)
def test_files_that_do_not_say_are_cut_twice(margin):
    """As they were made: the middle of the image, then the middle of that."""
    fields = {"channels": 3, "resize": 235, "size": 224, "mean": [0.0] * 3, "std": [1.0] * 3}
    fields["interpolation"] = "bilinear"
    old = Preprocess.from_dict(fields)
    assert old.to_dict() == {**fields, "mean": ZEROS, "std": ONES}  # and stays as it is
    image = places(235 + margin, 235)
    assert np.array_equal(seen(old, image), centre(centre(np.asarray(image), 235), 224))
    now = replace(old, version=2)
    assert Preprocess.from_dict(now.to_dict()) == now != old
    pixels = torch.from_numpy(np.asarray(image).copy())[None]
    for preprocess in (old, now):
        assert DecodedImages(preprocess)(pixels).equal(preprocess(image))


@pytest.mark.parametrize(
    "side", [(48, 12), (12, 48), (7, 48), (48, 48), (96, 24), (1, 1), (100, 3)]
)
def test_pad_shows_the_whole_picture_between_equal_borders(side):
    image = Image.new("RGB", side, "white")
    found = seen(Preprocess(3, 48, 48, ZEROS, ONES, fit="pad"), image)
    width, height = (max(1, round(48 * n / max(side))) for n in side)
    left, top = (48 - width) // 2, (48 - height) // 2
    expected = np.zeros((48, 48, 3), np.uint8)
    expected[top : top + height, left : left + width] = 255
    assert np.array_equal(found, expected)


def test_pad_does_not_resample_what_fits():
    image = places(48, 20)
    found = seen(Preprocess(3, 48, 48, ZEROS, ONES, fit="pad"), image)
    assert np.array_equal(found[14:34], np.asarray(image))
    assert not found[:14].any()
    assert not found[34:].any()


def test_squash_scales_both_sides():
    image = places(90, 31)
    found = seen(Preprocess(3, 48, 48, ZEROS, ONES, fit="squash"), image)
    assert np.array_equal(found, np.asarray(image.resize((48, 48), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_exported_graphs_frame_alike(fit, interpolation):
    preprocess = Preprocess(3, 33, 33, (0.5,) * 3, ONES, interpolation, fit=fit)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    for width, height in ((33, 33), (33, 20), (80, 41), (41, 80), (400, 5), (3, 90), (1, 1)):
        array = noise[:height, :width].copy()
        found = DecodedImages(preprocess)(torch.from_numpy(array)[None])
        off = ((found - preprocess(Image.fromarray(array))).abs() * 255).round()
        assert off.max() <= 1, (width, height)
        assert (off > 0).float().mean() < 0.05, (width, height)
        resampled = preprocess.frame.resamples(width, height)
        assert resampled or off.max() == 0


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("scale", ["container", (0, 4095)])
def test_data_sets_and_pictures_are_the_same_pixels(tmp_path, fit, scale):
    for label, side in (("wide", (61, 30)), ("high", (29, 64)), ("even", (40, 40))):
        (tmp_path / label).mkdir()
        array = np.random.default_rng(len(label)).integers(0, 4096, (side[1], side[0]))
        Image.fromarray(array.astype(np.uint16)).save(tmp_path / label / "deep.png")
        Image.fromarray((array // 16).astype(np.uint8)).save(tmp_path / label / "plain.png")
    range = scale if isinstance(scale, tuple) else None
    resize = 37 if fit == "crop" else 32
    preprocess = Preprocess(3, resize, 32, ZEROS, ONES, "bicubic", fit=fit, range=range)
    for memory in (None, 0):
        dataset = open_dataset(tmp_path, frame=preprocess.frame, scale=preprocess.scale)
        stored, _ = dataset.train.batch(dataset.train.ids)
        files = [tmp_path / name for name in dataset.train.names(dataset.train.ids)]
        assert len(files) == 6
        assert np.array_equal(preprocess.fitted(stored), preprocess.squares(files)), memory


def test_what_is_seen_of_a_picture():
    assert Frame(64, 64).seen(256, 64) == 0.25
    assert Frame(256, 224).seen(100, 100) == pytest.approx(0.765625)
    assert Frame(64, 64, "pad").seen(256, 64) == Frame(64, 64, "squash").seen(256, 64) == 1


def test_what_cannot_be_meant():
    with pytest.raises(UsageError, match='no fit is called "padd"') as caught:
        Frame(8, 8, "padd")
    assert caught.value.hint == "did you mean pad?"
    with pytest.raises(UsageError, match="pad shows whole images"):
        Preprocess(3, 9, 8, ZEROS, ONES, fit="pad")
    with pytest.raises(UsageError, match="a range is from a smaller to a larger value"):
        Preprocess(3, 8, 8, ZEROS, ONES, range=(1, 1))
    whole = Preprocess(3, 8, 8, ZEROS, ONES, range=(0, 4095)).to_dict()
    for damage in ({"fit": "no"}, {"range": [3, 1]}, {"range": 7}, {"version": 3}):
        with pytest.raises(CheckpointError, match="preprocessing in the file is damaged"):
            Preprocess.from_dict(whole | damage)
