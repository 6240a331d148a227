"""The page in a real browser, with an engine that answers what a test wants."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

import pytest
from PIL import Image

from browser import Browser, installed
from conftest import coloured
from resnets.report.style import environment

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(installed() is None, reason="there is no browser"),
]

UI = files("resnets.serving").joinpath("ui")
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
MARKUP = "<img src=x onerror=alert(1)>"
# It answers one record after the other; what it was asked is in `asked`, at once at `most`.
ENGINE = """
"use strict";
var asked = [], now = 0, most = 0, given = "", hold = null;
const records = %(records)s;
startPage({
  models: %(models)s,
  note: "a note",
  async classify(blob, model, options) {
    most = Math.max(most, ++now);
    try {
      await hold;
      await new Promise((answer) => setTimeout(answer, 1));
      if (%(locked)s && given !== "secret") {
        throw Object.assign(new Error(given && "wrong"), {tokenWanted: true});
      }
      asked.push([blob.size, model]);
      if (records.length === 0) throw new Error("not now");
      return {ms: 12, ...records[(asked.length - 1) %% records.length]};
    } finally {
      now -= 1;
    }
  },
  async explain(blob, model, name) {
    asked.push(["explain", model, name]);
    return model === "mute" ? null : blob;
  },
  useToken(text) { given = text; },
});
"""


def record(*pairs, **more):
    return {"predictions": [{"class": c, "probability": p} for c, p in pairs], **more}


CAT = record(("cat", 0.9731), ("dog", 0.02), ("car", 0.0002))
MODEL = {"name": "resnet20", "classes": ["cat", "dog", "car"]}


@pytest.fixture(scope="module")
def site():
    """A server of the page alone; what is put in its ``engine`` is the page's."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            name = self.path[1:] or "page.html"
            if name == "engine.js":
                text = server.engine
            elif name.endswith(("html", "css")):
                text = environment("resnets.serving", "ui").get_template(name).render()
            else:
                text = UI.joinpath(name).read_text("utf-8")
            self.send_response(200)
            self.send_header("Content-Type", f"{KINDS[name.split('.')[-1]]}; charset=utf-8")
            self.send_header("Content-Security-Policy", "default-src 'self'")
            self.end_headers()
            self.wfile.write(text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def chromium():
    with Browser(*CAMERA) as browser:
        yield browser


@pytest.fixture
def opened(site, chromium):
    """What opens the page with an engine of such models and records."""
    pages = []

    def opened(*records, models=(MODEL,), locked=False, browser=chromium, **shown):
        values = {"records": records, "models": models, "locked": locked}
        site.engine = ENGINE % {name: json.dumps(value) for name, value in values.items()}
        page = browser.open(f"http://127.0.0.1:{site.server_port}/", **shown)
        pages.append(page)
        return page

    yield opened
    assert [complaint for page in pages for complaint in page.complaints()] == []


@pytest.fixture
def images(tmp_path):
    """Three images, each of a size of its own in bytes."""
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        coloured(number, 0, 40 + 40 * number).save(path)
    return paths


def answered(page, count):
    page.wait(f"document.querySelectorAll('.card:not(.waiting)').length === {count}")


def test_a_dropped_image_is_answered(opened, images):
    page = opened(CAT)
    assert page.text("#model") == ["resnet20 3 classes"]
    page.drop(images[1])
    answered(page, 1)
    assert page.text(".answers li") == ["cat\n97.3\u00a0%", "dog\n2.0\u00a0%", "car\n< 0.1\u00a0%"]
    assert page.text("figcaption") == ["1.png\n12 ms"]
    assert page.run("asked") == [[images[1].stat().st_size, "resnet20"]]
    assert page.run("document.querySelector('canvas').width") == 80  # it is seen
    seen = "document.querySelector('canvas').getContext('2d').getImageData(3, 5, 1, 1).data"
    assert page.run(f"[...{seen}].slice(0, 3)") == list(Image.open(images[1]).getpixel((3, 5)))
    share = page.run(
        "getComputedStyle(document.querySelector('.bar span')).getPropertyValue('--share')"
    )
    assert float(share) == 0.9731
    assert page.text("#said") == ["cat, 97.3\u00a0%"]  # what a screen reader says


def test_many_images_are_asked_in_order_and_few_at_a_time(opened, images, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    sizes = []
    for number in range(40):
        path = folder / f"{number}.png"
        coloured(0, number, 8 + number).save(path)
        sizes.append(path.stat().st_size)
    (folder / "notes.txt").write_text("no image")
    page = opened(CAT)
    page.drop(folder)
    answered(page, 40)
    assert [size for size, _ in page.run("asked")] == sizes
    assert page.run("most") == 2
    assert page.text(".name")[:2] == ["many/0.png", "many/1.png"]
    assert page.text("#progress") == ["40 images"]
    page.choose("#files", images[0])  # later ones are first
    answered(page, 41)
    assert page.text(".name")[:2] == ["0.png", "many/0.png"]


def test_names_are_text(opened, images, tmp_path):
    image = images[0].rename(tmp_path / f"{MARKUP.replace('/', ' ')}.png")
    named = record((MARKUP, 0.6), ("</script>", 0.3), unknown=True, unknown_score=1)
    page = opened(named, {"error": MARKUP}, models=[{"name": MARKUP, "classes": [MARKUP]}])
    page.drop(image, images[1])
    answered(page, 2)
    page.click("summary")
    assert page.run("document.querySelectorAll('img, script:not([src])').length") == 0
    assert page.text(".verdict") == [f"unknown: nearest {MARKUP}"]
    assert page.text(".broken") == [MARKUP]
    assert page.text("#known-names li") == [MARKUP]
    assert page.text(".name")[0] == image.name
    assert page.text("#progress") == ["2 images, 1 unknown, 1 without an answer"]


def test_what_fails_can_be_tried_again(opened, images):
    page = opened()
    page.drop(images[0])
    answered(page, 1)
    assert page.text(".broken") == ["not now"]
    page.run("void records.push({error: 'broken'})")
    page.click(".doings button")
    page.wait("document.querySelector('.broken')?.textContent === 'broken'")
    assert page.text(".doings button") == ["Remove"]  # to ask for it again would not help
    page.click(".doings button")
    assert page.text(".card, #results") == []
    assert page.run("document.activeElement.id") == "choose"


def test_another_model_is_asked_again(opened, images):
    other = {"name": "mute", "classes": ["cat", "dog"], "explains": True}
    page = opened(CAT, models=[MODEL, other])
    page.drop(images[0])
    answered(page, 1)
    assert page.text(".answers button") == []  # the first does not explain
    page.run(
        "(select => { select.selectedIndex = 1; select.dispatchEvent(new Event('change')) })"
        "(document.getElementById('models'))"
    )
    page.wait("asked.length === 2 && !document.querySelector('.waiting')")
    assert [model for _, model in page.run("asked")] == ["resnet20", "mute"]
    assert page.text("#model") == ["mute 2 classes"]
    page.click(".answers button")
    page.wait("document.querySelector('.look').textContent.includes('cannot')")


def test_where_it_looks_is_shown_and_hidden(opened, images):
    page = opened(CAT, models=[MODEL | {"explains": True}])
    page.drop(images[2])
    answered(page, 1)
    page.run("document.querySelector('.answers li:nth-child(2) button').focus()")
    page.press("Enter")
    page.wait("!document.querySelectorAll('canvas')[1].hidden")
    assert page.run("asked[1]") == ["explain", "resnet20", "dog"]
    assert page.text(".look") == ["It glows where the model sees dog."]
    pressed = "[...document.querySelectorAll('.answers button')].map((each) => each.ariaPressed)"
    assert page.run(pressed) == ["false", "true", "false"]
    page.press("Enter")
    page.wait("document.querySelectorAll('canvas')[1].hidden")
    assert page.run("document.querySelectorAll('canvas')[0].hidden") is False
    assert page.text(".look") == []


def test_a_pasted_image_is_answered(opened, images):
    page = opened(CAT)
    page.run(
        """(() => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array([1, 2, 3])], "image.png", {type: "image/png"}));
          document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
        })()"""
    )
    answered(page, 1)
    assert page.run("asked") == [[3, "resnet20"]]
    assert page.text(".frame") == ["This browser cannot show it."]  # the engine could read it


def test_the_camera(opened):
    page = opened(CAT)
    page.run("document.getElementById('use-camera').focus()")
    page.press("Enter")
    page.wait("!document.getElementById('take').disabled")
    assert page.run("document.activeElement.id") == "take"
    page.press("Enter")
    answered(page, 1)
    assert page.text(".name") == ["photograph 1"]
    assert page.run("document.querySelector('canvas').width") > 100
    page.press("Escape")
    assert page.text("#camera") == []
    assert page.run("document.activeElement.id") == "use-camera"


@pytest.mark.parametrize(
    ("error", "says"),
    [("NotAllowedError", "refused"), ("NotFoundError", "no camera"), ("OddError", "what it says")],
)
def test_no_camera_is_one_line(opened, error, says):
    page = opened(CAT)
    page.run(
        "void (navigator.mediaDevices.getUserMedia = async () => "
        f"{{ throw new DOMException('what it says', '{error}') }})"
    )
    page.click("#use-camera")
    page.wait("!document.getElementById('problem').hidden")
    assert says in page.text("#problem")[0]
    assert page.text("#camera") == []


@pytest.mark.parametrize("phone", [False, True])
def test_without_https_a_phone_has_its_own_camera(opened, phone):
    page = opened(CAT, size=(390, 844) if phone else (1280, 900))
    page.run(
        "void (Object.defineProperty(navigator, 'mediaDevices', {value: undefined}),"
        "document.getElementById('taken').onclick = () => { window.taking = true; })"
    )
    page.click("#use-camera")
    if phone:
        assert page.wait("window.taking")
        assert page.text("#problem") == []
    else:
        page.wait("document.getElementById('problem').textContent.includes('https')")
        assert page.run("window.taking") is None


def test_a_token_is_asked_for_and_kept_in_memory(opened, images):
    page = opened(CAT, locked=True)
    page.drop(*images)
    page.wait("!document.getElementById('token').hidden")
    assert page.run("document.activeElement.id") == "token-text"
    page.type("guessed")
    page.press("Enter")
    page.wait("document.getElementById('problem').textContent === 'wrong'")
    page.type("secret")
    page.press("Enter")
    answered(page, 3)
    assert page.text("#token, #problem") == []
    assert len(page.run("asked")) == 3
    kept = "[document.cookie, localStorage.length, sessionStorage.length, location.href]"
    assert page.run(kept)[:3] == ["", 0, 0]
    assert "secret" not in page.run("document.documentElement.outerHTML + location.href")


def test_what_is_copied_is_the_answer(opened, images):
    page = opened(CAT, {"error": "broken"})
    page.run(
        "void Object.defineProperty(navigator, 'clipboard', "
        "{value: {writeText: async (text) => { window.copied = text; }}})"
    )
    page.drop(images[0])
    answered(page, 1)
    page.click(".doings button")
    wanted = {"image": "0.png", "model": "resnet20", "ms": 12, **CAT}
    assert json.loads(page.wait("window.copied")) == wanted
    page.drop(images[1])
    answered(page, 2)
    page.click("#copy")
    page.wait("JSON.parse(window.copied).length === 2")
    assert page.run("JSON.parse(window.copied)[0].error") == "broken"


def test_clearing_stops_what_is_asked(opened, images):
    page = opened(CAT)
    page.run("void (hold = new Promise((go) => { window.go = go; }))")
    page.drop(*images)
    page.wait("now === 2")
    page.click("#clear")
    page.run("go()")
    page.wait("now === 0")
    page.drop(images[0])
    answered(page, 1)
    assert page.text(".card figcaption") == ["0.png\n12 ms"]
    assert len(page.run("asked")) == 3  # the third of the first was never asked


def test_it_fits_a_phone_and_goes_by_the_keyboard(opened, images):
    long = record(("Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbau" * 2, 0.5))
    page = opened(long, size=(390, 844), dark=True, models=[MODEL | {"explains": True}])
    page.choose("#files", *images)
    answered(page, 3)
    assert page.run("document.documentElement.scrollWidth") == 390
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(22, 23, 25)"
    reached = []
    while "Choose images" not in reached[1:]:  # once around
        page.press("Tab")
        reached.append(
            page.run("document.activeElement.ariaLabel || document.activeElement.innerText")
        )
    assert {"Choose images", "Use the camera", "Copy all as JSON", "Clear"} <= set(reached)
    assert sum(word.startswith("Where does it see") for word in reached) == 3
    unnamed = "button:not([aria-label]):empty, input:not([type=file]):not([id=token-text])"
    assert page.run(f"document.querySelectorAll('{unnamed}').length") == 0


def test_paper_has_answers_and_no_buttons(opened, images):
    page = opened(CAT, models=[MODEL | {"explains": True}], dark=True)
    page.choose("#files", *images)
    answered(page, 3)
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.text("button, #drop") == []
    assert len(page.text(".answers")) == 3
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
