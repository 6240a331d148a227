"""Exports that are refused, or found wrong and not kept."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from networks import NAMES, network

from conftest import largest_file
from resnets import export, save_weights
from resnets.errors import CheckpointError, DataError, ExportError, ResourceError, UsageError
from resnets.exporting import trace as tracing
from resnets.exporting.plan import draft_of


class Halved:
    """Folding that loses half of each weight's bits, as an export to float16 would."""

    def __init__(self, folded) -> None:
        self.folded = folded

    def __call__(self, model):
        return self.folded(model).half().float()


class OtherEpsilon(Halved):
    """Folding with another epsilon, as Keras's is."""

    def __call__(self, model):
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps *= 100
        copy = self.folded(model)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps /= 100
        return copy


@pytest.mark.parametrize("wrong", [Halved, OtherEpsilon])
def test_what_computes_something_else_is_not_kept(tmp_path, monkeypatch, wrong):
    kept = export(network(1), tmp_path / "net.pt2", to="torch")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(tracing, "folded", wrong(tracing.folded))
    with pytest.raises(ExportError, match="the exported file is not the network") as caught:
        export(network(), kept.path, to="torch", overwrite=True)
    assert caught.value.exit_code == 5
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ExportError):
        export(network(), tmp_path / "new" / "net.pt2", to="torch")
    assert not list((tmp_path / "new").iterdir())


def test_a_wrong_resize_is_found(tmp_path, monkeypatch):
    """Without antialiasing: weights of the two nearest pixels only."""
    monkeypatch.setattr(torch, "maximum", lambda first, second: second)
    with pytest.raises(ExportError, match="images of 41 x 50"):
        export(network(), tmp_path / "net.pt2", to="torch", input="pictures")


@pytest.mark.parametrize(
    ("value", "why"), [("nan", "nan off"), ("inf", "own answers to .* infinite")]
)
def test_answers_that_are_no_numbers_are_not_kept(tmp_path, value, why):
    model = network()
    torch.nn.init.constant_(model.fc.bias, float(value))
    with pytest.raises(ExportError, match=why):
        export(model, tmp_path / "net.pt2", to="torch")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to": "tensorrt"}, UsageError, 'no target is called "tensorrt"'),
        ({"input": "jpegs"}, UsageError, 'no input is called "jpegs"'),
        ({"batch": 0}, UsageError, "batch is 0"),
        ({"size": "large"}, UsageError, "size is large"),
        ({"size": (0, 16)}, UsageError, "size is"),
        ({"size": (3, 16)}, UsageError, "3 x 16 is too small"),
        ({"to": "torch", "int8": True}, UsageError, "torch has no 8-bit form"),
        ({"to": "safetensors", "int8": True}, UsageError, "no 8-bit form"),
        ({"to": "safetensors", "batch": 1}, UsageError, "have no input"),
        ({"int8": True, "size": (16, 20)}, UsageError, "how images get this size"),
        ({"int8": True}, UsageError, "chosen on training images"),
        ({"data": "nowhere"}, DataError, 'no data set is called "nowhere"'),
        ({"images": "empty"}, DataError, "there are no images in it"),
    ],
    ids=str,
)
def test_what_cannot_be_meant(tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    ending = {"torch": ".pt2", "safetensors": ".safetensors"}.get(options.get("to"), ".onnx")
    with pytest.raises(error, match=message) as caught:
        export(network(), f"net{ending}", **options)
    assert caught.value.hint
    assert os.listdir() == ["empty"]


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "net.bin").write_text("somebody's")
    with pytest.raises(UsageError, match=r"net\.bin: is there already"):
        export(network(), tmp_path / "net.xml", to="openvino")
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        export(network(), tmp_path / "net.pt2", to="onnx")
    source = tmp_path / "net.safetensors"
    export(network(), source, to="safetensors")
    with pytest.raises(UsageError, match="is the checkpoint itself"):
        export(source, source, to="safetensors", overwrite=True)


@pytest.mark.parametrize("name", ["net.bin", "hf/pytorch_model.bin", "hf/model.safetensors"])
def test_the_checkpoint_is_never_overwritten(tmp_path, name):
    """Also where it would be the weights beside an .xml, or is given by its folder or a link."""
    path = tmp_path / name
    save_weights(network(), tmp_path / "own.safetensors")
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "own.safetensors").rename(path)
    before = path.read_bytes()
    to = "openvino" if path.suffix == ".bin" else "safetensors"
    out = path.with_suffix(".xml") if path.suffix == ".bin" else path
    (tmp_path / "link").symlink_to(path)
    folders = [path.parent] if path.parent != tmp_path else []
    for source in (path, tmp_path / "link", *folders):
        with pytest.raises(UsageError, match=rf"{path.name}: is the checkpoint itself"):
            export(source, out, to=to, overwrite=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [{}, {"a.heic": b"\0\0\0\x18ftypheic", "b.png": b"\x89PNG"}])
def test_pictures_that_are_none(tmp_path, content):
    """Where they were asked for that is an error; else others do, which the certificate names."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    for asked in ("images", "data"):
        with pytest.raises(DataError, match=f"{folder}: .*no image"):
            export(network(), tmp_path / "net.pt2", to="torch", **{asked: folder})
    own = {"data": {"source": str(folder)}}
    written = export(network(), tmp_path / "net.pt2", to="torch", made=own)
    assert written.comparison.source != "a folder of images"
    assert (written.comparison.source == "") is (find_spec("sklearn") is None)


def test_what_a_network_lacks(tmp_path):
    model = network()
    model.preprocess = None
    with pytest.raises(CheckpointError, match="nothing says how images must be prepared"):
        export(model, tmp_path / "net.pt2", to="torch", input="pixels")
    assert export(model, tmp_path / "net.pt2", to="torch").plan.preprocess is None
    model.reset_classifier(0)
    with pytest.raises(CheckpointError, match="no classifier"):
        export(model, tmp_path / "b.pt2", to="torch")


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, "onnxscript"),
        ({"to": "openvino"}, "openvino"),
        ({"to": "openvino", "int8": True}, "nncf"),
    ],
)
def test_missing_packages(tmp_path, monkeypatch, options, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ResourceError, match=f"needs {missing}") as caught:
        export(network(), tmp_path / NAMES[options.get("to", "onnx")], **options)
    assert 'pip install "resnets[onnx' in caught.value.hint


def test_a_full_disk_leaves_nothing(tmp_path):
    with largest_file(10_000), pytest.raises(ResourceError, match="File too large"):
        export(network(), tmp_path / "net.pt2", to="torch")
    assert not list(tmp_path.iterdir())


def test_the_export_of_a_killed_process_is_its_own_only(tmp_path):
    """Killed when only the hidden folder was left to be removed, or in the midst of renaming."""
    out = tmp_path / "net.pt2"
    export(network(), out, to="torch")
    draft_of(out).mkdir()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for other, words in ((network(1), {}), (network(), {"batch": 2})):
        with pytest.raises(UsageError, match="is there already"):
            export(other, out, to="torch", **words)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    export(network(), out, to="torch")
    assert not draft_of(out).exists()
    draft_of(out).mkdir()
    out.unlink()
    export(network(), out, to="torch")
    assert out.is_file()
    assert not draft_of(out).exists()
    draft_of(out).mkdir()
    out.write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="is there already"):
        export(network(), out, to="torch")
    assert out.read_bytes() == b"somebody's"
