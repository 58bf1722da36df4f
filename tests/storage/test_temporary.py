"""Temporary files: what a killed process leaves is swept, and what a running one writes is not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hmamba.storage import temporary
from hmamba.storage.local import atomic_file, atomic_folder
from hmamba.storage.temporary import Swept, claimed, private_folder, sweep

WRITES = """
import sys; from pathlib import Path; from hmamba.storage.local import atomic_file, atomic_folder
root = Path(sys.argv[1])
with atomic_file(root / "a" / "file") as file, atomic_folder(root / "folder") as folder:
    file.write_bytes(bytes(1000))
    (folder / "part").write_bytes(bytes(2000))
    print(flush=True)
    sys.stdin.read()
"""


@contextmanager
def writer(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing 3,000 bytes."""
    command = [sys.executable, "-c", WRITES, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        yield process


def hidden(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob(".*"))


def test_what_a_running_process_writes_is_kept_and_what_a_killed_one_left_is_not(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        before = hidden(tmp_path)
        assert len(before) == 4
        assert sweep(tmp_path) == Swept()
        assert hidden(tmp_path) == before
        process.send_signal(signal.SIGKILL)
    assert hidden(tmp_path) == before
    assert sweep(tmp_path) == Swept(2, 3000)
    assert hidden(tmp_path) == []
    assert sweep(tmp_path) == Swept()


def test_who_is_let_finish_leaves_nothing(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        sweep(tmp_path)
        process.communicate("")
    assert process.returncode == 0
    assert (tmp_path / "a" / "file").stat().st_size == 1000
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["part"]
    assert hidden(tmp_path) == []


def test_a_lock_or_a_path_on_its_own_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".a.tmp-01234567.lock").touch()
    (tmp_path / ".b.tmp-01234567").symlink_to("nowhere")
    assert sweep(tmp_path).count == 2
    assert hidden(tmp_path) == []


def test_other_names_and_folders_are_kept(tmp_path: Path) -> None:
    names = ["a.tmp-01234567", ".a.tmp-0123456", ".a.tmp-012345678", ".a.tmp-0123456x", ".lock", ".a"]
    (tmp_path / "below").mkdir()
    for name in names:
        (tmp_path / name).touch()
        (tmp_path / "below" / name).touch()
    (tmp_path / "below" / ".a.tmp-01234567").touch()
    (tmp_path / "link").symlink_to("below", target_is_directory=True)
    assert sweep(tmp_path, below=False) == Swept()
    assert sweep(tmp_path) == Swept(1, 0)
    assert {path.name for path in (tmp_path / "below").iterdir()} == set(names)
    assert sweep(tmp_path / "nowhere") == Swept()


def test_nothing_is_left_of_a_block_that_fails(tmp_path: Path) -> None:
    for atomic in (atomic_file, atomic_folder):
        with pytest.raises(KeyError), atomic(tmp_path / "x"):
            raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_without_locks_files_are_written_and_leftovers_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("hmamba.storage.locks.fcntl.flock", refuse)
    with atomic_file(tmp_path / "a") as file:
        file.write_text("whole")
        assert sweep(tmp_path) == Swept()
        assert file.exists()
    assert (tmp_path / "a").read_text() == "whole"
    assert hidden(tmp_path) == []


def test_private_folders_are_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for beside in (None, tmp_path / "a"):
        with private_folder(beside) as folder:
            assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)
            (folder / "inside").touch()
        assert hidden(tmp_path) == []


def test_a_target_that_cannot_be_cleaned_up_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on network file systems, where a reader's open files keep the old folder."""

    def refuse(path: Path) -> None:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))

    with claimed(tmp_path / "a") as path:
        path.touch()
        monkeypatch.setattr(temporary, "delete", refuse)
    monkeypatch.undo()
    assert sweep(tmp_path).count == 1
