"""Conditions and values of rules: SQL expressions over items.*, users.* and night.*, evaluated by DuckDB.

An expression is one expression: no query, no window, no aggregate, no function whose result depends on anything but its
arguments. DuckDB runs it in a database without access to files, networks or settings.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa

from hmamba.config import WarehouseConfig
from hmamba.errors import ConfigError
from hmamba.sequences.histories import IntArray
from hmamba.statements import statement

Kind = Literal["condition", "value", "time"]
_FORBIDDEN = {
    "SUBQUERY": "a query",
    "WINDOW": "a window function",
    "STAR": "*",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "#",
    "LAMBDA_REF": "a lambda",
}
_TABLES = ("items", "users", "night")
_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
_PAIRS = 1 << 20
"""Pairs of a user and an item that are evaluated at once."""


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes:
        text: the SQL.
        of_items, of_users: names of the columns that it reads.
        what: the rule and the key, for messages.
    """

    text: str
    of_items: tuple[str, ...]
    of_users: tuple[str, ...]
    what: str

    @property
    def is_mixed(self) -> bool:
        """Whether it reads columns of both items and users."""
        return bool(self.of_items and self.of_users)


class Expressions:
    """Checks and evaluates expressions in a database of its own, which has no access to anything else.

    Args:
        items: (I) described items.
        users: columns of described users.
        end: end of the day that is processed, exclusive, naive UTC.
        limits: memory and threads of DuckDB; None for the defaults.
    """

    def __init__(self, items: pa.Table, users: pa.Schema, end: datetime, limits: WarehouseConfig | None = None) -> None:
        limits = limits or WarehouseConfig()
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": limits.memory_limit,
            "temp_directory": "",
            "autoinstall_known_extensions": False,
        }
        if limits.threads is not None:
            settings["threads"] = limits.threads
        self.connection = duckdb.connect(config=settings)
        for name in ("rules/forget_files", "rules/forget_python", "rules/set_zone", "rules/lock"):
            self.connection.execute(statement(name))
        self.items, self.users, self.end = items, users, end
        day = (end - timedelta(microseconds=1)).date()
        self._night = pa.table({"day": pa.array([day], pa.date32()), "end": pa.array([end], pa.timestamp("us"))})
        self.connection.register("night", self._night)
        self._barred = dict(self.connection.execute(statement("rules/barred_functions")).fetchall())

    def checked(self, text: str, what: str, kind: Kind, tables: tuple[str, ...] = ("items", "users")) -> Expression:
        """Check an expression against the columns.

        Args:
            text: the SQL.
            what: the rule and the key, for messages.
            kind: a condition is a truth value, a time is a date or time, a value is anything.
            tables: the tables that it may read, besides night.

        Raises:
            ConfigError: it is not one expression, reads what does not exist or what it may not read, or has another
                type. The message has DuckDB's reason and the closest columns.
        """
        said = f"{what} = {text!r}"
        try:
            duckdb.SQLExpression(text)
        except duckdb.Error as error:
            raise ConfigError(f"{said}: {_reason(error)}. Write one SQL expression of DuckDB.") from None
        reads = self._reads(text, said, tables)
        expression = Expression(text, reads["items"], reads["users"], what)
        try:
            found = self._bound(expression, self.items.slice(0, 0), self.users.empty_table()).types[0]
        except duckdb.Error as error:
            raise ConfigError(f"{said}: {_reason(error)}. Correct the expression.") from None
        kinds = {"condition": ("BOOLEAN", *_WHOLE), "time": _TIMES}.get(kind)
        if kinds is not None and str(found) not in kinds:
            wanted = "true or false" if kind == "condition" else "a date or a time"
            raise ConfigError(f"{said}: its type is {found}, and it must be {wanted}. Correct the expression.")
        return expression

    def of_items(self, expression: Expression) -> pa.Array:
        """pa.Array (I,) of an expression that reads no column of users."""
        return self._values(expression, self.items, self.users.empty_table(), len(self.items))

    def of_users(self, expression: Expression, users: pa.Table) -> pa.Array:
        """pa.Array (U,) of an expression that reads no column of items, for described users (U)."""
        return self._values(expression, self.items.slice(0, 0), users, len(users))

    def of_pairs(self, expression: Expression, users: pa.Table, rows: IntArray, places: IntArray) -> pa.Array:
        """pa.Array (E,) for pairs of a described user (row of ``users``) and an item (place among the items)."""
        parts: list[pa.Array] = []
        items, known = self.items.select(list(expression.of_items)), users.select(list(expression.of_users))
        for start in range(0, len(rows), _PAIRS):
            block = slice(start, start + _PAIRS)
            taken = items.take(pa.array(places[block])), known.take(pa.array(rows[block]))
            parts.append(self._values(expression, *taken, len(rows[block])))
        return pa.concat_arrays(parts) if parts else pa.array([], pa.bool_())

    def classes(self, table: pa.Table, names: tuple[str, ...]) -> tuple[IntArray, IntArray]:
        """Number the distinct rows of some columns of a table (N): the number of each row, and a row of each number."""
        numbered = [table[name] for name in names]
        places = pa.array(np.arange(len(table)))
        named = pa.table([places, *numbered], names=["place", *(f"c{place}" for place in range(len(names)))])
        self.connection.register("classed", named)
        try:
            over = ", ".join(f"c{place}" for place in range(len(names)))
            query = statement("rules/classes").replace("the_columns", over)
            codes = self.connection.execute(query).to_arrow_table()["code"].to_numpy().astype(np.int64)
        finally:
            self.connection.unregister("classed")
        return codes, np.unique(codes, return_index=True)[1]

    def _reads(self, text: str, said: str, tables: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """The columns of items and of users that an expression reads.

        Raises:
            ConfigError: see :meth:`checked`.
        """
        (found,) = self.connection.execute(statement("rules/parsed"), {"text": f"SELECT (\n{text}\n)"}).fetchone() or (
            "",
        )
        reads: dict[str, dict[str, None]] = {table: {} for table in _TABLES}
        known = {"items": self.items.schema, "users": self.users, "night": self._night.schema}
        bound = {
            name for node in _nodes(json.loads(found)) if node.get("class") == "LAMBDA" for name in _bound_names(node)
        }
        for node in _nodes(json.loads(found)["statements"][0]["node"]["select_list"]):
            kind = node.get("class")
            if kind in _FORBIDDEN:
                raise ConfigError(f"{said}: it has {_FORBIDDEN[kind]}, which rules cannot have. Write one expression.")
            name = node.get("function_name", "").lower()
            if kind == "FUNCTION" and self._barred.get(name):
                raise ConfigError(f"{said}: {name}() is an aggregate, which rules cannot have. Write one expression.")
            if kind == "FUNCTION" and name in self._barred:
                raise ConfigError(
                    f"{said}: the result of {name}() does not depend on its arguments alone. Use "
                    "night.day (the day of the night) or night.end (its end), which are the same when a night is "
                    "repeated."
                )
            if kind != "COLUMN_REF" or node["column_names"][0] in bound:
                continue
            table, *rest = node["column_names"]
            if table.lower() not in _TABLES or not rest:
                raise ConfigError(f"{said}: {table!r} is no column. {self._closest(rest[0] if rest else table)}")
            if table.lower() not in (*tables, "night"):
                raise ConfigError(f"{said}: {table} cannot be read here, only {' and '.join(tables)}. Correct it.")
            names = {name.lower(): name for name in known[table.lower()].names}
            if rest[0].lower() not in names:
                raise ConfigError(f"{said}: {table} has no column {rest[0]!r}. {self._closest(rest[0])}")
            reads[table.lower()][names[rest[0].lower()]] = None
        return {table: tuple(names) for table, names in reads.items()}

    def _closest(self, name: str) -> str:
        """A sentence with the columns whose names are most similar."""
        every = [f"items.{column}" for column in self.items.schema.names]
        every += [f"users.{column}" for column in self.users.names] + ["night.day", "night.end"]
        plain = {column.partition(".")[2].lower(): column for column in reversed(every)}
        close = difflib.get_close_matches(name.lower(), plain, n=3, cutoff=0.6)
        if close:
            return f"The closest are {', '.join(_quoted(plain[column]) for column in close)}."
        hint = "" if len(self.users) > 1 else " Columns of users come from users.path."
        return f"The columns are {', '.join(map(_quoted, every[:20]))}{', ...' if len(every) > 20 else ''}.{hint}"

    def _bound(self, expression: Expression, items: pa.Table, users: pa.Table) -> duckdb.DuckDBPyRelation:
        """The query of an expression over tables that lie side by side."""
        for name, table, columns in (("items", items, expression.of_items), ("users", users, expression.of_users)):
            self.connection.register(name, table.select(list(columns)) if columns else pa.table({"none": []}))
        used = [name for name, columns in (("items", expression.of_items), ("users", expression.of_users)) if columns]
        source = " POSITIONAL JOIN ".join(used)
        source = f"{source}, night" if source else "night"
        return self.connection.sql(f"SELECT (\n{expression.text}\n) AS value FROM {source}")

    def _values(self, expression: Expression, items: pa.Table, users: pa.Table, count: int) -> pa.Array:
        """pa.Array of an expression for ``count`` rows.

        Raises:
            ConfigError: DuckDB cannot compute it for a value.
        """
        try:
            found = self._bound(expression, items, users).to_arrow_table()["value"].combine_chunks()
        except duckdb.Error as error:
            raise ConfigError(
                f"{expression.what} = {expression.text!r}: {_reason(error)}. Correct the values, or use TRY_CAST."
            ) from None
        if not expression.of_items and not expression.of_users:
            return pa.repeat(found[0], count)
        return found


def _quoted(column: str) -> str:
    table, _, name = column.partition(".")
    return column if name.isidentifier() else f'{table}."{name}"'


def _reason(error: duckdb.Error) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All nodes of DuckDB's syntax tree."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _nodes(part)


def _bound_names(node: dict[str, Any]) -> Iterator[str]:
    """Names of the parameters of a lambda."""
    for part in _nodes(node.get("lhs")):
        if part.get("class") == "COLUMN_REF":
            yield part["column_names"][0]
