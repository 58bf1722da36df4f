"""PostgreSQL: readers query a view, and a delivery is one transaction. See :mod:`hmamba.delivery.postgres_view`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from hmamba.delivery.base import Outcome, Settings, masked
from hmamba.delivery.postgres_view import Connection, View
from hmamba.delivery.table import Table
from hmamba.errors import BusyError, ConfigError, HMambaError, InputError

EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_VIEW = "hmamba_candidates"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
"""Names that need no quotes, with space for the day and the number of a table in PostgreSQL's 63 bytes."""

_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Otherwise a connection whose other end has vanished is noticed after two hours."""

_PARAMETERS = {
    "client_connection_check_interval": "5s",  # since 14, on Linux: a killed delivery does not hold its lock for long
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",  # of services, not of a COPY that takes minutes
}
"""Parameters of the session."""

_TO_FIX: dict[tuple[type[psycopg.Error], ...], str] = {
    (errors.InsufficientPrivilege,): "Let the user of the address create tables and views in the schema: GRANT CREATE, "
    "USAGE ON SCHEMA.",
    (errors.InvalidSchemaName,): "Create the schema, or name another with deliver.{name}.into.",
    (errors.InvalidTableDefinition,): "The table has other columns than before: DROP VIEW {view}, then deliver again.",
    (
        errors.CharacterNotInRepertoire,
        errors.UntranslatableCharacter,
    ): "Use a database with the encoding UTF8. It holds no id with a NUL character.",
}
_TEMPORARY = (
    psycopg.OperationalError,  # also of disks, memory, locks, shutdowns and connections
    errors.UniqueViolation,  # two first deliveries to a schema
    errors.DuplicateTable,
    errors.InternalError_,
)
"""Errors with what to do about them, and errors of which a retry may get rid."""


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
        timeout = {"connect_timeout": max(2, round(settings.config.timeout_seconds))}
        self._options: dict[str, Any] = {k: v for k, v in (_KEEPALIVE | timeout).items() if k not in parsed}
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
            if self._schema is None:
                row = connection.execute("SELECT current_schema() AS schema").fetchone()
                self._schema = None if row is None else row["schema"]
            if self._schema is None:
                raise InputError(
                    f"{self._where}: the user has no schema. Name one, as in into = 'public.{self._view}'."
                )
            view = View(connection, self._schema, self._view, self._settings)
            outcome = view.deliver(table, older=older)
            view.drop_retired()
        return outcome

    @property
    def _where(self) -> str:
        return f"deliver.{self._settings.name}"

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        connection = psycopg.connect(
            self._address,
            autocommit=True,
            row_factory=dict_row,
            application_name="hmamba deliver",
            prepare_threshold=None,  # each statement runs once or twice
            **self._options,
        )
        with connection:
            # Whoever has waited for the lock must see what the delivery before has left.
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            for name, value in _PARAMETERS.items():
                with suppress(errors.UndefinedObject, errors.InvalidParameterValue):
                    connection.execute("SELECT set_config(%s, %s, false)", (name, value))
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
        cure = next((cure for kinds, cure in _TO_FIX.items() if isinstance(error, kinds)), "Nothing has been changed.")
        names = {"view": f"{self._schema}.{self._view}", "name": self._settings.name}
        if isinstance(error, _TEMPORARY):
            return BusyError(f"{said} Deliver again; if it recurs, check the server and {self._settings.variable}.")
        return InputError(f"{said} {cure.format_map(names)}")
