"""Model repositories for Triton: what they say of a file is what a runtime says of it."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import network
from onnx import TensorProto, helper, numpy_helper

from conftest import killed_at, largest_file
from exported import metadata
from resnets.errors import CheckpointError, ResourceError, UsageError
from resnets.exporting.triton import export_for_triton, publish
from resnets.weights.calibration import Calibration, Unknown

TYPES = {"TYPE_FP32": "tensor(float)", "TYPE_UINT8": "tensor(uint8)"}


def exported(path: Path, *, sides=("N", 3, 16, 16), outputs=("logits",), **said) -> Path:
    """A file like our exports, which answers by the mean of an image; and its certificate."""
    count, classes = sides[0], said.pop("classes", ["apple", "bañana", 'c"d'])
    form = said.setdefault("input", "normalized")
    kind = TensorProto.FLOAT if form == "normalized" else TensorProto.UINT8
    shapes = {name: (count, len(classes)) for name in outputs} | {"unknown_score": (count,)}
    constants = {"axes": np.array([1, 2, 3]), "one": np.array([1]), "row": np.ones((1, 3), "f4")}
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["unknown_score"], keepdims=0),
        helper.make_node("Unsqueeze", ["unknown_score", "one"], ["column"]),
        helper.make_node("Mul", ["column", "row"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", kind, sides)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    text = json.dumps(metadata(network(), batch="dynamic", **said) | {"classes": classes})
    model.metadata_props.add(key="resnets", value=text)
    onnx.save(model, path)
    path.with_name(f"{path.name}.certificate.json").write_text('{"passed": true}\n')
    return path


def parsed(text: str) -> dict[str, list]:
    """The fields of a protocol buffer in text form, each a list of what it is given."""
    words = re.findall(r'"[^"]*"|[\w.-]+|[{}\[\]]', re.sub("#.*", "", text))

    def value():
        word = words.pop(0)
        if word == "{":
            found = message()
            assert words.pop(0) == "}"
            return found
        return json.loads(word) if word[0] in '"0123456789' else word

    def message() -> dict[str, list]:
        found: dict[str, list] = {}
        while words and words[0] != "}":
            values = found.setdefault(words.pop(0), [])
            if words[0] == "[":
                end = words.index("]")
                values += map(int, words[1:end])
                del words[: end + 1]
            else:
                values.append(value())
        return found

    found = message()
    assert not words
    return found


def check(path: Path, classes: list[str]) -> dict[str, list]:
    """Hold a model's configuration against a session with its file; return what it says."""
    home = path.parents[1]
    found = parsed((home / "config.pbtxt").read_text())
    assert (found["name"], found["backend"]) == ([home.name], ["onnxruntime"])
    session = onnxruntime.InferenceSession(path)
    tensors = session.get_inputs() + session.get_outputs()
    (most,) = found["max_batch_size"]
    batch = [] if most == 0 else [-1]  # which Triton puts before what dims say
    assert ("dynamic_batching" in found) == (most > 0) == isinstance(tensors[0].shape[0], str)
    for block, tensor in zip(found["input"] + found["output"], tensors, strict=True):
        shape = block["reshape"][0]["shape"] if "reshape" in block else block["dims"]
        sides = [side if isinstance(side, int) else -1 for side in tensor.shape]
        assert (block["name"], sides) == ([tensor.name], batch + shape)
        assert TYPES[block["data_type"][0]] == tensor.type
        assert block["dims"]  # Triton takes no tensor without
        if block.get("label_filename"):
            assert block["label_filename"] == ["labels.txt"]
            assert np.prod(block["dims"]) == len(classes)
    assert (home / "labels.txt").read_text("utf-8").splitlines() == classes
    (block,) = found["input"]
    channels = block["dims"].index(3)
    assert block.get("format") == ([("FORMAT_NCHW", "", "FORMAT_NHWC")[channels]] if most else None)
    return found


def labelled(found: dict[str, list]) -> list[str]:
    return [block["name"][0] for block in found["output"] if "label_filename" in block]


ALL = ("logits", "probabilities", "unknown_score")
FIXED, ANY = [16, 16], "dynamic"
PICTURES = {"input": "pictures", "size": "dynamic"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"outputs": ("logits", "probabilities")}, ["logits", "probabilities"]),
        ({"sides": ("N", 3, "H", "W"), "size": ANY}, ["logits"]),
        ({"sides": (1, 3, 16, 16), "input": "pixels", "outputs": ALL}, [*ALL[:2]]),
        ({"sides": (3, 3, 16, 16), "input": "pixels", "outputs": ALL}, []),
        ({"sides": ("N", "H", "W", 3), "outputs": ALL, **PICTURES}, [*ALL[:2]]),
    ],
)
def test_what_the_configuration_says_is_so(tmp_path, options, expected):
    file = exported(tmp_path / "model.onnx", **options)
    path = publish(file, tmp_path / "models" / "fruit")
    assert path == tmp_path / "models" / "fruit" / "1" / "model.onnx"
    assert labelled(check(path, ["apple", "bañana", 'c"d'])) == expected


@pytest.mark.slow
def test_a_network(tmp_path):
    model = network()
    model.calibration = Calibration(100, (0.37,), unknown=Unknown("energy", -1.0, 0.05))
    written = export_for_triton(model, tmp_path, "fruit", input="pictures")
    assert json.loads(written.certificate.read_text())["passed"]
    found = check(written.path, [*model.classes])
    assert labelled(found) == ["logits", "probabilities"]
    assert found["input"][0]["dims"] == [-1, -1, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["fruit"]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_another_version_leaves_all_else_as_it_is(tmp_path):
    home = tmp_path / "models" / "fruit"
    first = exported(tmp_path / "model.onnx")
    publish(first, home)
    config = home / "config.pbtxt"
    config.write_text(config.read_text() + "instance_group [ { kind: KIND_CPU } ]\n")
    (home / "9").mkdir()
    (home / "9" / "model.onnx").write_bytes(first.read_bytes())
    before = tree(home)
    assert publish(first, home) == home / "10" / "model.onnx"
    after = tree(home)
    assert after.items() >= before.items()
    names = ("model.onnx", "model.onnx.certificate.json")
    assert after.keys() - before.keys() == {f"10/{name}" for name in names}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["apple", "banana", 'c"d']}, "other classes"),
        ({"input": "pixels"}, r"another input, TYPE_FP32 \[-1, 3, 16, 16\]"),
        ({"outputs": ALL}, "other outputs: logits"),
    ],
)
def test_what_clients_would_not_notice_is_refused(tmp_path, change, words):
    home = tmp_path / "models" / "fruit"
    publish(exported(tmp_path / "model.onnx"), home)
    before = tree(home.parent)
    with pytest.raises(UsageError, match=f"fruit: its versions have {words}"):
        publish(exported(tmp_path / "model.onnx", **change), home)
    assert tree(home.parent) == before
    assert [path.name for path in home.parent.iterdir()] == ["fruit"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "two words", "-x", "ä", "a\n"])
def test_names_that_are_no_part_of_an_address(tmp_path, name):
    with pytest.raises(UsageError, match="no model of Triton can be called"):
        export_for_triton("nowhere", tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_of_triton_stays(tmp_path):
    (tmp_path / "fruit").mkdir()
    (tmp_path / "fruit" / "model.safetensors").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="fruit: is there, and is no model of Triton"):
        export_for_triton("nowhere", tmp_path, "fruit")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_a_version_that_is_none_of_ours(tmp_path, content):
    home = tmp_path / "fruit"
    (home / "1").mkdir(parents=True)
    (home / "config.pbtxt").write_text("")
    if content is not None:
        (home / "1" / "model.onnx").write_bytes(content)
    before = tree(home)
    with pytest.raises(CheckpointError, match=r"fruit/1/model\.onnx: "):
        publish(exported(tmp_path / "model.onnx"), home)
    assert tree(home) == before


@pytest.mark.parametrize("versions", [0, 1])
def test_a_full_disk_leaves_what_was_there(tmp_path, versions):
    file, home = exported(tmp_path / "model.onnx"), tmp_path / "models" / "fruit"
    for _ in range(versions):
        publish(file, home)
    before = tree(home)
    with (
        largest_file(file.stat().st_size - 1),
        pytest.raises(ResourceError, match="cannot be written: File too large"),
    ):
        publish(file, home)
    assert tree(home) == before
    assert [path.name for path in home.parent.iterdir()] == ["fruit"] * versions
    assert publish(file, home).parent.name == str(versions + 1)


@pytest.mark.parametrize("versions", [0, 1])
def test_killed_at_every_moment(tmp_path, versions):
    """What the server sees under a name is whole; the next export removes what is left."""
    file, moment, killed = exported(tmp_path / "model.onnx"), 0, True
    while killed:
        home = tmp_path / str(moment) / "fruit"
        home.parent.mkdir()
        for _ in range(versions):
            publish(file, home)
        killed = killed_at(moment, home.parent, lambda home=home: publish(file, home))
        there = {path.name for path in home.iterdir()} if home.exists() else set()
        numbers = sorted(name for name in there if name.isdecimal())
        assert not there or there >= {"config.pbtxt", "labels.txt", "1"}
        assert versions <= len(numbers) <= versions + 1
        for number in numbers:
            names = {path.name for path in (home / number).iterdir()}
            assert names == {"model.onnx", "model.onnx.certificate.json"}
        assert publish(file, home).parent.name == str(len(numbers) + 1)
        assert [path.name for path in home.parent.iterdir()] == ["fruit"]
        assert not [path for path in home.iterdir() if path.name.startswith(".")]
        moment += 1
    assert moment > 8


def test_names_of_classes_are_a_line_each(tmp_path):
    file = exported(tmp_path / "model.onnx", classes=["a\nb", "c\rd", "<img onerror>"])
    publish(file, tmp_path / "fruit")
    lines = (tmp_path / "fruit" / "labels.txt").read_bytes().split(b"\n")
    assert lines == [rb"a\nb", rb"c\rd", b"<img onerror>", b""]
