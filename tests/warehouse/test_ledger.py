"""What the ledger keeps of the parts of a source, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime

import duckdb
import pyarrow as pa
import pytest

from hmamba.sources.base import LedgerEntry, Rest
from hmamba.sources.table import TablePart
from hmamba.warehouse.ledger import entries, record
from hmamba.warehouse.tables import create_tables

PART = replace(TablePart.of(pa.table({"user": ["a", "b"]}), "log.csv"), digest="0123", modified_ns=5)
REST = Rest(date(2024, 1, 5), datetime(2024, 1, 9, 12))


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        create_tables(opened)
        yield opened


def test_a_part_is_known_again(connection: duckdb.DuckDBPyConnection) -> None:
    record(connection, 1, "interactions", PART, 2)
    assert entries(connection, "interactions") == [LedgerEntry(name="log.csv", size=2, digest="0123", modified_ns=5)]
    assert entries(connection, "catalogue") == []
    assert connection.execute("SELECT batch_id, rows, rows_left FROM batch_files").fetchall() == [(1, 2, 0)]


def test_a_part_with_rows_of_later_days_is_partial(connection: duckdb.DuckDBPyConnection) -> None:
    record(connection, 1, "interactions", PART, 1, left=1, rest=REST)
    record(connection, 2, "interactions", replace(PART, rest=REST), 1, left=0, rest=REST)
    partial, whole = entries(connection, "interactions")
    assert (partial.state, partial.rest) == ("partial", REST)
    assert (whole.state, whole.rest) == ("loaded", None)
    assert [partial.rest_on(date(2024, 1, day)) for day in (4, 5, 6)] == [None, None, REST]
    assert whole.rest_on(date(2024, 1, 6)) is None


def test_kinds_copies_and_ways_of_reading_are_kept_apart(connection: duckdb.DuckDBPyConnection) -> None:
    for batch in (3, 1, 2):
        record(connection, batch, "catalogue", replace(PART, name=f"{batch}.csv", read_as=f"way {batch}"), 2)
    record(connection, 4, "interactions", replace(PART, state="duplicate"), 0)
    assert [(one.name, one.read_as) for one in entries(connection, "catalogue")] == [
        ("1.csv", "way 1"),
        ("2.csv", "way 2"),
        ("3.csv", "way 3"),
    ]
    assert [one.state for one in entries(connection, "interactions")] == ["duplicate"]
