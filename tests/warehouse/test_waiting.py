"""A warehouse that another process has open is waited for."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hmamba.config import WarehouseConfig
from hmamba.errors import BusyError
from hmamba.warehouse import connection
from hmamba.warehouse.connection import connect
from tests.landing import Root

HOLDER = (
    "import duckdb, sys; held = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'reader'); "
    "print(1, flush=True); sys.stdin.read()"
)


@contextmanager
def held(root: Root, how: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(root.layout.warehouse), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        if process.poll() is None:
            process.communicate()


@pytest.mark.parametrize(("how", "step"), [("writer", "snapshot"), ("reader", "ingest"), ("writer", "ingest")])
def test_a_step_waits_and_names_the_holder(loaded: Root, monkeypatch: pytest.MonkeyPatch, how: str, step: str) -> None:
    monkeypatch.setattr(connection, "REPORT_SECONDS", 0.5)
    with held(loaded, how) as process:
        assert process.stdin is not None
        timer = threading.Timer(2, process.stdin.close)
        timer.start()
        code, _, log = loaded.step(step)
        timer.join()
        assert code == 0, log
        assert log.count(f"warehouse.duckdb is in use by process {process.pid}: waiting, ") >= 2
        process.wait()


def test_the_wait_ends(loaded: Root, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    started = time.monotonic()
    with (
        held(loaded, "writer") as process,
        pytest.raises(BusyError, match=rf"in use by process {process.pid}, also after 1 seconds"),
        connect(loaded.layout.warehouse, WarehouseConfig(wait_seconds=1), read_only=True),
    ):
        pass
    assert 1 <= time.monotonic() - started < 30
    assert BusyError.exit_code == 1


def test_readers_do_not_wait_for_each_other(loaded: Root) -> None:
    loaded.configure("[warehouse]\nwait_seconds = 0\n")
    with held(loaded, "reader"):
        assert loaded.step("snapshot")[0] == 0
