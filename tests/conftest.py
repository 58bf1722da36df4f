"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmamba.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty root."""
    return Layout.at(tmp_path / "root")
