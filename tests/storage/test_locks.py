"""Locks: exclusion, the messages of processes that wait, and users who cannot lock."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from hmamba.errors import BusyError, InputError
from hmamba.storage import locks
from hmamba.storage.locks import alone

NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user")

HOLD = """
import sys; from pathlib import Path; from hmamba.storage.locks import alone
sys.argv = ["/somewhere/jobs/publish.py"]
with alone(Path({folder!r}), wait_seconds=0, shared={shared}):
    print(flush=True); sys.stdin.read()
"""


@contextmanager
def program(code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed a line, and ends with its standard input."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        yield process
        process.kill()


def holding(folder: Path, shared: bool = False) -> str:
    return HOLD.format(folder=str(folder), shared=shared)


def test_one_at_a_time_in_a_folder(tmp_path: Path) -> None:
    inside, order = threading.Event(), []

    def other() -> None:
        inside.wait()
        with alone(tmp_path):
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with alone(tmp_path):
        inside.set()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_who_waits_is_told_who_holds_the_lock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(locks, "REPORT_SECONDS", 0.0)
    with program(holding(tmp_path)) as process:
        holder = rf"\.lock is locked by process {process.pid} \(publish, since 20\d\d-[0-9T:-]+Z\)"
        with (
            pytest.raises(BusyError, match=f"{holder}, also after 1 seconds. Wait until it has ended"),
            alone(tmp_path, wait_seconds=1),
        ):
            pass
    waits = [record.getMessage() for record in caplog.records]
    assert len(waits) >= 2
    assert all(re.search(f"{holder}: waiting, [01] of up to 1 s", wait) for wait in waits)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with program(holding(tmp_path)):
        pass
    with alone(tmp_path, wait_seconds=0):
        assert f'"process": {os.getpid()}' in (tmp_path / ".lock").read_text()
    assert (tmp_path / ".lock").read_text() == ""


def test_those_who_share_keep_out_those_who_do_not(tmp_path: Path) -> None:
    with (
        program(holding(tmp_path, shared=True)) as other,
        alone(tmp_path, wait_seconds=0, shared=True),
        pytest.raises(BusyError, match=rf"locked by process {other.pid} \(publish, since .*\) and 1 more, also"),
        alone(tmp_path, wait_seconds=0),
    ):
        pass
    with (
        alone(tmp_path, wait_seconds=0),
        pytest.raises(BusyError, match=f"locked by process {os.getpid()}"),
        alone(tmp_path, wait_seconds=0, shared=True),
    ):
        pass


def test_many_who_share_do_not_let_the_file_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_LONGEST_NOTE", 1000)
    for _ in range(30):
        with alone(tmp_path, shared=True):
            pass
    assert (tmp_path / ".lock").stat().st_size < 1200


def test_a_lock_file_that_was_deleted_meanwhile_locks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, times = locks._opened, []

    def deleted_once(path: Path) -> int:
        lock = opened(path)
        times.append(path)
        if len(times) == 1:
            path.unlink()
        return lock

    monkeypatch.setattr(locks, "_opened", deleted_once)
    with alone(tmp_path, wait_seconds=0):
        assert len(times) == 2
        with pytest.raises(BusyError), alone(tmp_path, wait_seconds=0):
            pass


def test_a_folder_that_was_deleted_with_its_lock_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a prune deletes a working folder while a step waits for it."""
    folder, waiting = tmp_path / "run", threading.Event()

    def wait() -> bool:
        with alone(folder):
            return (folder / ".lock").exists()

    monkeypatch.setattr(locks, "_holders", lambda lock: waiting.set() or "a prune")
    with ThreadPoolExecutor(1) as pool:
        with alone(folder):
            waits = pool.submit(wait)
            assert waiting.wait(10)
            shutil.rmtree(folder)
        assert waits.result(10)


def test_a_lock_file_is_closed_to_others_and_need_not_be_readable(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.write_bytes(b'\xff{"process": "x"}\n[]\n{"process": 1}\n')
    lock.chmod(0o666)
    with alone(tmp_path):
        assert lock.stat().st_mode & 0o777 == 0o600


FOREIGN = "import fcntl, sys; lock = open({path!r}); fcntl.flock(lock, fcntl.LOCK_SH); print(flush=True); input()"


@as_root
def test_who_may_only_read_the_folder_cannot_hold_a_night_up() -> None:
    with tempfile.TemporaryDirectory() as folder:  # a folder of pytest is closed to others
        Path(folder).chmod(0o755)
        with alone(Path(folder)):
            pass
        os.seteuid(NOBODY)
        try:
            assert [path.name for path in Path(folder).iterdir()] == [".lock"]
            with pytest.raises(PermissionError):
                (Path(folder) / ".lock").open()
        finally:
            os.seteuid(0)


def test_a_lock_that_a_strange_program_holds_is_waited_for_as_long_as_any(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch(0o644)
    with (
        program(FOREIGN.format(path=str(tmp_path / ".lock"))),
        pytest.raises(BusyError, match="is locked by another process, also after 0 seconds"),
        alone(tmp_path, wait_seconds=0),
    ):
        pass


@as_root
def test_the_lock_file_of_another_user_is_refused_until_it_is_deleted(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.touch()
    os.chown(lock, NOBODY, NOBODY)
    with (
        pytest.raises(InputError, match=rf"\.lock belongs to user {NOBODY}, but this process runs as user 0.*delete"),
        alone(tmp_path),
    ):
        pass
    lock.unlink()
    with alone(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_ordinary_file_is_refused(tmp_path: Path, kind: str) -> None:
    lock, other = tmp_path / ".lock", tmp_path / "other"
    other.touch()
    {"link": lambda: lock.symlink_to(other), "folder": lock.mkdir, "pipe": lambda: os.mkfifo(lock)}[kind]()
    with pytest.raises(InputError, match=r"\.lock is no ordinary file, as locks are. Move it away"), alone(tmp_path):
        pass
    lock.rename(tmp_path / "away")
    with alone(tmp_path):
        pass
