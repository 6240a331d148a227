"""Packs: the same bytes whatever stops or helps on the way, and the images that went in."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from listings import content
from PIL import Image

from conftest import coloured, largest_file
from resnets.data.encoding import Encoding
from resnets.data.images import decode
from resnets.data.packing import pack
from resnets.data.packs import BLOCK
from resnets.data.scan import scan
from resnets.data.sources import open_listing
from resnets.data.unpacking import unpack
from resnets.errors import DataError, ResourceError, UsageError
from resnets.files import partial_of

ORIGINAL = Encoding()
SMALL = Encoding(side=16)
RAW = Encoding(side=16, raw=True)


def noise(path: Path, size=(20, 30), seed=0, **options) -> Path:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two splits, two classes, files of several kinds."""
    root = tmp_path / "photos"
    names = ("train/cat/b.jpg", "train/cat/a.JPEG", "train/dog/ö.png", "train/dog/d/e.webp")
    for seed, name in enumerate([*names, "val/cat/f.jpg", "val/dog/g.png"]):
        noise(root / name, seed=seed, size=(40 + seed, 60 - seed))
    return root


def test_originals_come_back_byte_for_byte(photos, tmp_path):
    listing = scan(photos)
    made = pack(listing, tmp_path / "p.pack", ORIGINAL)
    assert (made.images, made.kept, made.broken) == (6, 0, ())
    found = open_listing(made.path, verify=True)
    assert content(found) == content(listing)
    assert (found.classes, found.splits) == (("cat", "dog"), ("train", "validation"))
    assert [*found.names] == [*listing.names]
    assert found.sizes.tolist() == listing.sizes.tolist()
    assert made.size == made.path.stat().st_size


def test_any_tar_unpacks_it(photos, tmp_path):
    made = pack(scan(photos), tmp_path / "p.pack", ORIGINAL)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xf", made.path, "-C", tmp_path / "out"], check=True)
    assert content(scan(tmp_path / "out")) == content(scan(photos))
    with tarfile.open(made.path) as tar:
        assert [m.name for m in tar][1:-1] == [*scan(photos).names]


def test_shorter_side_is_scaled_as_evaluation_scales_it(photos, tmp_path):
    listing = scan(photos)
    found = open_listing(pack(listing, tmp_path / "p.pack", RAW).path)
    assert [*found.names] == [f"{name}.ppm" for name in listing.names]
    for i in range(len(listing)):
        image = decode(photos / listing.names[i], 3)
        shorter = min(image.size)
        size = (16 * image.width // shorter, 16 * image.height // shorter)
        expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        assert np.array_equal(np.asarray(Image.open(found.open(i))), expected)


def test_jpeg_keeps_names_and_is_close(photos, tmp_path):
    coloured(0, 0, 64).resize((128, 96)).save(photos / "train/cat/a.JPEG", quality=100)
    found = open_listing(pack(scan(photos), tmp_path / "p.pack", SMALL).path)
    assert found.names[:4] == [
        "train/cat/a.JPEG",
        "train/cat/b.jpg",
        "train/dog/d/e.webp.jpg",
        "train/dog/ö.png.jpg",
    ]
    image = Image.open(found.open(0))
    assert (image.format, image.size, image.layer[0][1:3]) == ("JPEG", (21, 16), (1, 1))
    whole = decode(photos / "train/cat/a.JPEG", 3).resize((21, 16), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(image, int) - np.asarray(whole, int)).mean() < 3


def test_grey_stays_grey_and_turned_images_stand(photos, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(photos / "train/cat/turned.jpg", (40, 60), exif=exif)
    decode(photos / "train/cat/b.jpg", 1).save(photos / "train/cat/grey.png")
    found = open_listing(pack(scan(photos), tmp_path / "p.pack", RAW).path)
    images = {name: Image.open(found.open(i)) for i, name in enumerate(found.names)}
    assert images["train/cat/turned.jpg.ppm"].size == (16, 24)
    assert images["train/cat/grey.png.ppm"].mode == "L"


def test_what_is_small_or_deep_stays_the_file_it_is(photos, tmp_path):
    noise(photos / "train/cat/small.png", (16, 40))
    deep = np.full((40, 60), 60_000, np.uint16)
    Image.fromarray(deep).save(photos / "train/cat/deep.png")
    Image.new("L", (70_000, 17)).save(photos / "train/cat/strip.png")  # no JPEG can be as long
    for encoding, kept in ((SMALL, ("small", "deep", "strip")), (RAW, ("deep",))):
        found = content(open_listing(pack(scan(photos), tmp_path / f"{kept}", encoding).path))
        for name in kept:
            path = photos / f"train/cat/{name}.png"
            assert found[f"train/cat/{name}.png"][2] == path.read_bytes()


def test_long_names_and_those_of_no_text(tmp_path):
    root = tmp_path / "photos"
    for name in ("cat", "dög" * 20):
        noise(root / name / ("x" * 120 + ".png"))
        noise(root / name / os.fsdecode(b"\xff.png"))
    listing = scan(root)
    made = pack(listing, tmp_path / "p.pack", ORIGINAL)
    assert content(open_listing(made.path)) == content(listing)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xf", made.path, "-C", tmp_path / "out"], check=True)
    assert content(scan(tmp_path / "out")) == content(listing)


def test_the_same_images_are_the_same_bytes(photos, tmp_path):
    first = pack(scan(photos), tmp_path / "a.pack", SMALL)
    shutil.copytree(photos, tmp_path / "again")
    code = (
        "import os; os.cpu_count = lambda: 1\n"  # one thread
        "from pathlib import Path; from resnets.data.encoding import Encoding\n"
        "from resnets.data.packing import pack\n"
        "from resnets.data.scan import scan\n"
        "pack(scan(Path('again')), Path('b.pack'), Encoding(side=16))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert first.path.read_bytes() == (tmp_path / "b.pack").read_bytes()


def stopped(photos, out, encoding, after: int) -> None:
    """Pack until so many images are done."""

    def report(done, total):
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(scan(photos), out, encoding, report=report)


def journal_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.journal")


def test_resumed_from_whatever_a_kill_leaves(photos, tmp_path):
    whole = pack(scan(photos), tmp_path / "whole.pack", SMALL).path.read_bytes()
    out = tmp_path / "p.pack"
    stopped(photos, out, SMALL, 5)
    left = partial_of(out).read_bytes(), journal_of(out).read_bytes()
    random.seed(0)
    for _ in range(40):
        # Either may have come to the disk further than the other, or with zeros at its end.
        for path, data in zip((partial_of(out), journal_of(out)), left, strict=True):
            end = random.choice((len(data), random.randrange(len(data))))
            path.write_bytes(data[:end] + bytes(random.choice((0, 0, 700))))
        pack(scan(photos), out, SMALL)
        assert out.read_bytes() == whole
        out.unlink()
        assert not partial_of(out).exists()
        assert not journal_of(out).exists()


def test_what_is_done_is_not_done_again(photos, tmp_path):
    out = tmp_path / "p.pack"
    stopped(photos, out, SMALL, 4)
    reports = []
    made = pack(scan(photos), out, SMALL, report=lambda done, total: reports.append((done, total)))
    assert made.kept == 4
    assert reports == [(i, 6) for i in range(1, 7)]
    assert pack(scan(photos), out, SMALL).kept == 6


@pytest.mark.parametrize("after", [1, 3, 6])
def test_killed(photos, tmp_path, after):
    code = (
        "import os; from pathlib import Path; from resnets.data.encoding import Encoding\n"
        "from resnets.data.packing import pack\n"
        "from resnets.data.scan import scan\n"
        f"report = lambda done, total: done == {after} and os.kill(os.getpid(), 9)\n"
        "pack(scan(Path('photos')), Path('p.pack'), Encoding(side=16), report=report)"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    out = tmp_path / "p.pack"
    assert not out.exists()
    assert pack(scan(photos), out, SMALL).kept == after
    whole = pack(scan(photos), tmp_path / "whole.pack", SMALL)
    assert out.read_bytes() == whole.path.read_bytes()


def test_another_image_than_before_a_stop(photos, tmp_path):
    out = tmp_path / "p.pack"
    stopped(photos, out, SMALL, 5)
    noise(photos / "train/cat/b.jpg", seed=77)
    made = pack(scan(photos), out, SMALL)
    assert made.kept == 1
    assert out.read_bytes() == pack(scan(photos), tmp_path / "q", SMALL).path.read_bytes()


def test_a_stop_of_a_pack_of_other_images(photos, tmp_path):
    out = tmp_path / "p.pack"
    stopped(photos, out, SMALL, 3)
    noise(photos / "train/cat/0.png", seed=70)  # one more, before all others
    photos.rename(tmp_path / "moved")
    moved = scan(tmp_path / "moved")
    noise(photos / "ant/1.png")
    noise(photos / "bee/1.png")
    with pytest.raises(UsageError, match="begun with other images, such as train/cat/a"):
        pack(scan(photos), out, SMALL)
    assert pack(moved, out, SMALL).kept == 3
    assert len(open_listing(out)) == 7


def test_new_images_are_appended(photos, tmp_path):
    out = tmp_path / "p.pack"
    before = pack(scan(photos), out, SMALL)
    earlier, bytes_before = open_listing(out), out.read_bytes()
    noise(photos / "train/ant/first.png", seed=50)
    noise(photos / "val/cat/z.png", seed=51)
    noise(photos / "test/cat/z.png", seed=52)

    stopped(photos, out, SMALL, 2)
    assert content(open_listing(out)) == content(earlier)  # until all are there
    assert out.read_bytes()[: len(bytes_before) - 2 * BLOCK] == bytes_before[: -2 * BLOCK]
    after = pack(scan(photos), out, SMALL)
    assert (before.images, after.images, after.kept) == (6, 9, 8)

    found, anew = open_listing(out, verify=True), tmp_path / "anew.pack"
    pack(scan(photos), anew, SMALL)
    assert found.classes == ("ant", "cat", "dog")
    assert content(found) == content(open_listing(anew))
    assert [*found.names] == [*open_listing(anew).names]
    assert np.array_equal(found.stamps, open_listing(anew).stamps)
    assert content(earlier)  # who has it open reads on

    again = tmp_path / "again.pack"
    again.write_bytes(bytes_before)
    pack(scan(photos), again, SMALL)
    assert again.read_bytes() == out.read_bytes()


def test_a_stop_after_the_last_word_of_an_appending(photos, tmp_path):
    out = tmp_path / "p.pack"
    pack(scan(photos), out, SMALL)
    noise(photos / "val/cat/z.png", seed=51)
    stopped(photos, out, SMALL, 1)
    journal = journal_of(out).read_bytes()
    whole = pack(scan(photos), out, SMALL).path.read_bytes()
    journal_of(out).write_bytes(journal)
    assert pack(scan(photos), out, SMALL).kept == 7
    assert out.read_bytes() == whole
    assert not journal_of(out).exists()


def test_nothing_new_changes_nothing(photos, tmp_path):
    out = pack(scan(photos), tmp_path / "p.pack", SMALL).path
    before = out.read_bytes(), out.stat().st_ino
    assert pack(scan(photos), out, SMALL).kept == 6
    assert (out.read_bytes(), out.stat().st_ino) == before


def refused(photos, out, encoding, error, match, **options):
    before = out.read_bytes()
    with pytest.raises(error, match=match):
        pack(scan(photos), out, encoding, **options)
    assert out.read_bytes() == before


def test_what_would_be_lost_is_asked_for(photos, tmp_path):
    out = pack(scan(photos), tmp_path / "p.pack", SMALL).path
    refused(photos, out, RAW, UsageError, "other options: side=16 quality=95 raw=False")
    (photos / "val/cat/f.jpg").rename(photos / "val/cat/F.jpg")
    refused(photos, out, SMALL, DataError, "holds 1 image that .*photos has not: val/cat/f.jpg")
    (photos / "val/cat/F.jpg").rename(photos / "val/cat/f.jpg")
    noise(photos / "train/cat/b.jpg", (99, 50))
    refused(photos, out, SMALL, DataError, "holds train/cat/b.jpg as it was")
    made = pack(scan(photos), out, RAW, overwrite=True)
    assert (made.images, made.kept) == (6, 0)
    (tmp_path / "text").write_text("mine" * 1000)
    refused(photos, tmp_path / "text", SMALL, UsageError, "text: is there already")


@pytest.mark.parametrize("limit", [{}, {"shard_size": 100_000}])
def test_an_image_of_the_same_size_is_looked_at_where_it_is_younger(tmp_path, limit):
    folder, out = tmp_path / "photos", tmp_path / "p.pack"
    for seed, name in enumerate(("a/0.bmp", "a/1.bmp", "b/0.bmp", "b/1.bmp")):
        noise(folder / name, seed=seed)
    pack(scan(folder), out, Encoding(), **limit)
    for path in folder.rglob("*.bmp"):
        os.utime(path)  # younger, and what it was
    assert pack(scan(folder), out, Encoding(), **limit).kept == 4
    noise(folder / "b/0.bmp", seed=9)
    with pytest.raises(DataError, match=r"holds b/0\.bmp as it was: it has changed"):
        pack(scan(folder), out, Encoding(), **limit)


def test_overwriting_resumes_too_and_keeps_the_old_one_meanwhile(photos, tmp_path):
    out = pack(scan(photos), tmp_path / "p.pack", SMALL).path
    old = out.read_bytes()

    def report(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(scan(photos), out, RAW, overwrite=True, report=report)
    assert out.read_bytes() == old
    assert pack(scan(photos), out, RAW, overwrite=True).kept == 4
    assert not partial_of(out).exists()


def test_begun_with_other_options(photos, tmp_path):
    out = tmp_path / "p.pack"
    stopped(photos, out, SMALL, 3)
    with pytest.raises(UsageError, match="begun with other options"):
        pack(scan(photos), out, RAW)
    assert pack(scan(photos), out, SMALL).kept == 3
    out.unlink()
    stopped(photos, out, SMALL, 3)
    assert pack(scan(photos), out, RAW, overwrite=True).kept == 0


def test_full_disk(photos, tmp_path):
    out = tmp_path / "p.pack"
    for limit in (4000, 10_000):
        with largest_file(limit), pytest.raises(ResourceError, match="cannot be written") as caught:
            pack(scan(photos), out, ORIGINAL)
        assert caught.value.hint == "free some space; the same command resumes"
        assert not out.exists()
    assert pack(scan(photos), out, ORIGINAL).kept > 0
    assert out.read_bytes() == pack(scan(photos), tmp_path / "q", ORIGINAL).path.read_bytes()


def test_one_writer_at_a_time(photos, tmp_path):
    out = tmp_path / "p.pack"

    def report(done, total):
        with pytest.raises(ResourceError, match="another process is writing it"):
            pack(scan(photos), out, SMALL)

    pack(scan(photos), out, SMALL, report=report)


def test_broken_images_are_left_out_and_listed(photos, tmp_path):
    (photos / "train/cat/broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    told, out = [], tmp_path / "p.pack"
    made = pack(scan(photos), out, SMALL, on_broken=lambda *what: told.append(what))
    assert [name for name, _ in made.broken] == ["train/cat/broken.jpg"]
    assert tuple(told) == made.broken
    listed = json.loads(made.broken_list.read_text())
    assert listed == [{"path": name, "reason": reason} for name, reason in made.broken]
    assert len(open_listing(out)) == 6

    noise(photos / "train/cat/broken.jpg", seed=3)  # mended
    made = pack(scan(photos), out, SMALL)
    assert (made.images, made.broken, made.broken_list) == (7, (), None)
    assert not (tmp_path / "p.pack.broken.json").exists()


def test_two_images_of_one_name(photos, tmp_path):
    noise(photos / "train/cat/x.png")
    noise(photos / "train/cat/x.png.jpg")
    with pytest.raises(DataError, match=r"two images would be called train/cat/x.png.jpg"):
        pack(scan(photos), tmp_path / "p.pack", SMALL)


def test_damage_is_found(photos, tmp_path):
    out = pack(scan(photos), tmp_path / "p.pack", ORIGINAL).path
    whole = out.read_bytes()
    data = bytearray(whole)
    data[5 * BLOCK] ^= 1
    out.write_bytes(data)
    found = open_listing(out, verify=True)
    with pytest.raises(OSError, match="have changed since it was packed"):
        content(found)
    for end, what in ((len(whole) // 2, "it is not whole"), (700, "damaged beginning|not whole")):
        out.write_bytes(whole[:end])
        with pytest.raises(DataError, match=what):
            open_listing(out)


def test_no_bit_of_an_index_leads_astray(photos, tmp_path):
    """Whatever is flipped or cut: the same images, or a DataError, or an OSError at one of them."""
    out = pack(scan(photos), tmp_path / "p.pack", SMALL).path
    whole, right = out.read_bytes(), content(open_listing(out))
    random.seed(1)
    for _ in range(300):
        data = bytearray(whole)
        at = random.choice((random.randrange(len(data)), random.randrange(512, 1024)))
        if random.random() < 0.2:
            del data[at:]
        else:
            data[at] ^= 1 << random.randrange(8)
        out.write_bytes(data)
        try:
            found = content(open_listing(out, verify=True))
        except (DataError, OSError):
            continue
        assert found == right


def test_a_foreign_index_is_not_believed(photos, tmp_path):
    """One whose digest is right, as anyone can write it."""
    from resnets.data.packs import header, padding, pointer, read_pack

    out = pack(scan(photos), tmp_path / "p.pack", SMALL).path
    index, whole = read_pack(out).index, out.read_bytes()
    encoded = index.encoded()
    end = encoded.index(b"\n")
    start = whole.rindex(encoded)
    for old, new in (
        (b'"count": 6', b'"count": 9'),
        (b'"count": 6', b'"count":-6'),
        (b'"cat"', b"12345"),
        (b'"train"', b'"weird"'),
        (b'["offsets", "<i8", 1]', b'["offsets", "|O8", 1]'),
        (b'"version": 1', b'"version": 2'),
        (b'"version": 1', b"[[[[[[[[[[[["),
    ):
        assert old in encoded[:end]
        bad = encoded[:end].replace(old, new) + encoded[end:]
        data = whole[: start - BLOCK] + header(".resnets/index", len(bad)) + bad
        data += padding(len(bad))
        out.write_bytes(pointer(start, bad) + data[2 * BLOCK :])
        with pytest.raises(DataError, match="damaged index"):
            open_listing(out)


def test_files_that_are_cut_while_open(photos, tmp_path):
    out = pack(scan(photos), tmp_path / "p.pack", ORIGINAL).path
    found = open_listing(out)
    os.truncate(out, 3000)
    with pytest.raises(OSError, match="ends before it"):
        found.open(5)


SHARD = 6500  # bytes: of two images of the fixture at side 16, and an index


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_folder_of_packs_is_read_as_one_pack(photos, tmp_path):
    one = open_listing(pack(scan(photos), tmp_path / "p.pack", SMALL).path)
    made = pack(scan(photos), tmp_path / "packs", SMALL, shard_size=SHARD)
    files = sorted(made.path.iterdir())
    assert [path.name for path in files] == [f"images-{i:05d}.pack" for i in range(made.packs)]
    assert made.packs > 2
    assert all(path.stat().st_size <= SHARD for path in files)
    assert made.size == sum(path.stat().st_size for path in files)
    for given in (made.path, Path(f"{made.path}/images-{{00000..{made.packs - 1:05d}}}.pack")):
        found = open_listing(given, verify=True)
        assert [*found.names] == [*one.names]
        assert content(found) == content(one)
        assert (found.classes, found.splits) == (one.classes, one.splits)
        assert np.array_equal(found.stamps, one.stamps)
    assert unpack(open_listing(made.path, verify=True), tmp_path / "again") == []
    assert [*scan(tmp_path / "again").names] == [*one.names]


def test_what_a_table_says_of_images_in_several_packs(photos, tmp_path):
    rows = ["file,labels,group,weight,split"]
    for i, name in enumerate(sorted(scan(photos).names)):
        rows.append(f"{name},{'a;b' if i % 2 else 'b'},{i // 2},{1 + i},{name.split('/')[0]}")
    (photos / "labels.csv").write_text("\n".join(rows))
    listing = open_listing(photos)
    made = pack(listing, tmp_path / "packs", ORIGINAL, shard_size=25_000)
    assert made.packs > 1
    found = open_listing(made.path)
    for column in ("targets", "groups", "weights", "labels", "parts"):
        assert np.array_equal(getattr(found, column), getattr(listing, column))
    assert content(found) == content(listing)


@pytest.mark.parametrize("after", [1, 2, 3, 5, 6])
def test_a_folder_of_packs_resumed(photos, tmp_path, after):
    (photos / "train/cat/broken.jpg").write_bytes(b"no image")
    pack(scan(photos), tmp_path / "whole", SMALL, shard_size=SHARD)
    out = tmp_path / "packs"

    def stop(done, total):
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(scan(photos), out, SMALL, shard_size=SHARD, report=stop)
    assert not out.exists()
    made = pack(scan(photos), out, SMALL, shard_size=SHARD)
    assert made.kept == after - (after > 2)  # the broken one is the third
    assert [name for name, _ in made.broken] == ["train/cat/broken.jpg"]
    assert bytes_in(out) == bytes_in(tmp_path / "whole")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"photos", "whole", "packs", "whole.broken.json", "packs.broken.json"}


def test_an_image_that_changes_while_packs_are_stopped_is_packed_anew(photos, tmp_path):
    out = tmp_path / "packs"

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(scan(photos), out, SMALL, shard_size=SHARD, report=stop)
    noise(photos / "train/cat/b.jpg", seed=77)  # the second
    assert pack(scan(photos), out, SMALL, shard_size=SHARD).kept == 1
    pack(scan(photos), tmp_path / "whole", SMALL, shard_size=SHARD)
    assert bytes_in(out) == bytes_in(tmp_path / "whole")


def test_new_images_come_into_further_packs(photos, tmp_path):
    out = tmp_path / "packs"
    before = pack(scan(photos), out, SMALL, shard_size=SHARD)
    old = bytes_in(out)
    noise(photos / "train/cat/new.png", seed=50)
    after = pack(scan(photos), out, SMALL, shard_size=SHARD)
    assert (after.images, after.kept, after.packs) == (7, 6, before.packs + 1)
    assert bytes_in(out).items() >= old.items()
    anew = pack(scan(photos), tmp_path / "p.pack", SMALL).path
    assert content(open_listing(out)) == content(open_listing(anew))
    assert [*open_listing(out).names] == [*open_listing(anew).names]
    unchanged = bytes_in(out)
    assert pack(scan(photos), out, SMALL, shard_size=SHARD).kept == 7
    assert bytes_in(out) == unchanged

    noise(photos / "train/ant/1.png", seed=51)
    with pytest.raises(DataError, match=r"other classes, splits, groups or weights"):
        pack(scan(photos), out, SMALL, shard_size=SHARD)
    assert bytes_in(out) == unchanged
    made = pack(scan(photos), out, SMALL, shard_size=SHARD, overwrite=True)
    assert (made.images, made.kept, len(bytes_in(out))) == (8, 0, made.packs)
    assert open_listing(out).classes == ("ant", "cat", "dog")


def test_packing_anew_resumes_between_the_old_folder_and_the_new(photos, tmp_path):
    out, draft = tmp_path / "packs", partial_of(tmp_path / "packs")
    pack(scan(photos), out, RAW, shard_size=SHARD)

    def stop(done, total):
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(scan(photos), out, SMALL, shard_size=SHARD, overwrite=True, report=stop)
    assert len(open_listing(out)) == 6
    out.rename(tmp_path / ".packs.old")  # as a kill may leave it
    assert draft.is_dir()
    made = pack(scan(photos), out, SMALL, shard_size=SHARD, overwrite=True)
    assert made.kept == 6
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "packs"}


def test_a_folder_that_is_no_folder_of_packs_stays(photos, tmp_path):
    out = tmp_path / "packs"
    with pytest.raises(UsageError, match=r"takes .* bytes as a pack, more than --shard-size"):
        pack(scan(photos), out, SMALL, shard_size=2000)
    assert not out.exists()
    pack(scan(photos), out, SMALL, shard_size=SHARD)
    (out / "images-00000.pack").rename(tmp_path / "first")
    with pytest.raises(DataError, match=r"images-00000.pack is not there"):
        pack(scan(photos), out, SMALL, shard_size=SHARD)
    (out / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"other files than packs of one set: mine.txt"):
            pack(scan(photos), out, SMALL, shard_size=SHARD, overwrite=overwrite)
    alone = pack(scan(photos), tmp_path / "p.pack", SMALL).path
    with pytest.raises(UsageError, match=r"p.pack: is a file"):
        pack(scan(photos), alone, SMALL, shard_size=SHARD)
    shutil.copy(out / "images-00001.pack", out / "images-00000.pack")
    (out / "mine.txt").unlink()
    with pytest.raises(DataError, match=r"two packs hold "):
        open_listing(out)
