"""PostgreSQL: readers query a view; a delivery is one transaction.

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
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as csv
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from hmamba.columns import RANK, USER_ID
from hmamba.contracts.delivery import Delivered
from hmamba.delivery.base import Outcome, Settings, masked, way_to
from hmamba.delivery.table import Table
from hmamba.errors import BusyError, ConfigError, HMambaError, InputError

log = logging.getLogger("hmamba")

EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_STATE = "hmamba_delivery"
_VIEW = "hmamba_candidates"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
"""Names that need no quotes, with space for the number of a table in PostgreSQL's 63 bytes."""

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
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Otherwise a connection whose other end has vanished is noticed after two hours."""

_TEMPORARY = (
    psycopg.OperationalError,  # also of disks, memory, locks, shutdowns and connections
    errors.UniqueViolation,  # two first deliveries to a schema
    errors.DuplicateTable,
    errors.InternalError_,
)

_CREATE_STATE = sql.SQL("""
CREATE TABLE IF NOT EXISTS {state} (
    view_name text PRIMARY KEY,
    relation text NOT NULL,
    serial bigint NOT NULL,
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
_READ_STATE = sql.SQL("SELECT * FROM {state} WHERE view_name = %(view)s")
_WRITE_STATE = sql.SQL("""
INSERT INTO {state} ({columns}) VALUES ({values})
ON CONFLICT (view_name) DO UPDATE SET ({columns}) = ROW({new})""")
_LOCK = "SELECT pg_try_advisory_xact_lock(%s) AS locked"


@dataclass
class _Held:
    """What the schema holds of a view: the row of its state, and which of its parts exist."""

    delivered: Delivered
    relation: str
    serial: int
    retired: list[str]


class PostgresTarget:
    """A schema of a PostgreSQL database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = settings.address(EXAMPLE)
        try:
            parsed = conninfo_to_dict(self._address)
        except psycopg.Error:
            raise settings.wrong_address(EXAMPLE) from None
        self._secrets = [self._address, str(parsed.get("password") or "")]
        self._defaults: dict[str, Any] = {key: value for key, value in _KEEPALIVE.items() if key not in parsed}
        self._defaults.setdefault("connect_timeout", max(2, round(settings.config.timeout_seconds)))
        names = (_VIEW if settings.config.into is None else settings.config.into).split(".")
        if len(names) > 2 or not all(_NAME.fullmatch(name) for name in names):
            raise ConfigError(
                f"deliver.{settings.name}.into = {settings.config.into!r}: give the name of a view, or SCHEMA.VIEW, in "
                "lower-case letters, digits and underscores, at most 40 each."
            )
        self._view, self._schema = names[-1], names[0] if len(names) == 2 else None

    def deliver(self, table: Table, *, older: bool) -> Outcome:
        """See :class:`hmamba.delivery.base.Target`."""
        with self._explained(), self._connected() as connection:
            self._schema = schema = self._schema or _only(connection, "SELECT current_schema() AS schema")
            if schema is None:
                raise InputError(
                    f"{self._where}: the user has no schema. Name one, as in into = 'public.{self._view}'."
                )
            with connection.transaction():
                self._lock(connection)
                outcome = self._deliver(connection, table, older)
            self._drop_retired(connection)
        return outcome

    @property
    def _where(self) -> str:
        return f"deliver.{self._settings.name}"

    def _named(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._schema or "", name)

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        connection = psycopg.connect(
            self._address,
            autocommit=True,
            row_factory=dict_row,
            application_name="hmamba deliver",
            prepare_threshold=None,  # each statement runs once or twice
            **self._defaults,
        )
        with connection:
            with suppress(errors.UndefinedObject, errors.InvalidParameterValue):  # before 14, or not on Linux
                # A killed delivery must not hold its lock while the server builds an index for it.
                connection.execute("SELECT set_config('client_connection_check_interval', '5s', false)")
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the database into ours, without the password."""
        try:
            yield
        except HMambaError:
            raise
        except psycopg.Error as error:
            said = masked(" ".join((error.diag.message_primary or str(error)).split()), self._secrets)
            raise self._as_ours(error, f"{self._where}: PostgreSQL says: {said}.") from None

    def _as_ours(self, error: psycopg.Error, said: str) -> HMambaError:
        view = f"{self._schema or 'public'}.{self._view}"
        user = "the user of the address"
        if isinstance(error, errors.InsufficientPrivilege):
            return InputError(
                f"{said} Let {user} create tables and views in the schema: GRANT CREATE, USAGE ON SCHEMA."
            )
        if isinstance(error, errors.InvalidSchemaName):
            return InputError(f"{said} Create the schema, or name another with deliver.{self._settings.name}.into.")
        if isinstance(error, errors.InvalidTableDefinition):
            return InputError(f"{said} The table has other columns than before: DROP VIEW {view}, then deliver again.")
        if isinstance(error, _TEMPORARY):
            return BusyError(f"{said} Deliver again; if it recurs, check the server and {self._settings.variable}.")
        return InputError(f"{said} Nothing has been changed.")

    def _lock(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        """Hold the lock of the view until the end of the transaction.

        Raises:
            BusyError: another delivery still holds it after the wait.
        """
        deadline = time.monotonic() + self._settings.wait_seconds
        while not _only(connection, _LOCK, (self._key,)):
            if time.monotonic() >= deadline:
                raise BusyError(
                    f"{self._where}: another delivery to {self._schema}.{self._view} is under way, also after "
                    f"{self._settings.wait_seconds:.0f} seconds. Deliver again when it has ended."
                )
            time.sleep(_PAUSE_SECONDS)

    @property
    def _key(self) -> int:
        """Key of the advisory lock, which is of the database."""
        name = hashlib.sha256(f"hmamba deliver {self._schema}.{self._view}".encode()).digest()
        return int.from_bytes(name[:8], "big", signed=True)

    def _deliver(self, connection: psycopg.Connection[dict[str, Any]], table: Table, older: bool) -> Outcome:
        connection.execute("SELECT set_config('client_min_messages', 'warning', true)")
        connection.execute(_CREATE_STATE.format(state=self._named(_STATE)))
        held, new = self._held(connection), table.described()
        way = way_to(None if held is None else held.delivered, new, table, self._where, older=older)
        if way == "nothing" and held is not None:
            self._record(connection, new, held)
            return Outcome("nothing")
        if way == "changes" and held is not None:
            outcome = self._replace(connection, table, held, new)
            if outcome is not None:
                self._record(connection, new, held)
                return outcome
        return self._fill(connection, table, held, new)

    def _held(self, connection: psycopg.Connection[dict[str, Any]]) -> _Held | None:
        """What the view holds; None if a whole delivery must make it.

        Raises:
            InputError: something of this name exists that no delivery has made.
        """
        row = connection.execute(_READ_STATE.format(state=self._named(_STATE)), {"view": self._view}).fetchone()
        kind = self._kind(connection, self._view)
        if kind is not None and (row is None or kind != "v"):
            raise InputError(
                f"{self._where}: {self._schema}.{self._view} exists in the database, and no delivery has made it. Name "
                f"another view with deliver.{self._settings.name}.into, or drop it."
            )
        if row is None:
            return None
        held = _Held(
            delivered=Delivered.parse({"schema_version": 1, **row}, f"{self._schema}.{_STATE}"),
            relation=row["relation"],
            serial=row["serial"],
            retired=row["retired"],
        )
        if kind is None or self._kind(connection, held.relation) is None:  # dropped by hand
            return _Held(held.delivered.model_copy(update={"digest": ""}), held.relation, held.serial, held.retired)
        return held

    def _kind(self, connection: psycopg.Connection[dict[str, Any]], name: str) -> str | None:
        """The kind of a relation (v: view); None if there is none of that name."""
        query = (
            "SELECT c.relkind::text AS kind FROM pg_class AS c JOIN pg_namespace AS n ON c.relnamespace = n.oid "
            "WHERE n.nspname = %s AND c.relname = %s"
        )
        found = _only(connection, query, (self._schema, name))
        return None if found is None else str(found)

    def _fill(
        self, connection: psycopg.Connection[dict[str, Any]], table: Table, held: _Held | None, new: Delivered
    ) -> Outcome:
        """Make a table of all rows, and point the view to it."""
        serial = 1 if held is None else held.serial + 1
        relation = f"{self._view}_{new.day:%Y%m%d}_{serial}"
        place, columns = self._named(relation), _columns(table.schema)
        definitions = sql.SQL(", ").join(
            sql.SQL("{} {} NOT NULL").format(sql.Identifier(field.name), sql.SQL(_type(field)))
            if field.name in (USER_ID, RANK)
            else sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(_type(field)))
            for field in table.schema
        )
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(place, definitions))
        # Frozen rows are visible to transactions that began before: they read this table, never an empty one.
        rows = self._copy(connection, relation, table.schema.names, table.rows(), "FORMAT csv, FREEZE true")
        if rows != new.rows:
            raise BusyError(
                f"{self._where}: {rows} rows arrived of {new.rows}. Nothing has been changed. Deliver again."
            )
        connection.execute(
            sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({}, {})").format(
                place, sql.Identifier(USER_ID), sql.Identifier(RANK)
            )
        )
        connection.execute(sql.SQL("ANALYZE {}").format(place))
        self._point(
            connection,
            sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} FROM {}").format(self._named(self._view), columns, place),
        )
        retired = [] if held is None else [*held.retired, held.relation]
        self._record(connection, new, _Held(new, relation, serial, retired))
        return Outcome("whole", new.users)

    def _point(self, connection: psycopg.Connection[dict[str, Any]], statement: sql.Composed) -> None:
        """Replace the view.

        New readers wait for at most a second while the statement waits for transactions that have read the view.

        Raises:
            BusyError: such a transaction was open for longer than ``timeout_seconds``.
        """
        deadline = time.monotonic() + self._settings.config.timeout_seconds
        while True:
            try:
                with connection.transaction():
                    connection.execute("SELECT set_config('lock_timeout', %s, true)", (_READERS_WAIT,))
                    connection.execute(statement)
                return
            except errors.LockNotAvailable:
                if time.monotonic() >= deadline:
                    raise BusyError(
                        f"{self._where}: transactions that read {self._schema}.{self._view} have been open for "
                        f"{self._settings.config.timeout_seconds:.0f} seconds. End those that are idle "
                        "(pg_stat_activity), then deliver again."
                    ) from None
            time.sleep(_PAUSE_SECONDS)

    def _replace(
        self, connection: psycopg.Connection[dict[str, Any]], table: Table, held: _Held, new: Delivered
    ) -> Outcome | None:
        """Replace the rows of the changed users; None if the table then has another number of rows than it should."""
        changed, place = table.changed_users(), self._named(held.relation)
        with connection.transaction(force_rollback=False) as savepoint:
            connection.execute("CREATE TEMP TABLE hmamba_changed (user_id text NOT NULL) ON COMMIT DROP")
            self._copy(connection, None, [USER_ID], changed.select([USER_ID]).to_batches(), "FORMAT csv")
            connection.execute("ANALYZE hmamba_changed")
            gone = connection.execute(
                sql.SQL("DELETE FROM {} AS t USING hmamba_changed AS c WHERE t.user_id = c.user_id").format(place)
            ).rowcount
            rows = self._copy(connection, held.relation, table.schema.names, table.rows(changed=True), "FORMAT csv")
            if held.delivered.rows - gone + rows == new.rows:
                return Outcome("changes", len(changed))
            log.warning("%s: the table was changed by somebody else; all users are delivered", self._where)
            raise psycopg.Rollback(savepoint)
        return None

    def _copy(
        self,
        connection: psycopg.Connection[dict[str, Any]],
        relation: str | None,
        columns: Iterable[str],
        batches: Iterable[pa.RecordBatch],
        options: str,
    ) -> int:
        """Copy batches into a table, None for that of changed users; returns the number of rows."""
        place = sql.Identifier("hmamba_changed") if relation is None else self._named(relation)
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN WITH ({})").format(place, names, sql.SQL(options))
        with connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for batch in batches:
                    text = pa.BufferOutputStream()
                    csv.write_csv(batch, text, _WITHOUT_HEADER)
                    copy.write(memoryview(text.getvalue()))
            return cursor.rowcount

    def _record(self, connection: psycopg.Connection[dict[str, Any]], new: Delivered, held: _Held) -> None:
        row = {
            "view_name": self._view,
            "relation": held.relation,
            "serial": held.serial,
            "retired": held.retired,
            **new.model_dump(exclude={"schema_version"}),
            "delivered_at": new.delivered_at,
        }
        columns = sql.SQL(", ").join(map(sql.Identifier, row))
        statement = _WRITE_STATE.format(
            state=self._named(_STATE),
            columns=columns,
            values=sql.SQL(", ").join(map(sql.Placeholder, row)),
            new=sql.SQL(", ").join(sql.SQL("excluded.{}").format(sql.Identifier(name)) for name in row),
        )
        connection.execute(statement, row)

    def _drop_retired(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        """Drop the tables that the view has left. If one still has readers, a later delivery drops it."""
        try:
            with connection.transaction():
                if not _only(connection, _LOCK, (self._key,)):
                    return
                held = self._held(connection)
                if held is None or not held.retired:
                    return
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (_READERS_WAIT,))
                for name in held.retired:
                    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self._named(name)))
                self._record(connection, held.delivered, _Held(held.delivered, held.relation, held.serial, []))
        except (errors.LockNotAvailable, errors.DependentObjectsStillExist):
            log.warning("%s: a table before is still in use; a later delivery drops it", self._where)


def _only(connection: psycopg.Connection[dict[str, Any]], query: Any, values: tuple[Any, ...] = ()) -> Any:
    """The single value of a query; None without a row."""
    row = connection.execute(query, values).fetchone()
    return None if row is None else next(iter(row.values()))


def _columns(schema: pa.Schema) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, schema.names))


def _type(field: pa.Field) -> Any:
    """The type of a column in PostgreSQL."""
    return _TYPES.get(field.type, "text")
