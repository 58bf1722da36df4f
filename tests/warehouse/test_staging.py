"""Files into typed columns: every format, hostile ids and names, every way to write a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.config import InteractionColumns, SourceConfig
from hmamba.errors import InputError
from hmamba.sources import read
from hmamba.sources.base import Reading
from hmamba.sources.discover import find_files
from hmamba.sources.files import FilePart
from hmamba.warehouse import staging
from hmamba.warehouse.staging import stage
from tests.synthetic import write_landing

HOSTILE = [
    'it\'s "quoted"',
    "com,ma;semi\ttab|bar",
    "new\nline",
    "carriage\r\nreturn",
    "snow ☃ 🛒 é",
    "'; drop table interactions; --",
    "{user_id}",
    "$user_id",
    "%s",
    " pad ",
    "0012",
    "null",
    "x" * 10_000,
]
NOON = datetime(2024, 1, 5, 12)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def staged(
    connection: duckdb.DuckDBPyConnection, root: Path, source: SourceConfig | None = None
) -> list[tuple[Any, ...]]:
    """Stage a root's landing folder; returns user_id, item_id, event_time, weight in the order of files and rows."""
    source = source or SourceConfig()
    files = find_files(source.path, root, "source.path")
    connection.execute("SET TimeZone = $zone", {"zone": source.timezone})
    counts = stage(connection, [FilePart.of(file) for file in files], source)
    positions = connection.execute("SELECT position FROM staged ORDER BY file, line").fetchall()
    assert positions == [(number,) for number in range(sum(counts))]
    return connection.execute("SELECT user_id, item_id, event_time, weight FROM staged ORDER BY position").fetchall()


def staged_parquet(
    connection: duckdb.DuckDBPyConnection, root: Path, table: pa.Table, source: SourceConfig | None = None
) -> list[tuple[Any, ...]]:
    """Stage one Parquet file."""
    path = root / "landing" / "interactions" / "a.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    return staged(connection, root, source)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet", "a.json"])
def test_hostile_ids_survive(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "ROWS_PER_BATCH", 5)
    frame = pd.DataFrame({"user_id": HOSTILE, "item_id": [text[::-1] for text in HOSTILE], "event_time": NOON})
    path = write_landing(tmp_path, frame, name)
    if name == "a.json":
        path.write_text(json.dumps(frame.assign(event_time=str(NOON)).to_dict(orient="records"), indent=1))
    assert staged(connection, tmp_path) == [(text.strip(), text[::-1].strip(), NOON, 1.0) for text in HOSTILE]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_hostile_names_of_columns(connection: duckdb.DuckDBPyConnection, tmp_path: Path, name: str) -> None:
    names = ['us"er/~', "it'em; drop", "when, $x", "{w}"]
    write_landing(tmp_path, pd.DataFrame([["a", "b", NOON, 2.5]], columns=names), name)
    columns = InteractionColumns(user_id=names[0], item_id=names[1], event_time=names[2], weight=names[3])
    assert staged(connection, tmp_path, SourceConfig(columns=columns)) == [("a", "b", NOON, 2.5)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_numbers_as_ids_beside_columns_that_nobody_asked_for(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, name: str
) -> None:
    frame = pd.DataFrame({"user_id": [7], "item_id": [10**15], "event_time": [NOON], "line": [1], "file": ["x"]})
    write_landing(tmp_path, frame, name)
    assert staged(connection, tmp_path) == [("7", "1000000000000000", NOON, 1.0)]


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({}, "2024-01-05 10:00:00", datetime(2024, 1, 5, 10)),
        ({}, "2024-01-05T10:00:00.123456Z", datetime(2024, 1, 5, 10, 0, 0, 123456)),
        ({}, "2024-01-05T10:00:00+02:00", datetime(2024, 1, 5, 8)),
        ({}, "2024-01-05", datetime(2024, 1, 5)),
        ({}, "05/01/2024", None),
        ({}, "1704448800", None),
        ({}, "2024-02-30", None),
        ({}, "", None),
        ({"timezone": "Europe/Paris"}, "2024-01-05 10:00:00", datetime(2024, 1, 5, 9)),
        ({"timezone": "Europe/Paris"}, "2024-07-05 10:00:00", datetime(2024, 7, 5, 8)),
        ({"timezone": "Europe/Paris"}, "2024-01-05T10:00:00Z", datetime(2024, 1, 5, 10)),
        ({"time_format": "epoch_s"}, "1704448800.25", datetime(2024, 1, 5, 10, 0, 0, 250000)),
        ({"time_format": "epoch_ms"}, "1704448800250", datetime(2024, 1, 5, 10, 0, 0, 250000)),
        ({"time_format": "epoch_s"}, "1e300", None),
        ({"time_format": "epoch_s"}, "nan", None),
        ({"time_format": "epoch_s", "timezone": "Asia/Tokyo"}, "1704448800", datetime(2024, 1, 5, 10)),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_times_become_utc(
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    settings: dict[str, Any],
    text: str,
    expected: datetime | None,
    name: str,
) -> None:
    write_landing(tmp_path, pd.DataFrame({"user_id": ["u"], "item_id": ["i"], "event_time": [text]}), name)
    assert staged(connection, tmp_path, SourceConfig(**settings)) == [("u", "i", expected, 1.0)]


@pytest.mark.parametrize(
    ("array", "settings", "expected"),
    [
        (pa.array([NOON], pa.timestamp("ns")), {}, NOON),
        (pa.array([NOON], pa.timestamp("s")), {"timezone": "Asia/Tokyo"}, datetime(2024, 1, 5, 3)),
        (pa.array([NOON], pa.timestamp("us", "America/New_York")), {"timezone": "Asia/Tokyo"}, NOON),
        (pa.array([NOON.date()], pa.date32()), {}, datetime(2024, 1, 5)),
        (pa.array([1704448800]), {"time_format": "epoch_s"}, datetime(2024, 1, 5, 10)),
        (pa.array(["2024-01-05"]).dictionary_encode(), {}, datetime(2024, 1, 5)),
        (pa.nulls(1), {}, None),
    ],
)
def test_times_in_parquet(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, array: pa.Array, settings: dict[str, Any], expected: datetime
) -> None:
    table = pa.table({"user_id": ["u"], "item_id": ["i"], "event_time": array})
    assert staged_parquet(connection, tmp_path, table, SourceConfig(**settings)) == [("u", "i", expected, 1.0)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_weights_that_are_no_numbers_are_null(connection: duckdb.DuckDBPyConnection, tmp_path: Path, name: str) -> None:
    weights = ["1.5", "heavy", None, "-2"]
    frame = pd.DataFrame({"user_id": "u", "item_id": "i", "event_time": NOON, "w": weights})
    write_landing(tmp_path, frame, name)
    source = SourceConfig(columns=InteractionColumns(weight="w"))
    assert [row[3] for row in staged(connection, tmp_path, source)] == [1.5, None, None, -2.0]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_missing_column_is_named_with_those_that_are_there(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, name: str
) -> None:
    write_landing(tmp_path, pd.DataFrame({"user": ["u"], "item_id": ["i"], "event_time": [NOON]}), name)
    with pytest.raises(InputError, match=rf"{name} has no column 'user_id'; it has .*'user'"):
        staged(connection, tmp_path)


def test_a_json_member_may_be_absent_from_some_objects(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "landing" / "interactions" / "a.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"user_id": 1, "item_id": 2}\n{"item_id": true, "event_time": "2024-01-05"}\n[1]\n{oops\n')
    assert staged(connection, tmp_path) == [
        ("1", "2", None, 1.0),
        (None, "true", datetime(2024, 1, 5), 1.0),
        (None, None, None, 1.0),
        (None, None, None, 1.0),
    ]
    assert connection.execute("SELECT malformed FROM staged ORDER BY position").fetchall() == [
        (None,),
        (None,),
        ("[1]",),
        ("{oops",),
    ]


def test_a_file_that_grows_while_it_is_read(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame({"user_id": ["u"] * 9, "item_id": "i", "event_time": NOON})
    path = write_landing(tmp_path, frame, "a.csv")
    whole = read.open_file

    def grow_after_opening(*arguments: Any) -> Reading:
        reading = whole(*arguments)
        with path.open("a") as stream:
            stream.write("u,j,2024-01-06\n")
        return reading

    monkeypatch.setattr("hmamba.sources.files.open_file", grow_after_opening)
    with pytest.raises(InputError, match=r"a\.csv changed while it was read, and nothing has been loaded"):
        staged(connection, tmp_path)


def test_ctrl_c_ends_a_pull_at_once(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the file being read once more to see whether it has changed."""
    path = write_landing(tmp_path, pd.DataFrame({"user_id": ["u"], "item_id": ["i"], "event_time": [NOON]}), "a.csv")

    def interrupted(*_: object) -> None:
        path.write_text("changed")
        raise KeyboardInterrupt

    monkeypatch.setattr("hmamba.warehouse.staging.read_column", interrupted)
    with pytest.raises(KeyboardInterrupt):
        staged(connection, tmp_path)


TIMES = [0, 1, 1_704_456_000_123_456, -1_000_000_000_000_000, 253_402_300_799_999_999, None]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("carried", [None, "UTC", "America/New_York"])
def test_time_types_are_read_as_their_text_would_be(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, zone: str, unit: str, carried: str | None
) -> None:
    divisor = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}[unit]
    times = pa.array([None if time is None else time // divisor for time in TIMES], pa.timestamp(unit, carried))
    table = pa.table({"user_id": ["u"] * 6, "item_id": ["i"] * 6, "event_time": times})
    read = [row[2] for row in staged_parquet(connection, tmp_path, table, SourceConfig(timezone=zone))]
    text = "SELECT CAST(CAST(event_time AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC' FROM given"
    connection.register("given", table)
    assert read == [time for (time,) in connection.execute(text).fetchall()]


@pytest.mark.parametrize(
    "weights",
    [
        pa.array([1, -2, 2**60, 0, 5, None], pa.int64()),
        pa.array([0.1, float("nan"), float("inf"), -0.0, 1e300, None], pa.float64()),
        pa.array([0.1, float("nan"), float("inf"), -0.0, 1e30, None], pa.float32()),
        pa.array([0.5, float("nan"), float("inf"), -0.0, 8, None], pa.float16()),
        pa.array([True, False, None, True, False, True]),
        pa.array(["1", "x", "", "nan", "1e3", None]),
        pa.array([Decimal("1.50"), None], pa.decimal256(76, 38)),
    ],
    ids=lambda weights: str(weights.type),
)
def test_weights_are_numbers_of_any_type(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, weights: pa.Array
) -> None:
    count = len(weights)
    table = pa.table({"user_id": ["u"] * count, "item_id": ["i"] * count, "event_time": [NOON] * count, "w": weights})
    found = staged_parquet(connection, tmp_path, table, SourceConfig(columns=InteractionColumns(weight="w")))
    if pa.types.is_boolean(weights.type):
        expected: list[float | None] = [None] * count
    elif pa.types.is_string(weights.type):
        expected = [1.0, None, None, float("nan"), 1000.0, None]
    else:
        expected = [None if weight is None else float(weight) for weight in weights.to_pylist()]
    assert repr([row[3] for row in found]) == repr(expected)  # NaN is not equal to itself


def test_nothing_of_a_chunk_is_kept_until_the_transaction_ends(connection: duckdb.DuckDBPyConnection) -> None:
    connection.begin()
    before = pa.total_allocated_bytes()
    for start in range(5):
        batch = pa.record_batch({"n": pa.array(range(start, start + 100_000), pa.int64())})
        with staging.chunk_of(connection, batch):
            assert connection.execute("SELECT count(*), min(n) FROM chunk").fetchall() == [(100_000, start)]
        with pytest.raises(duckdb.CatalogException):
            connection.execute("SELECT * FROM chunk")
    del batch
    assert pa.total_allocated_bytes() - before < 2 * 800_000  # of five, the last may stay
    connection.rollback()
