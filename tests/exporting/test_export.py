"""Exported files: what they compute, and what they say of themselves."""

import hashlib
import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import NAMES, TARGETS, close, in_float64, network
from safetensors import safe_open

from conftest import coloured, scramble
from resnets import create_model, export, open_model, predict
from resnets.errors import DataError, UsageError
from resnets.exporting import parity as check
from resnets.exporting.plan import files_of
from resnets.inference.runtimes import open_runtime
from resnets.zoo import ZOO


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a file of a target and an input, any batch and size, and what export() said of it."""
    made = {}

    def get(to: str, form: str):
        if (to, form) not in made:
            path = tmp_path_factory.mktemp(f"{to}-{form}") / NAMES[to]
            made[to, form] = export(network(), path, to=to, input=form, size="dynamic")
        return made[to, form]

    return get


@pytest.mark.parametrize("to", TARGETS)
def test_computes_what_the_network_does(exported, to):
    model, runtime = network(), open_runtime(exported(to, "normalized").path)
    for shape in ((1, 3, 16, 16), (5, 3, 16, 16), (2, 3, 24, 17), (3, 3, 33, 64)):
        images = torch.randn(shape)
        assert close(runtime.logits(images.numpy()), in_float64(model, images))
    assert runtime.preprocess == model.preprocess
    assert runtime.classes == model.classes


@pytest.mark.parametrize("to", TARGETS)
def test_pictures_of_any_size_in_one_file(exported, to):
    model, runtime = network(), open_runtime(exported(to, "pictures").path)
    for side in ((18, 18), (30, 18), (200, 150), (151, 203), (11, 14)):
        picture = coloured(1, 2, 300).resize(side)
        expected = in_float64(model, model.preprocess(picture))
        pixels = np.asarray(picture)[None]
        bound = 1e-5 if 18 in side else 5e-3  # a pixel in hundreds is off by one level
        assert close(runtime.logits(pixels), expected, bound), side
        twice = runtime.logits(np.concatenate([pixels, pixels[:, ::-1]]))
        assert close(twice[:1], expected, bound)
    assert runtime.input == "pictures"


def test_pixels_are_normalised_inside(exported):
    model, runtime = network(), open_runtime(exported("torch", "pixels").path)
    pixels = model.preprocess.squares([coloured(0, n) for n in range(4)])
    expected = in_float64(model, model.preprocess.normalize(torch.from_numpy(pixels.copy())))
    assert close(runtime.logits(pixels), expected)
    assert runtime.input == "pixels"


def test_a_mean_picture_is_subtracted_inside(tmp_path):
    model = network()
    mean = tuple(np.random.default_rng(0).random(3 * 16 * 16).tolist())
    model.preprocess = replace(model.preprocess, mean=mean)
    export(model, tmp_path / "net.pt2", to="torch", input="pictures")
    picture = coloured(2, 0, 18)
    found = open_runtime(tmp_path / "net.pt2").logits(np.asarray(picture)[None])
    assert close(found, in_float64(model, model.preprocess(picture)))
    with pytest.raises(UsageError, match="mean image has 16 x 16 pixels"):
        export(model, tmp_path / "b.pt2", to="torch", input="pixels", size=(24, 24))
    normalized = export(model, tmp_path / "c.pt2", to="torch", size=(24, 24))
    assert normalized.plan.preprocess is None  # nothing makes that size


def test_one_batch_and_one_size(tmp_path):
    import onnx

    model = network()
    written = export(model, tmp_path / "net.onnx", batch=2, size=(24, 32))
    kind = onnx.load(written.path).graph.input[0].type.tensor_type
    assert [dim.dim_value for dim in kind.shape.dim] == [2, 3, 24, 32]
    images = torch.randn(3, 3, 24, 32)
    runtime = open_runtime(written.path)
    assert close(runtime.logits(images.numpy()), in_float64(model, images))
    assert runtime.preprocess is None  # images are square
    assert {tuple(case.size) for case in written.comparison.cases} == {(24, 32)}
    square = export(model, tmp_path / "square.pt2", to="torch", size=(32, 32))
    prepared = open_runtime(square.path).preprocess
    assert (prepared.resize, prepared.size) == (36, 32)  # in proportion


def test_pixels_of_a_size_that_is_not_square(tmp_path):
    """Nothing says how images get it, and yet the file normalises as the network does."""
    model = network()
    written = export(model, tmp_path / "net.pt2", to="torch", input="pixels", size=(24, 32))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 32), np.uint8)
    expected = in_float64(model, model.preprocess.normalize(torch.from_numpy(pixels)))
    assert close(open_runtime(written.path).logits(pixels), expected)


def test_pictures_of_one_size(tmp_path):
    """Others are broken, and those after them are answered."""
    model = network()
    path = tmp_path / "net.pt2"
    export(model, path, to="torch", input="pictures", size=(24, 32))
    names = [tmp_path / f"{name}.png" for name in ("wide", "high", "wide again")]
    for name, side in zip(names, ((32, 24), (24, 32), (32, 24)), strict=True):
        coloured(0, 0).resize(side).save(name)
    first, broken, last = predict(path, names)
    assert first.probabilities == last.probabilities
    assert isinstance(broken.error, DataError)
    assert str(broken.error).startswith(
        f"{names[1]}: is 32 x 24 (height x width), the model takes 24 x 32 only\n hint: "
    )
    runtime = open_runtime(path)
    with pytest.raises(DataError, match="the image: is 40 x 40"):
        runtime.prepare(coloured(0, 0))
    assert runtime.prepare(coloured(0, 0).resize((32, 24))).shape == (1, 24, 32, 3)


def test_versions_are_those_of_modules(tmp_path, monkeypatch):
    """The distribution may be onnxruntime-gpu, onnx-weekly or something else."""
    import onnxruntime

    find = metadata.version

    def version(name: str) -> str:
        if name.startswith("onnx"):
            raise metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(metadata, "version", version)
    versions = export(network(), tmp_path / "net.onnx").record["versions"]
    assert versions["onnxruntime"] == onnxruntime.__version__
    assert set(versions) == {"resnets", "torch", "onnx", "onnxscript", "onnxruntime"}


def test_files_that_travel(exported):
    """One ONNX file; metadata in each; a certificate that names every file by its digest."""
    for to in TARGETS:
        written = exported(to, "normalized")
        folder = written.path.parent
        names = {path.name for path in files_of(written.path)}
        assert {path.name for path in folder.iterdir()} == names
        record = json.loads(written.certificate.read_text("utf-8"))
        assert record == json.loads(json.dumps(written.record))
        assert set(record["files"]) == names - {written.certificate.name}
        for name, digest in record["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
            here = str(Path(__file__).parents[2]).encode()
            assert here not in (folder / name).read_bytes()
        assert str(folder) not in json.dumps(record)
        assert record["passed"] is True
        assert record["versions"]["torch"] == torch.__version__
        cases = record["float32"]["cases"]
        assert {case["batch"] for case in cases} >= {1, 3}
        assert len({tuple(case["size"]) for case in cases}) == 2
        assert all(case["error"] <= case["bound"] for case in cases)
        agree, of = (record["float32"]["top1"][key] for key in ("agree", "of"))
        assert agree == of >= 32


def test_the_metadata(exported):
    import onnx

    path = exported("onnx", "pictures").path
    (entry,) = onnx.load(path).metadata_props
    assert entry.key == "resnets"
    metadata = json.loads(entry.value)
    model = network()
    assert metadata["schema_version"] == 1
    assert metadata["spec"] == model.spec.to_dict()
    assert metadata["preprocess"] == json.loads(json.dumps(model.preprocess.to_dict()))
    assert metadata["classes"] == list(model.classes)
    assert metadata["export"] == {
        "input": "pictures",
        "precision": "float32",
        "batch": "dynamic",
        "size": "dynamic",
        "folded": True,
    }


@pytest.mark.parametrize("to", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_equal_networks_give_equal_bytes(exported, to, tmp_path):
    first = exported(to, "normalized").path
    again = export(network(), tmp_path / first.name, to=to, size="dynamic").path
    assert again.read_bytes() == first.read_bytes()


def test_weights_are_exported_as_they_are(tmp_path):
    model = network()
    written = export(model, tmp_path / "net.safetensors", to="safetensors", made={"by": "hand"})
    again = open_model(written.path)
    assert again.preprocess == model.preprocess
    state = again.state_dict()
    assert all(state[key].equal(tensor) for key, tensor in model.state_dict().items())
    with safe_open(written.path, "pt") as file:
        assert json.loads(file.metadata()["resnets"])["made"] == {"by": "hand"}
    assert written.comparison.largest() == (0.0, 0.0)


def test_the_network_stays_as_it_is(tmp_path):
    model = network().double().train()
    export(model, tmp_path / "net.pt2", to="torch")
    assert model.training
    assert next(model.parameters()).dtype == torch.float64
    assert isinstance(model.bn1, torch.nn.BatchNorm2d)


def test_pictures_to_compare_with(tmp_path, photos, monkeypatch):
    model = network()
    asked = export(model, tmp_path / "a.pt2", to="torch", images=photos)
    assert asked.comparison.source == "a folder of images"
    assert asked.comparison.top1 == (30, 30)
    own = {"data": {"source": str(photos)}}
    assert export(model, tmp_path / "b.pt2", to="torch", made=own).comparison.top1 == (30, 30)
    gone = {"data": {"source": "nowhere/photos"}}
    pytest.importorskip("sklearn")
    other = export(model, tmp_path / "c.pt2", to="torch", made=gone)
    assert "scikit-learn" in other.comparison.source
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "sklearn.datasets", None)
        none = export(model, tmp_path / "d.pt2", to="torch")
    assert none.comparison.source == ""
    assert any("only generated images were used" in line for line in none.sentences())
    record = json.loads(none.certificate.read_text())
    assert record["float32"]["real_pictures"] is None
    four = network(in_channels=4)
    four.preprocess = None
    assert export(four, tmp_path / "e.pt2", to="torch").comparison.source == ""


# Specs in short form, of which each has a kind of layer that the others have not.
SHORT = {"depths": (1, 2), "widths": (16, 32), "num_classes": 5, "image_size": 64}
KINDS = [
    *("resnet18", "resnet18_v2", "plain18", "resnet18_a", "resnet50t", "se_resnet18"),
    *("eca_resnet50d", "resnext50_32x4d", "keras_resnet20_v1", "keras_resnet20_v2"),
    *("keras_applications_resnet50_v2", "resnet20_v2"),
]
QUICK = [("eca_resnet50d", "onnx")]


@pytest.mark.parametrize(
    ("name", "to"),
    [
        pytest.param(name, to, marks=[] if (name, to) in QUICK else pytest.mark.slow)
        for name in KINDS
        for to in TARGETS
    ],
)
def test_every_kind_of_block(tmp_path, name, to):
    torch.manual_seed(0)
    options = {**SHORT, "out_channels": (64, 128)} if ZOO[name].out_channels else SHORT
    model = scramble(create_model(name, **options)).eval()
    written = export(model, tmp_path / NAMES[to], to=to, size="dynamic")
    images = torch.randn(2, 3, 77, 64)
    found = open_runtime(written.path).logits(images.numpy())
    assert close(found, in_float64(model, images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_model_of_the_zoo(tmp_path, name):
    torch.manual_seed(0)
    model = create_model(name, image_size=32 if ZOO[name].stem == "3x3" else 64)
    with torch.no_grad():  # for statistics that fit, without which the deepest overflow
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        side = model.spec.image_size
        model.train()(torch.randn(4, 3, side, side))
    written = export(model.eval(), tmp_path / "net.onnx")
    assert written.comparison.used <= 1


def test_the_bound_is_a_small_multiple_of_torchs_own_error(exported):
    cases = exported("onnx", "normalized").comparison.cases
    largest = max(case.torch_error / case.largest for case in cases)
    for case in cases:
        assert case.bound == pytest.approx(check.FACTOR * max(largest, 2**-24) * case.largest)
        assert case.bound < 1e-4 * case.largest
