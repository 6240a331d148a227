"""Large sets: known by names and sizes, read in training, remembered once they were read whole."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import coloured
from resnets import train
from resnets.data import open_dataset
from resnets.data.augment import Augment
from resnets.data.check import check_folder
from resnets.data.encoding import Encoding
from resnets.data.examined import recall, witness_of
from resnets.data.framing import Frame
from resnets.data.packing import pack
from resnets.data.photographs import Request
from resnets.data.preprocess import imagenet
from resnets.data.scan import scan
from resnets.data.views import Crops
from resnets.errors import DataError
from resnets.machine.downloads import cache_folder
from resnets.training.audit import audit
from resnets.training.feed import build_feed
from resnets.training.recipe import AugmentRecipe, Recipe, ScheduleRecipe


@pytest.fixture
def photos(tmp_path):
    """Two classes of twelve images, of which two cannot be decoded."""
    root = tmp_path / "photos"
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(12):
            coloured(label, number).save(root / name / f"{number:02}.png")
    for name in ("cat/03.png", "dog/07.png"):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])
    return root


def listed(photos: Path, **options):
    return open_dataset(photos, side=16, content=False, **options)


def test_nothing_is_decoded_and_names_and_sizes_are_the_fingerprint(photos):
    data = listed(photos)
    assert (len(data.train), data.skipped, data.originals, data.copies) == (24, (), None, None)
    assert data.fingerprint.startswith("listed:")
    sound = open_dataset(photos, side=16, broken="skip", broken_limit=0.1)
    assert sound.fingerprint.startswith("content:")
    (photos / "cat" / "03.png").unlink()
    assert listed(photos).fingerprint != data.fingerprint


def test_what_is_broken_is_an_error_when_it_is_met(photos):
    with pytest.raises(DataError, match=r"cat/03\.png: cannot be decoded"):
        list(listed(photos).train.batches(8))


def test_or_is_left_out_and_listed(photos):
    data = listed(photos, broken="skip", broken_limit=0.1)
    found = list(data.train.stream(torch.arange(24).split(7)))
    positions = torch.cat([some for some, _ in found])
    assert positions.tolist() == [i for i in range(24) if i not in (3, 19)]
    whole = open_dataset(photos, side=16, broken="skip", broken_limit=0.1)
    assert torch.equal(
        torch.cat([images for _, images in found]), whole.train.batch(torch.arange(22))[0]
    )
    assert [item.path for item in data.left_out] == ["cat/03.png", "dog/07.png"]
    assert all("cannot be decoded" in item.reason for item in data.left_out)


def test_up_to_a_limit(photos):
    with pytest.raises(DataError, match=r"2 images cannot be read, more than the 1 that may"):
        list(listed(photos, broken="skip").train.batches(8))


@pytest.mark.parametrize(
    "setting", ["augment.partner=any", "augment.partner=next", "data.sampling=balanced"]
)
def test_a_run_leaves_them_out(photos, tmp_path, setting):
    """It mixes nothing with them, evaluates without them, lists them and is audited."""
    mixing = [setting, "augment.cutmix=1.0"]
    settings = [*mixing, "augment.mixup=0.5", "schedule.epochs=2", "batch_size=5", "data.holdout=6"]
    data = listed(photos, broken="skip", broken_limit=0.1)
    run = train(data, model="resnet8", settings=settings, out=tmp_path / "run")
    assert [s.path for s in data.left_out] == ["cat/03.png", "dog/07.png"]
    text = (tmp_path / "run" / "data.json").read_text()
    assert "cat/03.png" in text
    assert "dog/07.png" in text
    held = sum(name not in ("cat/03.png", "dog/07.png") for name in _held_out(data))
    assert run.results["validation"]["samples"] == held
    found = audit(tmp_path / "run")
    assert found.ok, found.differences


def test_who_mixes_with_a_broken_image_stays_as_it_is(photos):
    augment = AugmentRecipe(padding=1, mixup=0.5, partner="next")
    recipe = Recipe(name="test", schedule=ScheduleRecipe(epochs=1), augment=augment)
    data = listed(photos, broken="skip", broken_limit=0.1)
    feed = build_feed(data, recipe, imagenet(3, 16), torch.device("cpu"))
    batch = torch.tensor([5, 3, 4, 8])  # 3 is broken, so 5 has no partner
    (found,) = feed.batches([feed.step(0, batch, slice(None), 16)])
    assert found.labels.tolist() == data.train.labels[[5, 4, 8]].tolist()
    (plain,) = replace(feed, mix=replace(feed.mix, mixup=0.0)).batches(
        [feed.step(0, torch.tensor([5, 4, 8]), slice(None), 16)]
    )
    assert found.images[0].equal(plain.images[0])
    assert not found.images[1].equal(plain.images[1])
    ids = data.train.ids[[4, 8]]
    mixed, _, _ = feed.mix(
        plain.images[1:], plain.labels[1:], plain.images[[2, 0]], plain.labels[[2, 0]], ids, 0
    )
    assert found.images[1:].equal(mixed)


def _held_out(data):
    from resnets.data.holdout import divide

    split = divide(data, 6, 0).validation
    return split.names(torch.arange(len(split)))


def test_what_was_read_whole_is_not_read_again(photos):
    """Unless it may be another; what is only just written may change unnoticed."""
    for name in ("cat/03.png", "dog/07.png"):
        (photos / name).unlink()
    told: list[tuple[int, int]] = []

    def opened(**options):
        told.clear()
        data = open_dataset(photos, side=16, report=lambda *done: told.append(done), **options)
        told[:] = [done for done in told if done[1]]  # not those that are found
        return data

    first = opened()
    assert told[-1] == (22, 22)
    while time.time_ns() - max(path.stat().st_ctime_ns for path in photos.rglob("*.png")) < 2.1e9:
        time.sleep(0.1)
    opened()
    again = opened()
    assert told == []
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.originals, first.originals)
    assert list(again.manifest) == list(first.manifest)
    with (photos / "cat" / "05.png").open("r+b") as file:  # of the same size
        file.seek(-20, os.SEEK_END)
        file.write(b"?")
    os.utime(file.name, ns=(0, 0))
    assert [item.path for item in opened(broken="skip").skipped] == ["cat/05.png"]
    assert told == [(1, 1)]


def test_more_than_eight_bits_are_never_guessed(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            values = np.full((20, 20), 1000 * number + 5, np.uint16)
            Image.fromarray(values).save(tmp_path / name / f"{number}.png")
    with pytest.raises(DataError, match="nothing says which of them is black"):
        list(listed(tmp_path).train.batches(8))
    images, _ = listed(tmp_path, scale=(0, 4095)).train.batch(torch.arange(3))
    assert images[2].unique().tolist() == [round(2005 * 255 / 4095)]


@pytest.mark.parametrize("memory", [0, None])
def test_kept_or_not_the_pixels_are_the_same(photos, memory):
    for name in ("cat/03.png", "dog/07.png"):
        (photos / name).unlink()
    data = listed(photos, memory=memory)
    ids = torch.arange(22)
    twice = [data.train.images.batch(ids) for _ in range(2)]
    (answer,) = data.train.images.read([Request(ids)])
    assert torch.equal(twice[0], twice[1])
    assert torch.equal(answer.images, twice[0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_that_lie_bare_are_those_that_are_decoded(tmp_path, mode, channels):
    """With comments in the header, and damaged, they are Pillow's to read."""
    for kind in ("png", "ppm"):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / kind / name).mkdir(parents=True)
            for number in range(3):
                image = coloured(label, number).crop((0, 0, 40, 20 + number)).convert(mode)
                image.save(tmp_path / kind / name / f"{number}.{kind}")
    commented = tmp_path / "ppm" / "dog" / "1.ppm"
    content = commented.read_bytes()
    commented.write_bytes(content[:3] + b"# a comment\n" + content[3:])
    augment = Augment(seed=1, size=16, padding=0, fill=(0,) * channels, area=(0.1, 1))
    ids = torch.arange(6)
    found = []
    for kind in ("png", "ppm"):
        data = open_dataset(
            tmp_path / kind, frame=Frame(16, 16), scaled=False, memory=0, channels=channels
        )
        (crops,) = data.train.images.read([Request(ids, Crops(augment, 0, 16))])
        found.append((crops.images, data.train.images.batch(ids)))
    assert all(map(torch.equal, *found))
    commented.write_bytes(content[:-1])
    data = open_dataset(tmp_path / "ppm", scaled=False, content=False, channels=channels)
    with pytest.raises(DataError, match=r"dog/1\.ppm: cannot be decoded"):
        data.train.batch(ids)


def test_the_check_remembers_for_training(photos):
    found = check_folder(photos)
    assert [item.path for item in found.broken] == ["cat/03.png", "dog/07.png"]


WHOLE = ["augment.area=[0.3,1]", "augment.padding=0"]  # crops of images as they are


@pytest.mark.parametrize("how", [[], WHOLE], ids=["squares", "whole"])
def test_training_remembers_what_it_has_read(photos, tmp_path, how, capsys):
    """As a check does, and learns the same; a pack's images are never too young for it."""
    shutil.copy(photos / "cat/05.png", photos / "cat/06.png")
    packed = pack(scan(photos), tmp_path / "photos.pack", Encoding()).path
    told: list[tuple[int, int]] = []

    def opened(data, **options):
        told.clear()
        options |= {"side": 16, "broken": "skip", "broken_limit": 0.1, "scaled": not how}
        return open_dataset(data, report=lambda *done: told.append(done), **options)

    settings = [*how, "schedule.epochs=2", "batch_size=5", "data.holdout=6", "data.image_size=16"]
    done = {}
    for remember in (False, True):
        data = opened(packed, content=False)
        out = tmp_path / f"{remember}"
        train(data, model="resnet8", settings=settings, out=out, remember=remember)
        done[remember] = load_file(out / "model.safetensors")
        said = capsys.readouterr().err
        assert said.count("all 24 images have been read, 2 broken ones among them") == remember
        assert said.count("1 training image is a copy of another") == remember
        opened(packed)
        assert [each for each in told if each[1]][-1] == ((2, 2) if remember else (24, 24))
        if not remember:
            shutil.rmtree(cache_folder("examined"))
    assert all(torch.equal(done[False][key], values) for key, values in done[True].items())
    found, checked = opened(packed), opened(photos)
    assert found.fingerprint == checked.fingerprint
    assert torch.equal(found.originals, checked.originals)
    assert [item.path for item in found.skipped] == ["cat/03.png", "dog/07.png"]
    assert found.cropped == checked.cropped


def test_what_several_processes_have_read_is_put_together(photos, tmp_path):
    packed = pack(scan(photos), tmp_path / "photos.pack", Encoding()).path
    ranks = [listed(packed, broken="skip", broken_limit=0.1) for _ in range(2)]
    witnesses = [witness_of(data) for data in ranks]
    for data, share in zip(ranks, torch.arange(24).split(12), strict=True):
        list(data.train.stream([share]))
    seen = []  # what the second gives, in order

    def second(rows):
        seen.append(rows)
        return rows

    assert witnesses[1].remember(second, write=False) == []
    waiting = iter(seen)
    said = witnesses[0].remember(lambda rows: torch.cat([rows, next(waiting)]))
    assert "all 24 images have been read, 2 broken ones among them" in said[0]
    assert witnesses[0].remember() == []  # once
    assert recall(witnesses[0].listing, witnesses[0].store).sum() == 22
