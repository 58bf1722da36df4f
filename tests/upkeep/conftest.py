"""A root after two nights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hmamba.storage.layout import Layout
from tests.nights import FIRST, THIRD, newcomers, open_shop, run_night
from tests.synthetic import write_landing


@pytest.fixture(scope="session")
def after_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root after two nights with a promotion each; the second has newcomers. Tests copy it."""
    layout = Layout.at(tmp_path_factory.mktemp("two"))
    open_shop(layout)
    run_night(layout, FIRST, "one")
    write_landing(layout.root, newcomers(), "later.parquet")
    run_night(layout, THIRD, "three")
    return layout.root


@pytest.fixture
def two(after_two: Path, tmp_path: Path) -> Layout:
    """A copy of the root after two nights."""
    shutil.copytree(after_two, tmp_path / "root", symlinks=True)
    return Layout.at(tmp_path / "root")
