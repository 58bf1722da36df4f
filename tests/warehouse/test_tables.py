"""The tables of the warehouse, and queries by name."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from hmamba.statements import one, rows
from hmamba.warehouse.tables import create_tables, is_empty


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def test_tables_are_made_once_and_keep_what_they_hold(connection: duckdb.DuckDBPyConnection) -> None:
    assert is_empty(connection)
    create_tables(connection)
    assert not is_empty(connection)
    connection.execute("INSERT INTO items (item_id) VALUES ('a')")
    create_tables(connection)
    assert connection.execute("SELECT item_id FROM items").fetchall() == [("a",)]


def test_a_temporary_table_is_no_warehouse(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE TEMP TABLE interactions (user_id VARCHAR)")
    assert is_empty(connection)


def test_rows_are_dictionaries_and_one_is_the_only_one(connection: duckdb.DuckDBPyConnection) -> None:
    create_tables(connection)
    assert rows(connection, "ledger/known_files", {"kind": "catalogue"}) == []
    assert one(connection, "warehouse/tables") == {"tables": 1}
    with pytest.raises(ValueError, match="unpack"):
        one(connection, "ledger/known_files", {"kind": "catalogue"})


def test_counts_of_a_batch_must_add_up(connection: duckdb.DuckDBPyConnection) -> None:
    create_tables(connection)
    columns = "batch_id, day, run_id, source, started_at, loaded_at, rows_read, rows_loaded, rows_duplicate, "
    columns += "rows_quarantined, rows_forgotten, rows_late, items_new"
    values = "1, DATE '2024-01-01', 'r', 's', now(), now()"
    connection.execute(f"INSERT INTO batches ({columns}) VALUES ({values}, 7, 3, 2, 1, 1, 0, 0)")
    with pytest.raises(duckdb.ConstraintException):
        connection.execute(f"INSERT INTO batches ({columns}) VALUES ({values}, 7, 3, 2, 2, 1, 0, 0)")
