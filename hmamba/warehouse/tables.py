"""The warehouse's tables and small helpers to query them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from hmamba.statements import statement

TABLES = ("interactions", "items", "batches", "batch_files", "quarantine")
ADDITIONS = ("rows_left", "file_rows_left", "read_through", "refused_from", "by_position", "read_as")
"""Columns that warehouses of earlier versions lack."""

Row = dict[str, Any]


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create what is missing, in warehouses of earlier versions too. The caller commits."""
    for table in TABLES:
        connection.execute(statement(f"warehouse/create_{table}"))
    for column in ADDITIONS:
        connection.execute(statement(f"warehouse/add_{column}"))
    if "event_type" not in {row["column_name"] for row in rows(connection, "warehouse/interaction_columns")}:
        for name in ("add_event_type", "require_event_type"):
            connection.execute(statement(f"warehouse/{name}"))


def rows(connection: duckdb.DuckDBPyConnection, name: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """All rows of the query ``sql/<name>.sql``, by column name."""
    cursor = connection.execute(statement(name), dict(values or {}))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def one(connection: duckdb.DuckDBPyConnection, name: str, values: Mapping[str, Any] | None = None) -> Row:
    """The only row of the query ``sql/<name>.sql``, by column name."""
    (row,) = rows(connection, name, values)
    return row


def is_empty(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether nothing has ever been loaded into this DuckDB file."""
    return not one(connection, "warehouse/tables")["tables"]
