"""`data check`: copies near and exact, names, sizes, what is left out; and nothing that hangs."""

import io
import json
import os
import socket

import numpy as np
import pytest
from PIL import Image, ImageOps

from resnets.data.check import check_folder
from resnets.data.classes import class_notes, look_alike
from resnets.data.folder import open_folder
from resnets.data.headers import ImageError
from resnets.data.images import decode
from resnets.data.sources import images_in
from resnets.weights.shipped import DEFAULT, shipped


def scene(seed: int, side: int = 96) -> Image.Image:
    """An image with large and small features, as photographs have them."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (n, n, 3), np.uint8)).resize((side, side), 3),
            np.float32,
        )
        for n in (4, 9, 17)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


def recompressed(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return Image.open(buffer).convert("RGB")


def scaled(picture):
    return picture.resize((3 * picture.width // 4, 3 * picture.height // 4), 3)


CHANGES = {
    "compressed again": recompressed,
    "scaled": scaled,
    "mirrored": ImageOps.mirror,
    "all of these": lambda picture: recompressed(ImageOps.mirror(scaled(picture))),
}


@pytest.mark.parametrize("side", [32, 96])
@pytest.mark.parametrize("change", CHANGES)
def test_near_copies_are_found(tmp_path, change, side):
    """24 of 24, and nothing else."""
    for number in range(24):
        for part, picture in (
            ("train", scene(number, side)),
            ("val", CHANGES[change](scene(number, side))),
            ("test", scene(1000 + number, side)),
        ):
            folder = tmp_path / part / ("cat" if number % 2 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{number}.png")
    assert check_folder(tmp_path).near is None
    found = check_folder(tmp_path, near=True)
    assert len(found.near) == 24
    for group in found.near:
        train, val = group.names
        assert group.splits == ("train", "validation")
        assert train.removeprefix("train") == val.removeprefix("val")
        assert group.classes == 1
    assert not found.leaks
    assert not found.sound


def test_near_copies_within_one_class_are_no_fault(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        scene(ord(name[0])).save(tmp_path / name / "a.png")
    recompressed(scene(ord("c"))).save(tmp_path / "cat/b.png")
    for name in ("plain", "white"):  # nothing to compare, and not the same
        Image.new("RGB", (70, 70 + len(name)), name.replace("plain", "grey")).save(
            tmp_path / f"dog/{name}.png"
        )
    found = check_folder(tmp_path, near=True)
    assert [group.names for group in found.near] == [("cat/a.png", "cat/b.png")]
    assert found.sound


def tinted(seed):
    """A scene of a colour, which any network sees."""
    colour = tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist())
    return Image.blend(scene(seed, 160), Image.new("RGB", (160, 160), colour), 0.6)


def cut(picture, seed, area=0.75):
    """Some part of an image, of this share of its area, as another file has it."""
    side = round(picture.width * area**0.5)
    left, top = np.random.default_rng(seed).integers(0, picture.width - side + 1, 2).tolist()
    return recompressed(picture.crop((left, top, left + side, top + side)))


def test_where_a_network_says_what_is_alike_cut_copies_are_found(tmp_path, resnets):
    """Of 24 parts at least 22, half of them mirrored, and nothing else; without it hardly any."""
    photos, weights = tmp_path / "photos", shipped(*DEFAULT)
    for number in range(24):
        part = cut(tinted(number), number)
        for split, picture in (
            ("train", tinted(number)),
            ("test", ImageOps.mirror(part) if number % 2 else part),
            ("test", tinted(1000 + number)),
        ):
            folder = photos / split / ("cat" if number % 3 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{number}.png" if picture.width == 160 else f"{number}-part.png"
            picture.save(folder / name)
    assert len(check_folder(photos, near=True).near) < 4
    words = ("data", "check", photos, "--near", "--model", weights, "--device", "cpu", "--json")
    code, out, err = resnets(*words)
    assert code == 3, err
    found = [group["names"] for group in json.loads(out)["near"]]
    assert len(found) >= 22
    for one, other in found:
        assert one.removeprefix("train") == other.removeprefix("test").replace("-part", "")
    assert resnets("data", "check", photos, "--model", weights)[0] == 2


@pytest.fixture
def uneven(tmp_path):
    """Classes of 17 and 1, with a class like another, wide images and an animation."""
    root = tmp_path / "photos"
    for i, (name, count) in enumerate((("dog", 17), ("Dog ", 1), ("left", 5), ("right", 5))):
        (root / name).mkdir(parents=True)
        for number in range(count):
            scene(100 + 20 * i + number, 24).save(root / name / f"{number}.png")
    scene(1, 24).resize((40, 24)).save(root / "dog/wide.png")
    scene(2, 24).resize((35, 24)).save(root / "dog/less.png")
    frames = [scene(seed, 24) for seed in (3, 4)]
    frames[0].save(root / "dog/moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(root / "dog/moving.png", save_all=True, append_images=frames[1:])
    (root / "dog/notes.txt").write_text("woof")
    return root


@pytest.mark.parametrize("names", [("1", "01"), ("1", "1.0", "01.00"), ("0", "00", "7")])
def test_numbers_that_differ_in_zeros_only(names):
    alike = [name for name in names if name != "7"]
    assert look_alike(["10", "1.5", "", "2x", *names]) == (tuple(alike),)
    (said,) = class_notes(names)
    assert "differ in zeros only" in said


def test_check_says_what_a_result_may_depend_on(uneven, resnets):
    code, out, _ = resnets("data", "check", uneven)
    assert code == 0
    for line in (
        "classes are uneven: 21 training images of dog, 1 of Dog  (21 : 1)",
        'the classes "Dog " and "dog" differ in case, spaces or the look of letters only',
        "left and right are told apart by their side: train does not mirror images",
        "1 of 32 images loses more than a third of the area to the square",
        "only the first frame is taken: dog/moving.gif, dog/moving.png",
        "ignored: dog/notes.txt",
    ):
        assert line in out
    code, out, _ = resnets("data", "check", uneven, "--json")
    values = json.loads(out)
    assert values["imbalance"] == 21
    assert values["look_alike"] == [["Dog ", "dog"]]
    assert values["sides"] == ["left", "right"]
    assert values["cropped"] == 1
    assert values["animations"] == ["dog/moving.gif", "dog/moving.png"]
    assert "near" not in values


def test_copies_are_counted_where_a_part_will_be_held_out(uneven, resnets):
    for number in range(3):
        copy = uneven / f"dog/{number} again.png"
        copy.write_bytes((uneven / f"dog/{number}.png").read_bytes())
    code, out, _ = resnets("data", "check", uneven)
    assert code == 0
    assert "3 training images are copies of others; copies stay on one side of the held-out" in out
    values = json.loads(resnets("data", "check", uneven, "--json")[1])
    assert values["copies"]["doubled"] == 3


def test_near_is_for_folders(resnets):
    code, _, err = resnets("data", "check", "digits", "--near")
    assert code == 2
    assert "hint: leave it out: resnets data check digits" in err


# Files that never end, or never come


def fifo(path):
    os.mkfifo(path)


def endpoint(path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path.name)
    finally:
        os.chdir(here)


def device(path):
    path.symlink_to("/dev/zero")


def link_to_fifo(path):
    pipe = path.with_name(f".{path.name}")
    os.mkfifo(pipe)
    path.symlink_to(pipe)


ENDLESS = {
    "a named pipe": fifo,
    "a socket": endpoint,
    "a device": device,
    "a named pipe, by a link": link_to_fifo,
}


@pytest.fixture(params=ENDLESS)
def endless(request, uneven):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    for name in ("dog/endless.jpg", "left/endless", "endless.png"):
        ENDLESS[request.param](uneven / name)
    return request.param.split(",")[0]


def test_endless_files_are_left_out_and_listed(endless, uneven):
    found = check_folder(uneven)
    assert [vars(each) for each in found.left_out] == [
        {"path": "dog/endless.jpg", "reason": f"is {endless}, not a file"}
    ]
    assert {f"left/endless ({endless})", f"endless.png ({endless})"} <= set(found.ignored)
    assert found.sound
    data = open_folder(uneven, side=8)
    assert [each.path for each in data.skipped] == ["dog/endless.jpg"]


def test_endless_files_are_broken_pictures_to_predict(endless, uneven):
    assert uneven / "dog/endless.jpg" in images_in(uneven / "dog")
    with pytest.raises(ImageError, match=f"cannot be read: it is {endless}, not a file") as caught:
        decode(uneven / "dog/endless.jpg", 3)
    assert caught.value.hint.startswith("only ordinary files are read")
