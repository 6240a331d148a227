"""Predictor: batches as Ray Data hands them over, without Ray."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from conftest import coloured
from resnets.errors import UsageError
from resnets.inference.prediction import predict
from resnets.integrations.ray import Predictor
from resnets.weights.shipped import shipped

pytest.importorskip("pyarrow")
MODEL = shipped("resnet20", "cifar10")


@pytest.fixture(scope="module")
def predictor():
    return Predictor(MODEL, top=2, batch_size=3)


@pytest.fixture
def files(tmp_path):
    for number in range(5):
        coloured(number % 3, number).save(tmp_path / f"{number}.png")
    (tmp_path / "5.png").write_text("text")
    return sorted(tmp_path.glob("*.png"))


def rows(columns) -> list[dict]:
    values = [[*map(lambda v: getattr(v, "as_py", lambda: v)(), each)] for each in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def test_answers_are_those_of_predict(predictor, files):
    """Of bytes, of paths and of pixels; all other columns stay, and images go."""
    names = np.array([*map(str, files)], object)
    content = np.array([file.read_bytes() for file in files], object)
    of_bytes = rows(predictor({"bytes": content, "path": names, "label": np.arange(6)}))
    of_paths = rows(predictor({"path": names, "label": np.arange(6)}))
    of_pixels = rows(predictor({"image": np.stack([np.asarray(Image.open(f)) for f in files[:5]])}))
    expected = [answer.to_dict() for answer in predict(MODEL, files, top=2, batch_size=3)]
    for number, (row, wanted) in enumerate(zip(of_bytes, expected, strict=True)):
        pairs = wanted.get("predictions", [{"class": None, "probability": None}] * 2)
        assert row == {
            "path": str(files[number]),
            "label": number,
            "error": wanted.get("error"),
            **{f"class_{i}": pair["class"] for i, pair in enumerate(pairs, 1)},
            **{f"probability_{i}": pair["probability"] for i, pair in enumerate(pairs, 1)},
        }
    assert of_paths == of_bytes
    told = [{k: v for k, v in row.items() if k not in ("path", "label")} for row in of_bytes[:5]]
    assert of_pixels == told


def test_batches_that_are_none(predictor):
    empty = predictor({"bytes": np.array([], object)})
    assert [*empty] == ["error", "class_1", "probability_1", "class_2", "probability_2"]
    assert rows(predictor({"bytes": [None]}))[0]["error"] == "a row: there is no image"
    with pytest.raises(UsageError, match="no bytes or image or path, but picture"):
        predictor({"picture": [b""]})
    with pytest.raises(UsageError, match=r"float64 \(2, 2, 3\) is no image"):
        predictor({"image": np.zeros((1, 2, 2, 3))})


def test_nothing_of_ray_is_imported():
    code = "import sys, resnets.integrations.ray; print({'ray', 'torch'} & {*sys.modules})"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout == "set()\n"
