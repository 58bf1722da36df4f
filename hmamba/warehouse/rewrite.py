"""Write the warehouse's file again, so that it holds no byte of deleted rows.

DuckDB frees the blocks of deleted rows without overwriting them. A copy of the database contains only its rows.
"""

from __future__ import annotations

import logging
from pathlib import Path

import duckdb

from hmamba.statements import rows, statement
from hmamba.storage.local import atomic_file
from hmamba.warehouse.connection import wal_of

log = logging.getLogger("hmamba")


def copy_to(connection: duckdb.DuckDBPyConnection, target: Path) -> None:
    """Copy the warehouse to a new DuckDB file.

    Args:
        connection: the warehouse, without an open transaction.
        target: a file that does not exist.
    """
    # ATTACH takes no bound parameter; in a literal only the quote is special.
    attach = statement("forget/attach_fresh").replace("{path}", str(target).replace("'", "''"))
    connection.execute(attach)
    try:
        connection.execute(statement("forget/copy_to_fresh"))
        before, after = (rows(connection, "forget/row_counts", {"database": name}) for name in ("warehouse", "fresh"))
        if [row["name"] for row in before] != [row["name"] for row in after]:
            raise AssertionError(f"{target} has the tables {after}, the warehouse {before}")
    finally:
        connection.execute(statement("forget/detach_fresh"))


def rewrite(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Replace the warehouse's file by a copy, while this process holds its lock. Killed, the old file is still there.

    Args:
        connection: the warehouse, opened for writing, without an open transaction; close it afterwards.
        path: its file, or a link to it, which stays.
    """
    connection.execute(statement("forget/checkpoint"))
    with atomic_file(path.resolve()) as fresh:
        copy_to(connection, fresh)
    wal_of(path).unlink(missing_ok=True)
    log.info("%s: written again, %d bytes", path, path.stat().st_size)
