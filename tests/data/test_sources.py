"""What a path means: folders, packs, tars, Parquet; and all of them unpacked again."""

import json
import os
import re
import subprocess
import sys

import listings
import numpy as np
import pytest
import torch

from resnets import create_model, evaluate
from resnets.data.check import check_folder
from resnets.data.class_folders import left_out_whole
from resnets.data.dataset import Skipped
from resnets.data.encoding import Encoding
from resnets.data.folder import open_folder
from resnets.data.headers import ImageError
from resnets.data.images import decode
from resnets.data.labelled import open_labelled
from resnets.data.packing import pack
from resnets.data.scan import scan
from resnets.data.sources import images_in, open_listing
from resnets.data.unpacking import unpack
from resnets.errors import DataError, ResourceError
from resnets.inference.embedding import embed_folder
from resnets.inference.prediction_table import predict_table


def content(listing) -> list[tuple]:
    return [(name, *told) for name, told in listings.content(listing).items()]


def tar(folder, path):
    subprocess.run(["tar", "cf", path, "-C", folder, "."], check=True)
    return path


def test_one_set_in_every_form(photos, tmp_path):
    """The same names in the same order: what trains on one trains on any."""
    expected = content(scan(photos))
    assert content(open_listing(photos)) == expected
    packed = pack(scan(photos), tmp_path / "photos.pack", Encoding()).path
    assert content(open_listing(packed)) == expected
    assert content(open_listing(tar(photos, tmp_path / "photos.tar"))) == expected
    unnamed = packed.rename(tmp_path / "anything")
    assert content(open_listing(unnamed)) == expected


def test_one_set_trains_the_same_in_every_form(photos, tmp_path):
    (photos / "apple/bad.png").write_bytes(b"no image")
    packed = pack(scan(photos), tmp_path / "photos.pack", Encoding()).path
    sources = photos, packed, tar(photos, tmp_path / "photos.tar")
    first, *others = [
        open_folder(source, side=16, broken="skip", broken_limit=0.1) for source in sources
    ]
    ids = torch.arange(len(first.train))
    for other in others:
        assert other.fingerprint == first.fingerprint
        assert other.skipped == first.skipped
        assert torch.equal(other.train.batch(ids)[0], first.train.batch(ids)[0])


def test_whatever_looks_at_images_takes_every_form(photos, tmp_path):
    """The same answers, embeddings and counts, from images of which one is broken."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    (photos / "basil/99.png").write_bytes(b"no image")
    packed = pack(scan(photos), tmp_path / "photos.pack", Encoding()).path
    rows = [(data, label) for name, _, label, data in content(scan(photos))]
    columns = zip(*sorted(rows), strict=True)
    write_table(
        pyarrow.table(dict(zip(("image", "label"), map(list, columns), strict=True))),
        tmp_path / "photos.parquet",
        row_group_size=7,
    )
    torch.manual_seed(0)
    model = create_model("resnet8", num_classes=3, image_size=16).eval()
    model.classes, model.outputs = ("apple", "basil", "ceramic"), "softmax"
    found, embeddings = [], []
    for source in (photos, packed, tar(photos, tmp_path / "t.tar"), tmp_path / "photos.parquet"):
        table = predict_table(model, source, tmp_path / f"{source.name}.jsonl", batch_size=31)
        assert (table.images, table.broken) == (31, 1)
        records = [json.loads(line) for line in table.path.read_text().splitlines()]
        assert all(record["path"].startswith(f"{source}/") for record in records)
        embedded = embed_folder(model, source, tmp_path / f"{source.name}.npz", batch_size=31)
        (broken,) = embedded.broken
        assert broken.path.endswith((".png", ".jpg"))
        assert broken.reason == "is text, not an image"
        with np.load(embedded.path) as file:
            assert len(file["paths"]) == 30
            rows = sorted(file["embeddings"].tolist())
        scores = evaluate(model, source)
        assert len(scores.broken) == 1
        found.append((sorted(str(r.get("predictions")) for r in records), scores.accuracy))
        embeddings.append(rows)
    assert found[1:] == found[:1] * 3
    for other in embeddings[1:]:
        np.testing.assert_allclose(other, embeddings[0], rtol=1e-5, atol=1e-6)


def test_a_folder_that_is_evaluated_is_listed_once(photos):
    model = create_model("resnet8", num_classes=3, image_size=16).eval()
    model.classes = ("apple", "basil", "ceramic")
    listed: list[str] | None = []

    def hear(event, arguments):
        if event == "open" and listed is not None and isinstance(arguments[0], str):
            listed.append(arguments[0])

    sys.addaudithook(hear)  # for good
    assert len(evaluate(model, photos).labels) == 30
    opened, listed = listed, None
    assert opened.count(str(photos / "basil")) == 1
    assert opened.count(str(photos / "basil/3.png")) > 0


def test_check_compares_a_pack_with_its_digests(photos, tmp_path):
    packed = pack(scan(photos), tmp_path / "photos.pack", Encoding()).path
    assert check_folder(packed).sound
    data = bytearray(packed.read_bytes())
    data[data.index(b"IEND") + 5] ^= 1  # behind the pixels, where nothing else would see it
    packed.write_bytes(data)
    found = check_folder(packed)
    assert found.broken == (
        Skipped("apple/0.png", "cannot be read: its bytes have changed since it was packed"),
    )


def test_no_part_of_a_damaged_pack_is_taken_for_the_whole(photos, tmp_path):
    """As a tar it has members, and may have lost some: who needs no classes is told, too."""
    out = tmp_path / "p.pack"
    pack(scan(photos), out, Encoding())
    whole, names = out.read_bytes(), images_in(out)[:]
    assert len(names) == len(scan(photos))
    index = whole.rindex(b".resnets/index")
    flipped = bytes([whole[index + 600] ^ 1])
    other = whole.replace(b"resnets pack 1", b"resnets pack 2", 1)
    for data in (whole[: len(whole) // 2], whole[:index], other, whole[: index + 600] + flipped):
        out.write_bytes(data)
        with pytest.raises(DataError, match=r"p\.pack: "):
            images_in(out)


def test_folders_of_tars(photos, tmp_path):
    shards = tmp_path / "shards/train"
    shards.mkdir(parents=True)
    for name in ("apple", "basil", "ceramic"):
        (tmp_path / name).mkdir()
        (photos / name).rename(tmp_path / name / name)
        tar(tmp_path / name, shards / f"part-{len([*shards.iterdir()]):03d}.tar")
    (tmp_path / "shards/README.md").write_text("...")
    found = open_listing(tmp_path / "shards")
    assert (found.classes, len(found)) == (("apple", "basil", "ceramic"), 30)
    for pattern in ("part-{000..002}.tar", "part-*.tar", "part-0{0..0}?.tar"):
        assert len(open_listing(shards / pattern)) == 30
    with pytest.raises(DataError, match=r"part-{000..003}.tar: there is no .*part-003.tar"):
        open_listing(shards / "part-{000..003}.tar")
    assert open_listing(shards / "part-{000..001}.tar").classes == ("apple", "basil")


def test_a_folder_of_images_with_a_tar_in_it_is_one_of_images(photos):
    (photos / "apple/backup.tar").write_bytes(bytes(10_240))
    (photos / "old.tar").write_bytes(bytes(10_240))
    assert len(open_listing(photos)) == 30


def test_archives_beside_images_are_told(photos, tmp_path):
    """They may be most of what there is."""
    tar(photos, photos / "apple/more.tar")
    (photos / "basil/old.tar.gz").write_bytes(b"\x1f\x8b" + bytes(100))
    told = [
        ("apple/more.tar", "is read alone, not beside images"),
        ("basil/old.tar.gz", "is read alone, not beside images"),
    ]
    assert [*open_listing(photos).irregular] == told
    assert [*open_labelled(photos).left_out] == told
    with pytest.warns(UserWarning, match=r"left out: apple/more.tar: .*; so are 1 more"):
        assert len(images_in(photos)) == 30
    assert left_out_whole(told) == [f"left out: {name} {why}" for name, why in told]
    assert left_out_whole(told * 10)[8:] == ["left out: 12 more like these"]
    (photos / "basil/scan.nii.gz").write_bytes(b"\x1f\x8b" + bytes(100))  # of one image, if any
    assert [*open_listing(photos).irregular] == told


def test_what_is_beside_archives_is_told(photos, tmp_path):
    root = tmp_path / "sets"
    root.mkdir()
    tar(photos, root / "photos.tar")
    for name in ("old.tar.gz", "new.zip", "more.tar.part", "README.md"):
        (root / name).write_bytes(b"\x1f\x8b" + bytes(100))
    found = open_listing(root)
    assert [name for name, _ in found.irregular] == ["more.tar.part", "new.zip", "old.tar.gz"]
    with pytest.warns(UserWarning, match=r"left out: more.tar.part: is not read"):
        assert len(images_in(root)) == len(found) == 30
    (root / "photos.tar").unlink()
    (root / "new.zip").unlink()
    (root / "more.tar.part").unlink()
    with pytest.raises(DataError, match=r"old\.tar\.gz: is compressed"):
        open_listing(root)


def test_a_table_in_a_tar_is_told(photos, tmp_path):
    """In a folder it would say other classes."""
    (photos / "labels.csv").write_text("file,label\napple/0.png,red\napple/1.png,green\n")
    found = open_listing(tar(photos, tmp_path / "p.tar"))
    assert (found.classes, len(found)) == (("apple", "basil", "ceramic"), 30)
    assert found.irregular == (("labels.csv", "is not read"),)


def test_linked_folders_of_archives(photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sets").mkdir()
    tar(photos, tmp_path / "elsewhere/photos.tar")
    (tmp_path / "sets/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/again").symlink_to(tmp_path / "sets")
    assert len(open_listing(tmp_path / "sets")) == 30


def test_a_pack_of_several_is_missing(photos, tmp_path):
    pack(scan(photos), tmp_path / "packs", Encoding(), shard_size=20_000)
    paths = sorted((tmp_path / "packs").iterdir())
    assert len(paths) > 3
    whole = open_listing(tmp_path / "packs")
    paths[1].unlink()
    with pytest.raises(DataError, match=r"images-00001.pack: is not there, and images-00002.pack"):
        open_listing(tmp_path / "packs")
    assert 0 < len(open_listing(tmp_path / "packs/images-*.pack")) < len(whole)


def test_a_pattern_means_a_file_once(photos, tmp_path):
    for name in ("00", "01"):
        tar(photos, tmp_path / f"{name}.tar")
    assert len(open_listing(tmp_path / "*{0..1}*.tar")) == 60


def test_what_is_no_source(tmp_path):
    (tmp_path / "text").write_text("hello")
    for path, match in (
        (tmp_path / "text", "is a file, not a folder"),
        (tmp_path / "x", "no such"),
    ):
        with pytest.raises(DataError, match=match):
            open_listing(path)


@pytest.mark.parametrize("name", ["a.tar", "a.TAR", "a.pack", "a.parquet"])
@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>", bytes(2000)])
def test_what_is_an_archive_by_its_name_alone(tmp_path, name, content):
    """No hint to unpack it: that would fail, too."""
    (tmp_path / name).write_bytes(content)
    for look in (open_listing, open_labelled):
        with pytest.raises(DataError, match=f"{name}: ") as raised:
            look(tmp_path / name)
        assert "again" in raised.value.hint


def test_unpacked_as_it_was(photos, tmp_path):
    expected = content(scan(photos))
    packed = pack(scan(photos), tmp_path / "photos.pack", Encoding()).path
    out = tmp_path / "out"
    done = []

    def report(count, total):
        done.append(count)
        if done == [*range(1, 8)]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(open_listing(packed), out, report)
    assert unpack(open_listing(packed), out) == []
    assert content(scan(out)) == expected
    assert sorted(p.name for p in out.iterdir()) == ["apple", "basil", "ceramic"]
    (out / "apple/3.png").write_bytes(b"mine")
    with pytest.raises(ResourceError, match="is there already, with another content"):
        unpack(open_listing(packed), out)
    assert (out / "apple/3.png").read_bytes() == b"mine"


def test_images_are_not_decoded_as_one(photos, tmp_path):
    packed = pack(scan(photos), tmp_path / "photos.pack", Encoding()).path
    with pytest.raises(ImageError, match="is a tar, which `resnets data unpack` makes a folder"):
        decode(packed, 3)


def test_nothing_is_unpacked_elsewhere(photos, tmp_path):
    """A pack whose index says that an image is called ../x."""
    from dataclasses import replace

    from resnets.data.listing import Names

    listing = scan(photos)
    for name in ("../x.png", "/tmp/x.png", "a//x.png", "a/./x.png"):
        evil = replace(listing, names=Names([name, *listing.names[1:]]))
        with pytest.raises(DataError, match="leads out of the folder"):
            unpack(evil, tmp_path / "out")
    assert not (tmp_path / "x.png").exists()


def test_what_is_no_file_is_said_to_be_left_out(photos, tmp_path, resnets):
    for name in ("one.png", "two.png"):
        os.mkfifo(photos / "apple" / name)
    tarred = tar(photos, tmp_path / "photos.tar")
    for source, *words in ((photos, "pack"), (tarred, "unpack")):
        code, _, said = resnets("data", *words, source, "--out", tmp_path / f"{words[0]}ed")
        assert code == 0
        what = r"left out: (\./)?apple/(one|two).png: is a named pipe, not a file; "
        assert re.search(what, said)
        assert f"`resnets data check {source}` lists 1 more" in said


def test_commands(photos, tmp_path, resnets):
    (photos / "apple/bad.png").write_bytes(b"no image")
    out = tmp_path / "p.pack"
    code, told, said = resnets("data", "pack", photos, "--out", out, "--side", 16)
    assert code == 3
    assert told.startswith(f"{out}   30 images, ")
    assert "left out: apple/bad.png: is text, not an image" in said
    assert f"left out and listed in {out}.broken.json: 1 image" in said
    (photos / "apple/bad.png").unlink()
    code, told, _ = resnets("data", "pack", photos, "--out", out, "--side", 16)
    assert (code, told.startswith(f"{out}   30 images, 30 of them before")) == (0, True)
    several = tmp_path / "several"
    code, told, _ = resnets("data", "pack", photos, "--out", several, "--shard-size", "10kB")
    assert (code, told.count(f" in {len([*several.iterdir()])} packs, ")) == (0, 1)
    code, _, said = resnets("data", "pack", photos, "--out", several, "--shard-size", "big")
    assert (code, "--shard-size big: is no size" in said) == (2, True)
    code, _, said = resnets("data", "pack", photos, "--out", out)
    assert code == 2
    assert "other options: side=16 quality=95 raw=False" in said
    code, told, _ = resnets("data", "unpack", out, "--out", tmp_path / "again")
    assert (code, told) == (0, f"{tmp_path / 'again'}   30 images\n")
    data = bytearray(out.read_bytes())
    data[1600] ^= 1
    out.write_bytes(data)
    code, _, said = resnets("data", "unpack", out, "--out", tmp_path / "damaged")
    assert code == 3
    assert "broken: apple/0.png.jpg: cannot be read: its bytes have changed" in said
