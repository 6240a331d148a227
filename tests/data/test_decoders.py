"""Decoders beside Pillow: its pixels or none."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnets.data.decoders import Decoder, decode_jpeg, decoders

SIZES = ((1, 1), (1, 17), (17, 1), (2, 3), (7, 8), (9, 16), (17, 33), (33, 18), (64, 50), (131, 97))
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
OPTIONS = (
    *({"quality": quality} for quality in (1, 30, 75, 95, 100)),
    {"progressive": True},
    {"optimize": True},
    {"restart_marker_blocks": 1},
    {"restart_marker_rows": 1, "progressive": True},
    {"keep_rgb": True, "subsampling": "4:4:4"},
)
EXIF = Image.Exif()
EXIF[0x0112] = 6


@pytest.fixture(params=("simplejpeg 1", "libjpeg-turbo 3"))
def decoder(request) -> Decoder:
    found = [decoder for decoder in decoders() if decoder.name.startswith(request.param)]
    if not found and request.param == "libjpeg-turbo 3":
        pytest.skip("no libjpeg-turbo 3 on this machine, which no package index has")
    return found[0]


def colours(width: int, height: int, seed: int = 0) -> Image.Image:
    """Edges, slopes and noise."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3))
    slopes = np.stack([7 * x, 5 * y, 90 * ((x // 5 + y // 3) % 2)], -1)
    return Image.fromarray(((slopes + noise) % 256).astype(np.uint8))


def jpeg(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray | None:
    """What Pillow makes of a file; None where it refuses it."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, IndexError):
        return None
    return np.asarray(image).reshape(image.height, image.width, -1)


def by_decoder(data: bytes, decoder: Decoder, box=None) -> np.ndarray | None:
    return decode_jpeg(Image.open(io.BytesIO(data)), data, box, by=decoder)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_whole_images_have_pillows_pixels(decoder, size, mode):
    image = colours(*size).convert(mode)
    for subsampling in SUBSAMPLINGS if mode == "RGB" else SUBSAMPLINGS[:1]:
        for options in OPTIONS:
            data = jpeg(image, **{"subsampling": subsampling, **options})
            pixels = by_decoder(data, decoder)
            assert pixels is not None
            np.testing.assert_array_equal(pixels, by_pillow(data))


@pytest.mark.parametrize("subsampling", ["440", "411"])
def test_rare_subsamplings(decoder, subsampling):
    for size in SIZES:
        pixels = np.asarray(colours(*size))
        data = simplejpeg.encode_jpeg(pixels, 90, colorsubsampling=subsampling)
        expected = by_pillow(data)
        np.testing.assert_array_equal(by_decoder(data, decoder), expected)
        box = (size[0] // 3, size[1] // 3, size[0], size[1])
        cut = expected[box[1] :, box[0] :]
        np.testing.assert_array_equal(by_decoder(data, decoder, box), cut)


@st.composite
def boxes(draw):
    width, height = draw(st.integers(1, 80)), draw(st.integers(1, 80))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    return (width, height), (left, top, right, bottom)


@given(
    boxes(),
    st.sampled_from(("RGB", "L")),
    st.sampled_from(SUBSAMPLINGS),
    st.sampled_from(OPTIONS),
    st.integers(0, 9),
)
def test_a_window_is_cut_from_the_whole(sides, mode, subsampling, options, seed):
    size, box = sides
    data = jpeg(colours(*size, seed).convert(mode), **{"subsampling": subsampling, **options})
    left, top, right, bottom = box
    cut = by_pillow(data)[top:bottom, left:right]
    for decoder in decoders():
        np.testing.assert_array_equal(by_decoder(data, decoder, box), cut)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged metadata
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"exif": EXIF}],
    ids=["plain", "progressive", "restarts", "turned"],
)
def test_damaged_files_are_refused_or_as_pillow_has_them(decoder, options):
    data = jpeg(colours(90, 70), quality=80, **options)
    cut = [data[:end] for end in range(20, len(data), 97)]
    places = np.random.default_rng(0).integers(2, len(data), 300)
    flipped = [data[:p] + bytes([data[p] ^ (1 << p % 8)]) + data[p + 1 :] for p in places]
    given_up = 0
    marked = [data[:-40] + b"\xff" + bytes([code]) + data[-38:] for code in (0x03, 0xC0, 0xD3)]
    for damaged in (*cut, *flipped, *marked, data + b"behind it", data[:-2]):
        expected = by_pillow(damaged)
        try:
            pixels = by_decoder(damaged, decoder)
            window = by_decoder(damaged, decoder, (30, 20, 61, 43))
        except (OSError, SyntaxError, IndexError):  # of Image.open
            assert expected is None
            continue
        given_up += pixels is None
        if expected is None:
            assert pixels is None
            assert window is None
        if pixels is not None:
            np.testing.assert_array_equal(pixels, expected)
        if window is not None:
            np.testing.assert_array_equal(window, expected[20:43, 30:61])
    assert given_up > 30


def test_what_is_no_plain_jpeg_is_pillows(decoder):
    image = colours(20, 20)
    for mode, format in (("CMYK", "JPEG"), ("RGB", "PNG"), ("RGB", "WEBP")):
        file = io.BytesIO()
        image.convert(mode).save(file, format)
        assert by_decoder(file.getvalue(), decoder) is None
    smaller = Image.open(io.BytesIO(jpeg(colours(64, 64))))
    smaller.draft("RGB", (16, 16))
    assert decode_jpeg(smaller, jpeg(colours(64, 64)), by=decoder) is None
    for box in ((-1, 0, 5, 5), (0, 0, 21, 5), (5, 0, 5, 5), (0, 30, 5, 40)):
        assert by_decoder(jpeg(image), decoder, box) is None


def test_several_images_in_a_file_are_the_first(decoder):
    file = io.BytesIO()
    colours(40, 30).save(file, "MPO", save_all=True, append_images=[colours(40, 30, 1)])
    data = file.getvalue()
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_array_equal(by_decoder(data, decoder), by_pillow(data))


def test_threads_decode_views_of_memory(decoder):
    files = [jpeg(colours(60 + n, 40 + n, n)) for n in range(24)]
    mapped = memoryview(b"".join(files))
    ends = np.cumsum([len(data) for data in files])
    views = [mapped[end - len(data) : end] for end, data in zip(ends, files, strict=True)]
    with ThreadPoolExecutor(8) as threads:
        for data, pixels in zip(
            files * 4, threads.map(lambda view: by_decoder(view, decoder), views * 4), strict=True
        ):
            np.testing.assert_array_equal(pixels, by_pillow(data))


def test_the_fastest_decoder_is_taken_and_without_any_pillow_decides():
    data = jpeg(colours(30, 20))
    image = Image.open(io.BytesIO(data))
    assert np.array_equal(decode_jpeg(image, data), by_pillow(data))
    assert decoders()[-1].name == f"simplejpeg {simplejpeg.__version__}"
