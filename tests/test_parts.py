"""Parts of a list of images: each a table of its own, and all together the table of one process."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from hashlib import sha256
from inspect import getsource
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import coloured
from resnets import create_model, get_spec
from resnets.data.encoding import Encoding
from resnets.data.packing import pack
from resnets.data.preprocess import identity
from resnets.data.scan import scan
from resnets.errors import DataError, UsageError
from resnets.inference.embedding import embed_folder
from resnets.inference.gather import gather
from resnets.inference.partition import Part
from resnets.inference.prediction_table import predict_table, read_records, write_table
from resnets.inference.runtimes import Runtime

SUFFIXES = (".csv", ".jsonl", ".parquet")


class Together(Runtime):
    """Answers by the whole batch, so that other batches are other answers."""

    name, version, input, classes = "torch", "0", "normalized", ("a, b", "two\nlines", "猫")
    preprocess, outputs = identity(3, 4), "softmax"
    spec = replace(get_spec("resnet8"), num_classes=3)

    def logits(self, images):
        means = images.mean((2, 3)) + images.mean((0, 2, 3)) + len(images) / 10
        return (5 * means).astype(np.float32)

    def digest(self):
        return "0" * 64


class Several(Together):
    """Its images may have several classes, or none: as many columns as one of a table has."""

    outputs, thresholds = "sigmoid", (0.99, 0.995, 0.8)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(here):
    """Twenty-two images in two folders, of which one is broken."""
    for number in range(21):
        folder = Path("photos", "b" if number % 2 else "a")
        folder.mkdir(parents=True, exist_ok=True)
        coloured(number % 3, number, side=6).save(folder / f"é {number:02d}.png")
    Path("photos/a/text.png").write_text("hello")
    return Path("photos")


def listed(photos):
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    (photos / "list.txt").write_text("\n".join(names))
    return photos / "list.txt"


def packed(photos):
    (photos / "a/text.png").unlink()
    return pack(scan(photos), Path("photos.pack"), Encoding()).path


def shards(photos):
    for number in range(3):
        with tarfile.open(f"shard-{number}.tar", "w") as tar:
            for path in sorted(photos.rglob("*.png"))[number::3]:
                tar.add(path, path.relative_to(photos).as_posix())
    return "shard-{0..2}.tar"


def parquet(photos):
    pa = pytest.importorskip("pyarrow")
    images = [{"bytes": path.read_bytes(), "path": None} for path in sorted(photos.rglob("*.png"))]
    table = pa.table({"image": images, "label": [i % 2 for i in range(len(images))]})
    pa.parquet.write_table(table, "photos.parquet")
    return "photos.parquet"


def predicted(
    source, of, suffix=".csv", *, numbers=None, model=Together, folder="parts", **options
):
    """The tables of some parts of a list, or of all."""
    tables = [Path(folder, f"part-{k}{suffix}") for k in numbers or range(1, of + 1)]
    for table in tables:
        part = Part(int(table.stem.removeprefix("part-")), of)
        predict_table(model(), source, table, part=part, **{"batch_size": 3} | options)
    return tables


@given(st.integers(0, 500), st.integers(1, 130), st.integers(1, 60))
def test_every_image_is_in_one_part_and_batches_are_whole(count, unit, of):
    bounds = [Part(number, of).bounds(count, unit) for number in range(1, of + 1)]
    found = [place for begin, end in bounds for place in range(begin, end)]
    assert found == list(range(count))
    assert all(begin % unit == 0 for begin, end in bounds if begin < end)
    batches = [-(-(end - begin) // unit) for begin, end in bounds]
    assert max(batches) - min(batches) <= 1


@pytest.mark.parametrize(
    ("model", "suffix", "counts"),
    [
        (Together, ".csv", (1, 2, 3, 7, 50)),
        (Together, ".jsonl", (2, 50)),
        (Together, ".parquet", (3, 7)),
        (Several, ".csv", (7,)),
        (Several, ".jsonl", (3,)),
        (Several, ".parquet", (7,)),
    ],
)
def test_gathered_it_is_what_one_process_writes(photos, model, suffix, counts):
    predict_table(model(), photos, f"whole{suffix}", batch_size=3)
    whole = Path(f"whole{suffix}").read_bytes()
    for of in counts:
        tables = predicted(photos, of, suffix, model=model, folder=f"of-{of}")
        found = gather(reversed(tables), "all" + suffix, overwrite=True)
        assert Path("all" + suffix).read_bytes() == whole
        assert (found.parts, found.images, found.broken) == (of, 22, 1)
    for other in SUFFIXES:
        predict_table(model(), photos, f"whole{other}", batch_size=3, overwrite=True)
        gather(tables, f"other{other}")
        assert Path(f"other{other}").read_bytes() == Path(f"whole{other}").read_bytes()


@pytest.mark.parametrize("source", [listed, shards, packed, parquet])
def test_every_source_has_parts(photos, source):
    source = source(photos)
    predict_table(Together(), source, "whole.jsonl", batch_size=3)
    for of in (2, 7):
        gather(predicted(source, of, ".jsonl", folder=f"of-{of}"), "all.jsonl", overwrite=True)
        assert Path("all.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_model("resnet8", image_size=8)


def test_embeddings_and_what_is_broken_of_them(network, here):
    coloured(0, 1, side=4).save("tiny.png")
    Path("photos").mkdir()
    for number in range(260):
        os.link("tiny.png", f"photos/{number:03d}.png")
    for number in (0, 5, 130, 259):
        Path(f"photos/{number:03d}.png").unlink()
        Path(f"photos/{number:03d}.png").write_text("hello")
    for suffix in (".npz", ".parquet"):
        embed_folder(network, "photos", f"whole{suffix}", batch_size=50)
    tables = ["parts/part-1.npz", "parts/part-2.parquet", "parts/part-3.npz"]
    for number, table in enumerate(tables, 1):
        embed_folder(network, "photos", table, batch_size=50, part=Part(number, 3))
    for ending in (".npz", ".parquet"):
        found = gather(tables, f"all{ending}")
        assert (found.images, found.broken) == (260, 4)
        assert Path(f"all{ending}").read_bytes() == Path(f"whole{ending}").read_bytes()
        lists = [Path(f"{name}{ending}.broken.json").read_text() for name in ("all", "whole")]
        assert lists[0] == lists[1]


@pytest.mark.slow
def test_groups_of_rows_of_embeddings_end_where_those_of_one_process_do(here):
    """They have 8 MB or more, of whole chunks, from which broken images are missing."""
    parquet = pytest.importorskip("pyarrow.parquet")
    network = create_model("resnet18", image_size=8)
    coloured(0, 1, side=4).save("tiny.png")
    Path("photos").mkdir()
    for number in range(4800):
        path = Path(f"photos/{number:04d}.png")
        path.write_text("hello") if number % 13 == 5 else os.link("tiny.png", path)
    embed_folder(network, "photos", "whole.parquet", batch_size=128)
    for number in range(1, 6):
        part = Part(number, 5)
        embed_folder(network, "photos", f"{number}.parquet", batch_size=128, part=part)
    gather([f"{number}.parquet" for number in range(1, 6)], "all.parquet")
    assert parquet.ParquetFile("all.parquet").num_row_groups == 2
    assert Path("all.parquet").read_bytes() == Path("whole.parquet").read_bytes()


def test_records_are_the_same_in_every_form(here):
    records = [
        {"path": 'é, "so".png', "error": "is text, not an image"},
        {
            "path": "1.png",
            "predictions": [{"class": "null", "probability": 1e-06}],
            "label_set": ["a, b", "true", ""],
            "unknown": False,
            "unknown_score": -3.0,
        },
        {
            "path": "2.png",
            "predictions": [],
            "label_set": [],
            "unknown": True,
            "unknown_score": 1e9,
        },
    ]
    columns = ["path", "error", "class_1", "probability_1", "label_set", "unknown", "unknown_score"]
    tables = [Path(f"t{suffix}") for suffix in SUFFIXES]
    for table in tables:
        write_table(table, records, columns)
        assert list(read_records(table)) == records
        assert [list(record) for record in read_records(table)] == [list(each) for each in records]


STOPPED = f"""
import os, signal, numpy as np
from dataclasses import replace
from resnets import get_spec
from resnets.data.preprocess import identity
from resnets.inference.partition import Part
from resnets.inference.prediction_table import predict_table
from resnets.inference.runtimes import Runtime
{getsource(Together)}
class Killed(Together):
    left = 2
    def logits(self, images):
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return super().logits(images)
predict_table(Killed(), "photos", "parts/part-2.csv", batch_size=3, part=Part(2, 2))
"""


def test_a_part_that_was_killed_resumes(photos):
    predict_table(Together(), photos, "whole.csv", batch_size=3)
    (first,) = predicted(photos, 2, numbers=[1])
    assert subprocess.run([sys.executable, "-c", STOPPED]).returncode == -signal.SIGKILL
    second = Path("parts/part-2.csv")
    with pytest.raises(DataError, match=r"part-2\.csv: is not whole"):
        gather([first, second], "all.csv")
    with pytest.raises(DataError, match=r"part 2 \(10 images: .*b/é 01.* to .*19\.png\), begun"):
        gather([first], "all.csv")
    for other in ({"part": Part(1, 2)}, {"part": Part(2, 3)}, {}):
        with pytest.raises(UsageError, match="was begun with other images and parts"):
            predict_table(Together(), photos, second, batch_size=3, **other)
    assert predict_table(Together(), photos, second, batch_size=3, part=Part(2, 2)).resumed == 6
    gather([first, second], "all.csv")
    assert Path("all.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert not list(Path("parts").glob(".*"))


def test_a_whole_part_is_left_as_it_is(photos):
    (table,) = predicted(photos, 2, numbers=[1])
    before = table.stat().st_mtime_ns
    again = predict_table(Together(), photos, table, batch_size=3, part=Part(1, 2))
    assert (again.images, again.resumed, again.broken) == (12, 12, 1)
    assert table.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="is there already"):
        predict_table(Together(), photos, table, batch_size=3, part=Part(2, 2))
    with pytest.raises(UsageError, match="is there already"):
        predict_table(Together(), photos, table, batch_size=3)
    os.utime(photos / "a/é 02.png")
    with pytest.raises(UsageError, match="is there already"):  # an image may be another
        predict_table(Together(), photos, table, batch_size=3, part=Part(1, 2))
    predict_table(Together(), photos, table, batch_size=3, overwrite=True)
    assert os.listdir(table.parent) == [table.name]  # no longer a part


def test_a_part_without_images_replaces_nothing(photos):
    out = Path("mine.csv")
    out.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        predict_table(Together(), photos, out, part=Part(1, 50))
    assert out.read_text() == "mine"


def shortened(tables):
    tables[1].write_bytes(tables[1].read_bytes()[:-20])


def swapped(tables):
    tables[0].rename("aside"), tables[1].rename(tables[0]), Path("aside").rename(tables[1])


def without_record(tables):
    Path(f"{tables[1]}.part.json").unlink()


def damaged_record(tables):
    Path(f"{tables[1]}.part.json").write_text('{"section": ')


def impossible_record(tables):
    path = Path(f"{tables[1]}.part.json")
    record = json.loads(path.read_text())
    record["section"]["unit"] = 0
    path.write_text(json.dumps(record))


def of_names_that_it_does_not_have(tables):
    """As if a table had been written by hand, with its digest."""
    content = tables[1].read_text().replace("photos/a/é 18", "photos/a/é 88")
    tables[1].write_text(content)
    path = Path(f"{tables[1]}.part.json")
    record = json.loads(path.read_text()) | {"sha256": sha256(content.encode()).hexdigest()}
    path.write_text(json.dumps(record))


def impossible_places(tables):
    path = Path(f"{tables[1]}.part.json")
    record = json.loads(path.read_text()) | {"broken": {"999": "?"}}
    path.write_text(json.dumps(record))


def with_records(tables):
    tables.append(Path(f"{tables[1]}.part.json"))


def twice(tables):
    tables.append(tables[1])


def a_copy(tables):
    for ending in ("", ".part.json"):
        shutil.copy(f"{tables[1]}{ending}", f"parts/copy.csv{ending}")
    tables.append(Path("parts/copy.csv"))


def missing(tables):
    del tables[1]


def not_there(tables):
    tables[1] = Path("parts/part-9.csv")


def other_count(tables):
    tables[1:2] = predicted("photos", 8, numbers=[2], folder="of-8")


def other_options(tables):
    tables[1:2] = predicted("photos", 4, numbers=[2], folder="other", top=2)


def other_model(tables):
    class Other(Together):
        def digest(self):
            return "1" * 64

    tables[0:1] = predicted("photos", 4, numbers=[1], folder="other", model=Other)


def other_runtime(tables):
    class Newer(Together):
        version = "1"

    tables[1:2] = predicted("photos", 4, numbers=[2], folder="other", model=Newer)


def other_images(tables):
    coloured(0, 99, side=6).save("photos/a/new.png")
    tables[3:] = predicted("photos", 4, numbers=[4], folder="other")


def other_names(tables):
    os.rename("photos/a/é 00.png", "photos/a/other.png")
    tables[3:] = predicted("photos", 4, numbers=[4], folder="other")


FAULTS = [
    (shortened, r"parts/part-2\.csv: has changed since it was made"),
    (swapped, r"parts/part-1\.csv: has changed since it was made"),
    (without_record, r"parts/part-2\.csv: was not made with --part"),
    (damaged_record, r"parts/part-2\.csv\.part\.json: damaged"),
    (impossible_record, r"parts/part-2\.csv\.part\.json: damaged"),
    (of_names_that_it_does_not_have, r"all\.csv: the rows of the 4 parts are not the images"),
    (impossible_places, r"parts/part-2\.csv\.part\.json: damaged"),
    (with_records, r"parts/part-2\.csv\.part\.json: is the record of a part"),
    (twice, r"parts/part-2\.csv: is given twice"),
    (a_copy, r"part-2\.csv and parts/copy\.csv: both are part 2/4"),
    (missing, r"part 2 \(6 images: photos/a/é 10\.png to photos/a/é 20\.png\)"),
    (not_there, r"parts/part-9\.csv: there is no such table"),
    (other_count, r"of-8/part-2\.csv: is part 2/8, and parts/part-1\.csv is part 1/4"),
    (other_options, r"other/part-2\.csv: was made with other number of classes \(2, not 3\) than"),
    (other_model, r"other/part-1\.csv: was made with other model than parts/part-2\.csv"),
    (other_runtime, r"was made with other runtime \(torch 1, not torch 0\) than parts/part-1\.csv"),
    (other_images, r"other/part-4\.csv: is of another list of images .* 23 images, not 22"),
    (other_names, r"other/part-4\.csv: is of another list .* with other names or order"),
]


@pytest.mark.parametrize(("spoil", "line"), FAULTS, ids=[spoil.__name__ for spoil, _ in FAULTS])
def test_what_is_no_whole_is_not_put_together(photos, resnets, spoil, line):
    tables = predicted(photos, 4)
    spoil(tables)
    code, out, err = resnets("gather", *tables, "--out", "all.csv")
    assert (code, out) == (3, "")
    (error, hint) = err.splitlines()
    assert re.search(line, error), error
    assert hint.startswith(" hint: ")
    assert not Path("all.csv").exists()


def test_archives_that_have_changed_meanwhile(photos):
    source = shards(photos)
    (first,) = predicted(source, 2, numbers=[1])
    coloured(1, 77, side=7).save("photos/b/é 19.png")
    shards(photos)
    (second,) = predicted(source, 2, numbers=[2])
    with pytest.raises(DataError, match="is of other archives than"):
        gather([first, second], "all.csv")


def test_missing_parts_in_one_line(photos):
    one, seven = predicted(photos, 7, numbers=[1, 7])
    with pytest.raises(DataError) as caught:
        gather([one, seven], "all.csv")
    assert caught.value.message == (
        "missing of 7 parts: parts 2 to 6 (15 images: photos/a/é 04.png to photos/b/é 11.png)"
    )
    with pytest.raises(DataError, match=r"parts 1 to 6 \(18 images: .*a/text\.png to .* 11\.png"):
        gather([seven], "all.csv")
    few = predicted(photos, 50, numbers=[13, 25, 38])  # most have no images
    with pytest.raises(DataError) as caught:
        gather(few, "all.csv")
    assert caught.value.message == (
        "missing of 50 parts: part 7 (3 images: photos/a/text.png to photos/a/é 02.png), "
        "part 19 (3 images: photos/a/é 10.png to photos/a/é 14.png), "
        "part 32 (3 images: photos/b/é 01.png to photos/b/é 05.png), 2 more"
    )


@pytest.mark.parametrize(
    "words", ["", "0/3", "4/3", "3", "1/2/3", "a/b", "-1/3", "1/0", f"1/{10**9}"]
)
def test_what_is_no_part(words):
    with pytest.raises(UsageError):
        Part.parse(words)


def test_commands_and_their_hints(photos, resnets):
    """What a hint says is typed as it stands, until all is there."""
    (photos / "a/text.png").unlink()
    words = ["predict", "photos", "--batch-size", "4", "--top", "1"]
    code, _, err = resnets(*words, "--part", "2/3")
    assert code == 2
    hint = err.splitlines()[-1].removeprefix(" hint: ")
    assert resnets(*words, "--part", "2/3", *shlex.split(hint.replace("parquet", "csv")))[0] == 0
    codes, last = [], ["gather", "part-2.csv", "--out", "all.csv"]
    for _ in range(9):
        code, out, err = resnets(*last)
        if code == 0:
            break
        hint = err.splitlines()[-1].removeprefix(" hint: ").strip("`")
        if hint.startswith("resnets "):
            assert resnets(*shlex.split(hint)[1:])[0] == 0
        codes.append(code)
        last = ["gather", *sorted(map(str, Path().glob("part-*.csv"))), "--out", "all.csv"]
    assert codes == [3, 3]
    assert out == "all.csv   21 images of 3 parts, each once, 0 of them broken\n"
    assert resnets(*words, "--out", "whole.csv")[0] == 0
    assert Path("all.csv").read_bytes() == Path("whole.csv").read_bytes()
    code, _, err = resnets(*last)
    assert (code, "is there already" in err, "--overwrite" in err) == (2, True, True)
    code, out, _ = resnets(*last, "--overwrite", "--json")
    assert json.loads(out) == {"path": "all.csv", "parts": 3, "pictures": 21, "broken": 0}
    code, _, err = resnets(*last[:-1], "part-2.csv", "--overwrite")
    assert (code, "part-2.csv: is one of the parts" in err) == (2, True)
    code, _, err = resnets(*words, "--part", "3/2", "--out", "x.csv")
    assert (code, "part 3/2: there is none" in err) == (2, True)
    words = ["embed", "photos", "--model", "resnet20", "--weights", "cifar10", "--part", "1/2"]
    assert resnets(*words, "--out", "e-01.npz")[0] == 0
    code, _, err = resnets("gather", "e-01.npz", "--out", "e.npz")
    assert (code, err.splitlines()[-1].endswith("--part 2/2 --out e-02.npz`")) == (3, True)
    assert resnets(*shlex.split(err.splitlines()[-1].split("`")[1])[1:])[0] == 0
    assert resnets("gather", "e-01.npz", "e-02.npz", "--out", "e.npz")[0] == 0
    code, _, err = resnets("embed", "photos", "--part", "1/2")
    assert (code, "needs a name" in err) == (2, True)


def test_lists_of_paths(photos, network, resnets):
    """Relative to the list's folder; what is not there has a row that says so."""
    one, two = "a/é 00.png", str((photos / "b/é 01.png").resolve())
    text = f"\ufeff{one}\r\n\n  \n{two}\ngone.png\n#b.png"
    (photos / "list.txt").write_text(text, newline="")
    coloured(0, 1).save(photos / "#b.png")
    table = predict_table(Together(), "photos/list.txt", "t.jsonl")
    records = list(read_records(table.path))
    assert [record["path"] for record in records] == [
        f"photos/{one}",
        two,
        "photos/gone.png",
        "photos/#b.png",
    ]
    (error,) = (record["error"] for record in records if "error" in record)
    assert error == "photos/gone.png: cannot be read: No such file or directory"
    made = embed_folder(network, "photos/list.txt", "t.npz")
    assert np.load("t.npz")["paths"].tolist() == [one, two, "#b.png"]
    assert [skipped.path for skipped in made.broken] == ["gone.png"]
    code, out, _ = resnets("predict", "photos/list.txt")
    assert (code, len(out.splitlines())) == (3, 3)
    coloured(0, 1).save("image.txt", "PNG")  # by its content, whatever its name
    assert predict_table(Together(), "image.txt", "i.csv").broken == 0
    for content, words in ((b"\n \n", "lists no images"), (b"a\0b\n", "is no text")):
        Path("bad.txt").write_bytes(content)
        with pytest.raises(DataError, match=words):
            predict_table(Together(), "bad.txt", "bad.csv")
