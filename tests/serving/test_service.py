"""The service: what it answers, what it refuses, and that nothing is left behind."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from conftest import coloured
from resnets import predict
from resnets.serving.bodies import Upload
from resnets.serving.decoding import Decoders
from resnets.serving.hosted import Limits
from resnets.weights.calibration import Calibration, Unknown
from resnets.weights.conformal import Conformal
from resnets.weights.shipped import shipped
from served import Toy, client_of, multipart, served, started


def png(label: int = 0, number: int = 0) -> bytes:
    file = io.BytesIO()
    coloured(label, number).save(file, "png")
    return file.getvalue()


def eventually(holds) -> None:
    """Wait until something holds; it is asked of another process or thread."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def client():
    with served({"toy": Toy()}, Limits(max_bytes=100_000)) as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sent")
    for label in range(3):
        (folder / f"{label}.png").write_bytes(png(label))
    (folder / "broken.png").write_bytes(png()[:200])
    return [folder / "broken.png", *(folder / f"{label}.png" for label in range(3))]


def test_answers_are_those_of_predict(client, files, monkeypatch):
    monkeypatch.chdir(files[0].parent)
    names = [path.name for path in files]
    expected = [each.to_dict() for each in predict(Toy(), names, top=2)]
    together = client.post_parts({path.name: path.read_bytes() for path in files}, "?top=2")
    assert together.status == 200
    assert together.json == {"model": "toy", "predictions": expected}
    for path, record in list(zip(files, expected, strict=True))[1:]:
        alone = client.post_parts({path.name: path.read_bytes()}, "?top=2&model=toy")
        assert alone.json == {"model": "toy", **record}
        del record["path"]
        assert client.post(path.read_bytes(), "?top=2").json == {"model": "toy", **record}


SETS = Conformal((0.3, 0.5), (0.4, 0.6), (0.4, 0.7))
MODELS = {
    "calibrated": {"calibration": Calibration(99, (2.0,), unknown=Unknown("energy", -1.2, 0.05))},
    "with sets": {"calibration": Calibration(99, (3.0,), conformal=SETS)},
    "several": {"outputs": "sigmoid", "thresholds": (0.58, 0.6, 0.62)},
    "pictures": {"input": "pictures"},
}


@pytest.mark.parametrize("kind", MODELS)
def test_answers_of_every_kind(files, kind):
    toy = Toy()
    vars(toy).update(MODELS[kind])
    asked, query = {}, ""
    if kind == "with sets":
        asked, query = {"coverage": 0.51, "sets": "aps"}, "?coverage=0.51&sets=aps"
    images = files[1:] if kind != "pictures" else [path for path in files[1:] for _ in range(5)]
    expected = [each.to_dict() for each in predict(toy, images, **asked)]
    with served({"toy": toy}) as client, ThreadPoolExecutor(4) as pool:
        replies = pool.map(lambda path: client.post(path.read_bytes(), query), images)
        for reply, record in zip(replies, expected, strict=True):
            del record["path"]
            assert reply.json == {"model": "toy", **record}
    assert len({json.dumps(record) for record in expected}) > 1


def test_a_name_is_text(client):
    reply = client.post_parts({"../<img onerror>\u202e.png": png()})
    assert reply.json["path"] == "../<img onerror>\\u202e.png"


def huge() -> bytes:
    """A small file whose header states 100 megapixels."""
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "png")
    return file.getvalue()


MULTIPART = "multipart/form-data; boundary=EdGe"
REFUSED = [
    (400, "top is 0", {"query": "?top=0"}),
    (400, "top is no number", {"query": "?top=many"}),
    (400, "top is said twice", {"query": "?top=1&top=2"}),
    (400, 'no parameter is called "tops"', {"query": "?tops=1"}),
    (400, "carries no label sets", {"query": "?coverage=0.9"}),
    (400, "sets is of label sets", {"query": "?sets=lac"}),
    (404, 'no model is called "other"', {"query": "?model=other"}),
    (413, "larger than 100,000 bytes", {"image": bytes(100_001)}),
    (413, "larger than 100,000 bytes", {"image": iter([bytes(60_000)] * 2)}),
    (413, "larger than 100,000 bytes", {"image": iter([multipart({"a": bytes(200_000)})])}),
    (413, "more than 128 images", {"image": multipart({str(i): b"" for i in range(129)})}),
    (415, "the body is text/plain", {"media": "text/plain"}),
    (422, "is text, not an image", {"image": b"hello"}),
    (422, "is empty", {"image": b""}),
    (422, "10000 x 10000, more pixels than the limit of 64", {"image": huge()}),
    (422, "cannot be decoded", {"image": multipart({"a.png": png()[:300]})}),
    (400, "names no boundary", {"media": "multipart/form-data"}),
    (400, "its last boundary is missing", {"image": multipart({"a": b"b"})[:-9]}),
    (400, "no multipart", {"image": b"hello", "media": MULTIPART}),
    (400, "a part of it is no file", {"image": multipart({"a": b""}).replace(b"filename", b"as")}),
]


@pytest.mark.parametrize(("status", "words", "sent"), REFUSED)
def test_refusals_are_answers(client, status, words, sent):
    sent = {"image": png(), **sent}
    if isinstance(sent["image"], bytes) and sent["image"].startswith(b"--EdGe"):
        sent["media"] = MULTIPART
    reply = client.post(**sent)
    assert reply.status == status, reply.body
    assert words in reply.json["error"]
    assert "\n" not in reply.json["error"]
    assert client.post(png()).status == 200


def test_hints_name_parameters_and_leave_options(client):
    hint = "leave out coverage, or train it again, with a held-out split and calibration"
    assert client.post(png(), "?coverage=0.9").json["hint"] == hint


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (404, ("GET", "/nothing")),
        (405, ("GET", "/predict")),
        (403, ("GET", "/health/live", None, {"Host": "evil.example:8000"})),
        (415, ("POST", "/predict", b"", {"Content-Type": "image/png", "Content-Encoding": "gzip"})),
    ],
)
def test_other_requests(client, status, request_):
    reply = client.ask(*request_)
    assert reply.status == status
    assert reply.json["error"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]", "LOCALHOST:9"])
def test_names_of_this_computer(client, host):
    assert client.ask("GET", "/health/ready", None, {"Host": host}).json == {"ready": True}


def test_a_length_that_is_too_large_is_refused_before_the_body_comes(client):
    with socket.create_connection((client.host, client.port)) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: 100000000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_no_http(client):
    with socket.create_connection((client.host, client.port)) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        reply = b"".join(iter(lambda: connection.recv(1000), b""))
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]


def test_a_token():
    with served({"toy": Toy()}, token="secret") as client:
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "secret"}):
            reply = client.ask("GET", "/metrics", None, headers)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        bearer = {"Authorization": "Bearer secret", "Content-Type": "image/png"}
        assert client.ask("POST", "/predict", png(), bearer).status == 200
        assert client.get("/health/ready").status == 200


def test_several_models():
    with served({"a": Toy(), "b": Toy()}) as client:
        assert client.post(png(), "?model=b").json["model"] == "b"
        reply = client.post(png())
        assert (reply.status, reply.json["hint"]) == (400, "?model=NAME: choose from a, b")


def test_what_waits_is_computed_together_and_what_is_too_much_is_refused():
    toy = Toy()
    with (
        served({"toy": toy}, Limits(max_batch=4, queue=6)) as client,
        ThreadPoolExecutor(6) as pool,
    ):
        toy.may.clear()
        first = pool.submit(client.post, png())
        assert toy.batches.get(timeout=60) == 1  # begun without waiting for more
        others = [pool.submit(client.post, png(1)) for _ in range(5)]
        eventually(lambda: client.measure("queue_length") == 6)
        eventually(lambda: client.measure("decode_seconds_count") == 6)
        full = client.post(png())
        assert (full.status, full.headers["retry-after"]) == (429, "1")
        toy.may.set()
        assert {each.result().status for each in [first, *others]} == {200}
        assert [toy.batches.get(timeout=60) for _ in range(2)] == [4, 1]
        assert client.measure("queue_length") == 0


def test_the_deadline():
    toy = Toy()
    with served({"toy": toy}, Limits(max_batch=1, timeout=0.2)) as client:
        toy.may.clear()
        with ThreadPoolExecutor(3) as pool:
            replies = list(pool.map(client.post, [png()] * 3))
        for reply in replies:
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        toy.may.set()
        assert client.post(png()).status == 200
        assert toy.batches.qsize() == 2  # what had waited too long was never computed


def test_a_slow_body():
    with served({"toy": Toy()}, Limits(timeout=0.2)) as client:
        with socket.create_connection((client.host, client.port)) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                b"Content-Length: 1000\r\n\r\n12345"
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        assert client.post(png()).status == 200


def test_clients_that_leave_take_their_work_with_them():
    toy = Toy()
    body = png()
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with served({"toy": toy}, Limits(max_batch=2, queue=200)) as client:
        toy.may.clear()
        connections = [socket.create_connection((client.host, client.port)) for _ in range(200)]
        for number, connection in enumerate(connections):
            connection.sendall(head + (body if number % 4 else body[:50]))
        eventually(lambda: client.measure("queue_length") == 150)
        for connection in connections:
            connection.close()
        eventually(lambda: client.measure("queue_length") == 0)
        assert client.measure("working") <= 2
        toy.may.set()
        assert client.post(png()).status == 200
        assert client.measure("working") == 0
        assert client.measure("dropped_total") == 150
        assert sum(toy.batches.get_nowait() for _ in range(toy.batches.qsize())) <= 3


def test_what_is_accepted_is_answered_in_the_end():
    toy = Toy()
    with served({"toy": toy}) as client, ThreadPoolExecutor(1) as pool:
        toy.may.clear()
        accepted = pool.submit(client.post, png())
        toy.batches.get(timeout=60)
        client.drain()
        assert client.get("/health/live").status == 200
        assert client.get("/health/ready").status == 503
        reply = client.post(png())
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        toy.may.set()
        assert accepted.result().status == 200
        with pytest.raises(ConnectionError):
            eventually(lambda: client.get("/health/live").status != 200)


def test_the_command(tmp_path):
    model = shipped("resnet20", "cifar10")
    words = [sys.executable, "-m", "resnets", "serve"]
    with started([*words, f"small={model}", "--port", "0", "--json"]) as process:
        said = json.loads(process.stdout.readline())
        assert said["models"] == [{"name": "small", "runtime": "torch"}]
        client = client_of(said["url"])
        (tmp_path / "a.png").write_bytes(png())
        (expected,) = predict(model, [tmp_path / "a.png"])
        found = client.post(png()).json
        assert found == {"model": "small", "predictions": expected.to_dict()["predictions"]}
        taken = subprocess.run(
            [*words, str(model), "--port", str(client.port)], capture_output=True, text=True
        )
        assert taken.returncode == 7
        said = f"error: 127.0.0.1:{client.port}: cannot be served at: "
        assert taken.stderr.startswith(said)
        with socket.create_connection((client.host, client.port)) as connection:
            head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(png()))
            eventually(lambda: client.measure("requests_in_flight") == 2)
            process.send_signal(signal.SIGTERM)
            eventually(lambda: client.get("/health/ready").status == 503)
            connection.sendall(png())
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        assert process.wait(60) == 0


SERVED = """
import sys
from resnets.serving import running
from resnets.serving.service import Service
from served import Toy
assert "torch" not in sys.modules
sock = running.bound("127.0.0.1", 0)
running.serve(Service({"toy": Toy()}), sock, lambda: print(running.url(sock), flush=True))
"""


def test_the_second_signal_ends_it_at_once():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with started([sys.executable, "-c", SERVED], env=environment) as process:
        client = client_of(process.stdout.readline())
        assert client.post(png()).json["model"] == "toy"
        with socket.create_connection((client.host, client.port)) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                b"Content-Length: 1000\r\n\r\n"
            )
            eventually(lambda: client.measure("requests_in_flight") == 2)
            process.send_signal(signal.SIGINT)
            eventually(lambda: client.get("/health/ready").status == 503)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a/m.onnx", "b/m.onnx"], "a/m.onnx and b/m.onnx would both be called m"),
        (["a b=m.onnx"], '"a b" is no name for a model'),
        (["a=m.onnx", "b=m.onnx", "--outputs", "sigmoid"], "--outputs: of which model?"),
        (["m.onnx", "--host", "256.1.1.1"], "256.1.1.1: is no address of this computer"),
    ],
)
def test_usage(resnets, words, said):
    code, _, err = resnets("serve", *words)
    assert code == 2
    assert said in err


def test_others_are_let_in_with_a_warning(resnets, monkeypatch):
    words = ("serve", "missing.onnx", "--host", "0.0.0.0", "--port", "0")
    code, _, err = resnets(*words)
    assert code == 4
    assert "warning: whoever reaches 0.0.0.0 may use it" in err
    monkeypatch.setenv("RESNETS_TOKEN", "secret")
    assert "warning" not in resnets(*words)[2]
    assert "warning" not in resnets("serve", "missing.onnx", "--host", "::1", "--port", "0")[2]


def test_large_images_are_decoded_one_after_the_other():
    """Those of which two have more pixels than one may have; small ones are decoded beside them."""
    file = io.BytesIO()
    Image.new("1", (8000, 5000)).save(file, "png")
    together = threading.Barrier(2)

    def meets(image) -> bool:
        try:
            together.wait(0.2)
        except threading.BrokenBarrierError:
            together.reset()
            return False
        return True

    decoders = Decoders(4)
    try:
        small, large = Upload(png()), Upload(file.getvalue())
        pair = [decoders.submit(meets, large) for _ in range(2)]
        assert [each.result() for each in pair] == [False, False]
        for several in ([large, small], [small, small]):
            pair = [decoders.submit(meets, image) for image in several]
            assert [each.result() for each in pair] == [True, True]
    finally:
        decoders.close()
