"""docs/warehouse.md: its tables have its columns, and its queries run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hmamba.config import QualityConfig
from hmamba.quality.batch import ROW_RULES
from tests.landing import Root

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


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_queries_run(loaded: Root, number: int) -> None:
    assert loaded.sql(QUERIES[number]) or "quarantine" in QUERIES[number]


def test_every_rule_and_bound_is_described() -> None:
    assert [rule for rule in ROW_RULES if f"`{rule}`" not in PAGE] == []
    assert [name for name in QualityConfig.model_fields if f"`{name}`" not in PAGE] == []
