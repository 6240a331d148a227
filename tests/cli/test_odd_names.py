"""Names whose bytes are no UTF-8, or no letters of the locale: every command takes them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import coloured
from resnets.evaluation.scores import Evaluation
from resnets.files import write_json
from resnets.readers.documents import read_json
from resnets.weights.tensors import read_tensors

linux = pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 on other systems")
SMALL = ("--model", "resnet8", "--set", "batch_size=4", "--set", "data.image_size=16")
ALL_OF_THEM = f"""
import os, sys
from resnets import cli

def run(*words):
    sys.argv = ["resnets", *words]
    try:
        code = cli.main()
    except SystemExit as end:
        code = end.code
    if code:
        sys.exit(f"{{words}}: {{code}}")

os.chdir(sys.argv[1])
data, odd = sys.argv[2:]
run("data", "check", data)
run("train", data, *{SMALL!r}, "--set", "schedule.epochs=1", "--out", odd)
run("train", "--resume", odd)
for command in ("audit", "report"):
    run(command, odd)
run("predict", odd, data)
run("embed", data, "--model", odd, "--out", odd + ".npz")
run("export", odd, "--to", "openvino", "--out", odd + ".xml")
run("evaluate", odd + ".xml", data)
"""


def pictures(folder: Path, odd: str) -> Path:
    for label in range(2):
        for part, count in (("train", 3), ("test", 1)):
            inside = folder / part / f"{label}{odd}"
            inside.mkdir(parents=True)
            for number in range(count):
                with (inside / f"{number}{odd}.png").open("wb") as file:
                    coloured(label, 100 * len(part) + number, 16).save(file, "png")
    return folder


@linux
def test_bytes_that_are_no_utf8(tmp_path, resnets):
    odd = os.fsdecode(b"x\xff")
    folder = tmp_path / odd
    data, run = pictures(folder / "data", odd), folder / odd
    picture = data / "test" / f"0{odd}" / f"0{odd}.png"

    def done(*words):
        code, out, err = resnets(*words)
        assert code == 0, err
        return out

    done("data", "check", data)
    done("train", data, *SMALL, "--set", "schedule.epochs=1", "--out", run)
    assert json.loads((run / "run.json").read_text("utf-8"))["data"]["source"] == str(data)
    done("train", "--resume", run)  # with the data that its record names
    done("audit", run)
    done("report", run, run, "--out", folder / f"{odd}.html")
    done("features", picture, "--model", run, "--out", folder / f"features{odd}.html")
    for ending in ("csv", "jsonl", "parquet"):
        done("predict", run, data, "--out", folder / f"{odd}.{ending}")
    first = json.loads((folder / f"{odd}.jsonl").read_text("utf-8").splitlines()[0])
    assert first["path"].endswith(r"0x\udcff.png")
    for ending in ("npz", "parquet"):
        done("embed", data, "--model", run, "--out", folder / f"embedded{odd}.{ending}")
    with np.load(folder / f"embedded{odd}.npz") as table:
        assert len(table["paths"]) == 8
    for form, ending in (
        ("onnx", ".onnx"),
        ("openvino", ".xml"),
        ("torch", ".pt2"),
        ("safetensors", ".safetensors"),
    ):
        exported = folder / f"exported{odd}{ending}"
        done("export", run, "--to", form, "--out", exported)
        done("evaluate", exported, data)
        done("predict", exported, picture)
    done("evaluate", exported, run, data, "--out", folder / f"evaluated{odd}")
    done("convert", exported, folder / f"other{odd}.safetensors", "--to", "native")
    done("verify", folder / f"other{odd}.safetensors")
    done("inspect", exported)


@linux
def test_letters_that_the_locale_has_not(tmp_path):
    data = pictures(tmp_path / "Fotos-ä", "ö")
    others = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", ALL_OF_THEM, str(tmp_path), data.name, "Läufe"]
    done = subprocess.run(command, env=os.environ | others, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    record = read_json(tmp_path / "Läufe" / "run.json")
    assert os.fsencode(record["data"]["source"]) == os.fsencode(data)
    tensors, metadata = read_tensors(tmp_path / "Läufe" / "model.safetensors")
    assert len(tensors) > 10
    assert json.loads(metadata["resnets"])["made"]["name"]


def test_json_of_any_text_reads_back_equal(tmp_path):
    value = {
        "a\udcff": ["ä", "\u2028", {"": None}, [], {}],
        "rows": [[1, 2.5], [True, -1e-9], []],
        "mixed": [1, "2", (3, 4)],
    }
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == {**value, "mixed": [1, "2", [3, 4]]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "value.json", [[float("nan")]])
    assert read_json(tmp_path / "value.json")["rows"][0] == [1, 2.5]


def test_a_large_confusion_matrix_can_be_read_again(tmp_path):
    """A number on each line would take six times the bytes, more than a reader allows."""
    classes = 1500
    matrix = [[0] * classes for _ in range(classes)]
    write_json(tmp_path / "run.json", {"results": {"test": {"confusion": matrix}}})
    assert (tmp_path / "run.json").stat().st_size < 2.1 * classes**2
    assert read_json(tmp_path / "run.json")["results"]["test"]["confusion"] == matrix


@pytest.mark.parametrize(("classes", "kept"), [(3, True), (20_000, False)])
def test_a_record_of_many_thousand_classes_has_no_matrix(classes, kept):
    labels = np.array([0, 1, 2])
    found = Evaluation(labels, labels, np.ones(3, np.float32), 0.5, 3, classes).to_dict()
    assert ("confusion" in found) is kept
    assert found["accuracy"] == 1
