"""Firefox for tests, driven by its own protocol, Marionette: JSON over a local socket."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

NAMES = ("firefox-esr", "firefox")
PATIENCE = 120  # seconds; on a machine that does much else


def installed() -> str | None:
    """The browser's program, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Firefox:
    """A browser with a profile of its own and one page; a context, after which it is gone."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True)
        profile = Path(self._folder.name)
        (profile / "user.js").write_text('user_pref("marionette.port", 0);\n')
        program = installed()
        assert program is not None
        self._process = subprocess.Popen(
            [program, "--headless", "--no-remote", "--marionette", "--profile", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
        )
        port, until = profile / "MarionetteActivePort", time.monotonic() + PATIENCE
        while not (port.exists() and port.read_text().strip()):
            if time.monotonic() > until:
                raise TimeoutError("Firefox does not start")
            time.sleep(0.1)
        self._socket = socket.create_connection(("127.0.0.1", int(port.read_text())), PATIENCE)
        self._rest, self._count = b"", 0
        self._read()  # it greets
        self.call("WebDriver:NewSession", capabilities={})
        self.call("WebDriver:SetTimeouts", script=1000 * PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _read(self) -> Any:
        def more() -> None:
            part = self._socket.recv(1 << 16)
            assert part, "the browser is gone"
            self._rest += part

        while b":" not in self._rest:
            more()
        length, _, self._rest = self._rest.partition(b":")
        while len(self._rest) < int(length):
            more()
        message, self._rest = self._rest[: int(length)], self._rest[int(length) :]
        return json.loads(message)

    def call(self, command: str, **values: Any) -> Any:
        """Return what the browser answers to a command; raise RuntimeError for its errors."""
        self._count += 1
        text = json.dumps([0, self._count, command, values]).encode()
        self._socket.sendall(b"%d:%b" % (len(text), text))
        _, _, error, value = self._read()
        if error:
            raise RuntimeError(f"{command}: {error['message']}")
        return value

    def open(self, address: str) -> Self:
        """Show a page whose scripts have run."""
        self.call("WebDriver:Navigate", url=address)
        return self

    def run(self, script: str) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        whole = f"const done = arguments[0]; Promise.resolve({script}).then(done)"
        return self.call("WebDriver:ExecuteAsyncScript", script=whole, args=[])["value"]

    def wait(self, condition: str, seconds: float = PATIENCE) -> Any:
        """Return an expression's value as soon as it is true; raise TimeoutError if it is not."""
        until = time.monotonic() + seconds
        while not (value := self.run(condition)):
            if time.monotonic() > until:
                raise TimeoutError(f"not in {seconds} s: {condition}")
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> list[str]:
        """What is to be read in each element."""
        return self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)"
        )

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in a field for them."""
        asked = {"using": "css selector", "value": selector}
        (element,) = self.call("WebDriver:FindElement", **asked)["value"].values()
        self.call("WebDriver:ElementSendKeys", id=element, text="\n".join(map(str, files)))
