"""`resnets features` and `resnets embed` as a user meets them."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from conftest import coloured
from resnets import create_model
from resnets.weights.metadata import Metadata
from resnets.weights.native import write_native


@pytest.fixture
def weights(tmp_path):
    """A weights file of a small network with class names."""
    torch.manual_seed(0)
    model = create_model("resnet8", num_classes=2, image_size=16)
    metadata = Metadata(model.spec, model.preprocess, ("ash", "birch"))
    write_native(tmp_path / "net.safetensors", model.state_dict(), metadata)
    return tmp_path / "net.safetensors"


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(5):
        coloured(number, number).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("command", ["features", "embed"])
def test_help_is_light_and_has_examples(command):
    code = (
        "import sys; from resnets.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    words = [sys.executable, "-c", code, command, "--help"]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    examples = result.stdout.partition("Examples:\n")[2].splitlines()[:2]
    assert [line.split()[:2] for line in examples] == 2 * [["resnets", command]]


def test_features(resnets, weights, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = resnets("features", "photos/0.png", "--model", weights)
    assert (code, out) == (0, "features.html\n")
    page = (tmp_path / "features.html").read_text("utf-8")
    assert "ash" in page
    assert "birch" in page
    assert str(weights) in page
    assert "has learnt nothing" not in page
    words = ["--model", "resnet8", "--weights", weights, "--top", 1, "--out", "new/one.html"]
    code, _, err = resnets("features", "photos/0.png", *words)
    assert (code, "2 classes" in err) == (4, True)


def test_features_of_a_name_are_those_of_fresh_weights(resnets, pictures, tmp_path):
    pages = []
    for out in ("1.html", "2.html"):
        torch.rand(1)
        words = ["--model", "resnet8", "--out", tmp_path / out]
        assert resnets("features", pictures / "0.png", *words)[0] == 0
        pages.append((tmp_path / out).read_text("utf-8"))
    assert "has learnt nothing" in pages[0]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("command", ["features", "embed"])
def test_without_a_model_the_package_has_one(resnets, pictures, tmp_path, command):
    what = pictures / "0.png" if command == "features" else pictures
    out = tmp_path / ("page.html" if command == "features" else "t.npz")
    code, _, err = resnets(command, what, "--out", out)
    assert (code, out.exists()) == (0, True)
    assert err == (
        "resnet20 for cifar10, which comes with the package; name a run folder for your own\n"
    )
    if command == "features":
        assert "the package&#39;s own" in out.read_text("utf-8")


def test_embed(resnets, weights, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = resnets("embed", "photos", "--model", weights, "--normalize")
    assert (code, out, err) == (0, "embeddings.npz   5 images, 64 numbers each\n", "")
    content = np.load("embeddings.npz")
    assert content["paths"].tolist() == [f"{number}.png" for number in range(5)]
    np.testing.assert_allclose(np.linalg.norm(content["embeddings"], axis=1), 1, rtol=1e-5)
    code, out, _ = resnets("embed", pictures, "--model", weights, "--out", "t.npz", "--json")
    assert code == 0
    assert json.loads(out) == {
        "path": "t.npz",
        "pictures": 5,
        "channels": 64,
        "resumed": 0,
        "broken": 0,
        "broken_list": None,
    }
    assert not list(tmp_path.glob(".*"))
    code, out, err = resnets("embed", pictures, "--model", "nothing.pth", "--out", "t.npz")
    assert (code, out) == (2, "")  # before the model is opened
    assert err == "error: t.npz: is there already\n hint: --overwrite, or another --out\n"
    assert resnets("embed", pictures, "--model", weights, "--out", "t.npz", "--overwrite")[0] == 0


def test_embed_goes_on_past_a_broken_picture(resnets, weights, pictures, tmp_path):
    (pictures / "2.png").write_text("hello")
    code, out, err = resnets("embed", pictures, "--model", weights, "--out", tmp_path / "t.npz")
    assert code == 3
    assert "4 images" in out
    assert "error: " in err
    assert "2.png: is text, not an image\n hint: " in err
    assert "t.npz.broken.json: 1 image\n" in err


@pytest.mark.parametrize(
    ("command", "number", "exit_code"),
    [
        ("embed", signal.SIGINT, 130),
        ("predict", signal.SIGINT, 130),
        ("predict", signal.SIGTERM, 75),
    ],
)
def test_a_table_is_resumed_after_a_signal(
    resnets, weights, pictures, tmp_path, command, number, exit_code
):
    words = ["embed", pictures, "--model", weights, "--out", tmp_path / "t.npz"]
    if command == "predict":
        words = ["predict", weights, pictures, "--out", tmp_path / "t.csv"]
        words += ["--outputs", "softmax"]

    def interrupt(module, inputs):
        """Before the last image, which is alone in its batch, is computed."""
        if isinstance(module, torch.nn.Conv2d) and len(inputs[0]) == 1:
            if number == signal.SIGINT:  # which a job in the background may ignore
                raise KeyboardInterrupt
            signal.raise_signal(number)

    with register_module_forward_pre_hook(interrupt):
        code, out, err = resnets(*words, "--batch-size", 2)
    said = "interrupted: 4 of 5 images are done and kept\n hint: the same command resumes\n"
    assert (code, out, err) == (exit_code, "", said)
    code, _, err = resnets(*words, "--batch-size", 2)
    assert (code, err) == (0, "4 images had been done before a stop\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["features", "photos/0.png", "--weights", "net.safetensors"], 2, "of which model?"),
        (["features", "photos/0.png", "--model", "resnet5O"], 2, 'no model is called "resnet5O"'),
        (["features", "photos/0.png", "--model", "runs/x"], 4, "runs/x: no such file or "),
        (["features", "photos/0.png", "--model", "resnet8", "--top", "0"], 2, "top"),
        (["features", "photos/9.png", "--model", "resnet8"], 3, "9.png: cannot be read"),
        (["embed", "photos", "--model", "net.safetensors", "--out", "t.csv"], 2, ".parquet"),
        (["embed", "photos", "--model", "resnet8"], 2, "fresh weights"),
        (["embed", "nowhere", "--model", "net.safetensors"], 3, "no such folder"),
        (["embed", "empty", "--model", "net.safetensors"], 3, "there are no images in it"),
        (["embed", "photos", "--model", "net.safetensors", "--device", "tpu"], 2, '"tpu"'),
    ],
)
def test_errors_are_one_line_with_the_right_code(
    resnets, weights, pictures, words, code, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    found, out, err = resnets(*words)
    assert (found, out) == (code, "")
    lines = err.splitlines()
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(lines) <= 2
    assert {p.name for p in tmp_path.iterdir()} == {"empty", "photos", "net.safetensors"}
