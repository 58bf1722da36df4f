"""The ledger of loaded source parts. It prevents double loading and detects changed parts."""

from __future__ import annotations

from typing import Literal

import duckdb

from hmamba.sources.base import LedgerEntry, Part, Rest
from hmamba.statements import rows, statement

Kind = Literal["interactions", "catalogue"]


def entries(connection: duckdb.DuckDBPyConnection, kind: Kind) -> list[LedgerEntry]:
    """Ledger entries of one kind, oldest first. A part may have several entries."""
    found = rows(connection, "ledger/known_files", {"kind": kind})
    return [LedgerEntry(**{**row, "rest": row["rest"] and Rest(**row["rest"])}) for row in found]


def record(
    connection: duckdb.DuckDBPyConnection,
    batch_id: int,
    kind: Kind,
    part: Part,
    number_of_rows: int,
    left: int = 0,
    rest: Rest | None = None,
) -> None:
    """Record a part in the ledger. The caller commits.

    Args:
        connection: the warehouse.
        batch_id: the batch of this pull.
        kind: what the part holds.
        part: the part.
        number_of_rows: number of rows that the pull considered.
        left: number of rows left for a later day; if positive, the state of the part is partial.
        rest: the rows that a pull of a later day has to read.
    """
    connection.execute(
        statement("ledger/add_batch_file"),
        {
            "batch_id": batch_id,
            "kind": kind,
            "path": part.name,
            "bytes": part.size,
            "modified_ns": part.modified_ns,
            "sha256": part.digest,
            "rows": number_of_rows,
            "state": "partial" if left else part.state,
            "rows_left": left,
            "read_through": rest.through if left and rest else None,
            "refused_from": rest.refused_from if left and rest else None,
            "read_as": part.read_as,
        },
    )
