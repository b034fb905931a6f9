"""A headless Chromium driven through its DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from base64 import b64decode
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

START_S = 60.0


class Browser:
    """One page of a browser of its own, with a profile in `folder`. Use as a context manager."""

    def __init__(self, folder: Path, *, width: int = 1200, height: int = 800, dark: bool = False) -> None:
        connect = pytest.importorskip("websockets.sync.client", reason="needs websockets").connect
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if program is None:
            pytest.skip("needs Chromium")
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--remote-debugging-port=0", f"--user-data-dir={folder}", f"--window-size={width},{height}"]
        self._process = subprocess.Popen([program, *flags, "about:blank"], stderr=subprocess.DEVNULL)
        try:
            port = self._wait_for(folder / "DevToolsActivePort")
            pages = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            self._open = ExitStack()
            self._socket = self._open.enter_context(connect(address, max_size=None, open_timeout=START_S))
            self._last = 0
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            self.send("Emulation.setDeviceMetricsOverride", **screen)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            self.send("Emulation.setEmulatedMedia", features=[scheme])
        except BaseException:
            self._end()
            raise

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(timeout=START_S))
            if said.get("id") == self._last:
                assert "error" not in said, said
                return said["result"]

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        said = self._evaluate(script)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression is true; fails after a minute, with what the page shows."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            # a page that is just being loaded may have no body yet
            if found := self._evaluate(script)["result"].get("value"):
                return found
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}; the page shows: {self.run('document.body.innerText')}")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                **({"text": key} if len(key) == 1 and kind == "keyDown" else {}),
            )

    def click(self, selector: str) -> None:
        """A real click, in the middle of what the selector finds."""
        place = self.run(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        at = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, **at)

    def picture(self, path: Path) -> None:
        """A PNG of what is seen."""
        path.write_bytes(b64decode(self.send("Page.captureScreenshot")["data"]))

    def _evaluate(self, script: str) -> dict[str, Any]:
        return self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)

    def _wait_for(self, file: Path) -> int:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if file.is_file() and (lines := file.read_text().splitlines()):
                return int(lines[0])
            if self._process.poll() is not None:
                pytest.fail(f"the browser ended with {self._process.returncode}")
            time.sleep(0.05)
        pytest.fail("the browser didn't start in a minute")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()
        self._end()
