"""SQL statements by name, from the files under ``sql/``: one file for each stage, values bound and never formatted in.

A line ``-- name: NAME`` begins a statement, which ends before the next such line; comments between belong to it.
Statements name no column of a source file: whatever is read from files has fixed column names before DuckDB sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Row = dict[str, Any]

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "sql", _PACKAGE.parent / "sql")
"""In an installed wheel, and beside the package in a checkout."""

_NAME = re.compile(r"^-- name:[ \t]*(\S*)[ \t]*$\n", re.MULTILINE)


def parse(text: str) -> Mapping[str, str]:
    """The statements of one file, by name, in the file's order.

    Raises:
        ValueError: a name is missing or comes twice.
    """
    _, *parts = _NAME.split(text)
    found: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if not name or name in found:
            raise ValueError(f"-- name: {name}: {'this name comes twice' if name else 'a statement needs a name'}")
        found[name] = body.strip()
    return MappingProxyType(found)


@cache
def statements(file: str) -> Mapping[str, str]:
    """The statements of ``sql/<file>.sql``, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name is missing or comes twice.
    """
    for folder in _FOLDERS:
        path = folder / f"{file}.sql"
        if path.is_file():
            return parse(path.read_text(encoding="utf-8"))
    raise FileNotFoundError(f"{file}.sql is in none of {', '.join(map(str, _FOLDERS))}")


def statement(name: str) -> str:
    """One statement.

    Args:
        name: file and name, such as ``ingest/stage_events`` for ``stage_events`` in ``sql/ingest.sql``.

    Raises:
        FileNotFoundError: there is no such file.
        LookupError: the file has no statement of that name.
    """
    file, _, key = name.partition("/")
    found = statements(file)
    if key not in found:
        raise LookupError(f"sql/{file}.sql has no statement {key!r}, only {', '.join(found)}")
    return found[key]


def rows(connection: DuckDBPyConnection, name: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """All rows of the query ``name`` (see :func:`statement`) as dictionaries."""
    cursor = connection.execute(statement(name), dict(values or {}))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def one(connection: DuckDBPyConnection, name: str, values: Mapping[str, Any] | None = None) -> Row:
    """The single row of the query ``name`` as a dictionary."""
    (row,) = rows(connection, name, values)
    return row
