"""A damaged warehouse: each damage that is read is named, and the advice leads to the same events."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from hmamba.config import WarehouseConfig
from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import connect, wal_of
from jobs import ingest, snapshot
from tests.nights import FIRST, open_shop, run_night

CONFIG = WarehouseConfig(threads=1)
HEADERS = 3 * 4_096
EVENTS = "SELECT user_id, item_id, event_time, weight, event_type FROM interactions ORDER BY ALL"


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root after a night."""
    layout = Layout.at(tmp_path_factory.mktemp("damage"))
    open_shop(layout)
    run_night(layout, FIRST, "one")
    return layout.root


@pytest.fixture
def shop(night: Path, tmp_path: Path) -> Layout:
    shutil.copytree(night, tmp_path / "root", symlinks=True)
    return Layout.at(tmp_path / "root")


def content(path: Path) -> list[object]:
    """All values of all tables."""
    with connect(path, CONFIG, read_only=True) as connection:
        names = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()]
        return [(name, connection.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()) for name in names]


def flipped(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def test_no_flipped_bit_changes_what_is_read(night: Path, tmp_path: Path) -> None:
    """DuckDB verifies its blocks: a flip is an error, or in bytes that hold nothing."""
    path, chance = tmp_path / "w.duckdb", random.Random(0)
    data, before = (night / "warehouse.duckdb").read_bytes(), content(night / "warehouse.duckdb")
    refused = 0
    for number in range(120):
        path.write_bytes(flipped(data, chance.randrange(HEADERS if number % 3 else len(data)), chance.randrange(8)))
        try:
            found = content(path)
        except InputError as error:
            refused += 1
            assert str(path) in str(error)  # noqa: PT017 - most flips are errors, not all
            assert "Restore it from a backup" in str(error)  # noqa: PT017
        else:
            assert found == before
    assert refused > 100


@pytest.mark.parametrize("size", [0, 1, 4_096, HEADERS - 1, HEADERS, HEADERS + 1, -1, -4_096, -300_000])
def test_no_truncation_changes_what_is_read(night: Path, tmp_path: Path, size: int) -> None:
    data = (night / "warehouse.duckdb").read_bytes()
    path = tmp_path / "w.duckdb"
    path.write_bytes(data[:size])
    with pytest.raises(InputError, match="Restore it from a backup"):
        content(path)


def test_no_flipped_bit_of_the_log_changes_what_is_read(night: Path, tmp_path: Path) -> None:
    source, path, chance = tmp_path / "source.duckdb", tmp_path / "w.duckdb", random.Random(0)
    shutil.copy(night / "warehouse.duckdb", source)
    with duckdb.connect(str(source)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("INSERT INTO items (item_id) SELECT 'new ' || range FROM range(1_000)")
        data = wal_of(source).read_bytes()
    for _ in range(30):
        shutil.copy(night / "warehouse.duckdb", path)
        wal_of(path).write_bytes(flipped(data, chance.randrange(len(data)), chance.randrange(8)))
        with pytest.raises(InputError, match=r"replaying WAL.*Restore it from a backup, with w\.duckdb\.wal"):
            content(path)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a header": lambda data: flipped(data, 4_100, 3),
    "events": lambda data: data[:HEADERS] + bytes(len(data) - HEADERS),
    "truncated": lambda data: data[: len(data) // 2],
    "a foreign file": lambda _: b"SQLite format 3\0" * 10_000,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_steps_say_what_to_do_and_it_works(shop: Layout, caplog: pytest.LogCaptureFixture, what: str) -> None:
    with duckdb.connect(str(shop.warehouse), read_only=True) as connection:
        before = connection.execute(EVENTS).fetchall()
    backup = shutil.copy(shop.warehouse, shop.root.parent / "backup")
    shop.warehouse.write_bytes(DAMAGE[what](shop.warehouse.read_bytes()))
    (shop.landing / "interactions" / "new.csv").write_text("user_id,item_id,event_time\nu,i,2024-01-20\n")
    for step in (ingest, snapshot):
        caplog.clear()
        arguments = ["--root", str(shop.root), "--day", FIRST.isoformat(), "--run-id", "two"]
        assert step.main(arguments) == 2, caplog.text
        assert "Restore it from a backup" in caplog.text
        assert "Traceback" not in caplog.text
    (shop.landing / "interactions" / "new.csv").unlink()
    damaged = shop.warehouse.read_bytes()
    shutil.copy(backup, shop.warehouse)
    assert ingest.main(arguments) == snapshot.main(arguments) == 0
    shop.warehouse.write_bytes(damaged)
    shop.warehouse.rename(shop.root.parent / "damaged")
    assert ingest.main([*arguments, "--new-warehouse"]) == 0
    run_night(shop, FIRST, "three", full_retrain=True)
    with duckdb.connect(str(shop.warehouse), read_only=True) as connection:
        assert connection.execute(EVENTS).fetchall() == before


def test_a_database_of_something_else_is_left_alone(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    shop.warehouse.unlink()
    with duckdb.connect(str(shop.warehouse)) as connection:
        connection.execute("CREATE TABLE orders AS SELECT 1 AS n")
    assert ingest.main(["--root", str(shop.root), "--day", FIRST.isoformat()]) == 2
    assert "it has the table 'orders' and no interactions. Move it away" in caplog.text
    with duckdb.connect(str(shop.warehouse)) as connection:
        assert connection.execute("SHOW TABLES").fetchall() == [("orders",)]
    shop.warehouse.unlink()
    assert ingest.main(["--root", str(shop.root), "--day", FIRST.isoformat(), "--new-warehouse"]) == 0
