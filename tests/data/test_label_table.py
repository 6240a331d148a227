"""Tables of labels: what their columns mean, what is refused, and what becomes of them."""

import csv
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnets.data.check import check_folder
from resnets.data.encoding import Encoding
from resnets.data.folder import open_folder
from resnets.data.labelled import open_labelled
from resnets.data.listing import Listing
from resnets.data.packing import pack
from resnets.data.sources import open_listing
from resnets.data.unpacking import unpack
from resnets.errors import DataError
from resnets.readers.documents import loads


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (16, 18, 3), np.uint8)
    Image.fromarray(values).save(path)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eight images in two folders whose names are no classes."""
    root = tmp_path / "photos"
    for number in range(8):
        image(root / "ab"[number % 2] / f"{number}.png", number)
    return root


NAMES = [f"{'ab'[number % 2]}/{number}.png" for number in range(8)]
ANIMALS = ["cat", "dog", "dog", "cat", "cat", "dog", "cat", "dog"]


def write_csv(path: Path, rows: list[list[object]], encoding: str = "utf-8", **form) -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, **form).writerows(rows)
    return path


def words(listing: Listing) -> dict[str, object]:
    """The class of each image, or its classes, by name."""
    if listing.targets is None:
        return {n: listing.classes[k] for n, k in zip(listing.names, listing.labels, strict=True)}
    return {
        name: {listing.classes[k] for k in np.flatnonzero(own)}
        for name, own in zip(listing.names, listing.targets, strict=True)
    }


@pytest.mark.parametrize(
    ("encoding", "form"),
    [
        ("utf-8", {}),
        ("utf-8-sig", {"delimiter": ";", "lineterminator": "\r\n"}),
        ("utf-16", {"delimiter": "\t", "quoting": csv.QUOTE_ALL}),
        ("utf-8", {"lineterminator": "\r"}),
    ],
)
def test_csv_in_the_forms_that_programs_write(photos, encoding, form):
    animals = ["Kätzchen" if name == "cat" else "dog, small" for name in ANIMALS]
    rows = [["Image Name", "class"], *zip(NAMES, animals, strict=True)]
    path = write_csv(photos / "labels.csv", rows, encoding, **form)
    with path.open(encoding=encoding, newline="") as file:
        form.pop("lineterminator", None)
        expected = {row["Image Name"]: row["class"] for row in csv.DictReader(file, **form)}
    listing = open_listing(photos)
    assert words(listing) == expected
    assert listing.classes == ("Kätzchen", "dog, small")
    assert [*listing.names] == sorted(expected)
    assert (
        'files: column "Image Name"; labels: column "class", a class each' in listing.table.said[0]
    )
    for number, name in enumerate(listing.names):
        with listing.open(number) as file:
            assert file.read() == (photos / name).read_bytes()
    assert words(open_listing(path)) == expected  # the table itself


def test_lines_of_json_and_parquet_say_the_same(photos):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = {
        "file_name": NAMES,
        "label": ANIMALS,
        "split": ["train"] * 4 + ["val", "val", "test", "test"],
        "patient_id": [7, 7, 8, 8, None, 9, 9, 7],
        "weight": [0.5, 1, 2, 3, 1, 1, 1, 1],
    }
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    write_csv(photos / "one.csv", [[*table], *([*row.values()] for row in rows)])
    import pyarrow

    parquet.write_table(pyarrow.table(table), photos / "two.parquet")
    found = [open_listing(photos / name) for name in ("metadata.jsonl", "one.csv", "two.parquet")]
    found.append(open_listing(photos))
    for listing in found:
        assert listing.splits == ("train", "validation", "test")
        assert words(listing) == dict(zip(NAMES, ANIMALS, strict=True))
        of = dict(zip(listing.names, listing.groups.tolist(), strict=True))
        assert of[NAMES[0]] == of[NAMES[1]] == of[NAMES[7]] != of[NAMES[2]] == of[NAMES[3]]
        assert of[NAMES[4]] == -1
        assert listing.groups.max() == 2
        weights = dict(zip(listing.names, listing.weights.tolist(), strict=True))
        assert weights == dict(zip(NAMES, table["weight"], strict=True))
        assert listing.weights.dtype == np.float32


SEVERAL = [["cat"], ["dog"], ["cat", "dog"], [], ["dog", "red"], ["red"], ["cat", "red"], ["dog"]]


@pytest.mark.parametrize("form", ["|", ";", ", ", " ", "list", "0 and 1", "-1 and 1", "true"])
def test_several_labels_in_every_form(photos, form):
    every = ["cat", "dog", "red"]
    if form == "list":
        lines = [
            json.dumps({"file": name, "labels": labels})
            for name, labels in zip(NAMES, SEVERAL, strict=True)
        ]
        (photos / "labels.jsonl").write_text("\n".join(lines))
    elif form[-1] == "1" or form == "true":
        no, yes = {"0 and 1": "01", "-1 and 1": ("-1", "1"), "true": ("False", "True")}[form]
        marks = [[yes if name in own else no for name in every] for own in SEVERAL]
        rows = [[name, 3 + i, *own] for i, (name, own) in enumerate(zip(NAMES, marks, strict=True))]
        write_csv(photos / "labels.csv", [["image_id", "age", *every], *rows])
    else:
        rows = [[n, form.join(own)] for n, own in zip(NAMES, SEVERAL, strict=True)]
        write_csv(photos / "labels.csv", [["file", "tags"], *rows])
    listing = open_listing(photos)
    assert listing.classes == ("cat", "dog", "red")
    assert words(listing) == {name: set(own) for name, own in zip(NAMES, SEVERAL, strict=True)}
    first = [min((every.index(word) for word in own), default=0) for own in SEVERAL]
    labels = dict(zip(listing.names, listing.labels.tolist(), strict=True))
    assert labels == dict(zip(NAMES, first, strict=True))
    assert "may have several" in listing.table.said[0]
    assert ("not used: age" in listing.table.said[0]) == (form in ("0 and 1", "-1 and 1", "true"))
    dataset = open_folder(photos, side=16)
    assert dataset.several
    assert torch.equal(dataset.train.targets, torch.from_numpy(listing.targets))


def test_columns_of_one_1_are_one_class(photos):
    marks = [["1.0", "0.0"] if word == "cat" else ["0.0", "1.0"] for word in ANIMALS]
    rows = [
        ["image", "cat", "dog"],
        *([name, *own] for name, own in zip(NAMES, marks, strict=True)),
    ]
    write_csv(photos / "labels.csv", rows)
    listing = open_listing(photos)
    assert listing.targets is None
    assert words(listing) == dict(zip(NAMES, ANIMALS, strict=True))


@pytest.mark.parametrize("nothing", ["", " ", "nan", "NA", None, float("nan")])
@pytest.mark.parametrize("filled", [1, 2])
def test_no_class_of_0_and_1_is_lost_for_an_empty_cell(photos, nothing, filled):
    """A column that one row leaves empty is a class as the others are, not a thing besides."""
    rows = [
        {"file": name, "dog": i % 2, "red": (i + 1) % 2, "cat": nothing if i == 4 else i % 2}
        for i, name in enumerate(NAMES)
    ]
    if filled == 1:
        rows = [{key: value for key, value in row.items() if key != "red"} for row in rows]
    path = photos / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="row 5: cat has nothing, and 0 or 1 in other") as caught:
        open_listing(path)
    assert "write 0" in caught.value.hint


@pytest.mark.parametrize("word", ["nan", "NaN", "NULL", "N/A", "<NA>"])
def test_words_that_stand_for_nothing_are_told(photos, word):
    """They may be a class; but programs write them where there is none."""
    labels = [word, *ANIMALS[1:]]
    write_csv(photos / "labels.csv", [["file", "label"], *zip(NAMES, labels, strict=True)])
    listing = open_listing(photos)
    assert word in listing.classes
    assert f'"{word}" is taken for a class: leave the field empty to say none' in listing.table.said
    rows = [[*row, g] for *row, g in zip(NAMES, ANIMALS, [word, "P1", "", *"P2345"], strict=True)]
    write_csv(photos / "labels.csv", [["file", "label", "patient"], *rows])
    said = open_listing(photos).table.said
    assert f'"{word}" is taken for a group: leave the field empty to say none' in said
    write_csv(photos / "labels.csv", [["file", "label"], *zip(NAMES, ANIMALS, strict=True)])
    assert len(open_listing(photos).table.said) == 1


def test_a_class_may_be_called_person(photos):
    every = ["person", "weight lifter"]
    rows = [
        [name, int("cat" in own), int("dog" in own)]
        for name, own in zip(NAMES, SEVERAL, strict=True)
    ]
    write_csv(photos / "labels.csv", [["image", *every], *rows])
    listing = open_listing(photos)
    assert listing.classes == ("person", "weight lifter")
    assert listing.groups is None


def test_spaces_and_commas_stand_in_names_of_classes(photos):
    names = ["golden retriever", "labrador retriever", "cat, small", "cat, large"] * 2
    write_csv(photos / "labels.csv", [["file", "labels"], *zip(NAMES, names, strict=True)])
    assert words(open_listing(photos)) == dict(zip(NAMES, names, strict=True))


def test_the_one_column_that_is_left_has_the_classes(photos):
    """Kaggle's `id,breed`; but captions are no classes, and leave a folder as it was."""
    write_csv(photos / "labels.csv", [["id", "breed"], *zip(NAMES, ANIMALS, strict=True)])
    assert words(open_listing(photos)) == dict(zip(NAMES, ANIMALS, strict=True))
    captions = [f"a {name}" for name in NAMES]
    write_csv(photos / "labels.csv", [["id", "caption"], *zip(NAMES, captions, strict=True)])
    assert open_listing(photos).classes == ("a", "b")


def test_numbers_are_classes_in_their_order(photos):
    numbers = [1, 2, 10, 1, 2, 10, 1, 2]
    lines = [
        json.dumps({"file": name, "label": float(number)})
        for name, number in zip(NAMES, numbers, strict=True)
    ]
    (photos / "labels.jsonl").write_text("\n".join(lines))
    listing = open_listing(photos)
    assert listing.classes == ("01", "02", "10")
    assert words(listing)["a/2.png"] == "10"


@pytest.mark.parametrize("written", [str.upper, lambda n: n.replace("/", "\\"), lambda n: f"./{n}"])
def test_ways_to_write_a_path(photos, written):
    for number in range(8):
        (photos / NAMES[number]).rename(photos / "ab"[number % 2] / f"{number}.PNG")
    (photos / "a").rename(photos / "A")
    (photos / "b").rename(photos / "B")
    upper = [name.upper() for name in NAMES]
    rows = [[written(name), word] for name, word in zip(upper, ANIMALS, strict=True)]
    write_csv(photos / "labels.csv", [["file", "label"], *rows])
    assert words(open_listing(photos)) == dict(zip(upper, ANIMALS, strict=True))


def test_paths_in_another_unicode_form_and_whole_ones(photos):
    (photos / "a/0.png").rename(photos / "a/e\u0301.png")
    names = ["a/\u00e9.png", str(photos / NAMES[1]), *NAMES[2:]]
    write_csv(photos / "labels.csv", [["file", "label"], *zip(names, ANIMALS, strict=True)])
    listing = open_listing(photos)
    assert words(listing)["a/\u00e9.png"] == "cat"
    assert words(listing)["b/1.png"] == "dog"
    for number in range(8):
        listing.open(number).close()


def test_ids_are_ends_of_paths_without_their_endings(photos):
    rows = [["id", "label"], *([number, word] for number, word in enumerate(ANIMALS))]
    write_csv(photos / "labels.csv", rows)
    listing = open_listing(photos)
    assert words(listing) == dict(zip(NAMES, ANIMALS, strict=True))
    assert any("ends of their paths" in said for said in listing.table.said)
    image(photos / "c/3.jpg", 9)
    with pytest.raises(DataError, match=r"row 5: 3 could be b/3\.png and c/3\.jpg"):
        open_listing(photos)


@pytest.mark.parametrize(
    "spelled",
    [
        "{}".format,
        "./{}".format,
        lambda name: name.replace("/", "\\"),
        lambda name: name.rpartition("/")[2],
        "/root/{}".format,
    ],
    ids=["whole", "dotted", "backslashes", "ends", "absolute"],
)
@pytest.mark.parametrize("around", ["", "photos/2024/"])
def test_paths_that_begin_with_splits(tmp_path, spelled, around):
    names = [around + name for name in ("train/1.png", "train/2.png", "val/3.png", "test/4.png")]
    for seed, name in enumerate(names):
        image(tmp_path / name, seed)
    told = [spelled(name).replace("/root", str(tmp_path)) for name in names]
    rows = [["file", "label"], *zip(told, ["a", "b", "a", "b"], strict=True)]
    write_csv(tmp_path / "labels.csv", rows)
    listing = open_listing(tmp_path)
    assert listing.splits == ("train", "validation", "test")
    assert listing.parts.tolist() == [0, 0, 1, 2]
    assert any("splits are those that paths begin with" in said for said in listing.table.said)


def test_a_path_in_no_split_is_told_where_others_are_in_some(tmp_path):
    """It would make a training image of every test image."""
    names = ["train/1.png", "train/2.png", "test/3.png", "extra/4.png"]
    for seed, name in enumerate(names):
        image(tmp_path / name, seed)
    rows = [["file", "label"], *zip(names, ["a", "b", "a", "b"], strict=True)]
    write_csv(tmp_path / "labels.csv", rows)
    with pytest.raises(DataError, match=r'row 5: has a split called "extra"'):
        open_listing(tmp_path)
    faults = []
    listing = open_listing(tmp_path, on_fault=faults.append)
    assert (listing.splits, len(listing), len(faults)) == (("train", "test"), 3, 1)


GOOD = [["file", "label", "split", "weight"]]
GOOD += [[name, word, "train", 1] for name, word in zip(NAMES, ANIMALS, strict=True)]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (["../x.png", "cat", "train", 1], r"row 10: \.\./x\.png leads out of the folder"),
        (["/etc/passwd", "cat", "train", 1], r"row 10: /etc/passwd leads out of the folder"),
        (["a/0.png", "dog", "train", 1], r"row 10: a/0.png has dog as its label, and cat in row 2"),
        (["a/0.png", "cat", "val", 1], r"a/0.png has validation as its split, and train in row 2"),
        (["", "cat", "train", 1], "row 10: names no file"),
        (["a/x.png", "cat", "trian", 1], r'called "trian", did you mean train'),
        (["a/x.png", "cat", "", 1], "row 10: has no split"),
        (["a/x.png", "cat", "train", "nan"], "row 10: a/x.png has nan as its weight"),
        (["a/x.png", "cat", "train", "-1"], "row 10: a/x.png has -1 as its weight"),
        (["a/x.png", "cat", "train", ""], "row 10: a/x.png has nothing as its weight"),
        (["a/x\0.png", "cat", "train", "1"], "row 10: "),
        (["a/x.png", "cat", "train"], "row 10: has 3 fields, the first row 4"),
        (["a/x.png", "cat", "train", 1, 2], "row 10: has 5 fields, the first row 4"),
    ],
)
def test_rows_that_cannot_be_meant(photos, row, says):
    write_csv(photos / "labels.csv", [*GOOD, row])
    with pytest.raises(DataError, match=says) as caught:
        open_listing(photos)
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("lists", [["cat"], ["cat", "dog"], [0, 2], []])
@pytest.mark.parametrize("write", [str, json.dumps])
@pytest.mark.parametrize("column", ["label", "labels"])
def test_lists_that_are_written_as_text_are_no_classes(photos, lists, write, column):
    """As pandas writes them into CSV."""
    rows = [[name, write(lists or ["cat", "dog"][:i])] for i, name in enumerate(NAMES)]
    write_csv(photos / "labels.csv", [["file", column], *rows])
    with pytest.raises(DataError, match=r"row 2: .* is a list written as text: \[") as caught:
        open_listing(photos)
    assert "cat|dog" in caught.value.hint
    rows[3][1] = "[unknown"
    write_csv(photos / "labels.csv", [["file", column], *rows])
    open_listing(photos)  # brackets in a name are nothing strange


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("file", ["/elsewhere/1.png"] * 8),
        ("split", ["0"] * 8),
        ("split", ["train", "trian"] * 4),  # without its faults one class only
        ("split", ["holdout"] * 3 + ["test"] * 5),
        ("weight", ["1", "much"] * 4),
    ],
)
def test_check_lists_the_rows_that_leave_nothing_to_train_on(photos, resnets, column, values, form):
    """As the hint of the error says that it does."""
    table = {"file": NAMES, "label": ["cat", "dog"] * 4, column: values}
    path = write_csv(photos / "labels.csv", [[*table], *zip(*table.values(), strict=True)])
    with pytest.raises(DataError, match=r"other rows cannot be meant") as caught:
        open_listing(path)
    assert f"resnets data check {path}" in caught.value.hint
    code, out, err = resnets("data", "check", path, *form)
    assert code == 3
    assert not out
    faults = [line for line in err.splitlines() if line.startswith("cannot be meant: ")]
    wrong = [i for i, value in enumerate(values) if value not in ("train", "test", "1")]
    assert len(faults) == len(wrong)
    for line, place in zip(faults, wrong, strict=True):
        assert f"labels.csv, row {place + 2}: " in line
    assert " hint: " in err


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"file,label\n", "has no rows"),
        (b"file,label,label\na/0.png,cat,cat\n", "two columns called label"),
        (b"file,label\na/0.png,K\xe4tzchen\n", "row 2: is not UTF-8"),
        (b'file,label\na/0.png,"cat\nb/1.png,dog\n', "is not CSV"),
        (b"file,label\na/0.png," + 200_000 * b"x", "row 2: is not CSV: field larger"),
        (b"file,label\nx/0.png,cat\ny/1.png,dog\n", "none of its 2 files is there"),
        (b"file,label\na/0.png,cat\n", "only one class: cat"),
        (b"file,label\na/0.png,\nb/1.png,\n", "no row has a file and a label"),
        (
            b"file,label,split\na/0.png,cat,test\nb/1.png,dog,test\n",
            "no image is of the split train",
        ),
        (
            b"file,label,split\na/0.png,cat,test\nb/1.png,dog,train\n",
            "class cat has no images to train on",
        ),
        (b"file,label,weight\na/0.png,cat,0\nb/1.png,dog,0\n", "all weights are 0"),
    ],
)
def test_tables_that_cannot_be_meant(photos, data, says):
    (photos / "labels.csv").write_bytes(data)
    for path in (photos, photos / "labels.csv"):
        with pytest.raises(DataError, match=says) as caught:
            open_listing(path)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("", "no column of files: its first row has nothing"),
        ("a/0.png,cat\nb/1.png,dog\n", "no column of files: its first row has a/0.png, cat"),
        ("file,size\na/0.png,3\n", "no column of labels: it has file, size"),
    ],
)
def test_tables_of_other_things(photos, data, says):
    """A folder of classes goes on without one; what is no such folder says what it lacks."""
    path = photos / "labels.csv"
    path.write_text(data)
    with pytest.raises(DataError, match=says):
        open_listing(path)
    assert open_listing(photos).classes == ("a", "b")
    image(photos / "loose.png", 9)
    with pytest.raises(DataError, match=says):
        open_listing(photos)


@pytest.mark.parametrize(
    "line", ["[1]", "{", '{"file": 1', "\udcff", '{"a": ' * 500 + "1" + "}" * 500, "null", "NaN"]
)
def test_lines_that_are_no_json_objects(photos, line):
    text = json.dumps({"file": NAMES[0], "label": "cat"}) + "\n" + line
    (photos / "labels.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match="row 2: is no JSON object"):
        open_listing(photos)


def test_labels_that_are_no_words(photos):
    rows = [{"file": name, "label": word} for name, word in zip(NAMES, ANIMALS, strict=True)]
    rows[3]["label"] = {"x": 1}
    (photos / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="row 4: the label is a dict"):
        open_listing(photos)


def test_a_table_that_says_no_labels_leaves_a_folder_as_it_was(photos):
    before = open_folder(photos, side=16)
    (photos / "metadata.csv").write_text("file_name,caption\na/0.png,a cat\n")
    (photos / "labels.csv").write_text("class,meaning\na,cat\n")
    after = open_folder(photos, side=16)
    assert after.fingerprint == before.fingerprint
    assert after.classes == ("a", "b")


def test_two_tables_are_too_many(photos):
    write_csv(photos / "labels.csv", GOOD)
    (photos / "labels.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"which of labels.csv and labels.jsonl has the labels"):
        open_listing(photos)


def test_check_lists_what_is_wrong_with_a_table(photos, resnets):
    Image.open(photos / "a/0.png").save(photos / "b/1.png")  # one image, two labels
    rows = [
        ["file", "label", "split", "group"],
        *([name, word, "train", 1] for name, word in zip(NAMES[:6], ANIMALS, strict=False)),
        ["a/6.png", "", "train", 2],
        ["a/9.png", "cat", "test", 1],
        ["a/0.png", "cat", "train", 1],
        ["a/2.png", "cat", "train", 1],
        ["../2.png", "cat", "train", 1],
    ]
    path = write_csv(photos / "labels.csv", rows)
    found = check_folder(path)
    assert not found.sound
    assert found.name == "photos"
    assert found.counts["train"] == {"cat": 3, "dog": 3}
    assert [each.path for each in found.broken] == ["a/9.png"]
    assert "is not there (labels.csv, row 9)" in found.broken[0].reason
    assert found.conflicts == (("a/0.png", "b/1.png"),)
    assert [(each.path, each.reason) for each in found.left_out] == [
        ("a/6.png", "has no label (labels.csv, row 8)")
    ]
    assert len(found.faults) == 2
    assert "row 11: a/2.png" in found.faults[0]
    assert found.table.doubled == ("labels.csv, row 10: a/0.png, as in row 2",)
    assert found.table.unlisted == ("b/7.png",)
    code, out, _ = resnets("data", "check", str(photos))
    assert code == 3
    for line in ("cannot be meant: labels.csv, row 11", "doubled: labels.csv, row 10: a/0.png"):
        assert line in out
    assert "no row names b/7.png" in out
    code, out, _ = resnets("data", "check", str(path), "--json")
    assert code == 3
    assert loads(out, "")["table"]["unlisted"] == ["b/7.png"]


def test_a_table_of_a_part_of_a_folder(photos, resnets):
    """Some of what it leaves out is named, and how many more there are."""
    for number in range(8, 38):
        image(photos / f"c/{number}.png", number)
    rows = [["file", "label"], *zip(NAMES, ANIMALS, strict=True)]
    write_csv(photos / "labels.csv", rows)
    code, out, _ = resnets("data", "check", str(photos))
    assert code == 0
    told = [line for line in out.splitlines() if line.startswith("no row names ")]
    assert len(told) == 21
    assert told[-1] == "no row names 10 more, which --json lists"
    _, out, _ = resnets("data", "check", str(photos), "--json")
    assert len(loads(out, "")["table"]["unlisted"]) == 30


def test_groups_across_splits_are_told(photos, resnets):
    splits = ["train"] * 6 + ["test"] * 2
    rows = [["file", "label", "split", "patient"]]
    rows += [[*row, i % 4] for i, row in enumerate(zip(NAMES, ANIMALS, splits, strict=True))]
    write_csv(photos / "labels.csv", rows)
    code, out, _ = resnets("data", "check", str(photos))
    assert code == 3
    assert "2 of 2 test images are of groups that are also in train" in out
    divided = open_folder(photos, side=16).divided_groups
    assert [(each.part, each.other, each.count) for each in divided] == [("test", "train", 2)]
    rows[1:] = [[*row, i // 2] for i, row in enumerate(zip(NAMES, ANIMALS, splits, strict=True))]
    write_csv(photos / "labels.csv", rows)
    assert resnets("data", "check", str(photos))[0] == 0


def full_table(photos: Path, several: bool) -> None:
    """A table with all columns, and an image that is broken."""
    lines = []
    for i, name in enumerate(NAMES):
        row = {"file": name, "split": "val" if i > 5 else "train", "group": i // 2, "weight": i + 1}
        row |= {"labels": SEVERAL[i]} if several else {"label": ANIMALS[i]}
        lines.append(json.dumps(row))
    (photos / "labels.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize("several", [False, True])
def test_packs_keep_what_tables_say(photos, tmp_path, several):
    full_table(photos, several)
    listing = open_listing(photos)
    out = tmp_path / "photos.pack"
    pack(listing, out, Encoding())
    packed = open_listing(out)
    unpack(packed, tmp_path / "again")
    again = open_listing(tmp_path / "again")
    for other in (packed, again):
        assert other.classes == listing.classes
        assert [*other.names] == [*listing.names]
        for column in ("labels", "parts", "groups", "weights", "targets"):
            np.testing.assert_array_equal(getattr(other, column), getattr(listing, column))
    prints = [open_folder(p, side=16).fingerprint for p in (photos, out, tmp_path / "again")]
    assert len(set(prints)) == 1
    content = out.read_bytes()
    pack(listing, out, Encoding())  # nothing to do
    assert out.read_bytes() == content
    text = (photos / "labels.jsonl").read_text().replace('"weight": 3', '"weight": 9')
    (photos / "labels.jsonl").write_text(text)
    pack(open_listing(photos), out, Encoding())  # the index is new, the images are not
    assert sorted(open_listing(out).weights.tolist()) == [1, 2, 4, 5, 6, 7, 8, 9]


def test_what_tables_say_is_part_of_what_data_are(photos):
    full_table(photos, several=False)
    path = photos / "labels.jsonl"
    text = path.read_text()
    prints = {open_folder(photos, side=16).fingerprint}
    listed = {open_folder(photos, side=16, content=False).fingerprint}
    for old, new in (('"group": 1', '"group": 0'), ('"weight": 3', '"weight": 4'), ("cat", "cow")):
        path.write_text(text.replace(old, new))
        prints.add(open_folder(photos, side=16).fingerprint)
        listed.add(open_folder(photos, side=16, content=False).fingerprint)
    assert len(prints) == len(listed) == 4
    path.write_text(text.replace('"group": 1', '"group": "one"'))  # by another name, the same
    assert open_folder(photos, side=16).fingerprint in prints


def test_labelled_images_to_evaluate_on(photos):
    write_csv(photos / "labels.csv", [row[:3] for row in GOOD])
    found = open_labelled(photos / "labels.csv")
    pairs = [(photos / name, (word,)) for name, word in zip(NAMES, ANIMALS, strict=True)]
    assert sorted(found.samples) == sorted(pairs)
    assert found.counts == {word: ANIMALS.count(word) for word in sorted({*ANIMALS})}
    rows = [
        GOOD[0][:3],
        *([*row[:2], "test" if i % 2 else "val"] for i, row in enumerate(GOOD[1:])),
    ]
    write_csv(photos / "labels.csv", rows)
    assert sum(open_labelled(photos).counts.values()) == len(open_labelled(photos).samples) == 4
    assert open_labelled(photos).part == "test"
    with pytest.raises(DataError, match="has no train split"):
        open_labelled(photos, part="train")


def test_images_without_a_label_are_told_to_whoever_evaluates(photos):
    write_csv(photos / "labels.csv", [GOOD[0][:2], [NAMES[0], ""], *(r[:2] for r in GOOD[2:])])
    found = open_labelled(photos)
    assert len(found.samples) == 7
    assert found.left_out == ((NAMES[0], "has no label (labels.csv, row 2)"),)


def test_a_run_on_a_table_and_its_evaluation(photos, tmp_path, resnets):
    """Trained on a part of the rows, told of the rest; a file that is not there is left out."""
    rows = [["file", "label", "patient"]]
    rows += [[*row, i // 2] for i, row in enumerate(zip(NAMES, ANIMALS, strict=True))]
    rows.append(["a/9.png", "cat", 9])
    path = write_csv(photos / "labels.csv", rows)
    out = tmp_path / "run"
    train = ["train", path, "--model", "resnet8", "--out", out, "--set", "data.holdout=2"]
    for setting in ("schedule.epochs=null", "schedule.iterations=1", "data.image_size=16"):
        train += ["--set", setting]
    code, _, said = resnets(*train)
    assert code == 3
    assert "a/9.png cannot be read: is not there (labels.csv, row 10)" in said
    code, _, said = resnets(*train, "--set", "data.broken=skip", "--set", "data.broken_limit=0.2")
    assert code == 0
    assert 'groups: column "patient", 5 of them' in said
    assert "groups are not divided: 3 groups to train on, 1 group held out" in said
    for data in (path, photos):
        code, found, _ = resnets("evaluate", out, data, "--json")
        assert code == 0
        found = json.loads(found)
        assert found["split"] == "validation"
        assert sum(each["samples"] for each in found["classes"]) == 2
    assert resnets("audit", out)[0] == 0
    others = tmp_path / "others"
    image(others / "x.png", 1)
    image(others / "y.png", 2)
    rows = [["file", "label", "split"], ["x.png", "cat", "test"], ["y.png", "cow", "test"]]
    write_csv(others / "labels.csv", rows)
    code, found, _ = resnets("evaluate", out, others, "--json")
    assert code == 0
    assert json.loads(found)["left_out"]["other_classes"] == {"cow": 1}
    code, _, said = resnets("predict", out, path)
    assert code == 3
    assert "give the folder with the images that it names" in said
    assert resnets("train", path, "--resume", out)[0] == 0  # it is finished


@given(st.lists(st.binary(max_size=12), max_size=6), st.sampled_from([".csv", ".jsonl"]))
def test_no_table_ends_otherwise_than_in_our_errors(tmp_path_factory, lines, ending):
    root = tmp_path_factory.mktemp("table")
    image(root / "1.png", 1)
    start = b"file,label\n1.png,a\n" if ending == ".csv" else b'{"file": "1.png", "label": "a"}\n'
    (root / f"labels{ending}").write_bytes(start + b"\n".join(lines))
    with suppress(DataError):
        open_listing(root)


def test_twenty_thousand_rows_take_few_bytes(tmp_path):
    """What a row takes when it is read is given back: columns stay."""
    import tracemalloc

    count = 20_000
    root = tmp_path / "many"
    (root / "a").mkdir(parents=True)
    image(root / "a/0.png", 0)
    for number in range(1, 50):
        os.link(root / "a/0.png", root / f"a/{number}.png")
    rows = [["file", "label"], *([f"a/{i}.png", f"class {i % 7}"] for i in range(count))]
    write_csv(root / "labels.csv", rows)
    del rows
    tracemalloc.start()
    listing = open_listing(root)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listing) == count
    assert kept < 400 * count  # the missing ones with where they stand


def split_folders(root: Path, tables: dict[str, list[list[object]]]) -> Path:
    """What `imagefolder` of datasets has: images and metadata.csv in the folder of each split."""
    seed = 0
    for split, rows in tables.items():
        for name, *_ in rows[1:]:
            image(root / split / str(name), seed := seed + 1)
        write_csv(root / split / "metadata.csv", rows)
    return root


SPLIT_ROWS = {
    "train": [["file_name", "label"], ["0.png", "cat"], ["x/1.png", "dog"], ["2.png", "dog"]],
    "test": [["file_name", "label"], ["0.png", "dog"], ["1.png", "cat"]],
}


def test_tables_in_the_folders_of_splits_are_read_as_one(tmp_path):
    root = split_folders(tmp_path / "photos", SPLIT_ROWS)
    image(root / "test/unlisted.png", 99)
    listing = open_listing(root)
    assert listing.splits == ("train", "test")
    assert words(listing) == {
        **{"train/0.png": "cat", "train/x/1.png": "dog", "train/2.png": "dog"},
        **{"test/0.png": "dog", "test/1.png": "cat"},
    }
    assert listing.ignored == ()
    assert listing.table.unlisted == ("test/unlisted.png",)
    assert listing.table.said[:2] == (
        'train/metadata.csv, test/metadata.csv: files: column "file_name"; '
        'labels: column "label", a class each',
        "train/metadata.csv, test/metadata.csv: the splits are those that paths begin with",
    )
    assert check_folder(root).counts == {
        "train": {"cat": 1, "dog": 2},
        "test": {"cat": 1, "dog": 1},
    }
    labelled = open_labelled(root)
    assert (labelled.part, labelled.counts) == ("test", {"cat": 1, "dog": 1})


def test_the_row_of_a_split_is_named_by_its_own_table(tmp_path):
    rows = SPLIT_ROWS | {"test": [["file_name", "label"], ["0.png", "dog"], ["../0.png", "cat"]]}
    root = split_folders(tmp_path / "photos", SPLIT_ROWS)
    write_csv(root / "test/metadata.csv", [*rows["test"], ["../../out.png", "cat"]])
    with pytest.raises(DataError, match=r"test/metadata.csv, row 4: test/../../out.png leads out"):
        open_listing(root)


@pytest.mark.parametrize("name", ["train/metadata.csv", "val/metadata.csv"])
def test_other_tables_in_split_folders_leave_class_folders_as_they_are(tmp_path, name):
    root = tmp_path / "photos"
    for place in ("train/cat/0.png", "train/dog/1.png", "val/cat/2.png"):
        image(root / place, 1)
    (root / name).write_text("file_name,caption\ncat/0.png,a cat\n")
    assert words(open_listing(root)) == {
        **{"train/cat/0.png": "cat", "train/dog/1.png": "dog", "val/cat/2.png": "cat"},
    }
