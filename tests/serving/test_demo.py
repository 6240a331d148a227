"""The page that runs anywhere, as a file: what is in it, and what cannot be in it."""

import gzip
import hashlib
import http.server
import io
import json
import re
import tarfile
import threading
from base64 import b64decode, b64encode
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from conftest import coloured
from resnets.data.preprocess import Preprocess
from resnets.errors import ResourceError, UsageError
from resnets.inference.runtimes import open_runtime
from resnets.serving import browser_runtime as fetched
from resnets.serving.browser_runtime import BrowserRuntime, browser_runtime, registry
from resnets.serving.demo import write_page
from resnets.weights.calibration import Calibration, Unknown
from resnets.weights.metadata import KEY, Input, Metadata
from resnets.zoo import get_spec

CLASSES = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "<!--")
RUNTIME = BrowserRuntime(b"export const script = 1;", b"\0asm")


def toy(path, form="pixels", size=(8, 8), **said):
    """Write an .onnx file whose logits are an image's mean colours."""
    last = form == "pictures"
    shape = ["n", *("hw" if size is None else size), 3] if last else ["n", 3, *size]
    kind = TensorProto.FLOAT if form == "normalized" else TensorProto.UINT8
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node(
            "ReduceMean", ["floats"], ["means"], axes=[1, 2] if last else [2, 3], keepdims=0
        ),
        helper.make_node("Mul", ["means", "small"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [
            helper.make_tensor(
                "small", TensorProto.FLOAT, [1], [1.0 if form == "normalized" else 0.02]
            )
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    preprocess = Preprocess(3, 9, 8, (0.5,) * 3, (0.25,) * 3)
    spec = replace(get_spec("resnet20"), num_classes=3)
    calibration = Calibration(100, (0.5,), unknown=Unknown("energy", -1.0, 0.05))
    told = {"outputs": "softmax", "calibration": calibration, "classes": CLASSES} | said
    metadata = Metadata(spec, preprocess, input=Input(form, None, size), **told)
    helper.set_model_props(model, {KEY: metadata.to_text()})
    onnx.save(model, path)
    return path


class Read(HTMLParser):
    """The elements of a page, with their attributes and texts."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        self.elements.append([f"/{tag}", {}, ""])

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2] += data

    def named(self, tag):
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]

    def block(self, name):
        return next(text for _, attributes, text in self.elements if attributes.get("id") == name)


@pytest.fixture
def page(tmp_path, photos):
    out = tmp_path / "demo.html"
    model = toy(tmp_path / "toy.onnx")
    demo = write_page(model, out, RUNTIME, name="<b>toy", images=photos)
    assert demo.size == out.stat().st_size
    return model, out.read_text()


def test_nothing_in_it_leads_outside(page):
    _, text = page
    read = Read(text)
    for tag, attributes, _ in read.elements:
        assert not attributes.keys() & {"src", "href", "action", "srcset", "data", "style"}, tag
        assert not any(name.startswith("on") for name in attributes)
    # What is no element either: addresses in styles and scripts of ours.
    assert not re.search(
        r"https?:|//[a-z]+\.|url\(|@import", re.sub(r"[A-Za-z0-9+/=]{500,}", "", text)
    )


def test_the_policy_knows_every_script_and_style_by_its_digest(page):
    read = Read(page[1])
    (policy,) = (a["content"] for a, _ in read.named("meta") if "http-equiv" in a)
    code = [text for attributes, text in read.named("script") if "type" not in attributes]
    styles = [text for _, text in read.named("style")]
    digests = [
        f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (*code, *styles)
    ]
    assert (len(code), len(styles)) == (2, 1)
    assert policy == (
        f"default-src 'none'; script-src {digests[0]} {digests[1]} 'wasm-unsafe-eval' blob:; "
        f"worker-src blob:; style-src {digests[2]}; base-uri 'none'; form-action 'none'"
    )
    before = page[1][: page[1].index("Content-Security-Policy")]
    assert "<script" not in before
    assert "<style" not in before


def test_it_holds_the_runtime_and_the_model_byte_for_byte(page):
    model, text = page
    read = Read(text)
    for name, content in (
        ("script", RUNTIME.script),
        ("wasm", RUNTIME.program),
        ("model", model.read_bytes()),
    ):
        assert gzip.decompress(b64decode(read.block(f"packed-{name}"))) == content
    assert "Microsoft Corporation" in read.block("licence")


def test_names_are_text(page):
    read = Read(page[1])
    facts = json.loads(read.block("facts"))
    assert (facts["name"], facts["classes"]) == ("<b>toy", list(CLASSES))
    assert len(read.named("script")) == 7
    assert not read.named("img")
    assert not read.named("b")


def test_it_knows_what_its_images_should_be_answered(page, tmp_path):
    model, text = page
    facts = json.loads(Read(text).block("facts"))
    runtime = open_runtime(model)
    assert len(facts["examples"]) == 8
    assert facts["answers"]["unknown"] == {"score": "energy", "threshold": -1.0}
    for number, example in enumerate(facts["examples"]):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b64decode(example["image"]))
        expected = runtime.probabilities(runtime.logits(runtime.prepare(path)))[0]
        np.testing.assert_allclose(example["expected"], expected, atol=1e-8)
    # They are different, and the threshold for what is off is tight.
    assert np.std([each["expected"] for each in facts["examples"]], 0).max() > 0.05
    assert facts["bound"] == 1e-4


@pytest.mark.parametrize(
    ("name", "form", "size", "shown"),
    [("a", "normalized", (8, 8), 8), ("b", "pictures", None, 9)],
)
def test_every_form_of_input(tmp_path, photos, name, form, size, shown):
    model = toy(tmp_path / f"{name}.onnx", form, size)
    write_page(model, tmp_path / "demo.html", RUNTIME, images=photos)
    facts = json.loads(Read((tmp_path / "demo.html").read_text()).block("facts"))
    assert (facts["form"], facts["frame"]["shown"]) == (form, shown)
    assert facts["mean"] == ([127.5] * 3 if form == "normalized" else [])


def test_what_is_no_page_or_no_model_is_one_line(tmp_path, photos, resnets):
    model, there = toy(tmp_path / "toy.onnx"), tmp_path / "there.html"
    there.write_text("mine")
    fixed = toy(tmp_path / "fixed.onnx", "pictures", (20, 30))
    numbers = toy(tmp_path / "numbers.onnx", calibration=None, outputs="regression")
    for words, code, line in (
        ((model, "--out", there), 2, "is there already"),
        ((model, "--out", tmp_path / "page.txt"), 2, "a page ends in .html"),
        ((tmp_path / "model.xml", "--out", tmp_path / "a.html"), 2, "computes .onnx files"),
        ((tmp_path / "none.onnx", "--out", tmp_path / "a.html"), 4, "no such file"),
        ((model, "--int8", "--out", tmp_path / "a.html"), 2, "has its numbers already"),
        ((model, "--dialect", "timm", "--out", tmp_path / "a.html"), 2, "says itself"),
        ((fixed, "--out", tmp_path / "a.html"), 2, "takes images of 20 x 30 only"),
        ((numbers, "--out", tmp_path / "a.html"), 4, "regression"),
        ((model, "--out", tmp_path / "a.html"), 2, "no package of"),
    ):
        found, out, error = resnets("page", *words, "--runtime", model)
        assert (found, out) == (code, ""), error
        assert line in error, error
        assert error.count("error:") == 1, error
    assert there.read_text() == "mine"
    assert not (tmp_path / "a.html").exists()


def packed(path, files):
    """Write a package of npm's."""
    for name, content in files.items():
        (path.parent / "part").write_bytes(content)
        with tarfile.open(path, "a") as package:
            package.add(path.parent / "part", f"package/{name}")
    return path


def test_a_runtime_that_is_another_is_refused(tmp_path):
    files = {fetched.SCRIPT: b"evil", fetched.PROGRAM: b"evil"}
    folder = tmp_path / "package"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for given in (folder, tmp_path, packed(tmp_path / "a.tgz", files)):
        with pytest.raises(UsageError, match=r"dist/ort.wasm.bundle.min.mjs is not that of"):
            browser_runtime(given)
    for given in (packed(tmp_path / "b.tgz", {"x": b""}), tmp_path / "c.tgz", tmp_path / "dist"):
        with pytest.raises(UsageError, match="is no package of onnxruntime-web"):
            browser_runtime(given)


def test_where_it_is_fetched_from(tmp_path, monkeypatch):
    """From the registry that npm is told of, checked, and never against RESNETS_OFFLINE."""
    asked = []

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"evil")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/mirror/")
    monkeypatch.setenv("RESNETS_OFFLINE", "1")
    try:
        with pytest.raises(ResourceError, match="RESNETS_OFFLINE") as caught:
            browser_runtime()
        assert f"--runtime {fetched.PACKAGE}" in caught.value.hint
        assert not asked
        monkeypatch.setenv("RESNETS_OFFLINE", "0")
        assert registry().endswith("/mirror")
        with pytest.raises(ResourceError, match="SHA-256"):
            fetched.browser_runtime(pause=0)
    finally:
        server.shutdown()
        server.server_close()
    assert set(asked) == {f"/mirror/onnxruntime-web/-/{fetched.PACKAGE}"}
    assert not list(tmp_path.rglob("*.tgz"))


def test_large_images_become_small(tmp_path):
    """What lies in the page is a little larger than the model needs, and no strip."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    coloured(0, 1).resize((900, 60)).save(folder / "wide.png")
    Image.new("RGB", (500, 400), "red").save(folder / "large.png")
    write_page(toy(tmp_path / "toy.onnx"), tmp_path / "a.html", RUNTIME, images=folder)
    facts = json.loads(Read((tmp_path / "a.html").read_text()).block("facts"))
    for example in facts["examples"]:
        with Image.open(io.BytesIO(b64decode(example["image"]))) as image:
            assert min(image.size) == 11
            assert max(image.size) <= 23
