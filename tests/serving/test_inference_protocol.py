"""The Open Inference Protocol as functions: bytes to requests, answers to bytes."""

import base64
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from resnets.data.preprocess import identity
from resnets.errors import UsageError
from resnets.inference.prediction import labelled
from resnets.inference.runtimes import Runtime
from resnets.serving.inference_protocol import (
    MOST_VALUES,
    answer,
    inputs,
    metadata,
    outputs,
    read_request,
)
from resnets.weights.calibration import Calibration, Unknown
from resnets.zoo import get_spec

SIDE = 4


class Colours(Runtime):
    """A model whose logits are the sums of the channels."""

    name, version, classes, outputs = "colours", "1", ("red", "grün", "blue"), "softmax"
    spec, preprocess, made = replace(get_spec("resnet20"), num_classes=3), identity(3, SIDE), {}

    def __init__(self, form: str = "normalized") -> None:
        self.input = form

    def logits(self, images):
        axes = (1, 2) if self.input == "pictures" else (2, 3)
        return images.sum(axes, dtype=np.float32)

    def digest(self):
        return "0" * 64


MODEL = Colours()
IMAGES = np.random.default_rng(0).normal(0, 0.1, (2, 3, SIDE, SIDE)).astype(np.float32)


def body(*given, rest: bytes = b"", **more) -> tuple[bytes, str]:
    text = json.dumps({"inputs": given, **more}).encode()
    return text + rest, str(len(text))


def tensor(values=IMAGES, name="images", kind="FP32", shape=None, **more) -> dict:
    return {"name": name, "datatype": kind, "shape": shape or [*np.shape(values)], **more}


def as_json(values=IMAGES, **more) -> dict:
    return tensor(values, data=np.ravel(values).tolist(), **more)


def in_bytes(size: int, **more) -> dict:
    return tensor(parameters={"binary_data_size": size}, **more)


def read(message: tuple[bytes, str | None], model=MODEL, most: int = 8):
    return read_request(*message, model, most)


def answers(message: tuple[bytes, str | None], model=MODEL):
    """What a client makes of the answer to a tensor of images: the record, and arrays by name."""
    request = read(message, model)
    data, length = answer("colours", request, model, model.logits(request.images))
    record, rest = json.loads(data[:length]), data[length:] if length else b""
    found = {}
    for output in record["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = output["data"]
        else:
            part, rest = rest[:size], rest[size:]
            kinds = {"FP32": "<f4", "FP64": "<f8", "BOOL": "?"}
            is_text = output["datatype"] == "BYTES"
            values = elements(part) if is_text else np.frombuffer(part, kinds[output["datatype"]])
        found[output["name"]] = np.array(values).reshape(output["shape"])
    assert not rest
    return record, found


def elements(data: bytes) -> list[str]:
    found = []
    while data:
        (size,) = struct.unpack("<I", data[:4])
        found.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return found


def test_json_and_bytes_say_the_same():
    flat, _ = body(as_json())
    nested, _ = body(tensor(data=IMAGES.tolist()))
    binary = body(in_bytes(IMAGES.nbytes), rest=IMAGES.tobytes())
    for message in ((flat, None), (nested, None), binary):
        assert np.array_equal(read(message).images, IMAGES)
        record, found = answers(message)
        assert record["model_name"] == "colours"
        assert "id" not in record
        assert np.array_equal(found["logits"], MODEL.logits(IMAGES))
        assert np.array_equal(found["probabilities"], MODEL.probabilities(MODEL.logits(IMAGES)))
        best = np.argsort(-found["logits"], 1)
        assert found["classes"].tolist() == np.array(MODEL.classes)[best].tolist()


def test_binary_outputs_are_the_json_ones():
    plain, _ = body(as_json(), id="\ud800é")
    asked, _ = body(as_json(), parameters={"binary_data_output": True, "top": 2}, id="\ud800é")
    one = [{"name": "classes", "parameters": {"binary_data": True}}, {"name": "logits"}]
    mixed, _ = body(as_json(), outputs=one)
    (_, known), (record, binary) = answers((plain, None)), answers((asked, None))
    assert record["id"] == "\ud800é"  # as it was sent
    assert all("data" not in output for output in record["outputs"])
    assert np.array_equal(binary["logits"], known["logits"])
    assert np.array_equal(binary["probabilities"], known["probabilities"])
    assert np.array_equal(binary["classes"], known["classes"][:, :2])
    record, found = answers((mixed, None))
    assert [output["name"] for output in record["outputs"]] == ["classes", "logits"]
    assert ["data" in output for output in record["outputs"]] == [False, True]
    assert np.array_equal(found["classes"], known["classes"])


def test_classification_as_triton_writes_it():
    asked = [{"name": "probabilities", "parameters": {"classification": 2}}]
    record, found = answers((body(as_json(), outputs=asked)[0], None))
    assert record["outputs"][0]["datatype"] == "BYTES"
    p = MODEL.probabilities(MODEL.logits(IMAGES))
    for row, texts in zip(p, found["probabilities"], strict=True):
        best = np.argsort(-row)[:2]
        assert texts.tolist() == [f"{row[i]}:{i}:{MODEL.classes[i]}" for i in best]


def test_what_a_model_tells_of_strange_images():
    model, logits = Colours(), MODEL.logits(IMAGES)
    strangeness = Unknown("energy", 0.0, 0.05)
    middle = float(strangeness.of(logits).mean())
    model.calibration = Calibration(100, unknown=replace(strangeness, threshold=middle))
    expected = [(each.unknown, each.unknown_score) for each in labelled(model, ["", ""], logits)]
    for binary in (False, True):
        asked = {"parameters": {"binary_data_output": binary}}
        _, found = answers((body(as_json(), **asked)[0], None), model)
        pairs = zip(found["unknown"].tolist(), found["unknown_score"].tolist(), strict=True)
        assert [*pairs] == expected
    assert {each for each, _ in expected} == {True, False}
    assert "unknown" in outputs(model)
    assert "unknown" not in outputs(MODEL)


def test_files_as_base64_as_bytes_and_bare():
    files = [b"\xff\xd8 one", b"", b"\x89PNG"]
    packed = b"".join(struct.pack("<I", len(file)) + file for file in files)
    form = {"name": "files", "kind": "BYTES", "shape": [3]}
    texts = [base64.b64encode(file).decode() for file in files]
    for message in (
        (body(tensor(**form, data=texts))[0], None),
        body(in_bytes(len(packed), **form), rest=packed),
    ):
        assert read(message).files == tuple(files)
    bare = read((files[0], "0"))
    assert bare.files == (files[0],)
    assert {output.name for output in bare.outputs} == {"probabilities", "logits", "classes"}
    assert all(output.binary for output in bare.outputs)


def test_each_form_of_a_model():
    """What `Runtime.input` says, the metadata say, and such a tensor is read."""
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, SIDE, SIDE), np.uint8)
    for form, shape, values in (
        ("pixels", [-1, 3, SIDE, SIDE], pixels),
        ("pictures", [-1, -1, -1, 3], np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))),
    ):
        model = Colours(form)
        told = metadata("colours", model)
        assert told["inputs"][0] == {
            "name": "images",
            "datatype": "UINT8",
            "shape": shape,
            "parameters": {"one_of": ["images", "files"]},
        }
        assert told["outputs"][0]["parameters"]["labels"] == list(model.classes)
        for message in (
            (body(as_json(values, kind="UINT8"))[0], None),
            body(
                in_bytes(values.nbytes, kind="UINT8", shape=[*values.shape]), rest=values.tobytes()
            ),
        ):
            assert np.array_equal(read(message, model).images, values)
            assert np.array_equal(answers(message, model)[1]["logits"], model.logits(values))


def test_channels_that_no_file_has():
    model = Colours()
    model.spec, model.preprocess = replace(get_spec("resnet20"), in_channels=4), identity(4, SIDE)
    assert list(inputs(model)) == ["images"]
    for message in ((b"\xff\xd8", "0"), (body(tensor([0], "files", "BYTES"))[0], None)):
        with pytest.raises(UsageError, match='no input is called "files"'):
            read(message, model)


HALF = IMAGES[:1]
REFUSED = {
    "no list of inputs": ({"inputs": 3}, '"inputs" of the request is no list'),
    "no inputs": ({}, "has 0 inputs"),
    "two inputs": ({"inputs": [as_json(), as_json()]}, "has 2 inputs"),
    "an input that is a number": ({"inputs": [1]}, "no objects"),
    "unknown input": ({"inputs": [as_json(name="image")]}, 'no input is called "image"'),
    "a name that is a list": ({"inputs": [as_json(name=[])]}, '"name" of the request is no text'),
    "a long name": ({"inputs": [as_json(name="i" * 10**6)]}, "no input"),
    "another datatype": ({"inputs": [as_json(kind="FP64")]}, "FP32 .*, not FP64"),
    "another shape": ({"inputs": [as_json(shape=[2, 3, SIDE, 5])]}, r"not FP32 \[2, 3, 4, 5\]"),
    "fewer dimensions": ({"inputs": [as_json(shape=[3, SIDE, SIDE])]}, r"not FP32 \[3, 4, 4\]"),
    "a negative shape": ({"inputs": [as_json(shape=[-2, 3, SIDE, SIDE])]}, '"shape"'),
    "a shape of true": ({"inputs": [as_json(shape=[True, 3, SIDE, SIDE])]}, '"shape"'),
    "a real shape": ({"inputs": [as_json(shape=[2.0, 3, SIDE, SIDE])]}, '"shape"'),
    "many dimensions": ({"inputs": [as_json(shape=[1] * 10**5)]}, '"shape"'),
    "a shape beyond all": ({"inputs": [as_json(shape=[10**18, 3, SIDE, SIDE])]}, "may have 1 to 8"),
    "nothing": ({"inputs": [as_json(IMAGES[:0])]}, "has 0 images"),
    "too much": ({"inputs": [as_json(np.repeat(IMAGES, 5, 0))]}, "has 10 images"),
    "fewer values": ({"inputs": [as_json(HALF, shape=[2, 3, 4, 4])]}, "96 values where it has 48"),
    "no data": ({"inputs": [tensor()]}, "96 values where it has 0"),
    "ragged": ({"inputs": [tensor(data=[[], *IMAGES.tolist()][:2])]}, "3 values where it has 0"),
    "half nested": (
        {"inputs": [tensor(data=[IMAGES[0].tolist(), 1])]},
        "3 values where it has none",
    ),
    "deeper": ({"inputs": [tensor(data=IMAGES[..., None].tolist())]}, "no numbers"),
    "texts": ({"inputs": [tensor(data=["1"] * 96)]}, "no numbers"),
    "true": ({"inputs": [tensor(data=[True] * 96)]}, "no numbers"),
    "null": ({"inputs": [tensor(data=[None] * 96)]}, "no numbers"),
    "beyond float32": ({"inputs": [tensor(data=[1e300] * 96)]}, "NaN or infinite"),
    "no base64": ({"inputs": [tensor([0], "files", "BYTES", data=["ä"])]}, "no base64"),
    "base64 of numbers": ({"inputs": [tensor([0], "files", "BYTES", data=[1])]}, "no base64"),
    "nested files": (
        {"inputs": [tensor([0], "files", "BYTES", data=[[], []])]},
        "takes 1 values where it has 2",
    ),
    "an unknown output": ({"inputs": [as_json()], "outputs": [{"name": "logit"}]}, "no output"),
    "an output twice": ({"inputs": [as_json()], "outputs": [{"name": "logits"}] * 2}, "twice"),
    "a name to classify": (
        {
            "inputs": [as_json()],
            "outputs": [{"name": "classes", "parameters": {"classification": 1}}],
        },
        "no classes to rank",
    ),
    "no class": (
        {
            "inputs": [as_json()],
            "outputs": [{"name": "logits", "parameters": {"classification": 0}}],
        },
        "must be at least 1",
    ),
    "binary as a text": (
        {"inputs": [as_json()], "parameters": {"binary_data_output": "yes"}},
        "no true or false",
    ),
    "a number as id": ({"inputs": [as_json()], "id": 3}, '"id" of the request is no text'),
    "parameters as a list": ({"inputs": [as_json()], "parameters": []}, "no object"),
    "top of nothing": ({"inputs": [as_json()], "parameters": {"top": -1}}, "at least 1"),
    "no object": ([1], "no object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    asked, reason = REFUSED[name]
    with pytest.raises(UsageError, match=reason) as caught:
        read((json.dumps(asked).encode(), None))
    assert len(caught.value.message) < 500
    assert "\n" not in caught.value.message


FILES = {"name": "files", "kind": "BYTES", "shape": [2]}
LIES = {
    "NaN": (np.full(96, np.nan, "<f4").tobytes(), {}, 384, "NaN or infinite"),
    "infinite": (np.full(96, np.inf, "<f4").tobytes(), {}, 384, "NaN or infinite"),
    "bytes that miss": (bytes(380), {}, 380, "takes 384 bytes, not 380"),
    "bytes that follow": (bytes(388), {}, 384, "384, and 388 bytes follow"),
    "bytes that are promised": (bytes(384), {}, 10**18, "and 384 bytes follow"),
    "bytes below nothing": (b"", {}, -4, "and 0 bytes follow"),
    "a shape that lies": (bytes(384), {"shape": [8, 3, SIDE, SIDE]}, 384, "takes 1536 bytes"),
    "elements that lie": (struct.pack("<I", 2**32 - 1) + b"abc", FILES, 7, "4294967295 bytes"),
    "half a length": (struct.pack("<I", 1) + b"abc", FILES, 7, "2 bytes follow its last element"),
    "an element too few": (struct.pack("<I", 3) + b"abc", FILES, 7, "takes 2 elements, and has 1"),
    "elements without end": (bytes(4 * 10**6), FILES, 4 * 10**6, "and has more"),
}


@pytest.mark.parametrize("name", LIES)
def test_lying_bytes(name):
    rest, form, size, reason = LIES[name]
    with pytest.raises(UsageError, match=reason):
        read(body(in_bytes(size, **form), rest=rest))


@pytest.mark.parametrize(
    ("data", "header", "reason"),
    [
        (b"", None, "not JSON"),
        (b"", "0", None),  # an empty file, which is told when it is decoded
        (b"{}", "3", "no number of bytes up to 2"),
        (b"{}", "-1", "no number of bytes"),
        (b"{}", "\u0662", "no number of bytes"),
        (b"{}", "2" * 5000, "no number of bytes"),
        (b'{"inputs": NaN}', None, "no finite number"),
        (b'{"inputs": 1' + b"0" * 5000 + b"}", None, "5,001 digits"),
        (b'{"inputs": 1e999}', None, "no finite number"),
        (b"\xff\xfe{}", None, "utf-8"),
        (b"[" * 100_000, None, "nested too deeply"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, None, "nested too deeply"),
        (b"[" + b"1," * MOST_VALUES + b"1]", None, "send binary data"),
        (b"[" + b"{}," * (MOST_VALUES // 2) + b"1]", None, "send binary data"),
        (body(as_json())[0] + b"\0", "10", "not JSON"),
        (body(as_json())[0] + b"\0\0", body(as_json())[1], "2 bytes follow"),
        (
            body(as_json(parameters={"binary_data_size": 4}), rest=b"abcd")[0],
            body(as_json(parameters={"binary_data_size": 4}))[1],
            "both as JSON and binary",
        ),
    ],
)
def test_bodies_that_are_none(data, header, reason):
    if reason is None:
        assert read((data, header)).files == (data,)
        return
    with pytest.raises(UsageError) as caught:
        read((data, header))
    assert reason in str(caught.value)


@settings(max_examples=40)
@given(arrays(np.float32, st.tuples(st.integers(1, 3), *map(st.just, (3, SIDE, SIDE)))))
def test_any_tensor(values):
    """Each finite one is read to the bit, as JSON and as bytes; each other one is refused."""
    binary = body(in_bytes(values.nbytes, shape=[*values.shape]), rest=values.tobytes())
    if not np.isfinite(values).all():
        with pytest.raises(UsageError, match="NaN or infinite"):
            read(binary)
        return
    for message in ((body(as_json(values))[0], None), binary):
        assert read(message).images.tobytes() == values.tobytes()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "id"]) | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def read_or_refused(data: bytes, header: str | None):
    """The request, or None where it was refused in one line."""
    try:
        return read((data, header))
    except UsageError as error:
        one_line = "\n" not in error.message
    assert one_line
    return None


@settings(max_examples=50)
@given(JSON, JSON, JSON, st.binary(max_size=40))
def test_any_json(first, second, parameters, rest):
    """Whatever stands there, it is read, or refused in one line."""
    asked = {"inputs": [as_json(), first, second], "outputs": [second], "parameters": parameters}
    usual = {"inputs": [as_json() | (first if isinstance(first, dict) else {})], "id": second}
    for value in (first, asked, usual):
        text = json.dumps(value).encode()
        for data in (text, text + rest):
            if request := read_or_refused(data, str(len(text))):
                answer("colours", request, MODEL, MODEL.logits(request.images))


@given(st.binary(max_size=200), st.none() | st.text(max_size=5) | st.integers(0, 200).map(str))
def test_any_bytes(data, header):
    request = read_or_refused(data, header)
    assert request is None or request.files == (data,)


def test_outputs_are_those_of_the_metadata():
    told = {output["name"]: output for output in metadata("colours", MODEL)["outputs"]}
    assert told.keys() == outputs(MODEL).keys()
    record, _ = answers((body(as_json())[0], None))
    for output in record["outputs"]:
        known = told[output["name"]]
        assert output["datatype"] == known["datatype"]
        for size, said in zip(output["shape"], known["shape"], strict=True):
            assert said in (-1, size)
