"""A headless Chromium without a network: what pages ask for in it, and how they look."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OF_THE_BROWSER = "not an origin"
"""Initiator of requests that no page makes: the browser itself asks for the time, for accounts and more."""


def _chromium() -> str:
    """The path of Chromium. Without it the test is skipped, but fails where HMAMBA_NEEDS_CHROMIUM is set."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        assert "HMAMBA_NEEDS_CHROMIUM" not in os.environ, "Chromium is not installed"
        pytest.skip("Chromium is not installed: make browser as root, or apt-get install chromium")
    return path


def opened(page: Path, folder: Path) -> tuple[str, list[str]]:
    """Open a page; returns its document after loading, and every URL of another host that it asked for.

    Args:
        page: the file.
        folder: for the browser's profile; must not exist.
    """
    log = folder / "net-log.json"
    folder.mkdir()
    places = f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"
    command = [_chromium(), *_FLAGS, *places, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(log.read_text(encoding="utf-8"))
    start = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    requests = [event["params"] for event in found["events"] if event["type"] == start and "url" in event["params"]]
    asked = [request["url"] for request in requests if request["initiator"] != _OF_THE_BROWSER]
    return done.stdout, [url for url in asked if not url.startswith(("file:", "data:"))]


_WIRED = """
import fcntl, os, sys
for number, end in enumerate([fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]], 3):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes a program with two descriptors as 3 and 4: Chromium reads commands from one and answers on the other."""


class Browser:
    """A running Chromium with one page, driven by the DevTools protocol over pipes: no port, no driver."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to = os.fdopen(to_browser, "wb", buffering=0)
        self._from = os.fdopen(from_browser, "rb")
        self._sent, self._session = 0, ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")

    def close(self) -> None:
        """Close the pipes, on which the browser ends."""
        self._to.close()
        self._from.close()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result; events on the way are passed over."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        self._to.write(json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0")
        while (answer := self._next()).get("id") != self._sent:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._from.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            text += byte
        message: dict[str, Any] = json.loads(text)
        return message

    def show(self, page: Path, width: int, scheme: str) -> None:
        """Open a page.

        Args:
            page: the file.
            width: of the window, in CSS pixels.
            scheme: the reader's colour scheme, light or dark.
        """
        phone = width < 600
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page, whose content policy does not apply to it."""
        result = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG file."""
        data = self._call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a browser; ``folder`` is for its profile and must not exist."""
    folder.mkdir()
    reads, writes = os.pipe(), os.pipe()
    command = [_chromium(), *_FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
    wired = [sys.executable, "-c", _WIRED, str(reads[0]), str(writes[1]), *command]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(wired, pass_fds=(reads[0], writes[1]), stderr=log, stdout=log)
    os.close(reads[0])
    os.close(writes[1])
    try:
        driven = Browser(reads[1], writes[0])
        yield driven
        driven.close()
    finally:
        process.terminate()
        process.wait(timeout=30)
