"""A view in PostgreSQL and the table behind it, in the transaction of a delivery.

A whole delivery fills a new table by COPY, makes its primary key and its statistics, and points the view to it. A view
keeps its privileges and what depends on it, which a table that is exchanged by renaming would lose. The old table is
dropped in a second transaction, so that nobody waits for its readers. A delivery of changes replaces the rows of the
changed users in the table that the view reads. The row of the view in ``hmamba_delivery`` says what the table holds,
and is written in the same transaction.

SQL is composed by psycopg, which quotes identifiers; values are bound.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as csv
from psycopg import errors, sql

from hmamba.columns import RANK, USER_ID
from hmamba.contracts.delivery import Delivered
from hmamba.delivery.base import Outcome, Settings, way_to
from hmamba.delivery.table import Table
from hmamba.errors import BusyError, InputError

log = logging.getLogger("hmamba")

Connection = psycopg.Connection[dict[str, Any]]

_STATE = "hmamba_delivery"
_CHANGED = sql.Identifier("hmamba_changed")
_TYPES = {
    pa.string(): "text",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
}
_WITHOUT_HEADER = csv.WriteOptions(include_header=False)
_PAUSE_SECONDS, _READERS_WAIT = 0.5, "1s"

_CREATE_STATE = sql.SQL("""
CREATE TABLE IF NOT EXISTS {state} (
    view_name text PRIMARY KEY,
    relation text NOT NULL,
    retired text[] NOT NULL,
    day date NOT NULL,
    last_day date NOT NULL,
    run_id text NOT NULL,
    model_version text NOT NULL,
    digest text NOT NULL,
    settings text NOT NULL,
    users bigint NOT NULL,
    rows bigint NOT NULL,
    delivered_at timestamptz NOT NULL
)""")
_READ_STATE = sql.SQL("SELECT * FROM {state} WHERE view_name = %s")
_WRITE_STATE = sql.SQL("""
INSERT INTO {state} ({columns}) VALUES ({values})
ON CONFLICT (view_name) DO UPDATE SET ({columns}) = ROW({new})""")
_KIND = """
SELECT c.relkind::text AS kind
FROM pg_class AS c JOIN pg_namespace AS n ON c.relnamespace = n.oid
WHERE n.nspname = %s AND c.relname = %s"""
_LOCK = "SELECT pg_try_advisory_xact_lock(%s) AS locked"


@dataclass(frozen=True)
class _Held:
    """The row of a view in ``hmamba_delivery``.

    Attributes:
        delivered: what the table behind the view holds.
        relation: name of that table.
        retired: names of the tables that the view has left and that still exist.
    """

    delivered: Delivered
    relation: str
    retired: tuple[str, ...]


class View:
    """A view in a schema, through a connection."""

    def __init__(self, connection: Connection, schema: str, name: str, settings: Settings) -> None:
        self._connection, self._schema, self._name, self._settings = connection, schema, name, settings
        self._where = f"deliver.{settings.name}"

    @property
    def lock_key(self) -> int:
        """Key of the advisory lock, which is of the database."""
        name = hashlib.sha256(f"hmamba deliver {self._schema}.{self._name}".encode()).digest()
        return int.from_bytes(name[:8], "big", signed=True)

    def deliver(self, table: Table, *, older: bool) -> Outcome:
        """Bring the view up to date, in one transaction; see :class:`hmamba.delivery.base.Target`."""
        with self._connection.transaction():
            self._lock()
            self._set("client_min_messages", "warning")
            self._connection.execute(_CREATE_STATE.format(state=self._named(_STATE)))
            held, new = self._held(), table.described()
            way = way_to(None if held is None else held.delivered, new, table, self._where, older=older)
            if held is not None and (way == "nothing" or (way == "changes" and self._replace(table, held, new))):
                self._record(replace(held, delivered=new))
                return Outcome(way, len(table.changed_users()) if way == "changes" else 0)
            self._fill(table, held, new)
            return Outcome("whole", new.users)

    def drop_retired(self) -> None:
        """Drop the tables that the view has left. If one still has readers, a later delivery drops it."""
        try:
            with self._connection.transaction():
                held = self._held() if self._only(_LOCK, self.lock_key) else None
                if held is None or not held.retired:
                    return
                self._set("lock_timeout", _READERS_WAIT)
                for name in held.retired:
                    self._connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self._named(name)))
                self._record(replace(held, retired=()))
        except (errors.LockNotAvailable, errors.DependentObjectsStillExist):
            log.warning("%s: a table before is still in use; a later delivery drops it", self._where)

    def _named(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._schema, name)

    def _only(self, query: str, *values: object) -> Any:
        """The single value of a query; None without a row."""
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else next(iter(row.values()))

    def _set(self, name: str, value: str) -> None:
        """Set a parameter until the end of the transaction."""
        self._connection.execute("SELECT set_config(%s, %s, true)", (name, value))

    def _lock(self) -> None:
        """Hold the lock of the view until the end of the transaction.

        Raises:
            BusyError: another delivery still holds it after the wait.
        """
        deadline = time.monotonic() + self._settings.wait_seconds
        while not self._only(_LOCK, self.lock_key):
            if time.monotonic() >= deadline:
                raise BusyError(
                    f"{self._where}: another delivery to {self._schema}.{self._name} is under way, also after "
                    f"{self._settings.wait_seconds:.0f} seconds. Deliver again when it has ended."
                )
            time.sleep(_PAUSE_SECONDS)

    def _held(self) -> _Held | None:
        """What the view holds; None if no delivery has made it yet.

        Raises:
            InputError: something of this name exists that no delivery has made.
        """
        row = self._connection.execute(_READ_STATE.format(state=self._named(_STATE)), (self._name,)).fetchone()
        kind = self._only(_KIND, self._schema, self._name)
        if kind is not None and (row is None or kind != "v"):
            raise InputError(
                f"{self._where}: {self._schema}.{self._name} exists in the database, and no delivery has made it. Name "
                f"another view with deliver.{self._settings.name}.into, or drop it."
            )
        if row is None:
            return None
        delivered = Delivered.parse({"schema_version": 1, **row}, f"{self._schema}.{_STATE}")
        if kind is None or self._only(_KIND, self._schema, row["relation"]) is None:  # dropped by hand
            delivered = delivered.model_copy(update={"digest": ""})
        return _Held(delivered, row["relation"], tuple(row["retired"]))

    def _record(self, held: _Held) -> None:
        row = {
            "view_name": self._name,
            "relation": held.relation,
            "retired": list(held.retired),
            **held.delivered.model_dump(exclude={"schema_version", "delivered_at"}),
            "delivered_at": held.delivered.delivered_at,  # as a time, not as text
        }
        statement = _WRITE_STATE.format(
            state=self._named(_STATE),
            columns=_listed(row),
            values=sql.SQL(", ").join(map(sql.Placeholder, row)),
            new=sql.SQL(", ").join(sql.SQL("excluded.{}").format(sql.Identifier(name)) for name in row),
        )
        self._connection.execute(statement, row)

    def _fill(self, table: Table, held: _Held | None, new: Delivered) -> None:
        """Make a table of all rows, and point the view to it.

        Raises:
            BusyError: rows were lost, or readers do not leave the view.
        """
        relation = f"{self._name}_{new.day:%Y%m%d}_{uuid.uuid4().hex[:8]}"
        place, columns = self._named(relation), _listed(table.schema.names)
        definitions = [
            sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(_TYPES.get(field.type, "text")))
            for field in table.schema
        ]
        self._connection.execute(sql.SQL("CREATE TABLE {} ({})").format(place, sql.SQL(", ").join(definitions)))
        # Frozen rows are visible to transactions that began before: they read this table, never an empty one.
        rows = self._copy(place, table.schema.names, table.rows(), "FORMAT csv, FREEZE true")
        if rows != new.rows:
            raise BusyError(
                f"{self._where}: {rows} rows arrived of {new.rows}. Nothing has been changed. Deliver again."
            )
        key = sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(place, _listed((USER_ID, RANK)))
        self._connection.execute(key)
        self._connection.execute(sql.SQL("ANALYZE {}").format(place))
        view = sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} FROM {}")
        self._point(view.format(self._named(self._name), columns, place))
        self._record(_Held(new, relation, () if held is None else (*held.retired, held.relation)))

    def _point(self, statement: sql.Composed) -> None:
        """Replace the view.

        New readers wait for at most a second while the statement waits for transactions that have read the view.

        Raises:
            BusyError: such a transaction was open for longer than ``timeout_seconds``.
        """
        wait = self._settings.config.timeout_seconds
        deadline = time.monotonic() + wait
        while True:
            try:
                with self._connection.transaction():
                    self._set("lock_timeout", _READERS_WAIT)
                    self._connection.execute(statement)
                return
            except errors.LockNotAvailable:
                if time.monotonic() >= deadline:
                    raise BusyError(
                        f"{self._where}: transactions that read {self._schema}.{self._name} have been open for "
                        f"{wait:.0f} seconds. End those that are idle (pg_stat_activity), then deliver again."
                    ) from None
            time.sleep(_PAUSE_SECONDS)

    def _replace(self, table: Table, held: _Held, new: Delivered) -> bool:
        """Replace the rows of the changed users, unless the table then has another number of rows than it should."""
        changed, place = table.changed_users().select([USER_ID]), self._named(held.relation)
        with self._connection.transaction() as savepoint:
            self._connection.execute(sql.SQL("CREATE TEMP TABLE {} (user_id text) ON COMMIT DROP").format(_CHANGED))
            self._copy(_CHANGED, [USER_ID], changed.to_batches(), "FORMAT csv")
            self._connection.execute(sql.SQL("ANALYZE {}").format(_CHANGED))
            delete = sql.SQL("DELETE FROM {} AS t USING {} AS c WHERE t.user_id = c.user_id")
            gone = self._connection.execute(delete.format(place, _CHANGED)).rowcount
            rows = self._copy(place, table.schema.names, table.rows(changed=True), "FORMAT csv")
            if held.delivered.rows - gone + rows == new.rows:
                return True
            log.warning("%s: the table was changed by somebody else; all users are delivered", self._where)
            raise psycopg.Rollback(savepoint)
        return False

    def _copy(
        self, place: sql.Identifier, columns: Iterable[str], batches: Iterable[pa.RecordBatch], options: str
    ) -> int:
        """Copy batches into a table; returns the number of rows."""
        statement = sql.SQL("COPY {} ({}) FROM STDIN WITH ({})").format(place, _listed(columns), sql.SQL(options))
        with self._connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for batch in batches:
                    text = pa.BufferOutputStream()
                    csv.write_csv(batch, text, _WITHOUT_HEADER)
                    copy.write(memoryview(text.getvalue()))
            return cursor.rowcount


def _listed(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
