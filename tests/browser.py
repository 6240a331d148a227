"""Chromium for tests, driven by its DevTools protocol over a pipe: what a person does to a page."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
    "--log-level=3",
)
PATIENCE = 60  # seconds; on a machine that does much else
KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, " ": 32}


def installed() -> str | None:
    """The browser's program, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with a profile of its own; a context, after which it is gone."""

    def __init__(self, *options: str) -> None:
        self._folder = TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [installed(), *OPTIONS, f"--user-data-dir={self._folder.name}", *options]
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'  # the protocol's two descriptors
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "browser", *command],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._count = b"", 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._folder.cleanup()

    def quit(self) -> None:
        """Close it as a person does, so that what it logs to files is whole."""
        self.call("Browser.close")
        self._process.wait(PATIENCE)

    def call(self, method: str, session: str | None = None, **values: Any) -> dict[str, Any]:
        """Return what the browser answers to a call; raise RuntimeError for its errors."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": values}
        message |= {"sessionId": session} if session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._count:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0, until - time.monotonic()))
            part = os.read(self._in, 1 << 16) if ready else b""
            if not part:
                raise RuntimeError("the browser is gone" if ready else "the browser is silent")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(
        self, address: str, size: tuple[int, int] = (1280, 900), *, dark: bool = False
    ) -> "Page":
        """Return a page whose scripts have run."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            page.call(f"{domain}.enable")
        page.show(size, dark=dark)
        page.call("Page.navigate", url=address)
        page.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        return page


class Page:
    """A page, and what a person does to it; ``call`` is the protocol itself."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **values)

    def events(self, method: str) -> list[dict[str, Any]]:
        """The parameters of the events of a kind that have come so far."""
        self.call("Runtime.evaluate", expression="0")  # what came before it has been read
        mine = (e for e in self._browser.events if e.get("sessionId") == self._session)
        return [event["params"] for event in mine if event["method"] == method]

    def requests(self) -> list[str]:
        """The addresses that the page has asked for."""
        return [e["request"]["url"] for e in self.events("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """What the console shows as an error: exceptions, what CSP refused, failed requests."""
        thrown = (e["exceptionDetails"] for e in self.events("Runtime.exceptionThrown"))
        logged = (e["entry"] for e in self.events("Log.entryAdded"))
        return [e.get("exception", {}).get("description", e["text"]) for e in thrown] + [
            f"{e['text']} {e.get('url', '')}" for e in logged if e["level"] == "error"
        ]

    def show(self, size: tuple[int, int], *, dark: bool = False, phone: bool | None = None) -> None:
        """Give the page a size; a narrow one is a phone's, with two dots to a pixel."""
        phone = size[0] < 600 if phone is None else phone
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, script: str) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", answer))
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = PATIENCE) -> Any:
        """Return an expression's value as soon as it is true; raise TimeoutError if it is not."""
        until = time.monotonic() + seconds
        while not (value := self.run(condition)):
            if time.monotonic() > until:
                raise TimeoutError(f"not in {seconds} s: {condition}; {self.complaints()}")
            self.run("new Promise(requestAnimationFrame)")
        return value

    def text(self, selector: str) -> list[str]:
        """What is to be read in each element that is visible."""
        return self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter((e) => e.checkVisibility()).map((e) => e.innerText)"
        )

    def click(self, selector: str) -> None:
        """Click with a mouse on the middle of the first element."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"({found}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        code = {"key": key, "windowsVirtualKeyCode": KEYS[key], "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{**code, "text": ""})

    def type(self, text: str) -> None:
        """Write text where the focus is."""
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in a field for them."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def drop(self, *files: Path, at: tuple[int, int] = (200, 200)) -> None:
        """Drag files, or folders, over a place of the window and drop them."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=at[0], y=at[1], data=data)

    def shot(self, path: Path, *, whole: bool = False) -> Path:
        """Write what the window shows, or the whole page, as PNG."""
        shown = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shown["data"]))
        return path
