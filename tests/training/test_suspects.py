"""`resnets data suspects`: wrong labels come first, nothing is lost, and labels can be mended."""

import csv
import hashlib
import json
import shutil

import pytest
import torch
from runs import NARROW

from conftest import coloured, several_dataset, signal_at, tiny_dataset
from resnets import apply_suspects, find_suspects, train
from resnets.data import open_dataset
from resnets.data.folds import pooled
from resnets.errors import DataError, Stopped, UsageError

CLASSES = ("<i>apple", "basil", "ceramic", "rare")
SETTINGS = ("data.image_size=16", "batch_size=8", "schedule.epochs=12", "optimizer.lr=0.03")
QUICK = {"quiet": True, "device": "cpu"}
WRONG = "basil/wrong.png"  # an apple
TWINS = ["<i>apple/twin.png", "ceramic/twin.png"]  # a ceramic under two labels


@pytest.fixture(autouse=True, scope="module")
def _little():
    """For so little, less is faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    yield
    torch.backends.mkldnn.enabled = True
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Suspects of a run on images of which one has a wrong label, and one stands under two."""
    place = tmp_path_factory.mktemp("suspects")
    for label, name in enumerate(CLASSES):
        folder = place / "photos" / name
        folder.mkdir(parents=True)
        for number in range(1 if name == "rare" else 12):
            coloured(label, number, 20).save(folder / f"{number}.png")
    coloured(0, 50, 20).save(place / "photos" / WRONG)
    for name in TWINS:
        coloured(2, 51, 20).save(place / "photos" / name)
    run = train(place / "photos", model=NARROW, settings=SETTINGS, out=place / "run", **QUICK)
    with signal_at(45), pytest.raises(Stopped) as stopped:  # in the second fold
        find_suspects(run.path, folds=3, neighbours=5, **QUICK)
    assert "fold 2 of 3" in stopped.value.message
    assert stopped.value.hint == "the same command resumes"
    finished = (run.path / "suspects/fold-1/model.safetensors").stat().st_mtime_ns
    found = find_suspects(run.path, folds=3, neighbours=5, **QUICK)
    assert (run.path / "suspects/fold-1/model.safetensors").stat().st_mtime_ns == finished
    return found


@pytest.fixture
def copied(found, tmp_path):
    """The folder of the images and of the run, to be changed."""
    shutil.copytree(found.run.parent, tmp_path / "copy")
    return tmp_path / "copy"


def edited(run, **accepted):
    """Fill the column accept, by the names of files without folder and ending."""
    path = run / "suspects/suspects.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for row in rows:
        row["accept"] = accepted.get(row["file"].replace(".png", "").partition("/")[2], "")
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return path


def test_copies_under_two_labels_and_wrong_labels_come_first(found):
    first, second, third = found.suspects[:3]
    assert sorted((first.file, second.file)) == TWINS
    assert (first.label, first.suggested) == ("<i>apple", "ceramic")  # the wrong one is surer
    assert first.copies == ("ceramic: ceramic/twin.png",)
    assert second.copies == ("<i>apple: <i>apple/twin.png",)
    assert (third.file, third.label, third.suggested) == (WRONG, "basil", "<i>apple")
    assert third.model < third.model_suggested
    assert third.neighbours < third.neighbours_suggested
    assert found.accuracy > 0.9
    assert found.images == 40
    assert len(found.suspects) < 8
    # Without its only image no model knows of a class, and what it says of that image is worthless.
    assert not any(suspect.label == "rare" for suspect in found.suspects)


def test_each_fold_is_judged_by_a_run_that_has_not_seen_it(found):
    held = []
    for number in (1, 2, 3):
        record = json.loads((found.path / f"fold-{number}/run.json").read_text())
        data, test = record["data"], record["results"]["test"]
        assert data["train"] + data["validation"] + data["test"] == 40
        assert record["status"] == "finished"
        held.append(test["samples"])
    assert sum(held) == 40
    assert max(held) - min(held) <= 2


def test_the_page_shows_names_as_text(found):
    page = found.page.read_text()
    assert "&lt;i&gt;apple" in page
    assert "<i>apple" not in page
    assert page.count('src="data:image/png') == len(found.suspects)
    assert not {"http://", "https://", "<script"} & set(page.split('"'))


def test_accepted_labels_make_a_table_in_which_splits_stay(copied):
    photos, run = copied / "photos", copied / "run"
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    table = edited(run, twin="x", wrong="ceramic")
    rows = table.read_text().replace(f"{TWINS[1]},ceramic,<i>apple,1.0,x", f"{TWINS[1]},,,,drop")
    table.write_text(rows)
    done = apply_suspects(run, table, photos / "mended.csv", data=photos)
    assert (done.images, done.changed, done.left_out) == (39, 2, 1)
    assert {path: path.read_bytes() for path in photos.rglob("*.png")} == before
    mended = open_dataset(photos / "mended.csv")
    assert mended.classes == CLASSES
    manifest = {}
    for name, split in mended.parts.items():
        for file, label in zip(split.names(torch.arange(len(split))), split.labels, strict=True):
            manifest[file] = (name, CLASSES[label])
    assert manifest[TWINS[0]][1] == manifest[WRONG][1] == "ceramic"
    assert TWINS[1] not in manifest
    given = map(json.loads, (run / "suspects/labels.jsonl").read_text().splitlines())
    splits = {row["file"]: row["split"] for row in given}
    assert {file: split for file, (split, _) in manifest.items()} == {
        file: split for file, split in splits.items() if file != TWINS[1]
    }
    assert set(splits.values()) == {"train", "validation"}
    above = apply_suspects(run, table, copied / "labels.jsonl", data=photos)
    assert len(open_dataset(above.path).train) == len(mended.train)


def test_what_has_been_decided_stays(copied):
    edited(copied / "run", wrong="x")
    again = find_suspects(copied / "run", folds=3, neighbours=5, data=copied / "photos", **QUICK)
    rows = list(csv.DictReader(again.table.read_text().splitlines()))
    assert [row["file"] for row in rows if row["accept"] == "x"] == [WRONG]
    assert len(rows) == len(again.suspects)


@pytest.mark.parametrize(
    ("accept", "message"),
    [("basill", 'row 4: no class is called "basill"'), ("maybe", "no class is called")],
)
def test_what_cannot_be_meant_is_said_with_its_row(copied, accept, message):
    run, photos = copied / "run", copied / "photos"
    with pytest.raises(DataError, match=message):
        apply_suspects(run, edited(run, wrong=accept), photos / "mended.csv", data=photos)
    assert not (photos / "mended.csv").exists()


def test_the_command_line(copied, resnets):
    run, photos = copied / "run", copied / "photos"
    options = ("--folds", 3, "--neighbours", 5, "--data", photos, "--device", "cpu")
    code, out, err = resnets("data", "suspects", run, *options)
    assert code == 0, err
    assert out.splitlines()[2].split()[:3] == [TWINS[0], "<i>apple", "ceramic"]
    assert "corrected.csv" in err
    code, out, _ = resnets("data", "suspects", run, *options, "--json")
    assert [each["file"] for each in json.loads(out)["suspects"][:3]] == [*TWINS, WRONG]
    table = edited(run, wrong="x")
    words = ("data", "suspects", run, "--apply", table, "--data", photos)
    assert resnets(*words)[0] == 2
    code, _, err = resnets(*words, "--out", copied.parent / "other/labels.csv")
    assert (code, "names files in and below its own folder" in err) == (2, True)
    code, out, err = resnets(*words, "--out", photos / "corrected.csv")
    assert (code, "1 label changed" in out) == (0, True)
    assert f"resnets train {photos}/corrected.csv" in err
    code, _, err = resnets(*words, "--out", photos / "corrected.csv")
    assert (code, "is there already" in err) == (2, True)


def test_runs_that_have_no_suspects_are_refused(tmp_path):
    settings = ("schedule.iterations=2", "batch_size=8", "augment.padding=1")
    data = several_dataset()
    run = train(data, model=NARROW, settings=settings, out=tmp_path / "several", **QUICK)
    with pytest.raises(UsageError, match="may have several classes"):
        find_suspects(run.path, data=data, **QUICK)
    with signal_at(1), pytest.raises(Stopped):
        train(tiny_dataset(), model=NARROW, settings=settings, out=tmp_path / "stopped", **QUICK)
    with pytest.raises(UsageError, match="is not finished"):
        find_suspects(tmp_path / "stopped", data=tiny_dataset(), **QUICK)


def test_run_folders_stay_out_of_the_data(copied):
    with pytest.raises(UsageError, match="would become a part of the data"):
        find_suspects(copied / "run", data=copied / "photos", out=copied / "photos/x", **QUICK)
    assert not (copied / "photos/x").exists()


def test_data_in_hand_are_looked_at_too(tmp_path):
    settings = ("schedule.epochs=6", "batch_size=8", "augment.padding=1", "data.holdout=10")
    data = tiny_dataset()
    data.train.labels[4] = 1 - data.train.labels[4]
    run = train(data, model=NARROW, settings=settings, out=tmp_path / "run", **QUICK)
    with pytest.raises(DataError, match="Python") as caught:
        find_suspects(run.path, **QUICK)
    assert "find_suspects" in caught.value.hint
    found = find_suspects(run.path, data=data, folds=2, out=tmp_path / "found", **QUICK)
    assert found.suspects[0].file == "4"
    assert (found.command, found.path) == ("", tmp_path / "found")
    with pytest.raises(DataError):
        apply_suspects(run.path, found.table, tmp_path / "labels.csv")
    with pytest.raises(UsageError, match="files in folders"):
        apply_suspects(run.path, found.table, tmp_path / "labels.csv", data=tmp_path)


def test_a_pool_has_both_splits_and_who_stays_together(tmp_path):
    rows = ["file,label,split,patient"]
    for number in range(8):
        coloured(number % 2, number % 6, 20).save(tmp_path / f"{number}.png")
        split = "train" if number < 5 else "validation"
        rows.append(f"{number}.png,{'ab'[number % 2]},{split},{'pq'[number > 5] if number else ''}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    pool = pooled(open_dataset(tmp_path, side=16))
    assert pool.split.names(torch.arange(8)) == [f"{number}.png" for number in range(8)]
    assert pool.held_out.tolist() == [False] * 5 + [True] * 3
    assert pool.groups.tolist() == [-1, 0, 0, 0, 0, 0, 1, 1]
    assert pool.labels.tolist() == [0, 1] * 4
    images = pool.split.batch(torch.arange(8))[0]
    assert (images[0] == images[6]).all()  # of both splits
    assert (images[1] != images[6]).any()
    digest = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
    assert len(set(digest)) == 6
