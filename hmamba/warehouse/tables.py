"""Tables of the warehouse."""

from __future__ import annotations

import duckdb

from hmamba.errors import InputError
from hmamba.statements import one, statement

_TABLES = (
    "warehouse/create_interactions",
    "warehouse/create_items",
    "warehouse/create_batches",
    "warehouse/create_batch_files",
    "warehouse/create_quarantine",
    "warehouse/create_forgotten",
    "warehouse/create_forgotten_salt",
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


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create missing tables, and columns that warehouses of earlier versions lack. The caller commits.

    Raises:
        InputError: the DuckDB file belongs to something else.
    """
    found = one(connection, "warehouse/foreign_tables")
    if found["name"] is not None and not found["own"]:
        raise InputError(
            f"The warehouse's file is a DuckDB file of something else: it has the table {found['name']!r} and no "
            "interactions. Move it away, and restore the warehouse, or pull all files again."
        )
    for name in (*_TABLES, *_ADDITIONS):
        connection.execute(statement(name))


def is_empty(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the DuckDB file has no tables, so that nothing has been loaded yet."""
    return not one(connection, "warehouse/tables")["tables"]
