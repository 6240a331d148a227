"""Images of more than 8 bits: all of them are read, and one range is the data set's."""

import numpy as np
import pytest
from PIL import Image

from deep import png16, tiff12, tiff16
from resnets.data import open_dataset
from resnets.data.depth import Extent, RangeError, together
from resnets.data.images import decode, pixels, read_image
from resnets.data.preprocess import Preprocess
from resnets.errors import DataError, UsageError
from resnets.training.recipe import load_recipe

HEIGHT, WIDTH = 11, 13


def values(channels: int, top: int = 4095, seed: int = 0) -> np.ndarray:
    """Numbers up to ``top``, uint16 (H, W, C); the alpha of two or four channels is opaque."""
    random = np.random.default_rng(seed)
    found = random.integers(0, top + 1, (HEIGHT, WIDTH, channels)).astype(np.uint16)
    found[0, 0] = top
    if channels in (2, 4):
        found[:, :, -1] = 65535
    return found


KINDS = {
    "grey.png": png16(values(1)),
    "grey interlaced.png": png16(values(1), interlaced=True),
    "grey alpha.png": png16(values(2)),
    "grey alpha interlaced.png": png16(values(2), interlaced=True),
    "rgb.png": png16(values(3)),
    "rgb interlaced.png": png16(values(3), interlaced=True),
    "rgba.png": png16(values(4)),
    "rgba interlaced.png": png16(values(4), interlaced=True),
    "rgb intel.tif": tiff16(values(3)),
    "rgb motorola.tif": tiff16(values(3), ">"),
    "rgba intel.tif": tiff16(values(4)),
    "rgba motorola.tif": tiff16(values(4), ">"),
    "rgb deflate.tif": tiff16(values(3), compressed=True),
    "rgb deflate motorola.tif": tiff16(values(3), ">", compressed=True),
}


@pytest.mark.parametrize("name", KINDS)
def test_all_16_bits_are_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    channels = 3 if "rgb" in name else 1
    stored = values({"grey": 1, "grey alpha": 2, "rgb": 3, "rgba": 4}[name_of(name)])
    expected = np.rint(stored[:, :, :channels] * (255 / 4095))
    assert np.array_equal(pixels(decode(path, channels, (0, 4095))), expected)
    assert str(read_image(path).extent).startswith("12 of 16 bits used")
    with Image.open(path) as image:  # the same by way of an image that is open
        assert np.array_equal(pixels(decode(image, channels, (0, 4095))), expected)


def name_of(name: str) -> str:
    words = [
        word for word in name.split(".")[0].split() if word in ("grey", "alpha", "rgb", "rgba")
    ]
    return " ".join(words)


def test_alpha_of_16_bits_is_composited_on_white(tmp_path):
    stored = values(4)
    stored[:, :, 3] = 0
    (tmp_path / "x.png").write_bytes(png16(stored))
    assert (pixels(decode(tmp_path / "x.png", 3, (0, 4095))) == 255).all()


def test_12_bits_that_lie_two_in_three_bytes(tmp_path):
    """Without a range they are not dark: all that 12 bits hold; with one as all others."""
    path = tmp_path / "x.tif"
    path.write_bytes(tiff12(stored := values(1)[:, :12, 0]))
    assert str(read_image(path).extent).startswith("12 of 12 bits used")
    for scale in ("container", (0, 4095)):
        assert np.array_equal(
            pixels(decode(path, 1, scale))[:, :, 0], np.rint(stored * (255 / 4095))
        )
    assert pixels(decode(path, 1, "own")).max() == 16  # as runs of earlier versions saw them


def test_values_beyond_a_models_range_are_said_once(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(png16(values(1, top=3000)))
    prepared = Preprocess(1, 8, 8, (0.5,), (0.25,), range=(0.0, 1234.0))
    with pytest.warns(UserWarning, match=r"beyond 0 to 1234, .*which are clipped") as said:
        prepared.arrays([path, path])
    assert len(said) == 1


@pytest.mark.parametrize("compressed", [True, False])
def test_what_cannot_be_had_is_said(tmp_path, compressed):
    path = tmp_path / "planes.tif"
    path.write_bytes(tiff16(values(3), compressed=compressed, planes=True))
    with pytest.raises(DataError, match=r"planes\.tif: cannot be decoded: .*16 bits"):
        decode(path, 3, (0, 4095))


@pytest.mark.parametrize(
    ("low", "high", "bits", "range", "words"),
    [
        (0, 200, 16, (0, 255), "8 of 16 bits used (0 to 200)"),
        (3, 256, 16, (0, 1023), "10 of 16 bits used (3 to 256)"),
        (0, 1023, 16, (0, 1023), "10 of 16 bits used (0 to 1023)"),
        (0, 1024, 16, (0, 4095), "12 of 16 bits used (0 to 1024)"),
        (0, 16383, 32, (0, 16383), "14 of 32 bits used (0 to 16383)"),
        (0, 16384, 16, (0, 65535), "16 of 16 bits used (0 to 16384)"),
        (0, 65536, 32, (0, 65536), "32-bit numbers from 0 to 65536"),
        (-1000, 3000, 32, (-1000, 3000), "32-bit numbers from -1000 to 3000"),
        (0.1, 0.9, 0, (0, 1), "floats from 0.1 to 0.9"),
        (0.1, 1.5, 0, (0.1, 1.5), "floats from 0.1 to 1.5"),
        (-0.5, 0.5, 0, (-0.5, 0.5), "floats from -0.5 to 0.5"),
        (7.0, 7.0, 0, (7, 8), "floats from 7 to 7"),
    ],
)
def test_the_range_that_is_measured(low, high, bits, range, words):
    extent = Extent(low, high, bits)
    assert extent.range == range
    assert str(extent) == words


def test_floats_and_whole_numbers_have_no_range_in_common():
    with pytest.raises(RangeError, match="some hold floats from 0 to 1, others whole numbers"):
        together([Extent(0, 1, 0), Extent(0, 4000, 16)])
    assert together([Extent(0, 4000, 0), Extent(0, 4095, 16)]).high == 4095
    assert together([]) is None


def folder(path, kind=np.uint16, top=4095, count=6, suffix="png"):
    """Two classes of grey images: dark and bright ones of each class up to ``top``."""
    for label, name in enumerate(("dark", "bright")):
        (path / name).mkdir(parents=True)
        for number in range(count):
            random = np.random.default_rng(100 * label + number)
            array = random.uniform(0, top / 3, (16, 16)) + label * top / 2
            if number == 0:
                array[0, 0] = top
            Image.fromarray(array.astype(kind)).save(path / name / f"{number}.{suffix}")
    return path


@pytest.mark.parametrize(
    ("kind", "top", "suffix", "scale"),
    [
        (np.uint16, 4095, "png", (0, 4095)),
        (np.uint16, 900, "tif", (0, 1023)),
        (np.uint16, 60000, "png", (0, 65535)),
        (np.float32, 1, "tif", (0, 1)),
        (np.int32, 60000, "tif", (0, 65535)),
    ],
)
def test_a_data_set_has_one_range(tmp_path, kind, top, suffix, scale):
    path = folder(tmp_path / "data", kind, top, suffix=suffix)
    dataset = open_dataset(path, side=16, channels=1)
    assert (dataset.depth.pictures, dataset.depth.scale, dataset.depth.clipped) == (12, scale, 0)
    images, _ = dataset.train.batch(dataset.train.ids)
    for image, file in zip(images, sorted(path.rglob(f"*.{suffix}")), strict=True):
        raw = np.asarray(Image.open(file)).astype(np.float64)
        assert np.array_equal(image[0].numpy(), np.rint(raw * (255 / scale[1])))
    again = open_dataset(path, side=16, channels=1, scale=scale).train
    assert again.batch(again.ids)[0].equal(images)


def test_pictures_of_8_bits_are_as_they_were(tmp_path):
    path = folder(tmp_path / "data", np.uint8, 255)
    dataset = open_dataset(path, side=16, channels=1, scale=(0, 4095))
    assert dataset.depth is None
    images, _ = dataset.train.batch(dataset.train.ids)
    assert np.array_equal(images[0, 0].numpy(), np.asarray(Image.open(path / "bright" / "0.png")))


def test_only_the_training_part_is_measured_and_the_rest_is_clipped(tmp_path):
    folder(tmp_path / "train", top=1000)
    folder(tmp_path / "test", top=4000, count=2)
    dataset = open_dataset(tmp_path, side=16, channels=1)
    assert dataset.depth.scale == (0, 1023)
    assert dataset.depth.clipped == 4
    assert str(dataset.depth) == (
        "16 images of more than 8 bits: 12 of 16 bits used "
        f"({dataset.depth.extent.low:g} to 4000); 0 becomes black, 1023 white; in 4 images "
        "values beyond are clipped"
    )
    assert dataset.test.batch(dataset.test.ids)[0].amax((1, 2, 3)).eq(255).all()


def test_a_mixture_without_a_range_is_refused(tmp_path):
    path = folder(tmp_path / "data")
    Image.fromarray(np.full((16, 16), 0.5, np.float32)).save(path / "dark" / "float.tif")
    with pytest.raises(DataError, match=r"some hold floats from 0\.5 to 0\.5, others") as caught:
        open_dataset(path, side=16, channels=1)
    floats, whole = caught.value.message.split("such as ")[1].split(" and ")
    assert floats == "dark/float.tif"
    assert whole != floats
    assert (path / whole).exists()
    assert '--set "data.range=[0,4095]"' in caught.value.hint
    assert open_dataset(path, side=16, channels=1, scale=(0, 4095)).depth.pictures == 13


def test_settings_of_the_range():
    assert load_recipe("default", ["data.range=[0,4095]"]).data.range == (0, 4095)
    for bad in ("[5,5]", "[3,1]", "[1]", "yes"):
        with pytest.raises(UsageError, match=r"data(\.range)?:"):
            load_recipe("default", [f"data.range={bad}"])
