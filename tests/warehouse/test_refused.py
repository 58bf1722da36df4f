"""The refused rows of several parts: what is said of them, what share they are, and what the quarantine keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from hmamba.config import Config
from hmamba.quality.batch import check_rows
from hmamba.sources.base import Rest
from hmamba.sources.table import TablePart
from hmamba.statements import statement
from hmamba.warehouse.connection import in_memory
from hmamba.warehouse.refused import ReadPart, Refusals, doubtful_ids, quarantine, tell_refusals
from hmamba.warehouse.staging import stage
from hmamba.warehouse.tables import create_tables

CONFIG, LATEST = Config(), datetime(2024, 2, 1)
WANTED = CONFIG.source.columns.wanted
GOOD = {"user_id": "u", "item_id": "i", "event_time": "2024-01-02"}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with in_memory() as opened:
        create_tables(opened)
        yield opened


def part_of(name: str, *changes: dict[str, Any], **more: Any) -> TablePart:
    return TablePart.of(pa.Table.from_pylist([GOOD | one | more for one in changes]), name)


def refuse(connection: duckdb.DuckDBPyConnection, *parts: TablePart) -> None:
    """Stage the parts and find the rows that break a rule."""
    counts = stage(connection, parts, CONFIG.source)
    connection.execute(statement("ingest/create_broken"))
    check_rows(connection, CONFIG, LATEST, sum(counts))
    connection.execute(statement("ingest/create_refused"), {"refused_from": LATEST})


def told(connection: duckdb.DuckDBPyConnection, *parts: TablePart, left: int = 0) -> Refusals:
    refuse(connection, *parts)
    return tell_refusals(connection, [ReadPart(part, part.size, left) for part in parts], WANTED, CONFIG)


def test_good_rows_are_not_told(connection: duckdb.DuckDBPyConnection) -> None:
    assert told(connection, part_of("a.csv", {}, {})) == Refusals(0, 0.0, "")


def test_the_first_refused_row_of_each_part_is_shown_with_its_cure(
    connection: duckdb.DuckDBPyConnection, caplog: pytest.LogCaptureFixture
) -> None:
    parts = part_of("a.csv", {}, {"event_time": "soon"}, {"user_id": None}), part_of("b.csv", {}, {"item_id": None})
    found = told(connection, *parts)
    assert (found.whole_files, found.share) == (0, pytest.approx(3 / 5))
    assert "a.csv, line 1: event_time_readable (event_time = 'soon')" in found.examples
    assert "b.csv, line 1: item_id_present (item_id = null)" in found.examples
    assert "Times are a timestamp or date type" in found.examples
    assert found.examples.endswith(" ")
    assert "a.csv: 2 of 3 rows refused (66.667%). The first: a.csv, line 1" in caplog.text
    assert "b.csv: 1 of 2 rows refused (50.000%)" in caplog.text


def test_parts_that_are_refused_whole_come_first_and_three_are_shown(connection: duckdb.DuckDBPyConnection) -> None:
    partly = [part_of(f"partly-{number}.csv", {}, {"user_id": None}) for number in range(3)]
    whole = part_of("whole.csv", {}, {}, item_id=None), part_of("one.csv", {"item_id": None})
    found = told(connection, *partly, *whole)
    assert found.whole_files == 2
    assert "all 2 rows of whole.csv, the first of them whole.csv, line 0" in found.examples
    assert "the only row of one.csv, one.csv, line 0" in found.examples
    assert [f"partly-{number}.csv" in found.examples for number in range(3)] == [True, False, False]


def test_a_row_without_a_time_may_belong_to_a_later_day(
    connection: duckdb.DuckDBPyConnection, caplog: pytest.LogCaptureFixture
) -> None:
    part = part_of("a.csv", {}, {"event_time": None}, {"user_id": None}, {})
    found = told(connection, part, left=6)
    assert found.share == pytest.approx(1 / 4 + 1 / 10)
    assert "; the file has rows of other days too" in caplog.text
    assert not ReadPart(part, 4, left=6).is_whole
    assert ReadPart(part, 4).is_whole


def test_a_part_that_is_continued_is_not_refused_whole(connection: duckdb.DuckDBPyConnection) -> None:
    part = replace(part_of("a.csv", {}), rest=Rest(date(2024, 1, 1), LATEST))
    assert not ReadPart(part, 1).is_whole


def test_the_quarantine_keeps_whole_records_with_their_origin(connection: duckdb.DuckDBPyConnection) -> None:
    parts = part_of("a.csv", {}, {"user_id": None}, note="x"), part_of("b.csv", {"event_time": "soon", "item_id": None})
    refuse(connection, *parts)
    quarantine(connection, 7, "interactions", parts, WANTED)
    rows = connection.execute(
        "SELECT batch_id, kind, path, line, rules, record FROM quarantine ORDER BY path"
    ).fetchall()
    assert [row[:4] for row in rows] == [(7, "interactions", "a.csv", 1), (7, "interactions", "b.csv", 0)]
    assert [set(row[4]) for row in rows] == [{"user_id_present"}, {"event_time_readable", "item_id_present"}]
    assert json.loads(rows[0][5]) == GOOD | {"user_id": None, "note": "x"}


def test_ids_that_look_absent_are_named_with_their_events(connection: duckdb.DuckDBPyConnection) -> None:
    refuse(connection, part_of("a.csv", {"user_id": "nan"}, {"user_id": "nan"}, {"item_id": "N/A"}, {"user_id": "Nan"}))
    (warning,) = doubtful_ids(connection)
    assert "user 'nan' (2)" in warning
    assert "item 'N/A' (1)" in warning
    assert "'Nan'" not in warning
    refuse(connection, part_of("a.csv", {}))
    assert doubtful_ids(connection) == []
