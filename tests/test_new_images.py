"""`resnets report RUN --compare-data NEW`: are new images like those that the run has held out?"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from conftest import coloured, tiny_dataset
from resnets import Machine, train
from resnets.errors import DataError
from resnets.evaluation.new_images import compare_data

NAMES = ("ash", "birch", "cedar")


def photographs(root: Path, first: int, count: int, change=lambda image: image) -> Path:
    for label, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for number in range(first, first + count):
            change(coloured(label, number, 20)).save(root / name / f"{number}.png")
    return root


def changed(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(2)).point(lambda value: value // 2)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run, and new images like its own and unlike them."""
    folder = tmp_path_factory.mktemp("new")
    photographs(folder / "own", 0, 60)
    photographs(folder / "like", 100, 20)
    photographs(folder / "unlike", 100, 20, changed)
    settings = ("schedule.iterations=20", "batch_size=16", "data.holdout=0.3", "data.image_size=16")
    train(
        folder / "own",
        model="resnet8",
        settings=settings,
        out=folder / "run",
        machine=Machine(quiet=True),
    )
    return folder


def test_what_is_alike_does_not_differ(home):
    found = compare_data(home / "run", home / "like")
    assert not found.differs
    assert found.found.p_value > 0.01
    assert "Nothing shows" in found.sentence
    assert "60 images" in found.sentence
    assert (len(found.old.images), found.part) == (54, "validation")
    assert np.allclose(np.linalg.norm(found.new.embeddings, axis=1), 1)


def test_what_is_unlike_differs_and_the_page_says_it(home, resnets):
    words = "report", home / "run", "--compare-data", home / "unlike"
    _, told, _ = resnets(*words)
    assert "The new images differ" in told
    page = home / "run" / "new-images.html"
    assert str(page) in told
    text = page.read_text()
    assert "The new images differ" in text
    assert text.count("<img") == 24
    assert "http" not in text.split("</style>")[1]
    values = json.loads(resnets(*words, "--json")[1])
    assert page.read_text() == text  # the same each time
    assert values["differs"]
    assert values["p_value"] == 0.001
    assert values["auroc"] > 0.9
    assert values["images"] == {"old": 54, "new": 60, "broken": 0}
    assert [each["class"] for each in values["answers"]] == list(NAMES)
    for side in ("old", "new"):
        assert sum(each[side] for each in values["answers"]) == pytest.approx(1)
    remote = [each["remoteness"] for each in values["remotest"]]
    assert remote == sorted(remote, reverse=True)


def test_one_stranger_is_named_first(home, tmp_path):
    photographs(tmp_path / "new", 100, 20)
    Image.new("RGB", (20, 20), "white").save(tmp_path / "new" / "stranger.png")
    (tmp_path / "new" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    found = compare_data(home / "run", tmp_path / "new")
    assert found.to_dict()["remotest"][0]["path"].endswith("stranger.png")
    assert found.broken == 1
    assert "1 new image cannot be read" in found.lines()


def test_a_pack_is_like_its_folder(home, tmp_path, resnets):
    resnets("data", "pack", home / "like", "--out", tmp_path / "like.pack")
    pack, folder = (compare_data(home / "run", x) for x in (tmp_path / "like.pack", home / "like"))
    assert pack.found.p_value == folder.found.p_value
    assert pack.found.auroc == pytest.approx(folder.found.auroc, abs=0.05)  # folds are by order
    assert len(pack.thumbnails()) == 24


def test_what_cannot_be_compared_is_one_line(home, tmp_path, resnets):
    photographs(tmp_path / "few", 100, 3)
    code, _, error = resnets("report", home / "run", "--compare-data", tmp_path / "few")
    assert code == 3
    assert "9 images that can be read; so few show no difference" in error
    assert "give 10 or more" in error
    code, _, error = resnets("report", home / "run", home, "--compare-data", home / "like")
    assert code == 2
    assert "is about one run" in error
    assert resnets("report", home / "run", "--json")[0] == 2


def test_the_images_of_the_run_must_be_what_they_were(home, resnets):
    extra = home / "own" / "ash" / "extra.png"
    coloured(0, 999, 20).save(extra)
    code, _, error = resnets("report", home / "run", "--compare-data", home / "like")
    extra.unlink()
    assert code == 3
    assert "was trained on any more" in error
    assert resnets("report", home / "run", "--compare-data", home / "like")[0] == 0


def test_images_that_were_given_in_python_are_gone(home, tmp_path):
    settings = ("schedule.iterations=2", "batch_size=8")
    run = train(
        tiny_dataset(), model="resnet8", settings=settings, out=tmp_path / "run", quiet=True
    )
    with pytest.raises(DataError, match="its images were given in Python"):
        compare_data(run.path, home / "like")
