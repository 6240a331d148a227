"""What an image is: digests of content, what has changed, copies and on which side they fall."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnets.data.classes import look_alike, sides
from resnets.data.copies import originals
from resnets.data.dataset import MemoryImages, whole
from resnets.data.folder import open_folder
from resnets.data.holdout import divide, hold_out
from resnets.data.identity import Changes, changes, read_manifest
from resnets.errors import CheckpointError, DataError


def noise(seed: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(values)


@pytest.fixture
def photos(tmp_path):
    """Two classes of four images each, as BMP: files of equal sizes."""
    for number in range(8):
        folder = tmp_path / "photos" / ("cat" if number < 4 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        noise(number).save(folder / f"{number}.bmp")
    return tmp_path / "photos"


def exchange(path, seed):
    """Put another image of equal size in an image's place, with its times."""
    before = path.stat()
    noise(seed).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_the_fingerprint_notices_an_exchange_of_equal_size_name_and_time(photos):
    before = open_folder(photos, side=8)
    exchange(photos / "cat/0.bmp", 100)
    after = open_folder(photos, side=8)
    assert after.fingerprint != before.fingerprint
    assert after.former == before.former
    assert before.known_as(after.fingerprint) is None


@pytest.mark.parametrize("move", ["name", "class", "split", "two swapped"])
def test_the_fingerprint_covers_names_classes_and_splits(photos, move):
    if move == "split":
        (photos / "train").mkdir()
        for name in ("cat", "dog"):
            (photos / name).rename(photos / "train" / name)
            (photos / "val" / name).mkdir(parents=True)
            noise(ord(name[0])).save(photos / "val" / name / "v.bmp")
    before = open_folder(photos, side=8)
    if move == "name":
        (photos / "cat/0.bmp").rename(photos / "cat/00.bmp")
    elif move == "class":
        (photos / "cat/0.bmp").rename(photos / "dog/0.bmp")
    elif move == "split":
        (photos / "train/cat/0.bmp").rename(photos / "val/cat/0.bmp")
    else:
        (photos / "cat/0.bmp").rename(photos / "x")
        (photos / "dog/4.bmp").rename(photos / "cat/0.bmp")
        (photos / "x").rename(photos / "dog/4.bmp")
    assert open_folder(photos, side=8).fingerprint != before.fingerprint


def test_a_run_of_an_earlier_version_has_its_data_and_its_split(photos):
    (photos / "cat/copy.bmp").write_bytes((photos / "cat/0.bmp").read_bytes())
    now = open_folder(photos, side=8)
    then = now.known_as(now.former)
    assert then.fingerprint == now.former
    kept, _ = hold_out(now.train, 3, 0)  # file by file
    assert torch.equal(divide(then, 3, 0).train.ids, kept.ids)
    assert now.known_as(now.fingerprint) is now
    assert now.known_as("") is None


def test_changes_are_named():
    before = {"cat/1.jpg": "a", "cat/2.jpg": "b", "cat/3.jpg": "c", "dog/1.jpg": "d"}
    now = [("cat/1.jpg", "A"), ("cat/2.jpg", "B"), ("cat/3.jpg", "c"), ("dog/2.jpg", "d")]
    found = changes(before, now)
    assert found == Changes(("cat/1.jpg", "cat/2.jpg"), ("dog/2.jpg",), ("dog/1.jpg",))
    assert str(found) == (
        "2 images have changed, such as cat/1.jpg; 1 is new, dog/2.jpg; 1 is gone, dog/1.jpg"
    )
    assert not changes(before, before.items())


def test_manifests_are_what_sha256sum_reads(photos, tmp_path):
    manifest = open_folder(photos, side=8).manifest
    manifest.write(tmp_path / "pictures.sha256")
    found = read_manifest(tmp_path / "pictures.sha256")
    assert found == dict(manifest)
    assert list(found)[:2] == ["cat/0.bmp", "cat/1.bmp"]
    assert read_manifest(tmp_path / "none") is None


@pytest.mark.parametrize("content", [b"abc", b"0" * 64 + b"  no end", b"\xff" * 70000])
def test_a_damaged_manifest(tmp_path, content):
    (tmp_path / "pictures.sha256").write_bytes(content)
    with pytest.raises(CheckpointError, match="line 1 is damaged"):
        read_manifest(tmp_path / "pictures.sha256")


# Copies


def test_originals_are_the_first_of_equal_rows():
    rows = np.array([[1, 2], [3, 4], [1, 2], [0, 0], [3, 4], [1, 2]], np.uint8)
    assert originals(rows).tolist() == [0, 1, 0, 3, 1, 0]
    assert originals(rows[:0]).tolist() == []


def split_of(labels):
    images = MemoryImages(torch.zeros(len(labels), 2, 2, 1, dtype=torch.uint8))
    return whole(images, torch.tensor(labels))


@given(st.lists(st.integers(0, 2), min_size=30, max_size=60), st.integers(0, 3), st.booleans())
def test_copies_fall_on_one_side(labels, seed, mixed):
    """Every image doubled: in its class, or with any label."""
    labels = [*range(3), *labels] * 2
    count = len(labels) // 2
    if mixed:
        labels = labels[:count] + labels[:count][::-1]
    split = split_of(labels)
    first = torch.arange(2 * count) % count
    kept, held = hold_out(split, 0.2, seed, originals=first)
    assert not set(first[kept.ids].tolist()) & set(first[held.ids].tolist())
    assert sorted([*kept.ids.tolist(), *held.ids.tolist()]) == list(range(2 * count))
    assert set(kept.labels.tolist()) == set(labels)
    if not mixed:
        assert abs(len(held) - round(0.2 * 2 * count)) <= 3  # half a pair in each class
    again = hold_out(split, 0.2, seed, originals=first)[1]
    assert torch.equal(again.ids, held.ids)


@given(st.lists(st.integers(0, 3), min_size=20, max_size=60), st.integers(0, 5))
def test_without_copies_the_split_is_what_it_was(labels, seed):
    split = split_of([0, 0, 1, 1, 2, 2, 3, 3, *labels])
    expected = hold_out(split, 0.25, seed)
    # One pair far from the rest changes the way the split is drawn, not what is drawn.
    alone = split_of([*split.labels.tolist(), 4, 4])
    first = torch.arange(len(alone))
    first[-1] = first[-2]
    got = hold_out(alone, len(expected[1]), seed, originals=first)
    exact = hold_out(alone, len(expected[1]), seed)
    ordinary = len(split)
    assert torch.equal(got[1].ids[got[1].ids < ordinary], exact[1].ids[exact[1].ids < ordinary])
    assert torch.equal(
        hold_out(split, 0.25, seed, originals=torch.arange(ordinary))[1].ids, expected[1].ids
    )


def test_a_class_of_one_picture_many_times_stays_in_training():
    split = split_of([0] * 10 + [1] * 10)
    first = torch.cat([torch.zeros(10, dtype=torch.int64), torch.arange(10, 20)])
    kept, held = hold_out(split, 0.2, 0, originals=first)
    assert (kept.labels == 0).sum() == 10
    assert held.labels.tolist() == [1, 1]


def test_the_error_names_the_class(photos):
    (photos / "bird").mkdir()
    noise(50).save(photos / "bird/1.bmp")
    with pytest.raises(DataError, match="nothing to train on of class bird, which has 1"):
        divide(open_folder(photos, side=8), 8, 0)


@pytest.mark.parametrize("form", ["same bytes", "another format"])
def test_a_doubled_folder_is_divided_by_content(tmp_path, form):
    """300 images with labels by chance, each beside its copy: nothing is learned by heart."""
    labels = np.random.default_rng(0).integers(0, 2, 300)
    for number, label in enumerate(labels):
        folder = tmp_path / "photos" / "ab"[label]
        folder.mkdir(parents=True, exist_ok=True)
        picture = noise(number, (8, 8))
        picture.save(folder / f"{number}.png")
        if form == "same bytes":
            picture.save(folder / f"{number} copy.png")
        else:
            picture.save(folder / f"{number} copy.webp", lossless=True)
    data = divide(open_folder(tmp_path / "photos", side=8), 0.1, 0)
    assert data.copies.doubled == 300
    train, held = (
        {picture.numpy().tobytes() for picture in part.batch(torch.arange(len(part)))[0]}
        for part in (data.train, data.validation)
    )
    assert not train & held
    assert len(data.validation) == 60
    (note,) = data.copies.sentences(together=True)
    assert note == (
        "300 training images are copies of others; copies stay on one side of the held-out split"
    )


def test_copies_across_parts_and_classes_are_counted(tmp_path):
    root = tmp_path / "photos"
    for number, name in enumerate(
        ["train/cat/a", "train/dog/b", "val/cat/c", "val/dog/d", "test/cat/e", "test/dog/f"]
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise(number).save(root / f"{name}.png")
    noise(0).save(root / "test/cat/again.bmp")
    noise(3).save(root / "test/dog/seen.bmp")
    noise(1).save(root / "train/cat/both.png")
    found = open_folder(root, side=8).copies
    assert found.doubled == 1
    assert [(s.part, s.other, s.count, s.of, s.example) for s in found.shared] == [
        ("test", "train", 1, 4, ("test/cat/again.bmp", "train/cat/a.png")),
        ("test", "validation", 1, 4, ("test/dog/seen.bmp", "val/dog/d.png")),
    ]
    assert found.two_classes == 2
    assert set(found.two_classes_example) == {"train/cat/both.png", "train/dog/b.png"}
    notes = found.sentences(together=False)
    assert notes[1].startswith("1 of 4 test images is also in train, such as test/cat/again.bmp")


def test_published_sets_are_split_as_ever(photos):
    data = open_folder(photos, side=8)
    assert data.originals.tolist() == list(range(8))
    by_id = divide(replace(data, originals=None), 2, 0)
    assert torch.equal(divide(data, 2, 0).train.ids, by_id.train.ids)


# Names of classes


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "Cat"),
        ("cat", "cat "),
        ("cat", "c\u0430t"),  # a Cyrillic letter
        ("cat", "ca\u200bt"),  # a space without width
        ("big cat", "big_cat"),
        ("big cat", "big  cat"),
        ("fi", "\ufb01"),  # a ligature
        ("STRASSE", "stra\u00dfe"),
        ("cat", "\uff43\uff41\uff54"),  # of full width
    ],
)
def test_names_that_nobody_tells_apart(names):
    assert look_alike(("dog", *names)) == (names,)


def test_names_that_differ():
    assert look_alike(("cat", "cats", "cat2", "bird", "\u00e9lan", "elan", "1", "l")) == ()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("left", "right"), ("left", "right")),
        (("hand_left", "hand_right"), ("hand_left", "hand_right")),
        (("LeftEye", "RightEye"), ("LeftEye", "RightEye")),
        (("turn-right", "stop", "turn-left"), ("turn-left", "turn-right")),
        (("Links abbiegen", "rechts abbiegen"), ("Links abbiegen", "rechts abbiegen")),
        (("left1", "right1"), ("left1", "right1")),
        (("\u5de6\u624b", "\u53f3\u624b"), ("\u5de6\u624b", "\u53f3\u624b")),
        (("right whale", "blue whale"), None),
        (("bright", "leftover"), None),
    ],
)
def test_sides(names, found):
    assert sides(names) == found
