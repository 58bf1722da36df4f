"""Tables in memory are loaded by the rules of a pull, and refused as a whole where a pull would keep rows out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from hmamba.config import parse
from hmamba.errors import InputError
from hmamba.quality import batch
from hmamba.quality.row_rules import ROW_RULES, RowRule
from hmamba.warehouse.connection import in_memory
from hmamba.warehouse.frames import load_frames

EVENTS = {
    "user_id": ["u", "u", "v", "v"],
    "item_id": ["b", "a", "a", "a"],
    "event_time": [datetime(2024, 1, day) for day in (1, 2, 3, 3)],
}
CONFIG = parse({}, "test")


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with in_memory() as opened:
        yield opened


def test_copies_count_once_and_items_are_numbered_by_their_first_event(
    connection: duckdb.DuckDBPyConnection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="hmamba")
    assert load_frames(connection, CONFIG, pa.table(EVENTS), None) == date(2024, 1, 3)
    assert connection.execute("SELECT count(*) FROM interactions").fetchall() == [(3,)]
    assert connection.execute("SELECT item_id, item_index FROM items ORDER BY 2").fetchall() == [("b", 1), ("a", 2)]
    assert "interactions: 1 of 4 rows are copies of another row, and count once" in caplog.text
    assert "staged" not in {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def test_metadata_of_items_is_applied(connection: duckdb.DuckDBPyConnection, caplog: pytest.LogCaptureFixture) -> None:
    config = parse({"catalogue": {"title": "name"}}, "test")
    load_frames(connection, config, pa.table(EVENTS), pa.table({"item_id": ["a", "z"], "name": ["Apple", "Zip"]}))
    titles = dict(connection.execute("SELECT item_id, title FROM items").fetchall())
    assert titles == {"a": "Apple", "b": None, "z": "Zip"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"item_id": ["b", None, "a", "a"]}, r"^1 of 4 rows of interactions cannot be used\. .*line 1"),
        ({"event_time": [datetime(2024, 1, 1)] * 2 + [datetime(2999, 1, 1)] * 2}, "^2 of 4 rows of interactions"),
        ({"user_id": None}, "'user_id'"),
    ],
)
def test_rows_that_break_a_rule_refuse_the_whole(
    connection: duckdb.DuckDBPyConnection, changes: dict[str, Any], told: str
) -> None:
    columns = {name: values for name, values in (EVENTS | changes).items() if values is not None}
    with pytest.raises(InputError, match=told):
        load_frames(connection, CONFIG, pa.table(columns), None)


def test_a_further_row_rule_is_one_entry(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = RowRule(
        name="item_id_allowed",
        condition="item_id = 'b'",
        broken_by="an item that is not sold",
        columns=lambda config: (config.source.columns.item_id,),
        cure=lambda broken: f"{broken.value} is not sold.",
    )
    monkeypatch.setattr(batch, "EVENT_RULES", (*batch.EVENT_RULES, rule))
    monkeypatch.setitem(ROW_RULES, rule.name, rule)
    with pytest.raises(InputError, match=r"^1 of 4 rows .*line 0: item_id_allowed .*b is not sold\."):
        load_frames(connection, CONFIG, pa.table(EVENTS), None)


def test_no_rows_are_refused(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(InputError, match=r"^interactions has no rows"):
        load_frames(connection, CONFIG, pa.table(EVENTS).slice(0, 0), None)


def test_ids_that_look_absent_are_warned_of(
    connection: duckdb.DuckDBPyConnection, caplog: pytest.LogCaptureFixture
) -> None:
    load_frames(connection, CONFIG, pa.table(EVENTS | {"user_id": ["nan", "u", "v", "w"]}), None)
    assert "Some ids look like absent values (events in brackets): user 'nan' (1)" in caplog.text
