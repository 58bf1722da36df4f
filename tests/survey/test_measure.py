"""Counts and bounds of sampled events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from hmamba.config import InteractionColumns, SourceConfig
from hmamba.sources.discover import find_files
from hmamba.statements import statement
from hmamba.survey.measure import Measured, items, measure, repeats, typical_user
from hmamba.survey.sample import Budget, take

SOURCE = SourceConfig(
    columns=InteractionColumns(user_id="u", item_id="i", event_time="t", weight="w", event_type="kind")
)
ALL = Budget(1 << 30, 1 << 30, 1 << 30)
EVENTS = pd.DataFrame(
    {
        "u": ["a", "a", "a", "b", "b", "b"],
        "i": ["x", "x", "y", "x", "x", "z"],
        "t": ["2024-01-02", "2024-01-03", "2024-01-04", "2999-01-01", "1970-01-01", "1980-01-01"],
        "w": [1.0, 2.0, 0.5, 1.0, 1.0, 4.0],
        "kind": ["buy", "view", "buy", "buy", "buy", "view"],
    }
)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute(statement("ingest/create_staged"))
        yield opened


def measured(connection: duckdb.DuckDBPyConnection, folder: Path, source: SourceConfig = SOURCE) -> Measured:
    files = find_files(str(folder / "in"), folder, "source.path")
    (folder / "samples").mkdir()
    return measure(connection, files, list(take(files, folder / "samples", ALL)), source)


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_rows_users_items_times_and_types_are_counted(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, name: str
) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    EVENTS.to_csv(path, index=False) if name.endswith("csv") else EVENTS.to_parquet(path, index=False)
    found = measured(connection, tmp_path)
    figures = found.figures
    assert (figures.files, figures.total, figures.exact, figures.looked, figures.whole) == (1, 6, True, 6, True)
    assert (figures.users, figures.items) == (2, 3)
    assert (figures.after, figures.at_zero) == (1, 1)
    assert figures.newest == datetime(2024, 1, 4)
    assert figures.weights == (0.5, 4.0)
    assert dict(figures.types) == {"buy": 4, "view": 2}
    assert (found.counts, found.problems) == ((6,), ())


def test_an_unreadable_file_is_named_and_the_others_are_counted(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    EVENTS.to_csv(tmp_path / "in" / "a.csv", index=False)
    EVENTS.drop(columns="i").to_csv(tmp_path / "in" / "b.csv", index=False)
    found = measured(connection, tmp_path)
    assert (found.figures.files, found.figures.looked, found.figures.whole) == (2, 6, False)
    (problem,) = found.problems
    assert "b.csv" in problem
    assert "'i'" in problem


def test_repeats_items_and_the_typical_user_may_be_of_some_types_only(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    EVENTS.to_csv(tmp_path / "in" / "log.csv", index=False)
    assert repeats(connection, None) == 0.0
    measured(connection, tmp_path)
    assert repeats(connection, None) == pytest.approx(2 / 6)
    assert repeats(connection, ["buy"]) == pytest.approx(1 / 4)
    assert repeats(connection, []) == 0.0
    assert items(connection, None) == 3
    assert items(connection, ["buy"]) == 2
    assert typical_user(connection, None) == 3
    assert typical_user(connection, ["buy"]) == 2
    assert typical_user(connection, ["view"]) == 0
