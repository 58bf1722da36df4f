"""Queries whose columns only the surveyed file knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from hmamba.statements import statement


def rows(
    connection: duckdb.DuckDBPyConnection, name: str, values: Mapping[str, Any] | None = None, **identifiers: str
) -> list[dict[str, Any]]:
    """All rows of the query ``sql/<name>.sql`` by column name, its placeholders replaced by ``identifiers``."""
    cursor = connection.execute(statement(name, **identifiers), dict(values or {}))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def figures(
    connection: duckdb.DuckDBPyConnection, name: str, values: Mapping[str, Any] | None = None, **identifiers: str
) -> dict[str, Any]:
    """The only row of such a query."""
    (row,) = rows(connection, name, values, **identifiers)
    return row
