"""Settings of a connection, and files that cannot be opened. What a lock does is in test_waiting.py."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

from hmamba.config import WarehouseConfig
from hmamba.errors import InputError
from hmamba.warehouse.connection import _create, connect, in_memory, wal_of

LIMITS = WarehouseConfig(memory_limit="512MiB", threads=1)


def setting(connection: duckdb.DuckDBPyConnection, name: str) -> object:
    (found,) = connection.execute("SELECT current_setting($name)", {"name": name}).fetchall()
    return found[0]


@pytest.mark.parametrize("where", ["memory", "file"])
def test_limits_are_those_of_the_settings(tmp_path: Path, where: str) -> None:
    opened = in_memory(LIMITS) if where == "memory" else connect(tmp_path / "w.duckdb", LIMITS)
    with opened as connection:
        assert setting(connection, "memory_limit") == "512.0 MiB"
        assert setting(connection, "threads") == 1
        assert setting(connection, "autoinstall_known_extensions") is False
        spill = Path(str(setting(connection, "temp_directory")))
        assert spill.stat().st_mode & 0o077 == 0
        assert spill.name.startswith(".w.duckdb.tmp-" if where == "file" else ".hmamba.tmp-")
    assert not spill.exists()
    assert not spill.with_name(f"{spill.name}.lock").exists()


def test_a_connection_is_closed_after_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyError), connect(tmp_path / "w.duckdb", LIMITS) as first:
        raise KeyError
    with in_memory() as second:
        second.execute("SELECT 1")
    for connection in (first, second):
        with pytest.raises(duckdb.ConnectionException):
            connection.execute("SELECT 1")


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    with connect(tmp_path / "w.duckdb", LIMITS) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT 1 AS n")
    with connect(tmp_path / "w.duckdb", LIMITS, read_only=True) as connection:
        assert connection.execute("SELECT n FROM numbers").fetchall() == [(1,)]
        with pytest.raises(duckdb.InvalidInputException):
            connection.execute("INSERT INTO numbers VALUES (2)")


@pytest.mark.parametrize("content", [b"not a database" * 1000, None])
def test_a_file_that_is_none_is_named_once_and_not_waited_for(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "w.duckdb"
    if content is not None:
        path.write_bytes(content)
    with (
        pytest.raises(InputError, match=r"w\.duckdb") as raised,
        connect(path, WarehouseConfig(wait_seconds=600), read_only=True),
    ):
        pass
    assert "\n" not in str(raised.value)


def test_a_log_without_its_database_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    script = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); "
        "c.execute('CREATE TABLE numbers AS SELECT 1'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert wal_of(path).stat().st_size
    path.unlink()
    with connect(path, LIMITS) as connection:
        assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
    assert [found.name for found in tmp_path.iterdir()] == ["w.duckdb"]


def test_of_two_that_make_a_database_one_gives_way(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: _create(path, 60), range(8)))
    with connect(path, LIMITS) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT 1")
    assert [found.name for found in tmp_path.iterdir()] == ["w.duckdb"]


def test_the_log_of_the_faster_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with connect(path, LIMITS) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT 1")
        before = wal_of(path).read_bytes()
        _create(path, 60)
        assert wal_of(path).read_bytes() == before != b""


def test_a_file_deleted_while_it_is_opened_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a first pull that fails while this one waits."""
    path, opened = tmp_path / "w.duckdb", []

    def open_late(name: str, **settings: Any) -> duckdb.DuckDBPyConnection:
        opened.append(connected(name, **settings))
        if name == str(path) and not settings["read_only"] and len(opened) == 2:
            path.unlink()
        return opened[-1]

    connected = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", open_late)
    with connect(path, LIMITS) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT 1")
    assert len(opened) == 4
    assert path.exists()
