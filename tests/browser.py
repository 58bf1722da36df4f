"""A headless Chromium without a network, and what pages ask for in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

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
