"""A made-up shop of 30 users and 24 items, and files of its 425 events in every form that a case needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DAY = date(2024, 5, 31)
ROWS, USERS, ITEMS = 425, 30, 24
_START = datetime(2024, 5, 18, 9, 54, 19)

EVENTS = pa.table(
    {
        "user_id": pa.array([1000 + (number * 11 + number // 30) % USERS for number in range(ROWS)]),
        "item_id": pa.array([500 + (number * 7 + number // 24) % ITEMS for number in range(ROWS)]),
        "event_time": pa.array([_START + timedelta(minutes=44 * n) for n in range(ROWS)], pa.timestamp("us")),
    }
)
USER_IDS = {str(1000 + number) for number in range(USERS)}
ITEM_IDS = {str(500 + number) for number in range(ITEMS)}
FILE = "landing/interactions/e"
"""Where files go, without their ending."""


def table(**columns: Any) -> pa.Table:
    """The events with columns replaced or added; a function is called with the old column's values."""
    result = EVENTS
    for name, given in columns.items():
        values = [given(value) for value in EVENTS[name].to_pylist()] if callable(given) else given
        column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        at = result.schema.get_field_index(name)
        result = result.append_column(name, column) if at < 0 else result.set_column(at, name, column)
    return result


def with_first(values: pa.ChunkedArray, *first: Any, kind: pa.DataType | None = None) -> pa.Array:
    """A column whose first values are replaced."""
    return pa.array([*first, *values.to_pylist()[len(first) :]], kind or values.type)


def parquet(given: pa.Table) -> bytes:
    """A Parquet file."""
    sink = BytesIO()
    pq.write_table(given, sink)
    return sink.getvalue()


def csv(given: pa.Table, delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    """A CSV file without quotes."""
    rows = [given.schema.names, *zip(*(column.to_pylist() for column in given.columns), strict=True)]
    lines = (delimiter.join("" if value is None else str(value) for value in row) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode(encoding)


def jsonl(given: pa.Table) -> bytes:
    """A file of JSON lines."""
    return "".join(f"{json.dumps(row, default=str)}\n" for row in given.to_pylist()).encode()


@dataclass(frozen=True)
class Case:
    """An input and what must come of it.

    Attributes:
        name: the kind.
        files: by path under the root.
        config: hmamba.toml.
        links: path under the root and what it points to.
        code: exit status of ingest.
        told: what the log must hold.
        loaded, duplicate: rows, if ``code`` is 0.
        broken: refused rows by rule.
        refused: how many there are; None if each breaks one rule.
        users, items: ids in the warehouse.
        check: looks at the warehouse: the rows of a query, and what must be there.
    """

    name: str
    files: Mapping[str, bytes]
    config: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    code: int = 0
    told: Sequence[str] = ()
    loaded: int = ROWS
    duplicate: int = 0
    broken: Mapping[str, int] = field(default_factory=dict)
    refused: int | None = None
    users: set[str] = field(default_factory=lambda: USER_IDS)
    items: set[str] = field(default_factory=lambda: ITEM_IDS)
    check: tuple[str, list[tuple[Any, ...]]] | None = None

    def put(self, root: Path) -> None:
        """Write the files and links."""
        for name, content in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name, target in self.links.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(target)
