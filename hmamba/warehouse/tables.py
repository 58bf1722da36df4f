"""Tables of the warehouse, and helpers to query them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from hmamba.statements import statement

_TABLES = (
    "warehouse/create_interactions",
    "warehouse/create_items",
    "warehouse/create_batches",
    "warehouse/create_batch_files",
    "warehouse/create_quarantine",
)
_ADDITIONS = (
    "warehouse/add_event_type",
    "warehouse/add_rows_left",
    "warehouse/add_by_position",
    "warehouse/add_file_rows_left",
    "warehouse/add_read_through",
    "warehouse/add_refused_from",
    "warehouse/add_read_as",
    "warehouse/add_attributes",
)

Row = dict[str, Any]


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create missing tables, and columns that warehouses of earlier versions lack. The caller commits."""
    for name in (*_TABLES, *_ADDITIONS):
        connection.execute(statement(name))


def rows(connection: duckdb.DuckDBPyConnection, name: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """All rows of the query ``name`` (see :func:`hmamba.statements.statement`) as dictionaries."""
    cursor = connection.execute(statement(name), dict(values or {}))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def one(connection: duckdb.DuckDBPyConnection, name: str, values: Mapping[str, Any] | None = None) -> Row:
    """The single row of the query ``name`` as a dictionary."""
    (row,) = rows(connection, name, values)
    return row


def is_empty(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the DuckDB file has no tables, so that nothing has been loaded yet."""
    return not one(connection, "warehouse/tables")["tables"]
