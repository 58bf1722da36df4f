"""docs/warehouse.md: its tables have its columns, and its queries run."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from hmamba.config import QualityConfig
from hmamba.quality.row_rules import ROW_RULES
from tests.landing import DAY, Root
from tests.synthetic import write_landing

PAGE = (Path(__file__).parents[2] / "docs" / "warehouse.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


def test_tables_and_columns_are_as_described(loaded: Root) -> None:
    told = {
        table: re.findall(r"`(\w+)`", columns)
        for table, columns in re.findall(r"^\| `(\w+)` \| [^|]+ \| (`.*) \|$", PAGE, re.MULTILINE)
    }
    found: dict[str, list[str]] = {}
    for table, column in loaded.sql("SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"):
        found.setdefault(table, []).append(column)
    assert {table: columns for table, columns in told.items() if table in found} == found


@pytest.mark.parametrize("query", QUERIES[:-1])
def test_queries_run(loaded: Root, query: str) -> None:
    assert loaded.sql(query) or "quarantine" in query or "partial" in query


def test_refused_rows_can_be_let_in_again(loaded: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("u", 'i"1"', DAY), ("u", "new\nline, 🛒", DAY), ("u", "\\ and more", DAY)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "event_time"])
    write_landing(loaded.layout.root, frame, "long.csv")
    loaded.configure("[quality]\nmax_quarantined_share = 1\nmax_id_length = 8\n")
    assert loaded.ok("ingest")["quarantined_by_rule"] == {"item_id_length": 2}
    monkeypatch.chdir(loaded.layout.root)
    loaded.sql(QUERIES[-1])
    loaded.configure("")
    assert loaded.ok("ingest", run_id="again")["rows_loaded"] == 2
    found = loaded.sql("SELECT user_id, item_id, event_time::DATE FROM interactions WHERE user_id = 'u' ORDER BY 2")
    assert found == sorted(rows, key=lambda row: row[1])


def test_every_rule_and_bound_is_described() -> None:
    described = {
        name: what
        for names, what in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|$", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert {name: described.get(name) for name in ROW_RULES} == {
        name: rule.broken_by for name, rule in ROW_RULES.items()
    }
    assert [name for name in QualityConfig.model_fields if f"`{name}`" not in PAGE] == []
