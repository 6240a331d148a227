"""Folders of images: layouts, names, faults, and the same pixels from memory and from disk."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import resize_crop
from resnets.data import open_dataset
from resnets.data.check import check_folder
from resnets.data.class_folders import Walk
from resnets.data.folder import open_folder
from resnets.data.scan import Disk
from resnets.errors import DataError, UsageError


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (20, 30), kind: str = "png") -> Path:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, kind)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two classes of two images, no splits."""
    root = tmp_path / "photos"
    for seed, name in enumerate(["cat/b.png", "cat/a.png", "dog/c.png", "dog/d.png"]):
        picture(root / name, seed)
    return root


@pytest.fixture
def split_photos(tmp_path):
    root = tmp_path / "photos"
    for seed, name in enumerate(
        ["train/cat/a.png", "train/dog/b.png", "val/dog/c.png", "test/cat/d.png", "test/dog/e.png"]
    ):
        picture(root / name, seed)
    return root


def small(path: Path, **options):
    return open_folder(path, side=16, **options)  # images of 16 x 16


def test_classes_directly(photos):
    data = small(photos)
    assert data.name == "photos"
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.train.ids.tolist() == [0, 1, 2, 3]
    assert (data.validation, data.test, data.skipped) == (None, None, ())
    assert data.mirror


def test_splits(split_photos):
    data = small(split_photos)
    assert data.train.labels.tolist() == [0, 1]
    assert data.validation.labels.tolist() == [1]
    assert data.test.labels.tolist() == [0, 1]
    image, label = data.test.batch(torch.tensor([1]))
    expected = resize_crop(Image.open(split_photos / "test/dog/e.png"), 16, 16)
    assert np.array_equal(image[0].permute(1, 2, 0).numpy(), expected)
    assert label.tolist() == [1]


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_synonyms_of_val(split_photos, name):
    (split_photos / "val").rename(split_photos / name)
    assert len(small(split_photos).validation) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_memory_and_disk_give_the_same_pixels(split_photos, channels):
    memory = small(split_photos, channels=channels)
    disk = small(split_photos, channels=channels, memory=100)
    assert memory.train.images.shape == disk.train.images.shape == (channels, 16, 16)
    for part in ("train", "validation", "test"):
        a, b = getattr(memory, part), getattr(disk, part)
        index = torch.arange(len(a)).flip(0)
        for x, y in zip(a.batch(index), b.batch(index), strict=True):
            assert torch.equal(x, y)
        for x, y in zip(a.batch(index), b.batch(index), strict=True):  # kept from before
            assert torch.equal(x, y)
        assert b.batch(index)[0].is_contiguous(memory_format=torch.channels_last)
    assert memory.fingerprint == disk.fingerprint


def test_the_stored_size_is_256_for_224(photos):
    assert open_folder(photos).train.images.shape == (3, 256, 256)


def test_samples_are_in_the_order_of_their_paths(photos):
    data = small(photos)
    expected = [resize_crop(Image.open(photos / "cat" / n), 16, 16) for n in ("a.png", "b.png")]
    images, _ = data.train.batch(torch.arange(2))
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_nested_folders_belong_to_their_class(photos):
    picture(photos / "dog" / "old" / "2019" / "x.png")
    assert small(photos).train.labels.tolist() == [0, 0, 1, 1, 1]


def test_what_systems_leave_is_ignored(photos):
    before = small(photos)
    for name in [
        ".ipynb_checkpoints/a.png",
        "__MACOSX/a.png",
        "cat/@eaDir/a.png",
        "cat/._a.png",
        "cat/.DS_Store",
        "dog/Thumbs.db",
        "dog/.hidden/a.png",
    ]:
        picture(photos / name)
    (photos / "labels.csv").write_text("a,b")
    (photos / "cat" / "README.md").write_text("cats")
    after = small(photos)
    assert (after.classes, after.fingerprint) == (before.classes, before.fingerprint)
    found = check_folder(photos)
    assert {"cat/README.md", "cat/._a.png", "__MACOSX"} <= set(found.ignored)
    assert [(each.path, each.reason) for each in found.left_out] == [("labels.csv", "is not read")]


@pytest.mark.parametrize("name", ["x.JPEG", "x.jpg", "x", "x.txt", "x.TIF", "CON", "a b\n😀.png"])
def test_a_picture_is_one_by_content(photos, name):
    picture(photos / "cat" / name, kind="webp")
    assert len(small(photos).train) == 5


def test_class_ids_are_in_code_point_order(photos):
    for name in ("Zebra", "ape", "élan", "10", "9"):
        picture(photos / name / "x.png")
    assert small(photos).classes == ("10", "9", "Zebra", "ape", "cat", "dog", "élan")


def test_nfd_names_are_nfc_classes_and_twins_are_refused(photos):
    picture(photos / "e\u0301lan" / "x.png")
    assert small(photos).classes == ("cat", "dog", "\u00e9lan")
    picture(photos / "\u00e9lan" / "x.png")
    with pytest.raises(DataError, match="two folders have the same name"):
        small(photos)


def test_names_that_are_not_utf8_and_long_names(photos):
    picture(photos / "cat" / ("x" * 251 + ".png"))
    picture(Path(os.fsdecode(os.fsencode(photos) + b"/gr\xfcn/\xff.png")))
    (photos / "cat" / os.fsdecode(b"\xfe.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"cat/\\udcfe\.png is empty") as caught:
        small(photos)
    caught.value.message.encode("utf-8")
    data = small(photos, broken="skip")
    assert data.classes == ("cat", "dog", "gr\\udcfcn")
    assert len(data.train) == 6


def test_the_fingerprint_covers_paths_sizes_and_classes(photos):
    before = small(photos).fingerprint
    assert small(photos).fingerprint == before
    (photos / "cat" / "a.png").rename(photos / "cat" / "z.png")
    renamed = small(photos).fingerprint
    (photos / "cat").rename(photos / "bird")
    moved = small(photos).fingerprint
    picture(photos / "dog" / "c.png", size=(21, 30))
    assert len({before, renamed, moved, small(photos).fingerprint}) == 4


def test_a_copy_elsewhere_has_the_same_fingerprint(photos, tmp_path):
    before = small(photos).fingerprint
    photos.rename(tmp_path / "other")
    assert small(tmp_path / "other").fingerprint == before


# Faults of layout


def fails(path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        small(path)
    assert caught.value.hint


def test_no_folder(tmp_path):
    fails(tmp_path / "no", "no: there is no such folder")


def test_a_file(tmp_path):
    fails(picture(tmp_path / "x.png"), r"x\.png: is a file")


def test_an_empty_folder(tmp_path):
    fails(tmp_path, "no class folders .*found: nothing")


def test_pictures_outside_the_classes(photos):
    picture(photos / "stray.png")
    fails(photos, r"1 image outside the class folders: stray\.png \(found: cat/, dog/, stray")


def test_one_class(tmp_path):
    picture(tmp_path / "cat" / "a.png")
    fails(tmp_path, r"only one class: cat \(found: cat/\)")


def test_an_empty_class(photos):
    (photos / "bird").mkdir()
    fails(photos, "class bird has no images")


def test_no_pictures(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("words")
    fails(tmp_path, "no images")


def test_a_class_that_train_has_not(split_photos):
    picture(split_photos / "val" / "bird" / "a.png")
    fails(split_photos, "validation has a class that train has not: bird")


def test_no_train(split_photos):
    (split_photos / "train").rename(split_photos / "teaching")
    fails(split_photos, "test/ but no train/|val/ but no train/")


def test_two_names_for_one_split(split_photos):
    picture(split_photos / "valid" / "cat" / "a.png")
    fails(split_photos, "val/ and valid/ both mean validation")


def test_an_empty_split(split_photos):
    (split_photos / "val/dog/c.png").unlink()
    fails(split_photos, "validation has no images")


def test_train_may_be_a_class(photos):
    picture(photos / "train" / "locomotive.png")
    assert small(photos).classes == ("cat", "dog", "train")
    picture(photos / "train" / "old" / "steam.png")
    (photos / "train" / "locomotive.png").unlink()
    fails(photos, "train/ has folders inside and cat/ beside it")


@pytest.mark.parametrize("name", ["unlabelled", "dev", "holdout", "Eval"])
@pytest.mark.parametrize("inside", ["a.png", "cat/a.png", "cat/deep/a.gif"])
def test_what_is_beside_the_splits_is_left_out_and_told(split_photos, resnets, name, inside):
    (split_photos / "papers").mkdir()
    (split_photos / "papers" / "licence.txt").write_text("mine")
    picture(split_photos / name / inside)
    data = small(split_photos)
    assert len(data.train) == 2
    assert [(left.path, left.reason) for left in data.skipped] == [
        (f"{name}/", "is beside the splits, and is none")
    ]
    assert check_folder(split_photos).ignored == ("papers/",)
    code, out, _ = resnets("data", "check", split_photos)
    assert code == 0
    assert f"left out: {name}/: is beside the splits, and is none" in out


def test_an_unknown_policy(photos):
    with pytest.raises(UsageError, match='broken is "ignore"'):
        small(photos, broken="ignore")


# Links


def test_loops_of_links_are_cut(photos):
    for target, name in [("..", "up"), (".", "self"), ("../../photos", "root")]:
        (photos / "cat" / name).symlink_to(target)
    assert small(photos).train.labels.tolist() == [0, 0, 1, 1]


def test_a_link_to_the_split_does_not_mix_the_classes(split_photos):
    (split_photos / "train" / "cat" / "loop").symlink_to("..")
    assert small(split_photos).train.labels.tolist() == [0, 1]


def test_a_link_to_pictures_elsewhere_is_followed(photos, tmp_path):
    picture(tmp_path / "elsewhere" / "x.png")
    (photos / "bird").symlink_to(tmp_path / "elsewhere")
    assert small(photos).classes == ("bird", "cat", "dog")


def test_a_broken_link_is_a_broken_picture(photos):
    (photos / "cat" / "gone").symlink_to("nowhere")
    fails(photos, "the first: cat/gone cannot be read: No such file")


def test_what_may_not_be_read_is_broken(photos):
    secret = picture(photos / "cat" / "secret.png")
    secret.chmod(0)
    if os.access(secret, os.R_OK):
        pytest.skip("this user may read everything")
    locked = photos / "dog" / "locked"
    locked.mkdir(mode=0)
    try:
        broken = {item.path: item.reason for item in check_folder(photos).broken}
    finally:
        locked.chmod(0o700)
    assert broken == dict.fromkeys(
        ["cat/secret.png", "dog/locked"], "cannot be read: Permission denied"
    )


class Locked(Disk):
    """A disk on which one folder cannot be listed, whoever asks."""

    def contents(self, folder):
        if folder.endswith("locked"):
            raise PermissionError(13, "Permission denied", folder)
        return super().contents(folder)


def test_a_folder_that_cannot_be_listed_is_a_broken_image(photos):
    (photos / "dog" / "locked").mkdir()
    listing = Walk(photos, Locked(photos)).listing()
    assert "dog/locked" in listing.names
    place = list(listing.names).index("dog/locked")
    with pytest.raises(OSError, match="directory"):
        listing.open(place).read()
    (photos / "dog" / "locked").rename(photos / "locked")  # of a class it is an error
    with pytest.raises(PermissionError):
        Walk(photos, Locked(photos)).listing()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(photos):
    os.mkfifo(photos / "cat" / "pipe")
    assert len(small(photos).train) == 4


# Broken images


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def test_broken_pictures_are_an_error_that_names_the_first(photos):
    for name in ("1.jpg", "2.jpg", "3.JPG", "4.heic"):
        (photos / "cat" / name).write_bytes(b"")
    with pytest.raises(DataError, match="photos: 4 of 8 images cannot be read") as caught:
        small(photos)
    assert caught.value.message.endswith("the first: cat/1.jpg is empty (0 bytes)")
    assert "\n" not in caught.value.message
    assert caught.value.hint.endswith("`train --set data.broken=skip` leaves them out")


@pytest.mark.parametrize("memory", [None, 100])
def test_skip_leaves_one_out_and_lists_it(photos, memory):
    keep = small(photos).train.batch(torch.tensor([0, 2, 3]))
    spoil(photos / "cat" / "b.png")
    data = small(photos, broken="skip", memory=memory)
    assert [item.path for item in data.skipped] == ["cat/b.png"]
    assert "cannot be decoded" in data.skipped[0].reason
    images, labels = data.train.batch(torch.arange(3))
    assert torch.equal(images, keep[0])  # no neighbour took the broken one's place
    assert torch.equal(labels, keep[1])


def test_skip_has_a_limit(photos):
    spoil(photos / "cat" / "a.png")
    spoil(photos / "dog" / "c.png")
    with pytest.raises(DataError, match=r"2 of 4 images .* more than the 1 that may be left out"):
        small(photos, broken="skip")


@pytest.mark.parametrize("policy", ["skip", "read"])
def test_the_share_that_may_be_left_out_is_a_setting(photos, policy):
    """And the hint says one that is enough."""
    for name in ("cat/a.png", "dog/c.png"):
        (photos / name).write_bytes(b"")
    with pytest.raises(DataError, match="more than the 1 that may") as caught:
        small(photos, broken=policy)
    share = float(caught.value.hint.partition("--set data.broken_limit=")[2])
    assert f"`resnets data check {photos}`" in caught.value.hint
    data = small(photos, broken=policy, broken_limit=share)
    assert [item.path for item in data.skipped] == ["cat/a.png", "dog/c.png"]
    with pytest.raises(DataError, match="2 of 4 images"):
        small(photos, broken=policy, broken_limit=share - 0.01)


def test_what_has_lost_its_end_is_read_on_request(photos):
    path = photos / "cat" / "cut.jpg"
    picture(path, kind="jpeg", size=(64, 64))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match="1 of 5 images"):
        small(photos)
    assert len(small(photos, broken="skip").train) == 4
    data = small(photos, broken="read")
    assert (len(data.train), data.skipped) == (5, ())


def test_skip_allows_one_in_a_hundred(tmp_path):
    image = picture(tmp_path / "a" / "0.png").read_bytes()
    (tmp_path / "b").mkdir()
    for i in range(1, 200):
        (tmp_path / "ab"[i % 2] / f"{i}.png").write_bytes(image if i > 2 else b"")
    assert len(small(tmp_path, broken="skip").skipped) == 2
    (tmp_path / "a" / "4.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of 200 .* more than the 2 "):
        small(tmp_path, broken="skip")


def test_skip_may_not_empty_a_class(photos):
    (photos / "dog" / "c.png").unlink()
    spoil(photos / "dog" / "d.png")
    with pytest.raises(DataError, match="class dog has no images to train on"):
        small(photos, broken="skip")


def test_a_file_that_breaks_later_is_an_error(photos):
    data = small(photos, memory=0)
    spoil(photos / "dog" / "c.png")
    with pytest.raises(DataError, match=r"c\.png: cannot be decoded"):
        data.train.batch(torch.arange(4))


# Checking


def test_check_finds_everything(split_photos):
    image = Image.open(split_photos / "train/cat/a.png")
    image.save(split_photos / "train/cat/again.webp", lossless=True)  # same pixels, other file
    image.save(split_photos / "train/dog/b2.bmp")
    other = Image.open(split_photos / "train/dog/b.png")
    other.save(split_photos / "val/dog/b.png")
    (split_photos / "test/dog/void.jpg").write_bytes(b"")
    found = check_folder(split_photos)
    assert found.name == "photos"
    assert found.counts == {
        "train": {"cat": 2, "dog": 2},
        "validation": {"cat": 0, "dog": 2},
        "test": {"cat": 1, "dog": 1},
    }
    same = ("train/cat/a.png", "train/cat/again.webp", "train/dog/b2.bmp")
    assert found.duplicates == (same,)
    assert found.conflicts == (same,)
    assert found.leaks == (("train/dog/b.png", "val/dog/b.png"),)
    assert [(item.path, item.reason) for item in found.broken] == [
        ("test/dog/void.jpg", "is empty (0 bytes)")
    ]
    assert not found.sound


def test_check_of_a_sound_folder(photos):
    for name, size in [("wide", (4, 2)), ("high", (2, 4))]:  # the same bytes, not the same image
        Image.new("RGB", size, "red").save(photos / "cat" / f"{name}.png")
    found = check_folder(photos)
    assert found.sound
    assert (found.duplicates, found.leaks, found.conflicts, found.broken) == ((), (), (), ())


# By name


def test_open_dataset_takes_folders(photos, monkeypatch):
    assert open_dataset(photos, side=16).train.images.shape == (3, 16, 16)
    assert open_dataset(f"{photos}/", side=16, channels=1).train.images.shape == (1, 16, 16)
    monkeypatch.chdir(photos.parent)
    assert open_dataset("photos", side=16).name == "photos"


def test_a_name_comes_before_a_folder(photos, monkeypatch):
    photos.rename(photos.parent / "digits")
    monkeypatch.chdir(photos.parent)
    assert open_dataset("digits").classes[0] == "0"
    assert open_dataset("./digits", side=16).classes == ("cat", "dog")
    assert open_dataset(Path("digits"), side=16).classes == ("cat", "dog")


def test_an_unknown_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match='no data set is called "cifer10"') as caught:
        open_dataset("cifer10")
    assert caught.value.hint.startswith("did you mean cifar10")
    assert caught.value.hint.endswith("or a folder of images?")
    with pytest.raises(DataError, match="no/where: there is no such folder"):
        open_dataset("no/where")


def test_named_data_sets_have_their_own_size():
    assert open_dataset("digits", side=16, channels=3).train.images.shape == (1, 32, 32)


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAINING", "testing")])
def test_split_names_in_any_case(split_photos, train, test):
    (split_photos / "train").rename(split_photos / train)
    (split_photos / "test").rename(split_photos / test)
    found = open_dataset(split_photos, side=16)
    assert found.test is not None
    assert train not in found.classes


def test_folders_between_the_classes_are_asked_about(tmp_path):
    for year in ("2024", "2025"):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / year / name).mkdir(parents=True)
            Image.new("RGB", (9, 9)).save(tmp_path / "photos" / year / name / "a.png")
    with pytest.raises(DataError, match="are the classes 2024, 2025, or the folders inside them"):
        open_dataset(tmp_path / "photos", side=16)
