"""How images become pixels: golden values, and one clear line for what is no image."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import resize_crop
from resnets.data.framing import Frame
from resnets.data.headers import ImageTooLargeError, is_image, read_header
from resnets.data.images import decode, from_pixels, jpeg_part, pixels
from resnets.errors import DataError, UsageError
from resnets.training.recipe import load_recipe

# 2 x 3 with six different greys, so that all eight orientations differ.
UPRIGHT = np.array([[10, 50, 90], [130, 170, 210]], np.uint8)
STORED = {  # what a camera stores so that orientation k shows UPRIGHT (EXIF 2.3, sec. 4.6.4)
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: UPRIGHT.T[::-1],
    7: UPRIGHT.T[::-1, ::-1],
    8: UPRIGHT.T[:, ::-1],
}


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def png(width: int, height: int, depth: int, color: int, data: bytes, extra: bytes = b"") -> bytes:
    """A PNG with a right checksum in every chunk."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), extra]
    return b"".join([*parts, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def noise(height: int, width: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def whole(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise(64, 64).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_shows_the_same_pixels(tmp_path, orientation, kind):
    stored = Image.fromarray(np.repeat(STORED[orientation][..., None], 3, 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "webp" else {}
    path = saved(stored, tmp_path / f"x.{kind}", exif=exif, **options)
    assert np.array_equal(pixels(decode(path, 1))[..., 0], UPRIGHT)


@pytest.mark.parametrize("kind", ["avif", "jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_tells_the_size_of_the_upright_image(tmp_path, orientation, kind):
    """By it a photograph's crop is chosen before its pixels are there."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(noise(5, 9), tmp_path / f"x.{kind}", exif=exif)
    with path.open("rb") as file:
        assert read_header(file, "x").size == decode(path, 3).size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_of_a_jpeg_is_what_the_whole_has_there(tmp_path, orientation, channels):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(noise(40, 70), tmp_path / "x.jpg", exif=exif)
    upright, data = decode(path, channels), path.read_bytes()
    header = read_header(io.BytesIO(data), "x.jpg")
    for box in ((0, 0, *upright.size), (3, 7, 24, 31), (upright.width - 9, 0, upright.width, 40)):
        part = jpeg_part(header, data, "x.jpg", box, channels)
        assert part is not None
        assert part.mode == upright.mode
        assert np.array_equal(pixels(part), pixels(upright.crop(box)))
    assert jpeg_part(header, data, "x.jpg", (0, 0, 71, 71), channels) is None


@pytest.mark.parametrize("channels", [1, 3])
def test_views_of_pixels_become_images(channels):
    whole = np.arange(7 * 9 * channels, dtype=np.uint8).reshape(7, 9, channels)
    for view in (
        whole,
        whole[2:5, 3:8],
        whole[6:, 8:],
        whole[:, :1],
        whole[::2],
        whole[::-1],
        whole[:, ::-1],
        whole[..., ::-1],
        whole.transpose(1, 0, 2),
    ):
        assert np.array_equal(pixels(from_pixels(view)), view)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_turned_upright(tmp_path, orientation):
    # Blocks of 16 keep the greys apart through the compression.
    stored = Image.fromarray(np.kron(STORED[orientation], np.ones((16, 16), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(stored, tmp_path / "x.jpg", exif=exif, quality=95)
    shown = pixels(decode(path, 1))[8::16, 8::16, 0]
    assert np.abs(shown.astype(int) - UPRIGHT).max() <= 2


def test_an_impossible_orientation_changes_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    path = saved(Image.fromarray(UPRIGHT), tmp_path / "x.png", exif=exif)
    assert np.array_equal(pixels(decode(path, 1))[..., 0], UPRIGHT)


def test_an_open_picture_is_turned_too_and_not_changed():
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(STORED[6]).save(buffer, "png", exif=exif)
    image = Image.open(buffer)
    assert np.array_equal(pixels(decode(image, 1))[..., 0], UPRIGHT)
    assert image.size == (2, 3)


PALETTE = Image.new("P", (1, 1), 1)
PALETTE.putpalette([0, 0, 0, 200, 100, 50])


@pytest.mark.parametrize(
    ("image", "options", "rgb"),
    [
        (Image.new("L", (1, 1), 77), {}, (77, 77, 77)),
        (Image.new("RGB", (1, 1), (1, 2, 3)), {}, (1, 2, 3)),
        (Image.new("1", (1, 1), 1), {}, (255, 255, 255)),
        (Image.new("LA", (1, 1), (0, 128)), {}, (127, 127, 127)),
        (Image.new("LA", (1, 1), (0, 0)), {}, (255, 255, 255)),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 255)), {}, (255, 0, 0)),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 128)), {}, (255, 127, 127)),
        (PALETTE, {}, (200, 100, 50)),
        (PALETTE, {"transparency": 1}, (255, 255, 255)),
        (Image.new("L", (1, 1), 77), {"transparency": 77}, (255, 255, 255)),
        (Image.new("RGB", (1, 1), (1, 2, 3)), {"transparency": (1, 2, 3)}, (255, 255, 255)),
    ],
)
def test_modes_of_png_have_golden_pixels(tmp_path, image, options, rgb):
    path = saved(image, tmp_path / "x.png", **options)
    assert decode(path, 3).getpixel((0, 0)) == rgb


def test_cmyk_becomes_rgb(tmp_path):
    path = saved(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), tmp_path / "x.tif")
    assert decode(path, 3).getpixel((0, 0)) == (255, 0, 0)
    path = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "x.jpg")
    assert np.abs(np.subtract(decode(path, 3).getpixel((4, 4)), (255, 0, 0))).max() <= 2


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, kind):
    for values, expected in [
        ([0, 128, 129, 1000, 40000, 65535], [0, 0, 1, 4, 156, 255]),
        ([1000, 2000], [4, 8]),  # by the range of the mode, not of the image
    ]:
        path = saved(Image.fromarray(np.array([values], np.uint16)), tmp_path / f"x.{kind}")
        assert pixels(decode(path, 1))[0, :, 0].tolist() == expected


@pytest.mark.filterwarnings("ignore:.*which are clipped")  # said once, where test_depth looks
@pytest.mark.parametrize(
    ("values", "scale", "expected"),
    [
        (np.array([[0, 1000, 65535]], np.int32), "container", [0, 4, 255]),  # 16 bits in 32
        (np.array([[0, 0.2, 1]], np.float32), "container", [0, 51, 255]),  # 0..1
        (np.array([[0, 1000, 5000]], np.uint16), (0, 4095), [0, 62, 255]),  # what is beyond: white
        (np.array([[-100, 0, 100]], np.int32), (-50, 50), [0, 128, 255]),
        (np.array([[0, 200, 1000]], np.float32), (0, 2000), [0, 26, 128]),
        # As earlier versions did: the image's own range.
        (np.array([[-100, 0, 100]], np.int32), "own", [0, 128, 255]),
        (np.array([[0, 200, 1000]], np.float32), "own", [0, 51, 255]),
        (np.array([[0, 1000, 65535]], np.uint16), "own", [0, 4, 255]),
    ],
)
def test_wide_pixels_are_scaled_by_a_range(tmp_path, values, scale, expected):
    path = saved(Image.fromarray(values), tmp_path / "x.tif")
    assert pixels(decode(path, 1, scale))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        np.array([[-1, 100]], np.int32),
        np.array([[0, 70_000]], np.int32),
        np.array([[0, 1.001]], np.float32),
        np.array([[-0.5, 0.5]], np.float32),
    ],
)
def test_nothing_is_scaled_by_its_own_values(tmp_path, values):
    path = saved(Image.fromarray(values), tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x\.tif: its values go from .* nothing says") as caught:
        decode(path, 1)
    setting = re.search(r'--set "(data\.range=.*)"', caught.value.hint)[1]
    scale = load_recipe("default", [setting]).data.range  # the hint, typed as it stands
    assert pixels(decode(path, 1, scale))[0, :, 0].tolist() == [0, 255]


def test_not_a_number_is_refused(tmp_path):
    path = saved(Image.fromarray(np.full((2, 2), np.nan, np.float32)), tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x\.tif: cannot be decoded: .* not a number"):
        decode(path, 1)


@pytest.mark.parametrize("kind", ["gif", "tif", "png", "webp"])
def test_the_first_frame_is_the_picture(tmp_path, kind):
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    options = {"lossless": True} if kind == "webp" else {}
    path = saved(first, tmp_path / f"x.{kind}", save_all=True, append_images=[second], **options)
    assert decode(path, 3).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif", "bmp", "tiff", "gif", "ppm"])
def test_content_decides_not_the_extension(tmp_path, kind):
    path = tmp_path / "x.txt"
    path.write_bytes(whole(kind))
    assert decode(path, 3).size == (64, 64)
    assert is_image(path)


JPEG, PNG = whole("jpeg"), whole("png")
WRONG_SUM = PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"just words\n", "is text, not an image"),
        (b"%PDF-1.7 ...", "is a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC image or a video"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is a PostScript program"),
        (bytes(range(128, 256)), "not an image in a known format"),
        (JPEG[:3], "is a JPEG with a damaged header"),
        (JPEG[: len(JPEG) // 2], "cannot be decoded: .*runcated"),
        (JPEG[:-20], "cannot be decoded: .*runcated"),
        (PNG[: len(PNG) // 2], "cannot be decoded: .*runcated"),
        (PNG[:-20], "cannot be decoded: .*runcated"),
        (WRONG_SUM, "cannot be decoded"),
    ],
)
def test_damage_is_one_line_with_the_file_and_a_hint(tmp_path, content, reason):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"broken\.jpg: .*{reason}") as caught:
        decode(path, 3)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("kind", ["eps", "pcx", "ico"])
def test_formats_that_are_not_asked_for_are_not_opened(tmp_path, kind):
    path = saved(noise(32, 32), tmp_path / f"x.{kind}")
    with pytest.raises(DataError, match=r"PostScript|not an image in a known format"):
        decode(path, 3)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"no\.png: cannot be read: No such file"):
        decode(tmp_path / "no.png", 3)


@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (12000, 12000), (60000, 60000)])
def test_size_is_checked_in_the_header(tmp_path, width, height):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height, 8, 2, b""))  # no pixels: decoding would fail otherwise
    with pytest.raises(ImageTooLargeError, match="limit of 64 megapixels"):
        decode(path, 3)
    assert is_image(path)


def test_the_limit_itself_is_allowed(tmp_path):
    path = saved(Image.new("1", (8000, 8000)), tmp_path / "x.png")
    assert decode(path, 1).size == (8000, 8000)


@pytest.mark.parametrize("size", [(65500, 1), (1, 65500), (1, 1)])
def test_strips_and_dots_work(tmp_path, size):
    path = saved(Image.new("RGB", size, (10, 20, 30)), tmp_path / "x.png")
    values = resize_crop(decode(path, 3), 256, 224)
    assert values.shape == (224, 224, 3)
    assert (values == (10, 20, 30)).all()


def test_channels_are_one_or_three():
    with pytest.raises(UsageError, match="1 or 3 channels, not 4"):
        decode(Image.new("L", (1, 1)), 4)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 91), (91, 64)])
def test_a_picture_of_the_right_size_is_not_resampled(height, width):
    image = noise(height, width)
    top, left = round((height - 64) / 2), round((width - 64) / 2)
    expected = np.asarray(image)[top : top + 64, left : left + 64]
    assert np.array_equal(pixels(Frame(64, 56)(image)), expected)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (517, 300), (40, 30)])
def test_resize_crop_is_a_resize_and_one_crop(height, width):
    # As torchvision's Resize(64), CenterCrop(56): both crops in one.
    image = noise(height, width)
    short = min(height, width)
    scaled = image.resize((64 * width // short, 64 * height // short), Image.Resampling.BILINEAR)
    left, top = round((scaled.width - 56) / 2), round((scaled.height - 56) / 2)
    expected = np.asarray(scaled)[top : top + 56, left : left + 56]
    assert np.array_equal(resize_crop(image, 64, 56), expected)


def test_stored_squares_give_the_same_crop():
    image = noise(100, 150)
    stored = Image.fromarray(pixels(Frame(64, 56)(image)))
    assert np.array_equal(resize_crop(stored, 64, 56), resize_crop(image, 64, 56))


def test_a_crop_larger_than_the_picture_is_refused():
    with pytest.raises(UsageError, match="crop of 65"):
        resize_crop(noise(9, 9), 64, 65)


def test_scaling_down_is_antialiased():
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    values = resize_crop(Image.fromarray(stripes), 32, 16)
    assert np.abs(values.astype(int) - 127).max() <= 2  # without antialiasing: 0 or 255
