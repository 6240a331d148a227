"""Tables of predictions: what is in them, and what a stop or a broken image does to them."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import coloured, largest_file, scramble
from exported import export
from resnets import create_model, get_spec, predict
from resnets.data.preprocess import identity
from resnets.errors import CheckpointError, DataError, NonFiniteError, ResourceError, UsageError
from resnets.files import alone
from resnets.inference.prediction_table import Predicted, image_names, predict_table
from resnets.inference.runtimes import Runtime, open_runtime

SUFFIXES = [".csv", ".jsonl", ".parquet"]


@pytest.fixture(scope="module")
def onnx(tmp_path_factory):
    torch.manual_seed(0)
    network = scramble(create_model("resnet8", image_size=16)).eval()
    network.outputs = "softmax"
    network.classes = ("猫 😀", "two\nlines", *(f"class {i}, or so" for i in range(2, 10)))
    return export(network, tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture
def photos(tmp_path):
    """Twenty images in sub-folders, and two that are broken."""
    for number in range(20):
        folder = tmp_path / "photos" / ("b" if number % 2 else "a")
        folder.mkdir(parents=True, exist_ok=True)
        coloured(number % 3, number, side=20).save(folder / f"é {number:02d}.png")
    (tmp_path / "photos" / "a" / "text.jpg").write_text("hello")
    (tmp_path / "photos" / "b" / "link.png").symlink_to("nowhere.png")
    return tmp_path / "photos"


def read(out):
    """The table as records."""
    if out.suffix == ".jsonl":
        return [json.loads(line) for line in out.read_text().splitlines()]
    if out.suffix == ".csv":
        with out.open(newline="", encoding="utf-8") as file:
            rows = [{k: v or None for k, v in row.items()} for row in csv.DictReader(file)]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    records = []
    for row in rows:
        if row["error"] is not None:
            records.append({"path": row["path"], "error": row["error"]})
            assert list(row.values()).count(None) == len(row) - 2
            continue
        ranks = range(1, (len(row) - 2) // 2 + 1)
        pairs = [
            {"class": row[f"class_{i}"], "probability": float(row[f"probability_{i}"])}
            for i in ranks
        ]
        records.append({"path": row["path"], "predictions": pairs})
    return records


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("batch_size", "top"), [(1, 1), (3, 4), (64, 99)])
def test_a_table_is_what_predict_says(onnx, photos, tmp_path, suffix, batch_size, top):
    out, told, met = tmp_path / "new" / f"table{suffix}", [], []
    table = predict_table(
        onnx,
        photos,
        out,
        top=top,
        batch_size=batch_size,
        on_progress=lambda *numbers: told.append(numbers),
        on_broken=lambda error: met.append(error.message),
    )
    assert table == Predicted(out, images=22, broken=2, resumed=0)
    assert os.listdir(out.parent) == [out.name]
    assert told == [(min(n, 22), 22) for n in range(batch_size, 22 + batch_size, batch_size)]
    names = [str(path) for path in sorted(photos.rglob("*.*"))]
    expected = [p.to_dict() for p in predict(onnx, names, top=top, batch_size=batch_size)]
    assert [record["path"] for record in expected] == names
    assert read(out) == expected
    assert [record["error"] for record in expected if "error" in record] == met
    assert met == [
        f"{photos}/a/text.jpg: is text, not an image",
        f"{photos}/b/link.png: cannot be read: No such file or directory",
    ]
    for record in expected:
        if "error" not in record:
            assert len(record["predictions"]) == min(top, 10)


def test_batches_change_the_last_bits_at_most(onnx, photos):
    one, many = (
        [p.probabilities for p in predict(onnx, image_names([photos]), batch_size=n) if not p.error]
        for n in (1, 7)
    )
    np.testing.assert_allclose(one, many, atol=1e-6)


def test_what_pictures_are_meant(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert image_names(["photos/b", "x.png", "https://x.org/a.png"]) == [
        "photos/b/link.png",
        *(f"photos/b/é {number:02d}.png" for number in range(1, 20, 2)),
        "x.png",
        "https://x.org/a.png",
    ]
    names = image_names(["photos/b"])
    assert image_names(names) is names
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        image_names(["empty"])


def test_strange_names(onnx, photos, tmp_path):
    shutil.rmtree(photos / "a")
    path = photos / "b" / "é 01.png"
    os.rename(path, os.fsencode(photos / "b" / 'new\nline, "so" ') + b"\xff.png")
    for suffix in SUFFIXES[:2]:
        predict_table(onnx, photos / "b", tmp_path / f"t{suffix}")
        paths = [record["path"] for record in read(tmp_path / f"t{suffix}")]
        assert f'{photos}/b/new\\nline, "so" \\udcff.png' in paths
    for suffix in SUFFIXES:
        table = predict_table(onnx, ["https://x.org/\udcff.png"], tmp_path / f"address{suffix}")
        assert read(table.path) == [
            {
                "path": "https://x.org/\\udcff.png",
                "error": "https://x.org/\\udcff.png: addresses are not fetched",
            }
        ]


def test_names_that_no_file_system_takes(onnx, photos, tmp_path, resnets):
    name, good = f"{photos}/{300 * 'x'}.png", photos / "a" / "é 00.png"
    error = f"{name}: cannot be read: {os.strerror(errno.ENAMETOOLONG)}"
    table = predict_table(onnx, [name, good], tmp_path / "t.csv")
    assert (table.images, table.broken) == (2, 1)
    assert read(table.path)[0] == {"path": name, "error": error}
    code, out, err = resnets("predict", onnx, name, good)
    assert (code, len(out.splitlines())) == (3, 1)
    assert err == f"error: {error}\n hint: check that it is there and yours\n"
    code, out, err = resnets("predict", name, good)  # with the model that comes along
    assert (code, len(out.splitlines()), error in err) == (3, 1, True)


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_names_that_the_output_cannot_encode(onnx, photos, words):
    path = photos / "猫.png"
    shutil.copy(photos / "a" / "é 00.png", path)
    words = ["-m", "resnets", "predict", onnx, path, "--top", 10, *words]
    run = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert run.returncode == 0, run.stderr
    if "--json" in words:
        (answer,) = json.loads(run.stdout)
        assert answer["path"] == str(path)
        assert {"猫 😀", "two\nlines"} < {row["class"] for row in answer["predictions"]}
    else:
        (line,) = run.stdout.splitlines()
        assert line.startswith(f"{photos}/\\u732b.png   ")
        assert "   \\u732b \\U0001f600 " in line
        assert "   two\\nlines " in line


KILLED = """
import os, signal, sys
import resnets.files as files
from resnets.inference.folder_job import Journal
from resnets.inference.prediction_table import _Predictions, predict_table
from resnets.inference.runtimes.onnx_runtime import OnnxRuntime
model, images, out, place, count = sys.argv[1:]
left = int(count)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def killing(function, before=True):
    def run(*words, **options):
        global left
        left -= 1
        if left == 0 and before:
            die()
        answer = function(*words, **options)
        if left == 0:
            die()
        return answer
    return run
def torn(self, records):
    global left
    left -= 1
    if left == 0:
        self._file.write(b'{"path": "photos/a", "predict')
        self._file.flush()
        die()
    return add(self, records)
add = Journal.add
if place == "decoding":
    OnnxRuntime.prepare = killing(OnnxRuntime.prepare)
elif place == "computing":
    OnnxRuntime.logits = killing(OnnxRuntime.logits)
elif place == "adding":
    Journal.add = torn
elif place == "added":
    Journal.add = killing(Journal.add, before=False)
elif place == "writing":
    files._Summed.write = killing(files._Summed.write)
elif place == "renamed":
    _Predictions.write = killing(_Predictions.write, before=False)
print(predict_table(model, images, out, batch_size=4).resumed)
"""


@pytest.fixture
def interrupted(onnx, photos, tmp_path):
    """Run in a process of its own, killed when something happens for the nth time."""

    def run(out, place="", count=0):
        words = [sys.executable, "-c", KILLED, onnx, photos, out, place, count]
        return subprocess.run([*map(str, words)], capture_output=True, text=True)

    return run


@pytest.mark.parametrize(
    ("suffix", "place", "count", "resumed"),
    [
        (".csv", "decoding", 1, None),
        (".jsonl", "decoding", 15, None),  # threads read ahead of what is done
        (".csv", "computing", 3, 8),
        (".parquet", "adding", 1, 0),  # the line that says which job
        (".csv", "adding", 4, 8),
        (".jsonl", "added", 7, 22),
        (".csv", "writing", 1, 22),
        (".parquet", "writing", 2, 22),
        (".jsonl", "renamed", 1, 22),
    ],
)
def test_a_killed_process_goes_on_to_the_same_bytes(
    interrupted, onnx, photos, tmp_path, suffix, place, count, resumed
):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    predict_table(onnx, photos, whole, batch_size=4)
    run = interrupted(out, place, count)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert out.exists() == (place == "renamed")
    run = interrupted(out)
    assert run.returncode == 0, run.stderr
    assert resumed is None or int(run.stdout) == resumed
    assert out.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"photos", out.name, whole.name}


def stop_after_eight(onnx, photos, out):
    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 8:
            raise Stop

    with pytest.raises(Stop):
        predict_table(onnx, photos, out, batch_size=4, on_progress=stop)
    assert out.with_name(f".{out.name}.partial").exists()
    return out


@pytest.fixture
def begun(onnx, photos, tmp_path):
    """A table that was stopped after eight of its images."""
    return stop_after_eight(onnx, photos, tmp_path / "out.csv")


def test_remains_are_used_up_to_the_last_whole_batch(onnx, photos, begun):
    whole = begun.with_name("whole.csv")
    predict_table(onnx, photos, whole, batch_size=4)
    partial = begun.with_name(".out.csv.partial")
    lines = partial.read_bytes().splitlines(keepends=True)
    assert len(lines) == 9
    damages = [
        (lines[:7], 4),
        ([*lines, b"\0" * 4096], 8),
        ([*lines, lines[1]], 8),  # of another image
        ([*lines, b"[]\n"], 8),
        ([*lines[:3], b'{"path": 1}\n', *lines[4:]], 0),
        ([*lines[:-1], lines[-1][:-1]], 4),
        ([b"{\n", *lines[1:]], 0),
        ([b"\n"], 0),
        ([], 0),
    ]
    for number, (content, resumed) in enumerate(damages):
        partial.write_bytes(b"".join(content))
        begun.unlink(missing_ok=True)
        table = predict_table(onnx, photos, begun, batch_size=4)
        assert table.resumed == resumed, number
        assert begun.read_bytes() == whole.read_bytes()
        assert not partial.exists()


@pytest.mark.parametrize("now", ["whole", "broken otherwise"])
def test_a_broken_picture_is_looked_at_again(onnx, photos, tmp_path, now):
    """A share that was away, or a permission: neither size nor time of the file shows it."""
    path = photos / "a" / "é 08.png"
    content, status = path.read_bytes(), path.stat()

    def write(content):
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    write(b"\0" * len(content))
    out = stop_after_eight(onnx, photos, tmp_path / "out.csv")
    write(content if now == "whole" else b"%PDF".ljust(len(content)))
    predict_table(onnx, photos, tmp_path / "whole.csv", batch_size=4)
    table = predict_table(onnx, photos, out, batch_size=4)
    assert table.resumed == 4  # not the batch it is in
    assert table.broken == (2 if now == "whole" else 3)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_file_of_somebody_else_is_not_replaced(onnx, photos, tmp_path):
    out = tmp_path / "labels.csv"
    out.write_text("path,label\n")
    with pytest.raises(UsageError, match=r"labels\.csv: is there already") as caught:
        predict_table(tmp_path / "nothing.onnx", photos, out)  # not even the model is opened
    assert "--overwrite" in caught.value.hint
    assert out.read_text() == "path,label\n"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "labels.csv"}
    predict_table(onnx, photos, out, overwrite=True)
    assert len(read(out)) == 22
    with pytest.raises(UsageError, match="is there already"):  # whole, and no longer anybody's
        predict_table(onnx, photos, out)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_that_was_whole_when_its_process_was_killed(onnx, photos, tmp_path, ending):
    out = tmp_path / f"out.{ending}"

    def stop(done, total):
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_table(onnx, photos, out, on_progress=stop)
    predict_table(onnx, photos, tmp_path / f"whole.{ending}")
    whole = (tmp_path / f"whole.{ending}").read_bytes()
    out.write_bytes(whole)  # as it had its name already
    assert predict_table(onnx, photos, out).resumed == 22
    assert out.read_bytes() == whole
    assert not list(tmp_path.glob(".out*"))


def test_a_file_that_came_after_a_stop_is_not_replaced(onnx, photos, begun):
    begun.write_text("path,label\n")
    with pytest.raises(UsageError, match=r"out\.csv: is there already"):
        predict_table(onnx, photos, begun, batch_size=4)
    assert begun.read_text() == "path,label\n"
    begun.unlink()
    assert predict_table(onnx, photos, begun, batch_size=4).resumed == 8


def another_picture(photos):
    coloured(0, 99).save(photos / "a" / "new.png")


def one_less(photos):
    (photos / "b" / "é 19.png").unlink()


def another_content(photos):
    path = photos / "a" / "é 00.png"
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))


@pytest.mark.parametrize("change", [another_picture, one_less, another_content])
def test_other_pictures_are_noticed(onnx, photos, begun, change):
    change(photos)
    with pytest.raises(UsageError, match="was begun with other images") as caught:
        predict_table(onnx, photos, begun, batch_size=4)
    assert "--overwrite" in caught.value.hint
    fresh = begun.with_name("fresh.csv")
    predict_table(onnx, photos, fresh, batch_size=4)
    assert predict_table(onnx, photos, begun, batch_size=4, overwrite=True).resumed == 0
    assert begun.read_bytes() == fresh.read_bytes()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"top": 2}, "number of classes"),
        ({"batch_size": 8}, "batch size"),
        ({"top": 1, "batch_size": 2}, "number of classes and batch size"),
    ],
)
def test_other_options_are_noticed(onnx, photos, begun, options, what):
    with pytest.raises(UsageError, match=rf"(?m)with other {what}$") as caught:
        predict_table(onnx, photos, begun, **{"batch_size": 4} | options)
    assert caught.value.message.startswith(f"{begun}: was begun with other ")


def test_another_model_or_runtime_is_noticed(onnx, photos, begun, tmp_path):
    runtime = open_runtime(onnx, "openvino")
    with pytest.raises(UsageError, match=r"(?m)with other runtime$"):
        predict_table(runtime, photos, begun, batch_size=4)
    again = b"\x08\x0a"  # a field that is there already
    (tmp_path / "other.onnx").write_bytes(onnx.read_bytes() + again)
    with pytest.raises(UsageError, match=r"(?m)with other model$"):
        predict_table(tmp_path / "other.onnx", photos, begun, batch_size=4)
    assert predict_table(onnx, photos, begun, batch_size=4, overwrite=True).resumed == 8


def test_a_changed_network_is_noticed(photos, tmp_path):
    torch.manual_seed(0)
    network = create_model("resnet8", image_size=16)
    network.outputs = "softmax"

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_table(network, photos, tmp_path / "out.csv", on_progress=stop)
    assert predict_table(network, photos, tmp_path / "out.csv").resumed == 8
    (tmp_path / "out.csv").unlink()
    with pytest.raises(KeyboardInterrupt):
        predict_table(network, photos, tmp_path / "out.csv", on_progress=stop)
    with torch.no_grad():
        network.fc.bias[0] += 1e-3
    with pytest.raises(UsageError, match=r"(?m)with other model$"):
        predict_table(network, photos, tmp_path / "out.csv")
    network.classes = tuple("abcdefghij")
    with pytest.raises(UsageError, match=r"(?m)with other model$"):
        predict_table(network, photos, tmp_path / "out.csv")


def test_two_processes_do_not_write_one_table(onnx, photos, begun):
    with (
        alone(begun),
        pytest.raises(ResourceError, match=r"out\.csv: another process is writing it"),
    ):
        predict_table(onnx, photos, begun, batch_size=4)
    assert predict_table(onnx, photos, begun, batch_size=4).resumed == 8


def test_a_full_disk(onnx, photos, begun):
    done = begun.with_name(".out.csv.partial").stat().st_size
    with (
        largest_file(done + 10),
        pytest.raises(ResourceError, match=r"partial: cannot be written: File too large") as caught,
    ):
        predict_table(onnx, photos, begun, batch_size=4)
    assert "the same command resumes" in caught.value.hint
    assert predict_table(onnx, photos, begun, batch_size=4).resumed == 8


def test_what_cannot_be_written(onnx, photos, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"ends in \.csv, \.jsonl or \.parquet"):
        predict_table(onnx, photos, tmp_path / "t.xlsx")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ResourceError, match="is no ordinary file"):
        predict_table(onnx, photos, tmp_path / "folder.csv")
    with pytest.raises(ResourceError, match="cannot be written"):
        predict_table(onnx, photos, photos / "a" / "text.jpg" / "t.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ResourceError) as caught:
        predict_table(onnx, photos, tmp_path / "t.parquet")
    assert 'pip install "resnets[parquet]"' in caught.value.hint
    network = create_model("resnet8")
    network.preprocess = None
    with pytest.raises(CheckpointError, match="how images must be prepared"):
        predict_table(network, photos, tmp_path / "t.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "folder.csv"}


class Watched(Runtime):
    """Counts the images that are prepared and not yet computed."""

    name, version, input = "torch", "0", "normalized"
    classes, preprocess = ("a", "b"), identity(3, 4)
    spec, outputs = replace(get_spec("resnet8"), num_classes=2), "softmax"

    def __init__(self):
        self.lock, self.waiting, self.most, self.seen = threading.Lock(), 0, 0, []
        self.seconds = lambda number: 0.0
        self.while_computing = lambda: None

    def prepare(self, picture):
        number = int(picture)
        time.sleep(self.seconds(number))
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            self.seen.append(number)
        return np.full((1, 1), number, np.float32)

    def logits(self, images):
        self.while_computing()
        with self.lock:
            self.waiting -= len(images)
        return np.concatenate([images, -images], 1) / 100

    def digest(self):
        return ""


@pytest.mark.parametrize("batch_size", [1, 5])
def test_few_pictures_wait_however_many_there_are(batch_size):
    runtime = Watched()
    runtime.while_computing = lambda: time.sleep(0.001)
    coming = (str(number) for number in range(200))
    found = list(predict(runtime, coming, batch_size=batch_size, top=1))
    assert len(found) == 200
    assert runtime.most <= 3 * batch_size


def test_answers_come_in_order_whatever_takes_long():
    runtime = Watched()
    runtime.seconds = lambda number: 0.003 * (-number % 4)
    found = list(predict(runtime, [str(number) for number in range(40)], batch_size=4))
    assert [p.path for p in found] == [str(number) for number in range(40)]
    for number, prediction in enumerate(found):
        first = 1 / (1 + np.exp(-2 * number / 100))
        answer = dict(zip(prediction.classes, prediction.probabilities, strict=True))
        assert answer["a"] == pytest.approx(first)


def test_the_next_pictures_are_decoded_while_some_are_computed():
    runtime = Watched()

    def wait_for_the_next():
        until = time.monotonic() + 300
        while len(runtime.seen) < min(30, runtime.computed + 20):
            assert time.monotonic() < until, "nothing is decoded meanwhile"
            time.sleep(0.001)
        runtime.computed += 10

    runtime.computed = 0
    runtime.while_computing = wait_for_the_next
    assert len(list(predict(runtime, [str(n) for n in range(30)], batch_size=10))) == 30


def test_a_reader_that_stops_stops_the_work():
    runtime = Watched()
    answers = predict(runtime, (str(number) for number in range(1000)), batch_size=2)
    assert next(answers).path == "0"
    answers.close()
    seen = len(runtime.seen)
    time.sleep(0.02)
    assert len(runtime.seen) == seen <= 6


def test_answers_that_are_nan(photos, tmp_path):
    network = create_model("resnet8", image_size=16)
    network.outputs = "softmax"
    torch.nn.init.constant_(network.conv1.weight, float("nan"))
    with pytest.raises(NonFiniteError):
        next(predict(network, photos / "a" / "é 00.png"))
    with pytest.raises(NonFiniteError):
        predict_table(network, photos, tmp_path / "t.csv")
    assert os.listdir(tmp_path) == ["photos"]  # nothing was done: there is nothing to go on with


def test_the_command(onnx, photos, tmp_path, resnets):
    out = tmp_path / "t.csv"
    os.rename(photos / "a" / "é 02.png", os.fsencode(photos / "a" / "é 02 ") + b"\xff.png")
    code, said, err = resnets("predict", onnx, photos, "--out", out)
    assert code == 3
    assert said == f"{out}   22 images, 2 of them broken\n"
    assert "text.jpg: is text, not an image" in err
    code, listed, err = resnets("predict", onnx, photos, "--json")
    assert code == 3
    assert json.loads(listed) == read(out)
    code, lines, err = resnets("predict", onnx, photos, "--top", 1)
    assert code == 3
    assert len(lines.splitlines()) == 20
    assert "a/é 02 \\udcff.png" in lines
    (photos / "a" / "text.jpg").unlink()
    (photos / "b" / "link.png").unlink()
    words = ["predict", onnx, photos, "--out", out, "--json", "--batch-size", 64]
    code, said, err = resnets(*words)
    assert (code, said) == (2, "")
    assert err == f"error: {out}: is there already\n hint: --overwrite, or another --out\n"
    code, said, _ = resnets(*words, "--overwrite")
    assert code == 0
    assert json.loads(said) == {"path": str(out), "pictures": 20, "broken": 0, "resumed": 0}


def test_the_command_goes_on(onnx, photos, begun, resnets):
    words = ["predict", onnx, photos, "--out", begun, "--batch-size", 4]
    code, _, err = resnets(*words, "--top", 1)
    assert code == 2
    assert "was begun with other number of classes" in err
    code, _, err = resnets(*words, "--runtime", "openvino")
    assert code == 2
    code, _, err = resnets(*words)
    assert code == 3
    assert "8 images had been done before a stop" in err
    assert resnets(*words, "--top", 1, "--overwrite")[0] == 3


def test_a_folder_alone_is_for_what_comes_along(photos, resnets, tmp_path):
    code, out, err = resnets("predict", photos, "--top", 1)
    assert code == 3
    assert len(out.splitlines()) == 20
    assert "resnet20 for cifar10, which comes with the package" in err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    code, _, err = resnets("predict", tmp_path / "run")
    assert code == 2
    assert "there is no image to look at" in err


def test_a_tar_alone_is_of_images_where_it_begins_with_some(photos, resnets, tmp_path):
    for number in (0, 1):
        with tarfile.open(tmp_path / f"photos-{number}.tar", "w") as tar:
            for path in sorted(photos.rglob("* *.png"))[number::2]:
                tar.add(path, path.name)
    each = resnets("predict", tmp_path / "photos-0.tar", "--top", 1)
    both = resnets("predict", tmp_path / "photos-{0..1}.tar", "--top", 1)
    assert [len(out.splitlines()) for _, out, _ in (each, both)] == [10, 20]
    with tarfile.open(tmp_path / "checkpoint.tar", "w") as tar:
        tar.add(__file__, "storages")
    code, _, err = resnets("predict", tmp_path / "checkpoint.tar")
    assert code == 2
    assert "there is no image to look at" in err


@pytest.mark.parametrize(
    "names", [["1.png"], ["1.png", "cats/2.png"], ["train/cats/1.png"], ["a/1.png", "b/c.cls"]]
)
def test_tars_need_no_classes_to_be_predicted(photos, resnets, tmp_path, names):
    """Images outside of class folders, of one class alone, samples that say none."""
    tar_file = tmp_path / "some.tar"
    with tarfile.open(tar_file, "w") as tar:
        for name in [*names, "cats/._hidden.png"]:
            tar.add(next(photos.rglob("* *.png")), name)
    code, out, _ = resnets("predict", tar_file, "--top", 1, "--json")
    assert code == 0
    images = [name for name in names if name.endswith(".png")]
    assert [each["path"] for each in json.loads(out)] == [f"{tar_file}/{name}" for name in images]


def test_what_an_exported_file_says_itself(onnx, photos, resnets):
    for option in ("--model", "resnet20"), ("--preprocess", "imagenet"):
        code, _, err = resnets("predict", onnx, photos, *option)
        assert code == 2
        assert "says itself what it holds" in err
    assert resnets("predict", onnx, photos, "--runtime", "torch")[0] == 2
