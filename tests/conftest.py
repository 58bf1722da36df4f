"""What all tests share."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import hypothesis
import pytest

from hmamba.storage.layout import Layout
from jobs import ingest
from tests.landing import DAY, Root
from tests.nights import FIRST, open_shop, run_night
from tests.report.night import hostile_catalogue, write_night
from tests.synthetic import make_interactions, write_landing

# How long an example takes says more about what else the machine does than about the code.
hypothesis.settings.register_profile("hmamba", deadline=None)
hypothesis.settings.load_profile("hmamba")

# Shells start what runs in the background with Ctrl-C ignored, and children inherit that: tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A root that is not there yet."""
    return Layout.at(tmp_path / "root")


@pytest.fixture
def root(layout: Layout, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Root:
    """An empty root with the steps to run in it."""
    caplog.set_level("INFO", logger="hmamba")
    return Root(layout, capsys, caplog)


@pytest.fixture(scope="session")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that has pulled ``make_interactions()`` from events.csv. Tests copy it; see ``loaded``."""
    folder = tmp_path_factory.mktemp("pulled")
    write_landing(folder, make_interactions(), "events.csv")
    assert ingest.main(["--root", str(folder), "--day", DAY.isoformat(), "--run-id", "first"]) == 0
    return folder


@pytest.fixture
def loaded(root: Root, pulled: Path) -> Root:
    """A root whose warehouse holds ``make_interactions()``, pulled by the run ``first``."""
    root.layout.root.mkdir()
    shutil.copytree(pulled / "landing", root.layout.landing)
    shutil.copy2(pulled / "warehouse.duckdb", root.layout.warehouse)
    return root


@pytest.fixture(scope="session")
def tabled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root after a night that published all tables beside the candidates. Tests copy it."""
    layout = Layout.at(tmp_path_factory.mktemp("tabled"))
    open_shop(layout)
    run_night(layout, FIRST, "one")
    return layout.root


@pytest.fixture(scope="session")
def night_layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A root with everything that a run leaves behind. Tests only read it or write the report."""
    layout = Layout.at(tmp_path_factory.mktemp("night"))
    write_night(layout, make_interactions(), hostile_catalogue())
    return layout


@pytest.fixture
def copied(night_layout: Layout, tmp_path: Path) -> Layout:
    """A copy of the night that a test may change."""
    shutil.copytree(night_layout.root, tmp_path / "copy")
    return Layout.at(tmp_path / "copy")
