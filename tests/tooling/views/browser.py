"""A headless Chromium for tests, by the DevTools protocol over a WebSocket. Nothing is downloaded."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
KEYS = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--no-first-run")
QUIET = ("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0")


class Page:
    """One tab: what it is told, and every event that it told since."""

    def __init__(self, connection: ClientConnection) -> None:
        self.events: list[dict[str, Any]] = []
        self._connection, self._numbers = connection, itertools.count(1)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol and waits for its answer."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message: dict[str, Any] = json.loads(self._connection.recv(timeout=300))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def open(self, path: Path) -> None:
        """Opens a file and waits until it is loaded."""
        self.tell("Page.navigate", url=path.resolve().as_uri())
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def run(self, script: str) -> Any:
        """Value of an expression, or of the promise that it is."""
        answer = self.tell("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width: int, height: int = 900) -> None:
        """Sets the size of the window, CSS px."""
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, **features: str) -> None:
        """Sets media features: prefer(color_scheme="dark", reduced_motion="reduce")."""
        pairs = [{"name": "prefers-" + name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.tell("Emulation.setEmulatedMedia", features=pairs)

    def press(self, key: str) -> None:
        """Presses a key as a person does."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.tell("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key], **text)

    def point(self, x: float, y: float) -> None:
        """Moves the mouse, CSS px of the window."""
        self.tell("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path: Path, *, is_whole: bool = False) -> None:
        """Writes a PNG of the window, or of the whole page."""
        answer = self.tell("Page.captureScreenshot", captureBeyondViewport=is_whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def problems(self) -> list[str]:
        """Errors and warnings of the console so far, and requests of anything but files and what lies in the page."""
        found = []
        for event in self.events:
            told = event["params"]
            if event["method"] == "Log.entryAdded":
                found.append(told["entry"]["text"])
            elif event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                found.append(json.dumps(told))
            elif event["method"] == "Network.requestWillBeSent":
                url = told["request"]["url"]
                found += [] if url.startswith(("file:", "data:", "blob:")) else [f"request: {url}"]
        return found


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A tab of a fresh Chromium with its profile in a folder; the test is skipped where there is no Chromium."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is in PATH")
    command = [program, *FLAGS, *QUIET, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with connect(_tab(*_endpoint(folder, process)), max_size=None) as connection:
                yield Page(connection)
        finally:
            process.terminate()
            process.wait(timeout=120)


def _endpoint(folder: Path, process: subprocess.Popen[bytes]) -> list[str]:
    """Port and path at which the browser listens, once it does."""
    told = folder / "DevToolsActivePort"
    for _ in range(2400):
        if told.is_file() and len(lines := told.read_text().split()) == 2:
            return lines
        assert process.poll() is None, "Chromium ended before it listened"
        time.sleep(0.05)
    pytest.fail("Chromium did not listen within 120 s")


def _tab(port: str, path: str) -> str:
    """Address of the first tab, asked from the browser's own endpoint."""
    with connect(f"ws://127.0.0.1:{port}{path}") as connection:
        connection.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(connection.recv(timeout=300))["result"]["targetInfos"]
    tab = next(target["targetId"] for target in targets if target["type"] == "page")
    return f"ws://127.0.0.1:{port}/devtools/page/{tab}"
