"""`resnets export` as a user meets it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import coloured
from resnets import create_model, open_model, save_weights
from resnets.data.preprocess import Preprocess
from resnets.weights.metadata import FORMS


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """A run folder with the weights of a small network, in the folder where commands run."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = create_model("resnet8", num_classes=2, image_size=16)
    model.preprocess = Preprocess(3, 18, 16, (0.5,) * 3, (0.25,) * 3)
    model.classes, model.outputs = ("ash", "birch"), "softmax"
    save_weights(model, "runs/trees/model.safetensors")
    Path("runs/trees/run.json").write_text("{}")
    return Path("runs/trees")


def test_help_is_light_and_has_examples():
    code = (
        "import sys; from resnets.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy', 'onnx', 'openvino'} & set(sys.modules)"
    )
    words = [sys.executable, "-c", code, "export", "--help"]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    examples = result.stdout.partition("Examples:\n")[2].splitlines()[:2]
    assert [line.split()[:2] for line in examples] == 2 * [["resnets", "export"]]


def test_help_calls_inputs_as_they_are_typed(resnets):
    _, out, _ = resnets("export", "--help")
    assert set(re.findall(r"(\w+):\s+(?:float32|uint8)", out)) == set(FORMS)


def test_a_run_folder(resnets, run_folder):
    code, out, err = resnets("export", run_folder, "--to", "torch")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("runs/trees/model.pt2: resnet8 in float32, input normalized, batch ")
    assert lines[1].startswith("as the network in torch: logits differ by ")
    assert lines[-1] == "certificate: runs/trees/model.pt2.certificate.json"
    assert err == "writing torch, comparing it with the network in torch\n"
    again, _, err = resnets("export", run_folder, "--to", "torch")
    assert again == 2
    assert "model.pt2.certificate.json: is there already" in err
    assert resnets("export", run_folder, "--to", "torch", "--overwrite")[0] == 0


def test_a_repository(resnets, run_folder):
    code, out, err = resnets("export", run_folder, "--for", "triton")
    assert code == 0, err
    assert out.startswith("models/trees/1/model.onnx: resnet8 in float32, ")
    assert out.endswith("certificate: models/trees/1/model.onnx.certificate.json\n")
    assert 'name: "trees"' in Path("models/trees/config.pbtxt").read_text()


def test_json_and_options(resnets, run_folder):
    Path("trees").mkdir()
    coloured(0, 0).save("trees/0.png")
    words = ["--to", "torch", "--input", "pixels", "--batch", 2, "--size", "16x16", "--json"]
    code, out, _ = resnets("export", run_folder, *words, "--images", "trees", "--out", "new/a.pt2")
    assert code == 0
    record = json.loads(out)
    assert record["path"] == "new/a.pt2"
    assert record["export"] == {
        "to": "torch",
        "input": "pixels",
        "precision": "float32",
        "batch": 2,
        "size": [16, 16],
        "folded": True,
    }
    assert record["float32"]["top1"] == {"agree": 1, "of": 1}
    certificate = json.loads(Path("new/a.pt2.certificate.json").read_text())
    assert {**certificate, "path": "new/a.pt2", "certificate": record["certificate"]} == record


def test_a_name_with_weights_that_come_along(resnets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = resnets("export", "resnet20", "--weights", "cifar10", "--to", "safetensors")
    assert code == 0, err
    assert out.startswith("resnet20.safetensors: resnet20 in float32")
    code, _, err = resnets("export", "resnet20")
    assert code == 2
    assert "give --weights, such as cifar10, which comes with the package" in err


def test_weights_are_not_overwritten(resnets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = create_model("resnet8")
    save_weights(model, "resnet8.safetensors")
    before = Path("resnet8.safetensors").read_bytes()
    words = ["--weights", "resnet8.safetensors", "--to", "safetensors", "--overwrite"]
    code, out, err = resnets("export", "resnet8", *words)
    assert (code, out) == (2, "")
    assert "resnet8.safetensors: is the checkpoint itself" in err
    assert Path("resnet8.safetensors").read_bytes() == before
    Path("resnet8.safetensors").rename("net.bin")
    code, _, err = resnets("export", "net.bin", "--to", "openvino", "--overwrite")
    assert code == 2
    assert "net.bin: is the checkpoint itself" in err


def test_a_picture_of_another_size_is_broken(resnets, run_folder):
    """It has a row that says so, those after it are answered, and the exit code is 3."""
    words = ["--to", "torch", "--input", "pictures", "--size", "20x30", "--out", "net.pt2"]
    assert resnets("export", run_folder, *words)[0] == 0
    Path("trees").mkdir()
    coloured(0, 0).save("trees/0.png")
    coloured(0, 1).resize((30, 20)).save("trees/1.png")
    code, _, err = resnets("predict", "net.pt2", "trees", "--out", "table.jsonl")
    assert code == 3
    assert "trees/0.png: is 40 x 40 (height x width), the model takes 20 x 30 only" in err
    first, second = map(json.loads, Path("table.jsonl").read_text().splitlines())
    assert first["error"].startswith("trees/0.png: is 40 x 40")
    assert len(second["predictions"]) == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["resnet5O"], 2, 'no model is called "resnet5O"'),
        (["resnet8"], 2, "fresh weights"),
        (["runs/x"], 4, "runs/x: no such file or folder"),
        (["runs/trees", "--to", "tf"], 2, 'no target is called "tf"'),
        (["runs/trees", "--input", "jpeg"], 2, 'no input is called "jpeg"'),
        (["runs/trees", "--size", "16"], 2, '--size is "16"'),
        (["runs/trees", "--size", "2x16"], 2, "2 x 16 is too small"),
        (["runs/trees", "--batch", "many"], 2, '--batch is "many"'),
        (["runs/trees", "--batch", "0"], 2, "batch is 0"),
        (["runs/trees", "--to", "torch", "--int8"], 2, "torch has no 8-bit form"),
        (["runs/trees", "--int8"], 2, "none are at hand"),
        (["runs/trees", "--to", "safetensors"], 2, "is the checkpoint itself"),
        (["runs/trees", "--out", "net.pt2"], 2, "a file for onnx ends in .onnx"),
        (["runs/trees", "--images", "runs"], 3, "there are no images in it"),
        (["runs/trees", "--preprocess", "mine"], 2, 'no preprocessing is called "mine"'),
        (["runs/trees", "--for", "torchserve"], 2, 'no server is called "torchserve"'),
        (["runs/trees", "--for", "triton", "--to", "openvino"], 2, "holds ONNX, not openvino"),
        (["runs/trees", "--for", "triton", "--overwrite"], 2, "triton has versions"),
        (["runs/trees", "--for", "triton", "--name", "a/b"], 2, 'can be called "a/b"'),
        (["runs/trees", "--for", "triton", "--out", "runs"], 2, "trees: is there, and is no"),
        (["runs/trees", "--name", "trees"], 2, "--name is of a model in a repository"),
    ],
)
def test_errors_are_one_line_with_the_right_code(resnets, run_folder, words, code, message):
    found, out, err = resnets("export", *words)
    assert (found, out) == (code, "")
    lines = err.splitlines()
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(lines) == 2
    assert sorted(path.name for path in run_folder.iterdir()) == ["model.safetensors", "run.json"]


def test_a_failed_check_has_its_exit_code(resnets, run_folder):
    """Answers that are no numbers are within no bound."""
    model = open_model(run_folder)
    torch.nn.init.constant_(model.fc.bias, float("nan"))
    save_weights(model, run_folder / "model.safetensors")
    code, out, err = resnets("export", run_folder, "--to", "torch")
    assert (code, out) == (5, "")
    assert "error: the exported file is not the network" in err
    assert not (run_folder / "model.pt2").exists()
