"""Runs on folders of images that have changed, moved, or hold copies: noticed, named, said."""

import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from conftest import signal_at
from resnets.data.folder import open_folder
from resnets.data.preprocess import Preprocess
from resnets.errors import DataError, Stopped, UsageError
from resnets.evaluation import evaluate
from resnets.inference.embedding import embed_folder
from resnets.inference.prediction_table import predict_table
from resnets.models import create_model
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.reading import read_run
from resnets.training.audit import audit
from resnets.training.recipe import load_recipe
from resnets.training.train import train
from resnets.zoo import get_spec

RECIPE = load_recipe(
    "default", ["schedule.epochs=2", "data.holdout=4", "data.image_size=8", "augment.padding=1"]
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # it takes seconds to load


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run on a folder of BMP files, which has come to its second epoch."""
    root = tmp_path_factory.mktemp("stopped")
    for number in range(16):
        folder = root / "photos" / ("cat" if number < 8 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number}.bmp")
    with signal_at(1), pytest.raises(Stopped):
        train(root / "photos", model="resnet8", recipe=RECIPE, out=root / "run", quiet=True)
    return root


@pytest.fixture
def made(stopped, tmp_path):
    """A copy of it, whose record names the copied images."""
    shutil.copytree(stopped, tmp_path / "made")
    record = tmp_path / "made/run/run.json"
    record.write_text(record.read_text().replace(str(stopped), str(tmp_path / "made")))
    return tmp_path / "made"


def exchange(path, seed: int = 99) -> None:
    before = path.stat()
    picture(seed).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def alter(photos) -> str:
    exchange(photos / "cat/1.bmp")
    exchange(photos / "cat/2.bmp", 98)
    picture(97).save(photos / "dog/new.bmp")
    (photos / "dog/9.bmp").unlink()
    return "2 images have changed, such as cat/1.bmp; 1 is new, dog/new.bmp; 1 is gone, dog/9.bmp"


def test_a_run_goes_on_with_the_pictures_it_began_with(made):
    run = train(resume=made / "run", quiet=True)
    assert run.results["validation"]["samples"] == 4
    found = {check.name: check for check in audit(made / "run").checks}
    assert found["data"].ok
    assert found["data"].found == "16 images, each with the content and class that it had"
    scores = evaluate(made / "run", made / "photos")
    assert (scores.part, len(scores.labels)) == ("validation", 4)
    assert scores.accuracy == run.results["validation"]["accuracy"]


def test_evaluation_says_which_pictures_of_the_training_have_changed(made, resnets):
    train(resume=made / "run", quiet=True)
    found = alter(made / "photos")
    scores = evaluate(made / "run", made / "photos")
    assert (scores.part, len(scores.labels)) == ("all", 16)
    said = f"{made / 'photos'} has changed since the model was trained on it ({found}): images of"
    assert said in scores.notes[0]
    code, out, _ = resnets("evaluate", made / "run", made / "photos")
    assert code == 0
    assert said in out


def test_copies_of_the_trainings_images_are_counted_wherever_they_lie(made, tmp_path, resnets):
    """In another folder, under other names and beside others; that of its own data says it."""
    train(resume=made / "run", quiet=True)
    own = evaluate(made / "run", made / "photos")
    assert not any("copies of" in note for note in own.notes)
    elsewhere = tmp_path / "elsewhere"
    for name in ("cat", "dog"):
        (elsewhere / name).mkdir(parents=True)
        for path in sorted((made / "photos" / name).iterdir())[:3]:
            shutil.copy(path, elsewhere / name / f"copy of {path.name}")
        picture(500 + len(name) + ord(name[0])).save(elsewhere / name / "new.bmp")
    code, out, _ = resnets("evaluate", made / "run", elsewhere)
    assert code == 0
    said = "6 of the 8 images are copies of images that the model was trained on, or that its run"
    assert said in out
    for name in ("cat", "dog"):
        for path in (elsewhere / name).glob("copy*"):
            path.unlink()
    assert "copies of images" not in resnets("evaluate", made / "run", elsewhere)[1]


def test_an_exchange_ends_the_run_and_names_the_files(made):
    found = alter(made / "photos")
    with pytest.raises(DataError, match="the images or labels have changed") as caught:
        train(resume=made / "run", quiet=True)
    assert found in caught.value.message
    check = next(check for check in audit(made / "run").checks if check.name == "data")
    assert check.differences == (found,)


def test_a_picture_in_another_class_is_noticed(made):
    (made / "photos/cat/1.bmp").rename(made / "photos/dog/1.bmp")
    with pytest.raises(DataError, match=r"1 image is new, dog/1\.bmp; 1 is gone, cat/1\.bmp"):
        train(resume=made / "run", quiet=True)


def test_a_finished_run_is_not_taken_for_one_on_other_pictures(made):
    train(resume=made / "run", quiet=True)
    exchange(made / "photos/cat/1.bmp")
    options = {"model": "resnet8", "recipe": RECIPE, "out": made / "run", "quiet": True}
    with pytest.raises(UsageError, match=r"another one: .*: 1 image has changed, cat/1\.bmp"):
        train(made / "photos", resume="auto", **options)


def test_pictures_that_have_moved(made, resnets):
    (made / "photos").rename(made / "elsewhere")
    code, _, err = resnets("train", "--resume", made / "run")
    assert code == 3
    assert f"its images were in {made / 'photos'}, which is not there" in err
    assert f"if they are elsewhere: resnets train NEWPLACE --resume {made / 'run'}" in err
    check = next(check for check in audit(made / "run").checks if check.name == "data")
    assert check.ok
    assert check.found == f"not looked at: {made / 'photos'} is not there any more"

    alter_one = made / "elsewhere/cat/1.bmp"
    original = alter_one.read_bytes()
    exchange(alter_one)
    assert resnets("train", made / "elsewhere", "--resume", made / "run")[0] == 3
    alter_one.write_bytes(original)
    assert resnets("train", made / "elsewhere", "--resume", made / "run")[0] == 0
    assert RunFolder(made / "run").read_record().data.source == str(made / "elsewhere")
    assert audit(made / "run").ok


def test_a_run_without_digests_is_known_by_names_and_sizes(made):
    """As earlier versions left them."""
    folder = RunFolder(made / "run")
    record = folder.read_record()
    data = open_folder(made / "photos", side=8)
    former = replace(record.data, fingerprint=data.former)
    folder.write_record(replace(record, data=former))
    folder.manifest.unlink()
    check = next(check for check in audit(made / "run").checks if check.name == "data")
    assert check.ok
    assert "no digests" in check.found
    (made / "photos/cat/1.bmp").rename(made / "photos/cat/one.bmp")
    check = next(check for check in audit(made / "run").checks if check.name == "data")
    assert check.differences == ("names, sizes or classes of images have changed",)


def test_the_manifest_is_bound_to_the_fingerprint(made):
    """Whoever exchanges an image and its digest in the run folder is noticed all the same."""
    exchange(made / "photos/cat/1.bmp")
    open_folder(made / "photos", side=8).manifest.write(made / "run/pictures.sha256")
    check = next(check for check in audit(made / "run").checks if check.name == "data")
    assert check.differences == ("images or their classes have changed",)


def test_what_is_assumed_and_what_is_wrong_is_said(tmp_path, resnets):
    root = tmp_path / "photos"
    for number in range(8):
        for i, name in enumerate(("Left", "left", "right")):
            (root / "train" / name).mkdir(parents=True, exist_ok=True)
            picture(10 * i + number).save(root / "train" / name / f"{number}.png")
    (root / "test/right").mkdir(parents=True)
    shutil.copy(root / "train/right/0.png", root / "test/right/seen.png")
    picture(5000).save(root / "test/right/fresh.png")
    settings = [f"--set={key}={value}" for key, value in RECIPE.flat().items() if "holdout" in key]
    settings += ["--set=schedule.epochs=1", "--set=data.image_size=8", "--set=data.holdout=0"]
    words = ("train", root, "--model", "resnet8", *settings, "--out", tmp_path / "run")
    code, _, err = resnets(*words)
    assert code == 0
    said = (
        "images are not mirrored in training, since Left and right are told apart by their side",
        "1 of 2 test images is also in train, such as test/right/seen.png, which is "
        "train/right/0.png",
        'the classes "Left" and "left" differ in case, spaces or the look of letters only',
    )
    record = RunFolder(tmp_path / "run").read_record()
    data = read_run(tmp_path / "run").data
    page = (tmp_path / "run/report.html").read_text("utf-8")
    for line in said:
        assert line in err
        assert any(line in text for text in (*data.notes, *data.warnings))
    assert "images are not mirrored" in page
    assert "1 of 2 test images" in page
    assert record.data.copies["shared"][0]["count"] == 1
    assert json.loads((tmp_path / "run/data.json").read_text())["skipped"] == []


# Tables that were begun


@pytest.fixture
def model():
    made = create_model(replace(get_spec("resnet8"), num_classes=2, widths=(2, 4, 4)))
    made.preprocess = Preprocess(3, 8, 8, (0.5,) * 3, (0.25,) * 3)
    made.classes, made.outputs = ("cat", "dog"), "softmax"
    return made


def stop(done: int, total: int) -> None:
    if done >= 8:
        raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["cat/1.bmp", "cat/7.bmp", "dog/9.bmp"])
def test_a_table_that_goes_on_has_the_pictures_that_are_there(made, model, place):
    """Of an exchange by an image of equal size and date nothing else could tell."""
    photos, out = made / "photos", made / "table.jsonl"
    with pytest.raises(KeyboardInterrupt):
        predict_table(model, photos, out, on_progress=stop, batch_size=2)
    exchange(photos / place)
    found = predict_table(model, photos, out, batch_size=2)
    assert found.resumed == {"cat/1.bmp": 0, "cat/7.bmp": 6, "dog/9.bmp": 8}[place]
    predict_table(model, photos, made / "fresh.jsonl", batch_size=2)
    assert out.read_bytes() == (made / "fresh.jsonl").read_bytes()
    assert set(json.loads(out.read_text().splitlines()[0])) == {"path", "predictions"}


def test_embeddings_that_go_on_are_of_the_pictures_that_are_there(made, model):
    photos, out = made / "photos", made / "table.npz"
    with pytest.raises(KeyboardInterrupt):
        embed_folder(model, photos, out, on_progress=stop, batch_size=4)
    exchange(photos / "cat/7.bmp")
    assert embed_folder(model, photos, out, batch_size=4).resumed == 4
    embed_folder(model, photos, made / "fresh.npz", batch_size=4)
    assert out.read_bytes() == (made / "fresh.npz").read_bytes()
