"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmamba.layout import Layout
from tests.landing import Root


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty root."""
    return Layout.at(tmp_path / "root")


@pytest.fixture
def root(layout: Layout, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Root:
    """An empty root with the steps to run in it."""
    caplog.set_level("INFO", logger="hmamba")
    return Root(layout, capsys, caplog)
