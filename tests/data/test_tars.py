"""Foreign tars: of every writer and layout, the same images as from a folder; damage is said."""

import io
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from listings import content, image, read

from resnets.data.encoding import Encoding
from resnets.data.packing import pack
from resnets.data.scan import scan
from resnets.data.sources import open_listing, stored_in
from resnets.data.tar_headers import members
from resnets.data.tars import open_tars
from resnets.errors import DataError


def tar(path: Path, contents: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as file:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def opened(*paths: Path, root: Path | None = None, **options):
    return open_tars(paths, root or paths[0], **options)


NAMES = ("train/cat/a.png", "train/dog/b.jpg", "train/dog/ö/c.JPEG", "val/cat/d.png")


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for seed, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image(seed))
    long = root / "train/cat" / ("x" * 90) / ("y" * 180 + ".png")
    long.parent.mkdir()
    long.write_bytes(image(9))
    (root / "train/cat/notes.txt").write_text("of no use")
    return root


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "pax", "posix"])
@pytest.mark.parametrize("whole", [True, False])
def test_written_by_tar_itself(photos, tmp_path, form, whole):
    path = tmp_path / "photos.tar"
    what = ["-C", tmp_path, "photos"] if whole else ["-C", photos, "."]
    subprocess.run(["tar", f"--format={form}", "-cf", path, *what], check=True)
    found = opened(path)
    assert content(found) == content(scan(photos))
    assert [*found.names] == [*scan(photos).names]
    assert found.sizes.tolist() == scan(photos).sizes.tolist()
    assert found.ignored == scan(photos).ignored


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_written_by_tarfile(photos, tmp_path, form):
    (photos / "train/cat" / ("x" * 90) / ("y" * 180 + ".png")).rename(
        photos / "train/cat" / ("z" * 95 + ".png")
    )
    with tarfile.open(tmp_path / "p.tar", "w", format=form) as file:
        file.add(photos, "somewhere/photos")
    assert content(opened(tmp_path / "p.tar")) == content(scan(photos))
    with tarfile.open(tmp_path / "p.tar") as file, (tmp_path / "p.tar").open("rb") as raw:
        expected = [(m.name, m.offset_data, m.size) for m in file if m.isreg()]
        ours = [(m.name, m.offset, m.size) for m in members(raw, tmp_path) if not m.kind]
    assert ours == expected


def test_sizes_and_names_in_pax_headers_and_base_256(tmp_path):
    big = tmp_path / "p.tar"
    with tarfile.open(big, "w", format=tarfile.PAX_FORMAT) as file:
        for number, name in enumerate(["a/x.png", "b/y.png"]):
            member = tarfile.TarInfo("short")
            data = image(number)
            member.size = len(data)
            member.pax_headers = {"path": name, "size": str(len(data))}
            file.addfile(member, io.BytesIO(data))
    assert [*content(opened(big))] == ["a/x.png", "b/y.png"]

    data = bytearray(
        tar(tmp_path / "q.tar", {"a/x.png": image(0), "b/y.png": image(1)}).read_bytes()
    )
    data[124:136] = b"\x80" + len(image(0)).to_bytes(11, "big")
    signed(data, 0)
    (tmp_path / "q.tar").write_bytes(data)
    assert content(opened(tmp_path / "q.tar"))["a/x.png"][2] == image(0)


def signed(data: bytearray, at: int) -> None:
    """Write the checksum of a header."""
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])


def test_the_last_of_equal_names_counts(tmp_path):
    path = tar(tmp_path / "p.tar", {"a/x.png": image(0), "b/y.png": image(1)})
    with tarfile.open(path, "a") as file:
        member = tarfile.TarInfo("a/x.png")
        member.size = len(image(2))
        file.addfile(member, io.BytesIO(image(2)))
    assert content(opened(path))["a/x.png"][2] == image(2)


def test_what_is_no_file_is_named_and_left_out(tmp_path):
    path = tmp_path / "p.tar"
    with tarfile.open(path, "w") as file:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"a/{kind.decode()}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            file.addfile(member)
        for number, name in enumerate(["a/x.png", "b/y.png", "../z.png", "/etc/w.png"]):
            member = tarfile.TarInfo(name)
            member.size = len(image(number))
            file.addfile(member, io.BytesIO(image(number)))
    found = opened(path)
    assert [*found.names] == ["a/x.png", "b/y.png"]
    assert dict(found.irregular) == {
        "a/1.png": "is a link, not a file",
        "a/2.png": "is a link, not a file",
        "a/3.png": "is a device, not a file",
        "a/6.png": "is a named pipe, not a file",
        "../z.png": "has a name that leads out of the tar",
        "/etc/w.png": "has a name that leads out of the tar",
    }


def test_sparse_files_are_left_out(tmp_path):
    for name in ("a/x.png", "b/y.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(image(0))
    with (tmp_path / "a/holes.png").open("wb") as file:
        for start in range(0, 4_000_000, 200_000):  # more holes than a header has room for
            file.seek(start)
            file.write(b"x" * 4096)
    for form in ("gnu", "posix"):
        path = tmp_path / f"{form}.tar"
        command = ["tar", "-S", f"--format={form}", "-cf", path, "-C", tmp_path, "a", "b"]
        subprocess.run(command, check=True)
        found = opened(path)
        assert [*found.names] == ["a/x.png", "b/y.png"]
        assert read(found, 1) == image(0)
        assert [what for _, what in found.irregular] == ["is a sparse file, not a file"]


def test_tars_in_a_tar_are_its_classes(tmp_path):
    """As ImageNet's own file has them."""
    inner = {
        f"n0{label}.tar": tar(
            tmp_path / "inner.tar", {f"n0{label}_{i}.JPEG": image(10 * label + i) for i in range(3)}
        ).read_bytes()
        for label in (1, 2)
    }
    found = opened(tar(tmp_path / "ILSVRC2012_img_train.tar", inner))
    assert found.classes == ("n01", "n02")
    assert content(found)["n02/n02_1.JPEG"] == ("train", "n02", image(21))


def test_many_tars_are_one_set(tmp_path):
    root = tmp_path / "tars"
    paths = [
        tar(root / "train-1.tar", {"cat/a.png": image(0), "dog/b.png": image(1)}),
        tar(root / "train-2.tar", {"x/cat/c.png": image(2), "x/dog/d.png": image(3)}),
        tar(root / "val-1.tar", {"cat/e.png": image(4)}),
    ]
    found = opened(*paths, root=root)
    assert content(found) == {
        "train/cat/a.png": ("train", "cat", image(0)),
        "train/cat/c.png": ("train", "cat", image(2)),
        "train/dog/b.png": ("train", "dog", image(1)),
        "train/dog/d.png": ("train", "dog", image(3)),
        "validation/cat/e.png": ("validation", "cat", image(4)),
    }


def test_a_split_alone_is_all_there_is(tmp_path):
    """As to evaluate on, and to unpack."""
    names = {f"val/{'ab'[i % 2]}/{i}.png": image(i) for i in range(4)}
    found = opened(tar(tmp_path / "val.tar", names))
    assert content(found)["b/1.png"] == ("train", "b", image(1))
    root = tmp_path / "tars"
    paths = [
        tar(root / f"val-{n}.tar", {f"{n}.png": image(n), f"{n}.cls": b"%d" % n}) for n in (0, 1)
    ]
    assert [*opened(*paths, root=root).names] == ["train/0/val-0-0.png", "train/1/val-1-1.png"]


def test_a_tar_for_each_class(tmp_path):
    root = tmp_path / "tars"
    paths = [
        tar(root / f"{name}.tar", {"1.png": image(i)}) for i, name in enumerate(["cat", "dog"])
    ]
    assert content(opened(*paths, root=root)) == {
        "cat/1.png": ("train", "cat", image(0)),
        "dog/1.png": ("train", "dog", image(1)),
    }


def test_packs_together(photos, tmp_path):
    listing = scan(photos)
    other = tmp_path / "other"
    (other / "train/emu").mkdir(parents=True)
    (other / "train/cat").mkdir()
    (other / "train/emu/1.png").write_bytes(image(50))
    (other / "train/cat/zz.png").write_bytes(image(51))
    root = tmp_path / "packs"
    root.mkdir()
    paths = [
        pack(scan(folder), root / f"{folder.name}.pack", Encoding()).path
        for folder in (photos, other)
    ]
    found = opened(*paths, root=root, verify=True)
    assert found.classes == ("cat", "dog", "emu")
    assert content(found) == content(listing) | content(scan(other))
    assert [*found.names[:-1]] == sorted(found.names[:-1])
    data = bytearray(paths[1].read_bytes())
    data[data.index(image(51)) + 50] ^= 1
    paths[1].write_bytes(data)
    with pytest.raises(OSError, match="changed since it was packed"):
        content(opened(*paths, root=root, verify=True))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (lambda n: {"cls": b"%d" % n}, "07"),
        (lambda n: {"cls": b"%d\n" % n}, "07"),
        (lambda n: {"json": json.dumps({"label": n, "file": "x"}).encode()}, "07"),
        (lambda n: {"json": b'{"width": 3}', "cls": b"%d" % n}, "07"),
        (lambda n: {"json": b'{"width": 3}', "txt": b"class%d" % n}, "class7"),
        (lambda n: {"cls": b"a/b%d" % n}, "a_b7"),
    ],
)
def test_samples_of_webdataset(tmp_path, label, expected):
    contents = {}
    for number in (0, 7, 10):
        contents[f"s{number:04d}.jpg"] = image(number, "jpeg")
        contents |= {f"s{number:04d}.{end}": data for end, data in label(number).items()}
    found = opened(tar(tmp_path / "p.tar", contents))
    assert len(found.classes) == 3
    assert content(found)[f"train/{expected}/s0007.jpg"] == ("train", expected, image(7, "jpeg"))


def test_shards_of_webdataset(tmp_path):
    root = tmp_path / "shards"

    def shard(name, numbers):
        contents = {}
        for number in numbers:
            contents[f"im/{number:03d}.png"] = image(number)
            contents[f"im/{number:03d}.cls"] = b"%d" % (number % 12)
        return tar(root / name, contents)

    paths = [
        shard("set-train-000.tar", range(20)),
        shard("set-train-001.tar", range(20, 40)),
        shard("set-validation-000.tar", range(12)),  # of the same keys
    ]
    found = opened(*paths, root=root)
    assert found.classes == tuple(f"{n:02d}" for n in range(12))
    assert found.splits == ("train", "validation")
    assert np.bincount(found.parts).tolist() == [40, 12]
    name = "validation/03/set-validation-000-im-003.png"
    assert content(found)[name] == ("validation", "03", image(3))
    assert found.labels.tolist() == [int(name.split("/")[1]) for name in found.names]


def test_samples_without_a_class(tmp_path):
    contents = {"1.png": image(1), "1.cls": b"3", "2.png": image(2), "2.cls": b"4"}
    contents |= {"3.png": image(3), "4.cls": b"5", "5.png": image(5), "5.txt": b"long " * 99}
    contents |= {"1.jpg": image(6)}
    found = opened(tar(tmp_path / "p.tar", contents))
    assert [*found.names] == ["train/3/1.png", "train/4/2.png"]
    assert dict(found.irregular) == {
        "3.png": "has no class in a .cls, .json or .txt beside",
        "5.png": "has no class in a .cls, .json or .txt beside",
        "1.jpg": "is a second image of a sample",
    }


def test_captions_are_no_classes(tmp_path):
    contents = {f"{i}.txt": b"a photo of %d" % i for i in range(1100)}
    contents |= {f"{i}.png": b"any" for i in range(1100)}
    with pytest.raises(DataError, match=r"1,100 samples say 1,100 classes.*captions\?"):
        opened(tar(tmp_path / "p.tar", contents))


def test_class_folders_with_other_files_beside_are_no_samples(tmp_path):
    contents = {"cat/1.png": image(1), "cat/1.json": b'{"label": 7}', "dog/1.png": image(2)}
    assert [*opened(tar(tmp_path / "p.tar", contents)).names] == ["cat/1.png", "dog/1.png"]


def test_an_index_is_made_once(tmp_path):
    path = tar(tmp_path / "p.tar", {f"{'ab'[i % 2]}/{i:03d}.png": image(i) for i in range(20)})
    cache, reports = tmp_path / "cache", []
    options = {"cache": cache, "many": 10, "report": reports.append}
    first = content(opened(path, **options))
    (kept,) = cache.iterdir()
    written = kept.stat().st_mtime_ns
    assert content(opened(path, **options)) == first
    assert kept.stat().st_mtime_ns == written

    for damage in (kept.read_bytes()[:-9], kept.read_bytes()[:300], b"", b"x" * 1000):
        kept.write_bytes(damage)
        assert content(opened(path, **options)) == first
        assert kept.read_bytes() != damage

    changed = {f"{'ab'[i % 2]}/{i:03d}.png": image(i + 1) for i in range(20)}
    tar(path, changed)
    os.utime(path, (1, 1))
    assert content(opened(path, **options))["a/000.png"][2] == image(1)
    tar(tmp_path / "few.tar", {"a/1.png": image(1), "b/2.png": image(2)})
    opened(tmp_path / "few.tar", **options)
    assert len([*cache.iterdir()]) == 1


@pytest.mark.parametrize(
    ("start", "hint"), [(b"\x1f\x8b\x08", "gzip -d"), (b"\x28\xb5\x2f\xfd", "zstd -d")]
)
def test_compressed_tars(tmp_path, start, hint):
    (tmp_path / "p.tar.gz").write_bytes(start + bytes(1000))
    with pytest.raises(DataError, match="is compressed") as caught:
        opened(tmp_path / "p.tar.gz")
    assert hint in caught.value.hint


def test_a_zip_is_unpacked_by_its_hint(photos, tmp_path):
    path = shutil.make_archive(str(tmp_path / "a zip"), "zip", photos)
    with pytest.raises(DataError, match="is compressed") as caught:
        open_listing(Path(path))
    python, *words = shlex.split(caught.value.hint.removeprefix("unpack it: ").partition(";")[0])
    assert python == "python"
    subprocess.run([sys.executable, *words], check=True)
    assert content(open_listing(tmp_path / "a zip")) == content(open_listing(photos))


def test_no_tar(tmp_path):
    for data in (b"", b"x", b"x" * 5000, bytes(10_000)):
        (tmp_path / "p.tar").write_bytes(data)
        with pytest.raises(DataError, match=r"is no tar|no class folders"):
            opened(tmp_path / "p.tar")


def test_an_end_that_is_missing(tmp_path):
    """Two blocks of zeros may lack, which is said; half a member may not."""
    path = tar(tmp_path / "p.tar", {"a/x.png": image(0), "b/y.png": image(1)})
    assert opened(path).irregular == ()
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data + bytes(-len(data) % 512))
    found = opened(path)
    assert len(found) == 2
    assert [name for name, what in found.irregular if "was cut off" in what] == ["p.tar"]
    path.write_bytes(data[:-20])
    with pytest.raises(DataError, match=r"ends before b/y.png does: it is damaged"):
        opened(path)


@pytest.mark.parametrize("names", [("a/x.png", "b/y.png"), ("x.png", "y.png")])
def test_an_end_that_is_missing_is_told_to_who_needs_no_classes(tmp_path, names):
    path = tar(tmp_path / "p.tar", {name: image(0) for name in names})
    assert len(stored_in(path)) == 2
    path.write_bytes(path.read_bytes()[: 2 * 1024])
    with pytest.warns(UserWarning, match=r"left out: p.tar: .* was cut off"):
        assert len(stored_in(path)) == 2
    with path.open("ab") as file:
        file.write(bytes(1024))
    assert len(stored_in(path)) == 2


def test_tars_of_one_name_in_two_folders(tmp_path):
    """No image stands for another of its name, with classes or without."""
    for number, names in enumerate([("a/x.png", "b/x.png"), ("x.png", "y.png")]):
        root = tmp_path / str(number)
        for i, folder in enumerate(("one", "two")):
            contents = {name: image(2 * i + j) for j, name in enumerate(names)}
            tar(root / folder / "p.tar", contents)
        found = stored_in(root)
        assert len({each.name for each in found}) == 4
        assert {each.open().read() for each in found} == {image(i) for i in range(4)}


def test_a_name_that_another_tar_would_be_called_by(tmp_path):
    one = tar(tmp_path / "A.tar", {"cat/1.png": image(0), "dog/1.png": image(1)})
    two = tar(tmp_path / "B.tar", {"cat/1.png": image(2), "cat/B-1.png": image(3)})
    found = content(opened(one, two, root=tmp_path))
    assert {data for *_, data in found.values()} == {image(i) for i in range(4)}


def test_packs_of_what_tables_say_are_no_folders(tmp_path):
    """Their classes, splits and groups are not in the names of images."""
    packs = []
    for name in ("one", "two"):
        root = tmp_path / name
        rows = ["file,label"]
        for i, label in enumerate(("cat", "dog")):
            (root / "ab"[i]).mkdir(parents=True)
            (root / "ab"[i] / f"{name}.png").write_bytes(image(i))
            rows.append(f"{'ab'[i]}/{name}.png,{label}")
        (root / "labels.csv").write_text("\n".join(rows))
        packs.append(pack(open_listing(root), tmp_path / f"packs/{name}.pack", Encoding()).path)
    assert open_listing(packs[0]).classes == ("cat", "dog")
    with pytest.raises(DataError, match=r"one\.pack: keeps what a table says"):
        open_listing(tmp_path / "packs")
    packs[0].rename(tmp_path / "one.pack")
    tar(tmp_path / "packs/three.tar", {"cat/3.png": image(3)})
    with pytest.raises(DataError, match=r"two\.pack: keeps what a table says"):
        open_listing(tmp_path / "packs")


def test_packs_called_as_splits(photos, tmp_path):
    """As tars of such names are; the classes of a pack are in no folder of a split."""
    for split in ("train", "test"):
        flat = tmp_path / split
        for number, name in enumerate(("cat", "dog")):
            (flat / name).mkdir(parents=True)
            (flat / name / f"{split}.png").write_bytes(image(number))
        pack(scan(flat), tmp_path / f"packs/{split}.pack", Encoding())
    found = open_listing(tmp_path / "packs")
    assert (found.splits, found.classes, len(found)) == (("train", "test"), ("cat", "dog"), 4)


def test_the_folder_of_a_split_is_before_a_word_in_a_name(tmp_path):
    for split in ("train", "val"):
        for name in ("bullet_train", "test-tube"):
            tar(tmp_path / split / f"{name}.tar", {"1.png": image(0), "2.png": image(1)})
    found = open_listing(tmp_path)
    assert (found.classes, found.splits) == (("bullet_train", "test-tube"), ("train", "validation"))
    assert found.counts().tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize("around", ["", "photos/", "photos/train/"])
@pytest.mark.parametrize("together", [True, False])
def test_folders_within_classes_are_none_where_tars_divide_these(tmp_path, around, together):
    shards = [{f"{around}{name}/{year}/1.png": image(0) for year in (2024, 2025)} for name in "ab"]
    shards += [{f"{around}{name}/3.png": image(1) for name in "ab"}] * together
    paths = [tar(tmp_path / f"{i}.tar", shard) for i, shard in enumerate(shards)]
    if together:
        assert opened(*paths, root=tmp_path).classes == ("a", "b")
    elif around:  # as in a folder of all
        with pytest.raises(DataError, match="are the classes a, b, or the folders inside them"):
            opened(*paths, root=tmp_path)
    wrapped = [
        tar(tmp_path / f"w{i}.tar", {f"part-{i}/{name}/{i}.png": image(i) for name in "ab"})
        for i in range(3)
    ]
    assert opened(*wrapped, root=tmp_path).classes == ("a", "b")


def test_of_equal_names_in_a_tar_of_samples_the_last_holds(tmp_path):
    path = tmp_path / "p.tar"
    samples = [("0", b"cat"), ("1", b"dog"), ("0", b"dog"), ("2", b"cat")]
    with tarfile.open(path, "w") as file:
        for number, (key, label) in enumerate(samples):
            for name, data in ((f"{key}.png", image(number)), (f"{key}.cls", label)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    found = opened(path)
    assert found.irregular == ()
    assert {(label, data) for _, label, data in content(found).values()} == {
        *(("dog", image(2)), ("dog", image(1)), ("cat", image(3)))
    }


def test_the_image_of_a_sample_has_one_ending(tmp_path):
    contents = {}
    for n in range(2):
        contents |= {f"{n}.depth.png": image(n + 5), f"{n}.png": image(n), f"{n}.cls": b"%d" % n}
    found = opened(tar(tmp_path / "p.tar", contents))
    assert {data for *_, data in content(found).values()} == {image(0), image(1)}
    assert sorted(name for name, _ in found.irregular) == ["0.depth.png", "1.depth.png"]


def test_two_classes_of_one_name_are_refused(tmp_path):
    labels = (b"T-shirt/top", b"T-shirt_top", b"Bag")
    contents = {f"{n}.png": image(n) for n in range(3)}
    contents |= {f"{n}.cls": label for n, label in enumerate(labels)}
    with pytest.raises(DataError, match="T-shirt/top and T-shirt_top would have one name"):
        opened(tar(tmp_path / "p.tar", contents))


def test_samples_without_a_class_are_images_too(tmp_path):
    contents = {"0.png": image(0), "0.cls": b"1", "1.png": image(1), "2.png": image(2)}
    contents |= {"2.cls": b"0"}
    path = tar(tmp_path / "p.tar", contents)
    assert [what[0] for what in opened(path).irregular] == ["1.png"]
    assert [each.name for each in stored_in(path)] == ["0.png", "1.png", "2.png"]


def test_wherever_a_tar_is_cut(tmp_path):
    """All of its images, or it is said; between two members, too."""
    names = [f"{label}/{i}.png" for label in "ab" for i in range(3)]
    path = tar(tmp_path / "p.tar", {name: image(i) for i, name in enumerate(names)})
    whole = path.read_bytes()
    for end in range(0, len(whole), 128):
        (tmp_path / "q.tar").write_bytes(whole[:end])
        try:
            found = opened(tmp_path / "q.tar")
        except DataError:
            continue
        assert len(found) == len(names) or found.irregular


def test_whatever_is_flipped_or_cut(photos, tmp_path):
    """Images, or a DataError, or an OSError at one of them; never anything else, nor for long."""
    path = tmp_path / "p.tar"
    subprocess.run(["tar", "--format=pax", "-cf", path, "-C", photos, "."], check=True)
    samples = {
        f"{i}.{end}": d
        for i in range(4)
        for end, d in (("png", image(i)), ("json", b'{"label": %d}' % i))
    }
    other = tar(tmp_path / "q.tar", samples, tarfile.GNU_FORMAT)
    random.seed(2)
    for whole in (path.read_bytes(), other.read_bytes()):
        with path.open("wb") as file:
            file.write(whole)
        for _ in range(400):
            data = bytearray(whole)
            for _ in range(random.choice((1, 1, 3))):
                at = random.randrange(len(data))
                data[at] = random.choice(
                    (0, 255, ord("7"), ord("x"), data[at] ^ 1 << random.randrange(8))
                )
                header = at // 512 * 512
                if random.random() < 0.7 and len(data) >= header + 512:
                    signed(data, header)  # damage that its checksum does not show
            if random.random() < 0.1:
                del data[random.randrange(len(data)) :]
            path.write_bytes(data)
            try:
                found = content(opened(path))
            except (DataError, OSError):
                continue
            assert all(len(data) < 1_000_000 for _, _, data in found.values())


@pytest.mark.parametrize("beside", [[], ["cats/1.png", "dogs/2.png"]])
def test_images_outside_of_class_folders(tmp_path, beside):
    path = tar(tmp_path / "loose.tar", dict.fromkeys(["0.png", *beside], b"image"))
    with pytest.raises(DataError, match=r"1 image outside the class folders: 0\.png"):
        opened(path)
