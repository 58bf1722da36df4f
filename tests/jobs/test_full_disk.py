"""A first pull that runs out of space, wherever it does, leaves what the next one can use."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from hmamba.storage.layout import Layout
from tests.faults import disks
from tests.landing import DAY, Root
from tests.synthetic import make_interactions

EVENTS = make_interactions(users=1_500)
HEADERS = 3 * 4_096
"""Bytes of an empty database."""


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Settings that read a file outside of the root, which alone lacks space."""
    (tmp_path / "source").mkdir()
    EVENTS.to_csv(tmp_path / "source" / "a.csv", index=False)
    return f"[source]\npath = {str(tmp_path / 'source')!r}\n[warehouse]\nthreads = 1\n"


def pull(layout: Layout, most: int = -1) -> subprocess.CompletedProcess[str]:
    """Pull in a process whose files may have ``most`` bytes."""
    return subprocess.run(
        [sys.executable, "-m", "jobs.ingest", "--root", str(layout.root), "--day", DAY.isoformat()],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )


def require_usable(layout: Layout) -> None:
    """The warehouse is absent, or a database without a half of a pull."""
    assert not list(layout.root.glob(".warehouse*"))
    if layout.warehouse.exists():
        with duckdb.connect(str(layout.warehouse)) as connection:
            assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


@pytest.mark.parametrize("most", [0, 4_096, 2 * 4_096, HEADERS, 100_000, 400_000])
def test_files_that_may_not_grow(root: Root, source: str, most: int) -> None:
    root.configure(source)
    done = pull(root.layout, most)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "Raise the limit" in done.stderr
    require_usable(root.layout)
    assert root.ok("ingest")["rows_read"] == len(EVENTS)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if not disks.can_mount():
        pytest.skip("mounting needs root, and in a container its capability SYS_ADMIN")
    disks.mount(place, 2 << 20)
    yield place
    disks.unmount(place)


@pytest.mark.parametrize("free", [0, 1, 2, 3, 10, 150])
def test_a_full_disk(
    disk: Path, source: str, free: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """``free`` pages are free; the rest is filled by another file."""
    root = Root(Layout.at(disk / "root"), capsys, caplog)
    root.configure(source)
    page = os.sysconf("SC_PAGE_SIZE")
    other = disk / "other"
    other.write_bytes(bytes((os.statvfs(disk).f_bavail - free) * page))
    done = pull(root.layout)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "no space is left on the device. Free some" in done.stderr
    require_usable(root.layout)
    other.unlink()
    disks.enlarge(disk)
    assert root.ok("ingest")["rows_read"] == len(EVENTS)
