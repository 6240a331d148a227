"""The Open Inference Protocol over HTTP: the same answers as predict's, and as clients expect."""

import base64
import io
import json
import struct

import numpy as np
import pytest

from conftest import coloured
from resnets import predict
from resnets.inference.prediction import prepared
from resnets.serving.hosted import Limits
from served import Toy, served

HEADER = "Inference-Header-Content-Length"


def png(label: int) -> bytes:
    file = io.BytesIO()
    coloured(label, 0).save(file, "png")
    return file.getvalue()


FILES = [png(label) for label in range(3)]
PACKED = b"".join(struct.pack("<I", len(file)) + file for file in FILES)


class Spoilt(Toy):
    def logits(self, images):
        return np.full((len(images), 3), np.inf, np.float32)


@pytest.fixture(scope="module")
def client():
    models = {"toy": Toy(), "other": Toy(), "spoilt": Spoilt()}
    with served(models, Limits(max_bytes=100_000)) as found:
        yield found


def ask(client, asked, rest: bytes = b"", name: str = "toy"):
    text = json.dumps(asked).encode()
    headers = {HEADER: str(len(text))} if rest else {}
    return client.ask("POST", f"/v2/models/{name}/infer", text + rest, headers)


def files(count: int = 3, **more) -> dict:
    return {"name": "files", "datatype": "BYTES", "shape": [count], **more}


def as_json(data: list[bytes]) -> dict:
    return files(len(data), data=[base64.b64encode(file).decode() for file in data])


def test_who_is_there(client):
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").json == {"ready": True}
    about = client.get("/v2").json
    assert (about["name"], about["extensions"][0]) == ("resnets", "binary_tensor_data")
    assert client.get("/v2/models/other/ready").json == {"name": "other", "ready": True}
    assert [each["name"] for each in client.get("/v2/models/toy").json["inputs"]] == [
        "images",
        "files",
    ]


def test_answers_are_those_of_predict(client, tmp_path):
    """Of files as JSON and as bytes, and of tensors of the same images."""
    paths = [tmp_path / f"{label}.png" for label in range(3)]
    for path, data in zip(paths, FILES, strict=True):
        path.write_bytes(data)
    expected = [each.to_dict()["predictions"] for each in predict(Toy(), paths, top=2)]
    images = np.concatenate([prepared(Toy(), path) for path in paths])
    tensor = {"name": "images", "datatype": "FP32", "shape": [*images.shape]}
    size = {"binary_data_size": len(PACKED)}
    parameters = {"top": 2}
    for asked, rest in (
        (as_json(FILES), b""),
        (files(parameters=size), PACKED),
        (tensor | {"data": images.tolist()}, b""),
        (tensor | {"parameters": {"binary_data_size": images.nbytes}}, images.tobytes()),
    ):
        reply = ask(client, {"id": "7", "inputs": [asked], "parameters": parameters}, rest)
        assert reply.status == 200, reply.body
        assert reply.json["id"] == "7"
        found = {each["name"]: each for each in reply.json["outputs"]}
        p = np.reshape(found["probabilities"]["data"], found["probabilities"]["shape"])
        classes = np.reshape(found["classes"]["data"], found["classes"]["shape"])
        assert [
            [
                {"class": name, "probability": round(row[Toy.classes.index(name)], 6)}
                for name in best
            ]
            for row, best in zip(p.tolist(), classes.tolist(), strict=True)
        ] == expected
        assert np.allclose(np.reshape(found["logits"]["data"], (3, 3)), images.mean((2, 3)), 1e-6)


def test_a_bare_file_is_answered_in_binary(client):
    reply = client.ask("POST", "/v2/models/toy/infer", FILES[2], {HEADER: "0"})
    assert reply.headers["content-type"] == "application/octet-stream"
    size = int(reply.headers[HEADER])
    outputs = json.loads(reply.body[:size])["outputs"]
    assert sum(each["parameters"]["binary_data_size"] for each in outputs) + size == len(reply.body)
    assert reply.body.endswith(b"\x04\0\0\0blue\x03\0\0\0red\x05\0\0\0green")


ZEROS = {"name": "images", "datatype": "FP32", "shape": [1, 3, 8, 8], "data": [0] * 192}
REFUSED = [
    (400, "the request is no JSON", b"hello"),
    (400, "has 0 inputs", {}),
    (404, "no model is called", ("missing", {})),
    (413, "larger than 100,000 bytes", {"id": "1" * 100_000}),
    (400, "may have 1 to 128", {"inputs": [files(129)]}),
    (422, "files[1]: is text, not an image", {"inputs": [as_json([FILES[0], b"hello"])]}),
    (422, "files[0]: is empty", {"inputs": [as_json([b""])]}),
    (422, 'answer to "images" is NaN or infinite', ("spoilt", {"inputs": [ZEROS]})),
    (500, "an answer is NaN or infinite", ("spoilt", {"inputs": [as_json(FILES)]})),
]


@pytest.mark.parametrize(("status", "words", "asked"), REFUSED)
def test_refusals_are_answers(client, status, words, asked):
    name, asked = asked if isinstance(asked, tuple) else ("toy", asked)
    text = asked if isinstance(asked, bytes) else json.dumps(asked)
    reply = client.ask("POST", f"/v2/models/{name}/infer", text)
    assert reply.status == status, reply.body
    assert words in reply.json["error"]


def test_tensors_wait_in_the_same_queue():
    images = ZEROS | {"shape": [5, 3, 8, 8], "data": [0] * 960}
    toy = Toy()
    with served({"toy": toy}, Limits(max_batch=2, queue=5)) as client:
        assert ask(client, {"inputs": [images]}).status == 200
        assert [toy.batches.get(timeout=60) for _ in range(3)] == [2, 2, 1]
        assert ask(client, {"inputs": [as_json(FILES * 2)]}).status == 400


def test_a_token():
    with served({"toy": Toy()}, token="secret") as client:
        assert client.get("/v2/health/ready").status == 200
        assert client.get("/v2").status == 401
        assert ask(client, {"inputs": [as_json(FILES)]}).status == 401


def test_the_client_of_triton(client):
    """What tritonclient sends and expects; it is looked for, and no dependency."""
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(f"{client.host}:{client.port}") as triton:
        assert triton.is_server_live()
        assert triton.is_server_ready()
        assert triton.is_model_ready("toy")
        assert triton.get_server_metadata()["name"] == "resnets"
        assert triton.get_model_metadata("toy")["inputs"][0]["shape"] == [-1, 3, 8, 8]
        sent = http.InferInput("files", [3], "BYTES")
        sent.set_data_from_numpy(np.array(FILES, dtype=object))
        found = triton.infer("toy", [sent], request_id="7")
        assert found.get_response()["id"] == "7"
        assert found.as_numpy("classes")[:, 0].tolist() == [b"red", b"green", b"blue"]
        assert found.as_numpy("probabilities").dtype == np.float64
        images = np.concatenate([prepared(Toy(), coloured(label, 0)) for label in range(3)])
        for binary in (False, True):
            sent = http.InferInput("images", [*images.shape], "FP32")
            sent.set_data_from_numpy(images, binary_data=binary)
            asked = [
                http.InferRequestedOutput("logits", binary_data=binary),
                http.InferRequestedOutput("probabilities", binary_data=binary, class_count=1),
            ]
            answer = triton.infer("toy", [sent], outputs=asked)
            assert np.array_equal(answer.as_numpy("logits"), found.as_numpy("logits"))
            first = np.ravel(answer.as_numpy("probabilities"))[0]
            value, number, label = (first if isinstance(first, str) else first.decode()).split(":")
            assert (float(value), number, label) == (
                found.as_numpy("probabilities").max(),
                "0",
                "red",
            )
        refused = http.InferInput("image", [1], "FP32")
        refused.set_data_from_numpy(np.zeros(1, np.float32))
        with pytest.raises(Exception, match='no input is called "image"'):
            triton.infer("toy", [refused])
