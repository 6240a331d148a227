"""The page of the service: its files, where a model looks, and all of it in a real browser."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image

from browser import Browser, Page, installed
from conftest import coloured, scramble
from resnets import create_model, predict
from resnets.analysis.features.overlays import overlay
from resnets.data.preprocess import Preprocess
from resnets.inference.runtimes.torch_runtime import Network
from resnets.report.style import environment
from resnets.serving.hosted import Limits
from served import Toy, served

MARKUP = "<img src=x onerror=alert(1)>"
CLASSES = ("cat", MARKUP, "Düne")
browser = pytest.mark.browser


@pytest.fixture(scope="module")
def network() -> Network:
    """A network of 32 x 32, of images of any size."""
    torch.manual_seed(0)
    model = scramble(create_model("resnet8", image_size=32, num_classes=3)).eval()
    model.classes, model.outputs = CLASSES, "softmax"
    model.preprocess = Preprocess(3, 40, 32, (0.5,) * 3, (0.2,) * 3)
    return Network(model)


@pytest.fixture(scope="module")
def client(network):
    with served({"net": network, "toy": Toy()}, Limits(max_bytes=100_000)) as found:
        yield found


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


class Markup(HTMLParser):
    """A page's tags and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_page_obeys_its_policy(client):
    reply = client.get("/")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    for name, value in {
        "content-security-policy": "default-src 'self'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
    }.items():
        for answer in (reply, client.get("/nothing"), client.post(b"", "?model=toy")):
            assert answer.headers[name] == value
    tags = Markup(reply.body.decode()).tags
    assert not [tag for tag, _ in tags if tag in ("style", "img", "base", "meta http-equiv")]
    assert not [a for _, attributes in tags for a in attributes if a.startswith(("on", "style"))]
    assert all(attributes.get("src") for tag, attributes in tags if tag == "script")
    kinds = {"page.css": "text/css", "page.js": "text/javascript", "engine.js": "text/javascript"}
    named = [a.get("src") or a.get("href") for tag, a in tags if tag in ("script", "link")]
    assert set(named) == {*kinds, "icon.svg"}
    for name in named:
        reply = client.get(f"/{name}")
        assert reply.status == 200
        kind = kinds.get(name, "image/svg+xml")
        assert reply.headers["content-type"].startswith(kind)
        assert b"{%" not in reply.body


def test_the_files_can_stand_inside_a_page():
    """A page of one file includes them: nothing in them means something to a template or HTML."""
    ui = files("resnets.serving").joinpath("ui")
    for name in ("page.js", "engine.js"):
        text = ui.joinpath(name).read_text("utf-8")
        assert environment("resnets.serving", "ui").get_template(name).render() + "\n" == text
        assert "</script" not in text
        assert "<!--" not in text


def test_without_a_token_the_page_says_nothing_of_the_models(network):
    with served({"secretive": network}, token="secret") as client:
        for path in ("/", "/page.css", "/page.js", "/engine.js", "/icon.svg"):
            reply = client.get(path)
            assert reply.status == 200
            assert b"secretive" not in reply.body
        assert client.get("/models").status == 401
        assert client.ask("POST", "/explain?class=cat", b"").status == 401


def test_the_models_are_told(client):
    assert client.get("/models").json == {
        "models": [
            {"name": "net", "classes": list(CLASSES), "explains": True},
            {"name": "toy", "classes": ["red", "green", "blue"], "explains": False},
        ]
    }


def explained(client, image: bytes, query: str = "?model=net&class=cat", media: str = "image/png"):
    return client.ask("POST", f"/explain{query}", image, {"Content-Type": media})


def test_where_it_looks_is_on_what_it_sees(client, network):
    image = coloured(1, 5, 90).resize((90, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    stored = encoded(image, "jpeg", exif=exif)
    reply = explained(client, stored, "?model=net&class=D%C3%BCne", "image/jpeg")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    shown = np.asarray(Image.open(io.BytesIO(reply.body)).convert("RGB"))
    upright = np.rot90(np.asarray(Image.open(io.BytesIO(stored))), -1)
    seen = network.preprocess.squares(Image.fromarray(upright))
    heat = network.heat(network.preprocess.normalized(seen), 2)
    expected = overlay(torch.from_numpy(seen[0]), torch.from_numpy(heat[0]))
    assert np.array_equal(shown, np.asarray(expected))
    other = explained(client, stored, "?model=net&class=cat", "image/jpeg")
    assert other.body != reply.body


@pytest.mark.parametrize(
    ("status", "words", "sent"),
    [
        (501, "toy cannot say where it looks", {"query": "?model=toy&class=red"}),
        (400, 'no class is called "cats"', {"query": "?model=net&class=cats"}),
        (400, "where is what?", {"query": "?model=net"}),
        (400, 'no parameter is called "top"', {"query": "?model=net&class=cat&top=2"}),
        (404, "no model", {"query": "?model=other&class=cat"}),
        (413, "larger than", {"image": bytes(100_001)}),
        (415, "not an image", {"media": "text/plain"}),
        (422, "is text, not an image", {"image": b"hello"}),
        (422, "speaks for cat", {"image": None}),
    ],
)
def test_what_cannot_be_explained(client, network, status, words, sent):
    sent = {"image": encoded(coloured(0, 0)), **sent}
    if sent["image"] is None:
        sent["image"] = encoded(silent(network))
    reply = explained(client, **sent)
    assert (reply.status, words in reply.json["error"]) == (status, True), reply.body
    if words.startswith("no class"):
        assert reply.json["hint"] == "did you mean cat?"


def silent(network: Network) -> Image.Image:
    """An image in which nothing speaks for the first class."""
    for level in range(256):
        image = Image.new("RGB", (40, 40), (level, 255 - level, 128))
        if not network.heat(network.prepare(image), 0).any():
            return image
    raise AssertionError("there is none")


def test_explaining_does_not_disturb_answers(client):
    """Both run in the one thread in which the model computes."""
    images = [encoded(coloured(label, number)) for label in range(3) for number in range(4)]
    before = [client.post(image, "?model=net").json for image in images]
    alone = [explained(client, image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(client.post, image, "?model=net") for image in images]
        glowing = [pool.submit(explained, client, image) for image in images]
    assert [each.result().json for each in answers] == before
    assert [each.result().body for each in glowing] == [each.body for each in alone]
    assert client.measure("queue_length") == 0


WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "matplotlib"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
from served import Toy, served
with served({"toy": Toy()}) as client:
    image = open(sys.argv[1], "rb").read()
    explained = client.ask("POST", "/explain?class=red", image, {"Content-Type": "image/png"})
    print([client.get(path).status for path in ("/", "/page.css", "/models")])
    print(client.post(image).status, explained.status)
"""


def test_without_torch(tmp_path):
    coloured(0, 0).save(tmp_path / "a.png")
    words = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "a.png")]
    folder = str(Path(__file__).parents[1])
    path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        words, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert run.stdout == "[200, 200, 200]\n200 501\n"


needs_browser = pytest.mark.skipif(installed() is None, reason="there is no browser")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as found:
        yield found


def opened(chromium: Browser, client, **shown) -> Page:
    return chromium.open(f"http://{client.host}:{client.port}/", **shown)


def answered(page: Page, count: int) -> None:
    page.wait(f"document.querySelectorAll('.card:not(.waiting)').length === {count}")


@browser
@needs_browser
def test_what_is_seen_is_what_predict_says(chromium, client, network, tmp_path):
    image = tmp_path / f"{MARKUP}.png".replace("/", "")
    coloured(2, 1, 100).save(image)
    (tmp_path / "notes.png").write_text("no image")
    coloured(0, 0, 900).save(tmp_path / "large.png")  # two megabytes, of which 100 kB are taken
    page = opened(chromium, client)
    page.wait("document.getElementById('model').textContent.startsWith('net')")
    page.drop(image, tmp_path / "notes.png", tmp_path / "large.png")
    answered(page, 3)
    (record,) = predict(network, image, top=5)
    shown = [line.split("\n")[:2] for line in page.text(".card:first-child .answers li")]
    assert [name for name, _ in shown] == list(record.classes)
    for (_, share), probability in zip(shown, record.probabilities, strict=True):
        assert abs(float(share.strip("<>\u00a0 %")) - 100 * probability) <= 0.1
    assert page.text(".name") == [image.name, "notes.png", "large.png"]
    assert page.text(".broken") == [
        "the image: is text, not an image",
        "the body is larger than 100,000 bytes",
    ]
    page.click(".answers li:nth-child(2) button")
    page.wait("document.querySelector('.look').textContent.startsWith('It glows')")
    glow = (
        "[...document.querySelectorAll('canvas')[1].getContext('2d').getImageData(9, 9, 1, 1).data]"
    )
    reply = explained(client, image.read_bytes(), f"?model=net&class={quote(record.classes[1])}")
    assert page.run(glow)[:3] == list(Image.open(io.BytesIO(reply.body)).getpixel((9, 9)))
    origin = f"http://{client.host}:{client.port}/"
    assert all(address.startswith(origin) for address in page.requests())
    assert [word for word in page.complaints() if "status of 4" not in word] == []
    assert page.run("document.querySelectorAll('img').length") == 0


@browser
@needs_browser
def test_a_full_service_is_asked_again(chromium, tmp_path):
    toy = Toy()
    for number in range(30):
        coloured(number % 3, number, 20).save(tmp_path / f"{number}.png")
    with served({"toy": toy}, Limits(max_batch=1, queue=1)) as client:
        page = opened(chromium, client)
        page.wait("document.getElementById('model').textContent.startsWith('toy')")
        page.drop(tmp_path)
        answered(page, 30)
        assert page.text(".broken") == []
        assert len(page.text(".answers")) == 30
        assert client.measure("refusals_total") > 0  # it was full, and nobody noticed
        toy.may.clear()
        page.drop(tmp_path / "0.png")
        page.wait("document.querySelector('.pending')?.textContent === 'looking …'")
        page.click("#clear")  # whose request is cancelled
        toy.may.set()


@browser
@needs_browser
def test_the_token_is_asked_for_before_anything_is_told(chromium, network, tmp_path):
    coloured(0, 0).save(tmp_path / "a.png")
    with served({"secretive": network}, token="secret") as client:
        page = opened(chromium, client, size=(390, 844))
        page.wait("!document.getElementById('token').hidden")
        assert "secretive" not in page.run("document.body.innerText")
        page.drop(tmp_path / "a.png")  # it waits for the token too
        page.type("guessed")
        page.press("Enter")
        page.wait("document.getElementById('problem').textContent === 'That is not its token.'")
        page.type("secret")
        page.press("Enter")
        answered(page, 1)
        assert page.text("#model") == ["secretive 3 classes"]


@browser
@needs_browser
def test_a_service_that_has_ended_is_one_line(chromium, tmp_path):
    coloured(0, 0).save(tmp_path / "a.png")
    with served({"toy": Toy()}) as client:
        page = opened(chromium, client)
        page.wait("document.getElementById('model').textContent.startsWith('toy')")
    page.drop(tmp_path / "a.png")
    answered(page, 1)
    assert page.text(".broken") == ["The service cannot be reached."]
    assert page.text(".doings button") == ["Try again", "Remove"]
    assert json.loads(page.run("JSON.stringify([localStorage.length, document.cookie])")) == [0, ""]
