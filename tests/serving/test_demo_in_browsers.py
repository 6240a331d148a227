"""The page that runs anywhere, opened from a disk in Chromium and in Firefox: predict's answers."""

import json
import re
import struct
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from test_demo import toy

import firefox
from browser import Browser, installed
from firefox import Firefox
from resnets import export, predict
from resnets.errors import ResourceError
from resnets.models import open_model
from resnets.serving.browser_runtime import browser_runtime
from resnets.serving.demo import write_page
from resnets.weights.calibration import Calibration, Unknown
from resnets.weights.shipped import shipped
from test_golden_pictures import BOUND, paint, scene

pytestmark = pytest.mark.browser
chromium = pytest.mark.skipif(installed() is None, reason="there is no Chromium")
SETTLED = "document.getElementById('proof').dataset.state !== 'waiting'"
MARKUP = "<img src=x onerror=alert(1)>.png"
# A grey level or two of an image: 16 bits are rounded otherwise, and canvases keep transparent
# pixels multiplied by their alpha, in 8 bits where there are no floats.
OFF = {
    "chromium": {"grey16.png": 0.02},
    "firefox": dict.fromkeys(("rgba.png", "la.png", "palette_transparent.png"), 0.02),
}


@pytest.fixture(scope="module")
def network():
    return open_model(shipped("resnet20", "cifar10"))


@pytest.fixture(scope="module")
def runtime():
    try:
        return browser_runtime()
    except ResourceError as error:
        pytest.skip(f"there is no onnxruntime-web: {error}")


@pytest.fixture(scope="module")
def page(network, runtime, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "demo.html"
    write_page(network, out, runtime)
    return out


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The golden images, and what a browser would rather show in other colours."""
    folder = tmp_path_factory.mktemp("golden")
    paths = paint(folder)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = profile.replace(b"rXYZ", b"-XYZ").replace(b"gXYZ", b"rXYZ").replace(b"-XYZ", b"gXYZ")
    gamma = PngInfo()
    gamma.add(b"gAMA", struct.pack(">I", 100_000))
    image = scene(60, 44)
    for name, options in (
        ("profile.jpg", {"icc_profile": turned}),
        ("profile.png", {"icc_profile": turned}),
        ("gamma.png", {"pnginfo": gamma}),
        (MARKUP, {}),
    ):
        image.save(folder / name, **options)
        paths.append(folder / name)
    return paths


def records(page, names):
    """What the page would copy as JSON, by the images' names, once all are answered."""
    page.wait(f"document.querySelectorAll('.card:not(.waiting)').length === {len(names)}")
    # The clipboard is the system's; what cannot be written there is selected in an element.
    taken = (
        "new Promise((done) => { new MutationObserver((all) => all.forEach(({addedNodes}) => "
        "addedNodes.forEach((e) => e.localName === 'textarea' && done(e.value)))).observe("
        "document.body, {childList: true}); document.getElementById('copy').click(); })"
    )
    page.run("Object.defineProperty(navigator, 'clipboard', {value: undefined}) && 0")
    return {record["image"]: record for record in json.loads(page.run(taken))}


def check_answers(found, network, paths, off):
    """Whether answers are those of predict; of a TIFF, which browsers do not read, one line."""
    for prediction, path in zip(predict(network, paths), paths, strict=True):
        record = found[path.name]
        if path.suffix == ".tif":
            assert record["error"] == "it is no image, or of a kind that this browser cannot read"
            continue
        assert record.keys() == {"image", "model", "predictions", "ms"}
        bound = off.get(path.name, 0) + BOUND
        expected = dict(zip(prediction.classes, prediction.probabilities, strict=True))
        for each in record["predictions"]:
            assert each["probability"] == pytest.approx(expected[each["class"]], abs=bound), path


def requested(log: Path) -> set[str]:
    """What pages have asked a network for, by the browser's own log; it asks for things itself."""
    events = (event.get("params", {}) for event in json.loads(log.read_text())["events"])
    return {
        each["url"]
        for each in events
        if each.get("initiator", "not an origin") != "not an origin"
        and urlsplit(each["url"]).scheme not in ("file", "blob", "data")
    }


@chromium
def test_in_chromium(page, network, golden, tmp_path):
    log = tmp_path / "net.json"
    with Browser(f"--log-net-log={log}") as browser:
        shown = browser.open(page.as_uri())
        shown.wait(SETTLED)
        assert re.match("Proven in this browser: .* 8 images", *shown.text("#proof-text"))
        shown.drop(*golden)
        found = records(shown, golden)
        check_answers(found, network, golden, OFF["chromium"])
        assert MARKUP in shown.text(".card .name")
        assert shown.run("document.images.length") == 0
        assert {urlsplit(each).scheme for each in shown.requests()} == {"file", "blob"}
        assert shown.complaints() == []
        # A script that is not the page's own, and a request that one would make.
        for attempt in (
            "fetch('https://example.org/').then(() => 'left', () => 'refused')",
            "new Promise((done) => { const e = new Image(); e.onload = () => done('left');"
            "e.onerror = () => done('refused'); e.src = 'https://example.org/a.png'; })",
        ):
            assert shown.run(attempt) == "refused"
        # A page without its policy, so that this test would see a request.
        open_page = tmp_path / "open.html"
        open_page.write_text("<h1>open</h1>")
        fetch = "fetch('http://127.0.0.1:9/seen').then(() => 1, () => 1)"
        assert browser.open(open_page.as_uri()).run(fetch)
        browser.quit()
    assert requested(log) == {"http://127.0.0.1:9/seen"}


@chromium
@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("pixels", {"calibration": Calibration(9, (0.5,), unknown=Unknown("energy", -1.5, 0.1))}),
        ("normalized", {"calibration": Calibration(9, (1.0, 2.0, 0.5), (0.1, -0.2, 0.3))}),
        ("pixels", {"outputs": "sigmoid", "thresholds": (0.8, 0.5, 0.95), "calibration": None}),
        ("pictures", {}),
    ],
)
def test_every_form_of_input_and_kind_of_answer(form, said, network, runtime, tmp_path, photos):
    model = tmp_path / "model.onnx"
    if form == "pictures":  # which scales images itself
        export(network, model, input=form)
    else:
        toy(model, form, **said)
    write_page(model, tmp_path / "demo.html", runtime, images=photos)
    images = sorted(photos.rglob("*.png"))[::4]
    images = [image.rename(tmp_path / f"{n}.png") for n, image in enumerate(images)]
    Image.new("RGB", (30, 20)).save(images[0])
    with Browser() as browser:
        shown = browser.open((tmp_path / "demo.html").as_uri())
        shown.wait(SETTLED)
        assert shown.text("#proof-text")[0].startswith("Proven")
        shown.choose("#files", *images)
        found = records(shown, images)
    kinds = set()
    # A file that scales images itself is given those of training, which its own are a level off.
    for prediction in predict(network if form == "pictures" else model, images):
        expected, record = prediction.to_dict(), found[Path(prediction.path).name]
        assert [each["class"] for each in record["predictions"]] == list(prediction.classes)
        for each, own in zip(record["predictions"], expected["predictions"], strict=True):
            assert each["probability"] == pytest.approx(own["probability"], abs=BOUND)
        if prediction.unknown is not None:
            assert record["unknown"] is prediction.unknown
            assert record["unknown_score"] == pytest.approx(prediction.unknown_score, abs=BOUND)
        kinds.add((prediction.unknown, prediction.classes))
    assert len(kinds) > 1


@chromium
def test_the_camera(page):
    with Browser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as browser:
        shown = browser.open(page.as_uri())
        shown.click("#use-camera")
        shown.wait("!document.getElementById('take').disabled")
        shown.click("#take")
        (record,) = records(shown, ["photograph 1"]).values()
        assert len(record["predictions"]) == 3
        assert shown.complaints() == []


@chromium
def test_a_page_that_is_not_what_was_made_says_so(page, tmp_path):
    whole = page.read_text()
    start = whole.index('"expected": [') + len('"expected": [')
    wrong, damaged = tmp_path / "wrong.html", tmp_path / "damaged.html"
    wrong.write_text(f"{whole[:start]}0.9{whole[whole.index(',', start) :]}")
    start = whole.index('id="packed-model">') + 3000
    damaged.write_text(f"{whole[:start]}AAAA{whole[start + 4 :]}")
    with Browser() as browser:
        for path, line in (
            (wrong, "Do not trust this page in this browser: its probabilities for 8 images"),
            (damaged, "This page cannot answer in this browser: this file is damaged"),
        ):
            shown = browser.open(path.as_uri())
            shown.wait(SETTLED)
            assert shown.text("#proof-text")[0].startswith(line)
            assert shown.run("document.getElementById('proof').dataset.state") == "bad"
        assert "this file is damaged" in shown.text("#problem")[0]


@pytest.mark.skipif(firefox.installed() is None, reason="there is no Firefox")
def test_in_firefox(page, network, golden):
    with Firefox() as browser:
        shown = browser.open(page.as_uri())
        shown.wait(SETTLED)
        assert re.match("Proven in this browser: .* 8 images", *shown.text("#proof-text"))
        shown.choose("#files", *golden)
        check_answers(records(shown, golden), network, golden, OFF["firefox"])
        asked = shown.run("performance.getEntriesByType('resource').map((each) => each.name)")
        assert {urlsplit(each).scheme for each in asked} <= {"file", "blob"}
