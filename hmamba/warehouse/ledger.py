"""Which parts of a source have been taken in, so that none is loaded twice and none that changed is missed."""

from __future__ import annotations

from typing import Literal

import duckdb

from hmamba.sources.base import LedgerEntry, Part, Rest
from hmamba.statements import statement
from hmamba.warehouse.tables import rows

Kind = Literal["interactions", "catalogue"]


def entries(connection: duckdb.DuckDBPyConnection, kind: Kind) -> list[LedgerEntry]:
    """All parts of a kind that pulls have taken in, oldest first; one part may have several entries."""
    return [
        LedgerEntry(
            name=row["path"],
            size=row["bytes"],
            modified_ns=row["modified_ns"],
            digest=row["sha256"],
            state=row["state"],
            rest=Rest(row["read_through"], row["refused_from"]) if row["state"] == "partial" else None,
            read_as=row["read_as"],
        )
        for row in rows(connection, "ingest/known_files", {"kind": kind})
    ]


def record(
    connection: duckdb.DuckDBPyConnection,
    batch_id: int,
    kind: Kind,
    part: Part,
    number_of_rows: int,
    left: int = 0,
    rest: Rest | None = None,
) -> None:
    """Enter a part. The caller commits.

    Args:
        connection: the warehouse.
        batch_id: the pull.
        kind: what the part holds.
        part: what was taken in.
        number_of_rows: how many rows the pull considered.
        left: how many it left for a later day; if any, the part is entered as partial.
        rest: what a pull of a later day will have to read.
    """
    connection.execute(
        statement("ingest/add_batch_file"),
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
