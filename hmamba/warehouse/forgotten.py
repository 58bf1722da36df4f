"""Users who have been forgotten: their rows are erased, and rows that come later are not loaded.

A forgotten user leaves a tombstone: a SHA-256 of the id after a random salt of the warehouse. The hash is what has to
stay, or the next file with the user would undo the erasure. It is salted, so that it means nothing outside of this
warehouse and cannot be looked up in a table of hashes. Whoever can read the warehouse can still test whether a given id
has been forgotten; a pull has to do the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from hmamba import clock
from hmamba.statements import one, rows, statement
from hmamba.warehouse.tables import create_tables


@dataclass(frozen=True)
class Tombstone:
    """What the warehouse keeps of a forgotten user: a salted hash of the id, when, and the number of erased rows."""

    user_hash: str
    forgotten_at: datetime
    events: int
    quarantined: int


def _salt(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The warehouse's salt, made when it is first needed, as statements take it."""
    connection.execute(statement("forget/add_salt"), {"salt": secrets.token_hex(32)})
    return one(connection, "forget/salt")


def forgotten_salt(connection: duckdb.DuckDBPyConnection) -> str | None:
    """The salt of the tombstones; None if nobody has been forgotten. The warehouse is only read."""
    if not one(connection, "forget/count_forgotten")["users"]:
        return None
    return str(one(connection, "forget/salt")["salt"])


def drop_forgotten(connection: duckdb.DuckDBPyConnection) -> int:
    """Delete the rows of forgotten users from ``staged``; returns their number. The caller commits."""
    if not one(connection, "forget/count_forgotten")["users"]:
        return 0
    (deleted,) = connection.execute(statement("forget/drop_staged"), _salt(connection)).fetchall()
    return int(deleted[0])


def erase(connection: duckdb.DuckDBPyConnection, users: Sequence[str], column: str) -> list[Tombstone]:
    """Delete all rows of users from the warehouse, and leave a tombstone of each. The caller commits.

    The ledger counts the deleted rows as forgotten. Items keep their index, so that models fit the warehouse.

    Args:
        connection: the warehouse, with an open transaction.
        users: ids, as the warehouse holds them.
        column: the column of source files with the user's id, to find refused rows.

    Returns:
        The tombstones, with the counts of all erasures of the user.
    """
    create_tables(connection)
    salt = _salt(connection)
    connection.execute(statement("forget/create_erased"), {"users": list(users)})
    connection.execute(statement("forget/create_erased_rows"), {"column": f"/{_pointer(column)}"})
    connection.execute(statement("forget/create_erased_events"))
    connection.execute(statement("forget/add_forgotten"), {**salt, "now": clock.now()})
    connection.execute(statement("forget/count_erased"), salt)
    for name in ("forget/update_batches", "forget/delete_events", "forget/delete_quarantined", "forget/first_seen"):
        connection.execute(statement(name))
    return [Tombstone(**row) for row in rows(connection, "forget/of_erased", salt)]


def _pointer(member: str) -> str:
    """A member's name in a JSON pointer (RFC 6901)."""
    return member.replace("~", "~0").replace("/", "~1")
