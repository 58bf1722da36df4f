from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from hmamba.statements import statement

SQL = Path(__file__).parents[1] / "sql"
NAMES = sorted(path.relative_to(SQL).with_suffix("").as_posix() for path in SQL.rglob("*.sql"))


@pytest.mark.parametrize("name", NAMES)
def test_one_statement_a_file(name: str) -> None:
    with duckdb.connect() as connection:
        assert len(connection.extract_statements(statement(name))) == 1


def test_an_unknown_name() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing/here\.sql"):
        statement("nothing/here")
