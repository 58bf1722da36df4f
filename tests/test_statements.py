from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from hmamba.statements import identifier, statement

SQL = Path(__file__).parents[1] / "sql"
NAMES = sorted(path.relative_to(SQL).with_suffix("").as_posix() for path in SQL.rglob("*.sql"))


@pytest.mark.parametrize("name", ["plain", 'quo"te', "semi; drop", "new\nline", "{brace}", "ünï ☃", "'"])
def test_identifiers_survive(name: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({identifier(name)} INTEGER)")
        (column,) = (
            connection.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = 't'").fetchone() or ()
        )
    assert column == name


@pytest.mark.parametrize("name", NAMES)
def test_one_statement_a_file(name: str) -> None:
    text = statement(name, **dict.fromkeys(("user_id", "item_id", "event_time", "weight"), "x"))
    with duckdb.connect() as connection:
        assert len(connection.extract_statements(text)) == 1


def test_unknown_names_and_missing_identifiers() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing/here\.sql"):
        statement("nothing/here")
    with pytest.raises(KeyError):
        statement("ingest/stage_columns", user_id="u")
