"""A merge by parts of the time gives what a merge in one go would, row for row, and reads only the times it touches."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pandas as pd
import pytest

from hmamba.statements import statement
from hmamba.warehouse import merge as merging
from hmamba.warehouse.merge import Entry, Merged, merge
from hmamba.warehouse.tables import create_tables, one
from tests.landing import Root
from tests.synthetic import write_landing

START, NOW = datetime(2024, 1, 1), datetime(2024, 3, 1)
LATE_BEFORE = START + timedelta(days=20)
Row = tuple[int, int, str | None, str | None, datetime | None, str, float]
"""Of staged: position, file, user, item, time, type, weight."""


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        create_tables(opened)
        for name in ("ingest/create_staged", "ingest/create_broken"):
            opened.execute(statement(name))
        yield opened


KINDS = [("buy", 1.0), ("buy", 3.0), ("buy", 0.0), ("buy", -1.0), ("buy", -2.0), ("view", 1.0)]


def some_rows(seed: int, count: int) -> list[Row]:
    """Few users, items and times, so that copies are many; some instants hold many events; some rows lack a part."""
    draw = random.Random(seed)
    rows: list[Row] = []
    for position in range(count):
        hours = draw.choice([0, 0, draw.randrange(24 * 30), draw.randrange(24 * 30)])
        time = None if draw.random() < 0.02 else START + timedelta(hours=hours)
        item = None if draw.random() < 0.02 else f"i{draw.randrange(5)}"
        rows.append((position, position * 3 // count, f"u{draw.randrange(4)}", item, time, *draw.choice(KINDS)))
    return rows


def put(connection: duckdb.DuckDBPyConnection, rows: list[Row]) -> list[Row]:
    """Stage rows and refuse those that lack a part; returns the others."""
    connection.execute("DELETE FROM staged")
    connection.execute("DELETE FROM broken")
    for position, file, user, item, time, kind, weight in rows:
        values = [position, file, position, user, item, time, kind, weight, weight < 0]
        connection.execute("INSERT INTO staged VALUES (?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, false, false)", values)
        if item is None or time is None:
            connection.execute("INSERT INTO broken VALUES (?, 'present')", [position])
    connection.execute(statement("ingest/create_refused"), {"refused_from": NOW})
    return [row for row in rows if row[3] is not None and row[4] is not None]


def held(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """The events in the order in which they lie in the warehouse."""
    columns = "user_id, item_id, event_time, event_type, weight < 0, weight, batch_id"
    return connection.execute(f"SELECT {columns} FROM interactions").fetchall()


class Oracle:
    """The same in plain Python, in one go."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def merge(self, rows: list[Row], entry: Entry) -> tuple[Merged, dict[str, datetime]]:
        before = {row[:5] for row in self.rows}
        weights: dict[Any, float] = {}
        for _, _, user, item, time, kind, weight in rows:
            key = (user, item, time, kind, weight < 0)
            weights[key] = max(weight, weights.get(key, weight), key=abs)
        new = sorted((key for key in weights if key not in before), key=lambda key: (key[2], *key[:2], *key[3:]))
        self.rows += [(*key, weights[key], entry.batch_id) for key in new]
        touched: dict[str, datetime] = {}
        for _, item, time, *_ in new:
            touched[item] = min(time, touched.get(item, time))
        figures = Merged(
            loaded=len(new),
            duplicate=len(rows) - len(new),
            late=sum(entry.late_before is not None and key[2] < entry.late_before for key in new),
            known_in_new_files=sum(row[1] in entry.new_files and (*row[2:6], row[6] < 0) in before for row in rows),
            newest=max((key[2] for key in weights), default=None),
        )
        return figures, touched


@pytest.mark.parametrize("rows_per_part", [1, 7, 60, 10_000])
@pytest.mark.parametrize("seed", range(4))
def test_parts_give_what_one_merge_gives(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, seed: int, rows_per_part: int
) -> None:
    monkeypatch.setattr(merging, "ROWS_PER_PART", rows_per_part)
    monkeypatch.setattr(merging, "_SAMPLES", 20)
    oracle = Oracle()
    for batch, (count, late_before) in enumerate([(150, None), (200, LATE_BEFORE), (0, LATE_BEFORE), (90, START)], 1):
        entry = Entry(batch, NOW, late_before, [0, 2])
        good = put(connection, some_rows(seed * 10 + batch, count))
        expected, touched = oracle.merge(good, entry)
        assert merge(connection, count, entry) == expected
        assert held(connection) == oracle.rows
        assert dict(connection.execute("SELECT item_id, first_seen FROM touched").fetchall()) == touched
    assert any(row[6] == 2 for row in oracle.rows)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows of the parts that are merged."""
    found: list[int] = []
    real = merging.one

    def watched(connection: duckdb.DuckDBPyConnection, name: str, *values: Any) -> dict[str, Any]:
        row = real(connection, name, *values)
        if name == "merge/part_figures":
            found.append(row["rows"])
        return row

    monkeypatch.setattr(merging, "one", watched)
    return found


@pytest.mark.parametrize(
    ("total", "rows_per_part", "samples", "expected"),
    [
        (60, 20, 4, [20, 20, 20]),
        (61, 20, 4, [15, 15, 15, 16]),  # four parts where three would hold more than 20; every fifth time is sampled
        (20, 20, 4, [20]),
        (35, 7, 7, [7] * 5),
        (12, 4, 40, [4, 4, 4]),  # fewer rows than samples: every time is sampled
    ],
)
def test_parts_are_of_one_size_and_none_is_larger_than_asked_for(
    connection: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[int],
    total: int,
    rows_per_part: int,
    samples: int,
    expected: list[int],
) -> None:
    monkeypatch.setattr(merging, "ROWS_PER_PART", rows_per_part)
    monkeypatch.setattr(merging, "_SAMPLES", samples)
    put(connection, [(n, 0, "u", "i", START + timedelta(hours=n), "", 1.0) for n in range(total)])
    merge(connection, total, Entry(1, NOW, None, [0]))
    assert sizes == expected


@pytest.mark.parametrize(("hours", "late"), [(5, 5), (0, 0), (10, 10), (-3, 0), (14, 10)])
def test_late_events_are_those_before_a_time_and_have_a_part_of_their_own(
    connection: duckdb.DuckDBPyConnection, sizes: list[int], hours: int, late: int
) -> None:
    put(connection, [(n, 0, "u", "i", START + timedelta(hours=n), "", 1.0) for n in range(10)])
    found = merge(connection, 10, Entry(1, NOW, START + timedelta(hours=hours), [0]))
    assert (found.loaded, found.late) == (10, late)
    assert sizes == [late, 10 - late]


def test_many_rows_without_a_time_are_no_events(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "ROWS_PER_PART", 2)
    put(connection, [(n, 0, "u", "i", None, "", 1.0) for n in range(7)])
    assert merge(connection, 7, Entry(1, NOW, None, [0])) == Merged(0, 0, 0, 0, None)


def test_nothing_of_a_merge_is_left_behind(connection: duckdb.DuckDBPyConnection) -> None:
    put(connection, [(0, 0, "u", "i", START, "", 1.0)])
    merge(connection, 1, Entry(1, NOW, None, [0]))
    loaded = connection.execute("SELECT batch_id, loaded_at FROM interactions").fetchall()
    assert loaded == [(1, NOW)]
    assert "known" not in {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def test_progress_counts_every_row_once(connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Watched(merging.Progress):
        def __init__(self, what: str, total: int, unit: str) -> None:
            super().__init__(what, total, unit)
            shown.append((what, total, unit))

        def update(self, amount: int = 1, note: str = "") -> None:
            super().update(amount, note)
            shown.append(amount)

    monkeypatch.setattr(merging, "Progress", Watched)
    monkeypatch.setattr(merging, "ROWS_PER_PART", 7)
    put(connection, [(n, 0, "u", "i", START + timedelta(hours=n), "", 1.0) for n in range(20)])
    merge(connection, 20, Entry(1, NOW, None, [0]))
    assert shown[0] == ("merge", 20, "rows")
    assert sum(shown[1:]) == 20
    assert len(shown) == 4


def test_events_of_one_instant_stay_in_one_part(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "ROWS_PER_PART", 10)
    rows: list[Row] = [(position, 0, f"u{position % 50}", "i", START, "", 1.0) for position in range(200)]
    put(connection, rows)
    assert merge(connection, 200, Entry(1, NOW, None, [0])) == Merged(50, 150, 0, 0, START)


def test_a_pull_reads_only_the_times_that_it_touches(connection: duckdb.DuckDBPyConnection) -> None:
    """A late event does not make the newest part read everything between."""
    groups, rows = 10, 122_880  # of a row group in DuckDB
    connection.execute(
        "INSERT INTO interactions "
        "SELECT 'u', 'i', $start + to_seconds(n), 1, 1, $start, '' FROM range($events) AS r(n)",
        {"start": START, "events": groups * rows},
    )
    newest = START + timedelta(seconds=groups * rows)
    put(connection, [(0, 0, "u", "i", newest - timedelta(seconds=1), "", 1.0), (1, 0, "u", "new", START, "", 1.0)])
    entry = Entry(2, NOW, newest - timedelta(days=2), [0])
    connection.execute(statement("merge/create_known"))
    scanned = []
    for start, past in merging._parts(connection, 2, entry.late_before):
        part = one(connection, "merge/part_figures", {"start": start, "past": past})
        plan = connection.execute(
            f"EXPLAIN (ANALYZE, FORMAT json) {statement('merge/find_known')}",
            {"oldest": part["oldest"], "newest": part["newest"]},
        ).fetchall()[0][1]
        scanned.append(scanned_rows(json.loads(plan), "interactions"))
    assert len(scanned) == 2
    assert 0 < max(scanned) <= 2 * rows
    assert merge(connection, 2, entry) == Merged(1, 1, 1, 1, newest - timedelta(seconds=1))


def scanned_rows(plan: dict[str, Any], table: str) -> int:
    """Rows that the scans of a table looked at."""
    is_it = str(plan.get("extra_info", {}).get("Table", "")).endswith(table)
    own = int(plan["operator_rows_scanned"]) if is_it else 0
    return own + sum(scanned_rows(child, table) for child in plan.get("children", []))


def test_pulls_by_parts_leave_the_same_warehouse(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real step: quarantine, items, ledger and the order of rows are those of a merge in one go."""
    draw = random.Random(3)
    pulls = []
    for number in range(2):
        rows = [row[2:] for row in some_rows(number, 120)]
        draw.shuffle(rows)
        pulls.append(pd.DataFrame(rows, columns=["user_id", "item_id", "event_time", "kind", "weight"]))
    root.configure(
        '[source.columns]\nweight = "weight"\nevent_type = "kind"\n[events.buy]\n[events.view]\n'
        "[quality]\nmax_quarantined_share = 1\nmax_duplicate_share = 1\n"
    )
    left = []
    for rows_per_part in (5, 1_000_000):
        monkeypatch.setattr(merging, "ROWS_PER_PART", rows_per_part)
        root.layout.warehouse.unlink(missing_ok=True)
        for path in root.landing().iterdir():
            path.unlink()
        for number, frame in enumerate(pulls):
            write_landing(root.layout.root, frame[:60], f"{number}-a.csv")
            write_landing(root.layout.root, frame[60:], f"{number}-b.parquet")
            root.ok("ingest", run_id=str(number))
        left.append(
            [
                root.sql("SELECT * EXCLUDE (loaded_at) FROM interactions"),
                root.sql("SELECT * FROM items"),
                root.sql("SELECT * EXCLUDE (started_at, loaded_at) FROM batches"),
                root.sql("SELECT * FROM quarantine"),
            ]
        )
    assert left[0] == left[1]
    assert all(left[0])
