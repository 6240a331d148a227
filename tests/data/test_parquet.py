"""Parquet as Hugging Face writes it: the images and classes that went in, in a fixed order."""

import json
import random
import tarfile
from pathlib import Path

import pytest
from listings import content, image, read

from resnets.data.encoding import Encoding
from resnets.data.packing import pack
from resnets.data.parquet import open_parquet
from resnets.data.sources import open_listing, stored_in
from resnets.errors import DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def features(names) -> dict[bytes, bytes]:
    told = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": told}}).encode()}


def parquet(path: Path, labels, start=0, names=("cat", "dog"), path_of=None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"bytes": image(start + i), "path": path_of and path_of(i)} for i in range(len(labels))
    ]
    table = pa.table({"image": pa.array(images, IMAGE), "label": labels})
    if names:
        table = table.replace_schema_metadata(features(names))
    pq.write_table(table, path, row_group_size=3, **options)
    return path


def test_images_with_named_classes(tmp_path):
    path = parquet(tmp_path / "p.parquet", [1, 0, 1, 1, 0, 0, 1, 1])
    found = open_parquet([path], path)
    assert (found.classes, found.splits, len(found)) == (("cat", "dog"), ("train",), 8)
    assert content(found)["train/dog/00000003.jpg"] == ("train", "dog", image(3))
    assert [*found.names] == sorted(found.names)
    order = random.Random(0).sample(range(8), 8)
    assert [read(found, i) for i in order] == [
        image(int(found.names[i].split("/")[2][:8])) for i in order
    ]


def test_splits_by_names_of_files(tmp_path):
    paths = [
        parquet(tmp_path / "data/train-00000-of-00002.parquet", [0, 1]),
        parquet(
            tmp_path / "data/train-00001-of-00002.parquet", [0, 1], 10, path_of="{}.png".format
        ),
        parquet(tmp_path / "data/validation-00000-of-00001.parquet", [1], 20),
        parquet(tmp_path / "data/test-00000-of-00001.parquet", [-1, -1], 30),
    ]
    found = open_parquet(paths, tmp_path)
    assert found.splits == ("train", "validation")
    assert content(found)["train/dog/train-00001-of-00002-00000001.png"] == (
        "train",
        "dog",
        image(11),
    )
    assert content(found)["validation/dog/validation-00000-of-00001-00000000.jpg"][2] == image(20)
    assert dict(found.irregular) == {"test-00000-of-00001.parquet": "has 2 rows without a class"}


def test_files_beside_the_splits_are_none(tmp_path):
    """As folders are; without a split called train they are what is trained on."""
    paths = [parquet(tmp_path / f"{name}-0.parquet", [0, 1]) for name in ("dev", "test", "train")]
    found = open_parquet(paths, tmp_path)
    assert (found.splits, len(found)) == (("train", "test"), 4)
    assert found.irregular == (("dev-0.parquet", "is beside the splits, and is none"),)
    assert open_parquet(paths[:2], tmp_path).splits == ("train", "test")


def test_two_classes_of_one_name_are_refused(tmp_path):
    path = parquet(tmp_path / "p.parquet", [0, 1, 2], names=("a/b", "a_b", "c"))
    with pytest.raises(DataError, match="the classes a/b and a_b would have one name"):
        open_parquet([path], path)


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        ([0, 1, 10], None, ("00", "01", "10")),
        (["b", "a", None], None, ("a", "b")),
        ([0, 1, 2], ("crane", "a/b", "crane"), ("a_b", "crane 0", "crane 2")),
        ([0, 1, 7], ("x", "y"), ("7", "x", "y")),
        (["1", "01", "10"], None, ("01", "1", "10")),
    ],
)
def test_labels(tmp_path, labels, names, classes):
    path = parquet(tmp_path / "p.parquet", labels, names=names)
    assert open_parquet([path], path).classes == classes


@pytest.mark.parametrize("labels", [None, [None] * 5, [-1] * 5, [0, -1, 1, None, 0]])
def test_who_needs_no_classes_gets_every_image(tmp_path, labels):
    """As the test split of many a benchmark has none."""
    path = parquet(tmp_path / "p.parquet", labels or [0] * 5)
    if labels is None:
        pq.write_table(pq.read_table(path).drop_columns(["label"]), path)
    found = stored_in(path)
    assert [each.name for each in found] == [f"{i:08d}.jpg" for i in range(5)]
    assert [each.open().read() for each in found] == [image(i) for i in range(5)]
    parquet(tmp_path / "q.parquet", [-1, -1], 20)
    names = [each.name for each in stored_in(tmp_path / "?.parquet")]
    assert names == [f"p-{i:08d}.jpg" for i in range(5)] + ["q-00000000.jpg", "q-00000001.jpg"]


@pytest.mark.parametrize("labels", [[-1, -1], [None, ""]])
def test_no_row_has_a_class(tmp_path, labels):
    path = parquet(tmp_path / "p.parquet", labels)
    with pytest.raises(DataError, match=r"p\.parquet: no row has a class"):
        open_parquet([path], path)


def test_bytes_alone_in_a_column(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"jpg": [image(0), image(1)], "cls": [0, 1], "more": [1.0, 2.0]}), path)
    assert read(open_parquet([path], path), 1) == image(1)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"text": ["x"], "label": [1]}, "no column of images: it has text .string., label .int64."),
        ({"image": [b"x"], "caption": ["a"]}, "no column of labels"),
        ({"image": ["a.jpg"], "label": [1]}, "no column of images"),
    ],
)
def test_other_columns(tmp_path, columns, match):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=match):
        open_parquet([path], path)


def test_rows_without_bytes(tmp_path):
    path = tmp_path / "p.parquet"
    rows = pa.array([{"bytes": None, "path": "x.jpg"}, {"bytes": image(0), "path": None}], IMAGE)
    pq.write_table(pa.table({"image": rows, "label": [0, 1]}), path)
    with pytest.raises(OSError, match="no bytes of an image"):
        open_parquet([path], path).open(0)


def test_an_index_is_made_once(tmp_path):
    path = parquet(tmp_path / "p.parquet", [1, 0, 1])
    options = {"cache": tmp_path / "cache", "many": 2}
    first = content(open_parquet([path], path, **options))
    (kept,) = (tmp_path / "cache").iterdir()
    written = kept.stat().st_mtime_ns
    assert content(open_parquet([path], path, **options)) == first
    assert kept.stat().st_mtime_ns == written
    parquet(path, [1, 0, 0])
    assert content(open_parquet([path], path, **options)) != first


def test_packed(tmp_path):
    path = parquet(tmp_path / "p.parquet", [1, 0, 1, 1, 0, 0, 1, 1])
    listing = open_parquet([path], path)
    out = pack(listing, tmp_path / "p.pack", Encoding()).path
    assert content(open_listing(out, verify=True)) == content(listing)
    assert pack(listing, out, Encoding()).kept == 8
    with tarfile.open(out) as tar:  # read as they lie, or each group would be read for each class
        rows = [Path(member.name).name for member in tar][1:-1]
    assert rows == sorted(rows)


def test_whatever_is_flipped_or_cut(tmp_path):
    path = parquet(tmp_path / "p.parquet", [1, 0, 1, 1, 0], compression="snappy")
    whole = path.read_bytes()
    rng = random.Random(3)
    for _ in range(150):
        data = bytearray(whole)
        data[rng.choice((rng.randrange(len(data)), len(data) - rng.randrange(1, 1500)))] ^= (
            1 << rng.randrange(8)
        )
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            content(open_parquet([path], path))
        except (DataError, OSError):
            continue
