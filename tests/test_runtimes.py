"""Runtimes: they all compute the network, and say clearly what they cannot use."""

import copy
import gc
import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from conftest import coloured, scramble
from exported import Averaged, convert, export, metadata
from resnets import create_model, predict
from resnets.data.images import decode, pixels
from resnets.data.preprocess import identity
from resnets.errors import CheckpointError, ResourceError, UsageError
from resnets.inference.runtimes import choose, open_runtime
from resnets.inference.runtimes.torch_runtime import Network

CLASSES = tuple(f"class {i}" for i in range(10))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = scramble(create_model("resnet8", image_size=24)).eval()
    network.preprocess, network.classes, network.outputs = identity(3, 24), CLASSES, "softmax"
    return network


@pytest.fixture(scope="module")
def onnx(network, tmp_path_factory):
    return export(network, tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="module")
def xml(network, onnx, tmp_path_factory):
    path = tmp_path_factory.mktemp("openvino") / "model.xml"
    return convert(onnx, path, json.dumps(metadata(network)))


@pytest.fixture(scope="module")
def program(network, tmp_path_factory):
    return export(network, tmp_path_factory.mktemp("torch") / "model.pt2")


@pytest.fixture
def files(onnx, xml, program):
    return {".onnx": onnx, ".xml": xml, ".pt2": program}


def exact(network, images):
    with torch.no_grad():
        return copy.deepcopy(network).double()(torch.from_numpy(images).double()).numpy()


def noise(count, side=24):
    shape = (count, 3, side, side)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


READERS = [(".onnx", "onnxruntime"), (".onnx", "openvino"), (".xml", "openvino"), (".pt2", "torch")]


@pytest.mark.parametrize(("suffix", "name"), READERS)
@pytest.mark.parametrize("options", [{}, {"threads": 1}, {"count": 1}], ids=str)
def test_every_runtime_computes_the_network(files, network, suffix, name, options):
    """A processor with bfloat16 would be off by a hundredth where a runtime may choose it."""
    before = torch.get_num_threads()
    runtime = open_runtime(files[suffix], name, **options)
    torch.set_num_threads(before)
    assert (runtime.name, runtime.input, runtime.classes) == (name, "normalized", CLASSES)
    assert runtime.spec == network.spec
    assert runtime.preprocess == network.preprocess
    for count in (1, 5):
        found = runtime.logits(noise(count))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact(network, noise(count)), rtol=1e-5, atol=1e-5)


def test_openvino_tells_nobody_that_it_is_used(files):
    open_runtime(files[".xml"])
    assert sys.modules["openvino_telemetry"] is None


def test_onnx_runtime_tells_nobody_that_it_is_used(onnx, tmp_path):
    code = f"from resnets.inference.runtimes import open_runtime; open_runtime({str(onnx)!r})"
    quiet = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")  # what would keep it from that too
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    words = [sys.executable, "-c", code]
    assert not subprocess.run(words, env=environment | {"HOME": str(tmp_path)}).returncode
    assert not [path for path in tmp_path.rglob("*") if "icrosoft" in path.name]


def test_signals_are_handled_when_models_are_closed_as_they_were_opened(files):
    """OpenVINO changes the stack of handlers; without one the process ends by the signal."""
    first, second = (open_runtime(files[".xml"]) for _ in range(2))
    del first
    del second
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the fork computes nothing
        process = os.fork()
    if not process:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(1)
    assert os.waitpid(process, 0)[1] == 0


@pytest.mark.parametrize(("suffix", "name"), READERS)
def test_later_batches_leave_answers_alone(files, suffix, name):
    runtime = open_runtime(files[suffix], name)
    first = runtime.logits(noise(2))
    kept = first.copy()
    runtime.logits(-noise(2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(("suffix", "name"), READERS)
def test_pictures_that_may_only_be_read(files, network, suffix, name):
    images = noise(2)
    images.flags.writeable = False
    found = open_runtime(files[suffix], name).logits(images)
    np.testing.assert_allclose(found, exact(network, noise(2)), rtol=1e-5, atol=1e-5)


def test_a_checkpoint_is_computed_by_torch(network, tmp_path):
    from resnets import save_weights

    save_weights(network, tmp_path / "model.safetensors")
    runtime = open_runtime(tmp_path / "model.safetensors")
    assert (runtime.name, runtime.labels) == ("torch", CLASSES)
    np.testing.assert_allclose(runtime.logits(noise(2)), exact(network, noise(2)), atol=1e-5)


def test_where_a_network_finds_a_class(network):
    """It is where the classifier's weights meet the maps, and the network is as it was."""
    runtime, images = Network(network), noise(2)
    before = runtime.logits(images)
    heat = runtime.heat(images, 1)
    with torch.no_grad():
        maps = network.forward_features(torch.from_numpy(images))
    weights = network.fc.weight[1].detach()
    last = torch.einsum("nchw,c->nhw", maps, weights).relu() / maps[0, 0].numel()
    assert heat.shape == last.shape
    np.testing.assert_allclose(heat, last, rtol=1e-4, atol=1e-6)
    assert heat.max() > 0
    assert np.array_equal(runtime.logits(images), before)


def test_what_is_computed_is_digested(files, network, tmp_path):
    """Each kind of file has a digest that a changed weight changes, and a changed name does not."""
    changed = copy.deepcopy(network)
    with torch.no_grad():
        changed.fc.bias[3] += 1e-6
    for suffix, path in files.items():
        runtime = open_runtime(path)
        moved = (tmp_path / "moved").with_suffix(suffix)
        moved.write_bytes(path.read_bytes())
        if suffix == ".xml":
            weights = bytearray(path.with_suffix(".bin").read_bytes())
            moved.with_suffix(".bin").write_bytes(weights)
        assert open_runtime(moved).digest() == runtime.digest()
        if suffix == ".xml":
            weights[100] ^= 1
            moved.with_suffix(".bin").write_bytes(weights)
            assert open_runtime(moved).digest() != runtime.digest()
        else:
            export(changed, moved)
            assert open_runtime(moved).digest() != runtime.digest()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_batches_of_one_size_are_filled(network, tmp_path, name):
    runtime = open_runtime(export(network, tmp_path / "four.onnx", batch=4), name)
    for count in (1, 4, 6):
        found = runtime.logits(noise(count))
        np.testing.assert_allclose(found, exact(network, noise(count)), rtol=1e-5, atol=1e-5)


def test_forms_of_input(network, tmp_path):
    for number, side in enumerate((24, 40, 33)):
        coloured(number, number, side=side).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.glob("*.png"))
    normalised = exact(network, network.preprocess.arrays(files))
    pixels_in = export(network, tmp_path / "pixels.onnx", input="pixels")
    images_in = export(network, tmp_path / "pictures.onnx", input="pictures", size="dynamic")
    for name in ("onnxruntime", "openvino"):
        runtime = open_runtime(pixels_in, name)
        batch = np.concatenate([runtime.prepare(path) for path in files])
        assert batch.dtype == np.uint8
        assert batch.shape == (3, 3, 24, 24)
        np.testing.assert_allclose(runtime.logits(batch), normalised, rtol=1e-5, atol=1e-5)

        runtime = open_runtime(images_in, name)
        answers = predict(runtime, files, top=10, batch_size=2)
        for path, answer in zip(files, answers, strict=True):
            picture = pixels(decode(path, 3))[None]
            assert np.array_equal(runtime.prepare(path), picture)
            with torch.no_grad():
                expected = Averaged(network)(torch.from_numpy(picture.copy()))[0].softmax(0)
            order = [CLASSES.index(name) for name in answer.classes]
            np.testing.assert_allclose(answer.probabilities, expected[order], atol=1e-5)


def test_who_reads_what(onnx, tmp_path, monkeypatch):
    for suffix, name in READERS[:1] + READERS[2:]:
        assert choose(tmp_path / f"a{suffix}") == name
    assert choose(tmp_path) == choose(tmp_path / "a.pth") == "torch"
    (tmp_path / "run.onnx").mkdir()
    assert choose(tmp_path / "run.onnx") == "torch"  # a run folder may be called anything
    for path, name in (
        (onnx, "torch"),
        (tmp_path / "a.xml", "onnxruntime"),
        (tmp_path, "openvino"),
    ):
        with pytest.raises(UsageError, match=f"{name} does not read it"):
            open_runtime(path, name)
    with pytest.raises(UsageError, match='no runtime is called "tensorrt"'):
        open_runtime(onnx, "tensorrt")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert choose(onnx) == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose(onnx) == "onnxruntime"  # which then says what to install


@pytest.mark.parametrize(("name", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_missing_package(onnx, monkeypatch, name, extra):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ResourceError, match=f"needs {name}, which is not installed") as caught:
        open_runtime(onnx, name)
    assert f'pip install "resnets[{extra}]"' in caught.value.hint


def rewritten(onnx, path, text):
    """The same model with other metadata, or none."""
    from onnx import load, save

    model = load(onnx)
    del model.metadata_props[:]
    if text is not None:
        model.metadata_props.add(key="resnets", value=text)
    save(model, path)
    return path


BAD = {
    "foreign": (lambda p: None, "is no export of resnets"),
    "newer": (lambda p: p | {"schema_version": 9}, "version 9, this program knows 1"),
    "no spec": (lambda p: {k: v for k, v in p.items() if k != "spec"}, "damaged: 'spec'"),
    "not json": (lambda p: "{", "its metadata is damaged"),
    "a list": (lambda p: [], "its metadata is damaged"),
    "form": (lambda p: p | {"export": p["export"] | {"input": "sound"}}, "metadata is damaged"),
    "batch": (lambda p: p | {"export": p["export"] | {"batch": 0}}, "metadata is damaged"),
    "size": (
        lambda p: p | {"export": p["export"] | {"size": [24, 32]}},
        "takes images of 24 x 32, its preprocessing makes 24 x 24",
    ),
    "preprocess": (lambda p: p | {"preprocess": {"channels": 3}}, "preprocessing is damaged"),
}


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_metadata_that_are_not_right(onnx, network, tmp_path, name, change, message):
    values = change(metadata(network))
    text = values if values is None or isinstance(values, str) else json.dumps(values)
    with pytest.raises(CheckpointError, match=message):
        open_runtime(rewritten(onnx, tmp_path / "bad.onnx", text), name)


@pytest.mark.parametrize(("suffix", "name"), READERS)
def test_damaged_files(files, tmp_path, suffix, name, capfd):
    path = (tmp_path / "model").with_suffix(suffix)
    content = files[suffix].read_bytes()
    weights = files[".xml"].with_suffix(".bin").read_bytes()
    path.with_suffix(".bin").write_bytes(weights)
    for length in (0, 100, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"model\.\w+: is (damaged|no)"):
            open_runtime(path, name)
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        open_runtime(path, name)
    if suffix == ".xml":
        path.write_bytes(content)
        path.with_suffix(".bin").write_bytes(weights[:-4])
        with pytest.raises(CheckpointError, match="is damaged"):
            open_runtime(path)
        path.with_suffix(".bin").unlink()
        with pytest.raises(CheckpointError, match="its weights are missing"):
            open_runtime(path)
    assert capfd.readouterr().err == "" or suffix == ".onnx"  # OpenVINO tries every other reader


def test_a_batch_that_does_not_fit(onnx, network, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be computed"):
        open_runtime(onnx).logits(noise(2, side=16))
    text = json.dumps(metadata(network) | {"classes": ["a", "b"]})
    with pytest.raises(CheckpointError, match="it names 2 classes for 10 outputs"):
        open_runtime(rewritten(onnx, tmp_path / "two.onnx", text))


def test_without_preprocessing_nothing_is_predicted(onnx, network, tmp_path):
    text = json.dumps(metadata(network) | {"preprocess": None})
    runtime = open_runtime(rewritten(onnx, tmp_path / "raw.onnx", text))
    assert runtime.logits(noise(1)).shape == (1, 10)
    with pytest.raises(CheckpointError, match="how images must be prepared"):
        next(predict(runtime, tmp_path / "a.png"))


IMPORTS = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "onnx", "nncf"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
import resnets
(answer,) = resnets.predict(sys.argv[1], sys.argv[2], top=1)
print(answer.classes[0], sorted({"torch", "onnxruntime", "openvino"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("suffix", "name"), READERS[:1] + READERS[2:3])
def test_torch_is_never_imported(files, network, tmp_path, suffix, name):
    coloured(0, 0).save(tmp_path / "a.png")
    words = [sys.executable, "-c", IMPORTS, str(files[suffix]), str(tmp_path / "a.png")]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    (expected,) = predict(network, tmp_path / "a.png", top=1)
    assert out == f"{expected.classes[0]} ['{name}']\n"


PEAK = r"""
import re, sys
from resnets.cli import main
sys.argv[0] = "resnets"
try:
    main()
finally:
    # not ru_maxrss, which begins with what the process that started this one had
    peak = re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1]
    print(int(peak) // 1024, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's accounts")
def test_a_first_prediction_of_resnet50_takes_less_than_300_mb(tmp_path):
    torch.manual_seed(0)
    path = export(create_model("resnet50").eval(), tmp_path / "model.onnx")
    coloured(0, 0, side=500).save(tmp_path / "a.jpg")
    words = [sys.executable, "-c", PEAK, "predict", str(path), str(tmp_path / "a.jpg")]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stderr.split()[-1]) < 300


def elsewhere(model, kind: str) -> None:
    """Give a tensor of an ONNX model values that are not in the file."""
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    places = {
        "address": "*/_ORT_MEM_ADDR_/*",
        "file": "weights.bin",
        "parent": "../../etc/passwd",
        "absolute": "/etc/passwd",
        "nothing": "",
    }
    if kind in places:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", places[kind]), ("offset", "4096"), ("length", "16")):
            tensor.external_data.add(key=key, value=value)
    elif kind == "only the flag":
        tensor.data_location = TensorProto.EXTERNAL
    else:
        tensor.external_data.add(key="location", value="*/_ORT_MEM_ADDR_/*")
    if kind == "a constant":
        node = helper.make_node("Constant", [], ["c"], value=tensor)
        model.graph.node.append(node)
    elif kind == "a branch":
        graph = helper.make_graph([], "then", [], [], [tensor])
        model.graph.node.append(
            helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph)
        )
    elif kind == "a function":
        node = helper.make_node("Constant", [], ["c"], value=tensor)
        function = helper.make_function("own", "f", [], ["c"], [node], model.opset_import)
        model.functions.append(function)
    elif kind == "a sparse tensor":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    else:
        model.graph.initializer.append(tensor)


@pytest.mark.parametrize(
    "kind",
    [
        *("address", "file", "parent", "absolute", "nothing", "only the flag", "only the tag"),
        *("a constant", "a branch", "a function", "a sparse tensor"),
    ],
)
def test_values_from_outside_of_an_onnx_file_are_refused(onnx, tmp_path, kind):
    """Before any runtime opens it: one of them would read the address, and crash."""
    import onnx as package

    model = package.load(onnx)
    elsewhere(model, kind)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(CheckpointError, match="wants values from outside of the file"):
            open_runtime(path, name)
