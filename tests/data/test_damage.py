"""What is damage to an image and what is not: metadata and an end mark change no pixel."""

import io
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from deep import chunk
from resnets.data import open_dataset
from resnets.data.headers import is_image, read_header
from resnets.data.images import decode
from resnets.errors import DataError

SIDE = 48
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8))
SMOOTH = PICTURE.resize((SIDE, SIDE), box=(0, 0, 6, 6))


def saved(kind: str, image: Image.Image = PICTURE, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PNG = saved("png")
PIXELS = np.asarray(PICTURE)


def read(path, content: bytes, **options: object) -> np.ndarray:
    path.write_bytes(content)
    assert is_image(path)
    return np.asarray(decode(path, 3, **options))


def with_chunk(
    kind: bytes, data: bytes, checksum: bytes | None = None, *, last=False, png: bytes = PNG
) -> bytes:
    """A PNG with one more chunk, after its header or before its end."""
    more = chunk(kind, data)
    more = more if checksum is None else more[:-4] + checksum
    place = -12 if last else 33
    return png[:place] + more + png[place:]


ANCILLARY = (
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"tIME",
    b"eXIf",
    b"iCCP",
    b"gAMA",
    b"pHYs",
    b"sBIT",
    b"abCd",
)
METADATA = {
    **{f"{kind.decode()}, wrong sum": with_chunk(kind, b"a\0b", b"1234") for kind in ANCILLARY},
    **{f"{kind.decode()}, junk": with_chunk(kind, b"\xff\xfe\xfd") for kind in ANCILLARY},
    **{f"{kind.decode()}, empty": with_chunk(kind, b"", last=True) for kind in ANCILLARY},
    "a profile of 3 MB": saved("png", icc_profile=bytes(3 << 20)),
    "text of 2 MB": with_chunk(b"tEXt", b"k\0" + b"x" * (2 << 20)),
    "text that inflates": with_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(20 << 20))),
    "XMP that inflates": with_chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(20 << 20))
    ),
    "an EXIF profile that is none": with_chunk(b"zTXt", b"Raw profile type exif\0\0nonsense"),
    "something after the end": PNG + b"more" * 100,
    "damaged EXIF in WebP": saved("webp", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
    "a profile in WebP": saved("webp", lossless=True, icc_profile=bytes(3 << 20)),
    "a profile in TIFF": saved("tiff", icc_profile=bytes(3 << 20)),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_are_no_damage(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read(tmp_path / "x.png", METADATA[name]), PIXELS)


@pytest.mark.parametrize(
    "options",
    [
        {"icc_profile": bytes(3 << 20)},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(20)},
        {"comment": b"\xff" * 60_000},
    ],
)
def test_metadata_of_jpegs_are_no_damage(tmp_path, options):
    expected = read(tmp_path / "x.jpg", saved("jpeg"))
    assert np.array_equal(read(tmp_path / "y.jpg", saved("jpeg", **options)), expected)


def turned(place: str, orientation: int, png: bytes = PNG, *, last: bool = False) -> bytes:
    """A PNG with an orientation in one of the three chunks that may hold it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="%d"/></x:xmpmeta>'
    raw = b"\nexif\n%8d\n" % len(exif.tobytes()) + exif.tobytes().hex().encode()
    kind, data = {
        "eXIf": (b"eXIf", exif.tobytes()[6:]),
        "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp % orientation),
        "profile": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw)),
    }[place]
    return with_chunk(kind, data, png=png, last=last)


@pytest.mark.parametrize("place", ["eXIf", "XMP", "profile"])
def test_the_orientation_is_not_lost_with_the_rest(tmp_path, place):
    """It may be in any of three chunks, and damaged ones beside it do not hide it."""
    content = turned(place, 3)
    content = content[:33] + chunk(b"tEXt", b"a\0b")[:-4] + b"1234" + content[33:]
    assert np.array_equal(read(tmp_path / "x.png", content), PIXELS[::-1, ::-1])


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("place", ["eXIf", "XMP", "profile"])
def test_the_upright_size_needs_no_pixels(tmp_path, place, last):
    oblong = saved("png", PICTURE.crop((0, 0, SIDE, 20)))
    for content, expected in (
        (oblong, (SIDE, 20)),
        (turned(place, 3, oblong, last=last), (SIDE, 20)),
        (turned(place, 6, oblong, last=last), (20, SIDE)),
    ):
        at = content.index(b"IDAT") + 4
        blank = content[:at] + bytes(16) + content[at + 16 :]
        for data in (content, blank):
            assert read_header(io.BytesIO(data), "x.png").size == expected
        with pytest.raises(DataError):
            read(tmp_path / "x.png", blank)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT", b"tRNS"])
def test_what_pixels_come_from_must_be_right(tmp_path, kind):
    content = {
        b"IHDR": PNG[:29] + b"1234" + PNG[33:],
        b"IDAT": PNG[:-16] + b"1234" + PNG[-12:],
    }.get(kind) or with_chunk(kind, bytes(6), b"1234")
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"the checksum of its {kind.decode()} is wrong"):
        decode(path, 3)


JPEGS = {
    "baseline": saved("jpeg", quality=90),
    "progressive": saved("jpeg", quality=90, progressive=True),
    "full colour": saved("jpeg", quality=90, subsampling=0),
    "with restarts": saved("jpeg", quality=90, restart_marker_blocks=2),
    "smooth": saved("jpeg", SMOOTH, quality=60),
    "grey": saved("jpeg", SMOOTH.convert("L")),
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_mark_is_whole(tmp_path, name, missing):
    whole = read(tmp_path / "whole.jpg", JPEGS[name])
    assert np.array_equal(read(tmp_path / "x.jpg", JPEGS[name][:-missing]), whole)


@pytest.mark.parametrize("missing", [1, 4, 12, 13, 16])
def test_a_png_without_its_end_is_whole(tmp_path, missing):
    """The pixels have a checksum of their own inside, which is right."""
    assert np.array_equal(read(tmp_path / "x.png", PNG[:-missing]), PIXELS)


@pytest.mark.parametrize("name", ["png", *JPEGS])
@pytest.mark.parametrize("kept", [0.97, 0.8, 0.5])
def test_lost_pixels_are_damage_unless_asked_for(tmp_path, name, kept):
    content = {"png": PNG, **JPEGS}[name]
    whole = read(tmp_path / "whole.jpg", content)
    path = tmp_path / "x.jpg"
    start = max(content.find(b"IDAT"), content.find(b"\xff\xda"))  # of the pixels
    path.write_bytes(content[: start + int(kept * (len(content) - start))])
    with pytest.raises(DataError, match=r"x\.jpg: cannot be decoded: .*runcated"):
        decode(path, 3)
    left = np.asarray(decode(path, 3, truncated=True))
    assert left.shape == whole.shape
    assert not np.array_equal(left, whole)
    if name != "progressive":  # which begins coarse everywhere
        # The lower half of the last lines' colours, of half the size, may be of what is lost.
        assert np.abs(left[:8].astype(int) - whole[:8]).mean() < 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_what_is_left_of_a_png_of_any_kind(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257)
    else:
        image = PICTURE.convert(mode)
    content = saved("png", image)
    whole = read(tmp_path / "whole.png", content)
    left = read(tmp_path / "x.png", content[: len(content) * 6 // 10], truncated=True)
    assert left.shape == whole.shape
    assert np.array_equal(left[: SIDE // 3], whole[: SIDE // 3])


def test_a_header_alone_is_no_picture_even_then(tmp_path):
    for content in (PNG[:40], JPEGS["baseline"][:40]):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(DataError, match="cannot be decoded"):
            decode(tmp_path / "x", 3, truncated=True)


def test_broken_pictures_can_be_read_as_far_as_they_go(photos):
    path = photos / "apple" / "0.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="1 of 30 images cannot be read"):
        open_dataset(photos, side=16)
    assert len(open_dataset(photos, side=16, broken="skip").train) == 29
    assert len(open_dataset(photos, side=16, broken="read").train) == 30


def damaged_tiffs(folder):
    """TIFF files with tags that Pillow and libtiff complain of, sound and broken ones."""
    for number in range(4):
        plain = bytearray(saved("tiff", PICTURE))
        lzw = bytearray(saved("tiff", PICTURE, compression="tiff_lzw"))
        at = int.from_bytes(lzw[4:8], "little")
        lzw[at + 2 : at + 4] = b"\xa7\xa7"  # a tag that nobody knows
        lzw[len(lzw) // 2 : len(lzw) // 2 + 60] = bytes(range(200, 255)) + b"12345"
        (folder / f"plain{number}.tif").write_bytes(plain)
        (folder / f"lzw{number}.tif").write_bytes(lzw)
    return sorted(folder.glob("*.tif"))


def test_libraries_do_not_talk_to_the_terminal(tmp_path, capfd):
    """Their lines name no file. Several threads at once, as folders are read."""

    def attempt(path) -> str:
        try:
            decode(path, 3)
        except DataError as error:
            return str(error)
        return ""

    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(attempt, 3 * damaged_tiffs(tmp_path)))
    assert all("plain" in path or ".tif" in path or not path for path in answers)
    assert warnings.filters == before
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_pillows_warnings_are_ours_to_keep(tmp_path, recwarn):
    """A warning is no damage either, also where warnings are errors."""
    exif = Image.Exif()
    exif[0x0112] = 1
    data = bytearray(saved("tiff", exif=exif))
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    data[at : at + 2] = (count + 9).to_bytes(2, "little")  # entries that are not there
    path = tmp_path / "x.tif"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(np.asarray(decode(path, 3)), PIXELS)
    assert not recwarn.list
