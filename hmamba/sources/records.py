"""Convert rows with columns of any type to JSON objects, to show refused rows to the user."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from hmamba.sources.base import RECORD
from hmamba.sources.values import decoded, is_uuid, uuids


def as_json(batch: pa.RecordBatch, columns: Sequence[str] | None) -> list[str]:
    """The rows of a batch as JSON objects; values without a JSON type become text.

    Args:
        batch: from a :class:`~hmamba.sources.base.Reading`, with all its columns.
        columns: names of the part's columns, which are the last of the batch; None for JSON records, which are returned
            unchanged.
    """
    if columns is None:
        return ["null" if text is None else text for text in batch.column(RECORD).to_pylist()]
    first = batch.num_columns - len(columns)
    before: set[str] = set()
    names = []
    for at, name in enumerate(columns, 1):
        names.append(name if name not in before else f"{name} ({at})")
        before.add(name)
    values = [_values(batch.column(first + at)) for at in range(len(columns))]
    return [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in zip(*values, strict=True)]


def _values(column: pa.Array) -> list[Any]:
    """Convert a column to values that JSON can represent."""
    try:
        column = decoded(column)
        kind = column.type
        if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
            return list(column.cast(pa.string()).to_pylist())
        if is_uuid(kind):
            return list(uuids(column).to_pylist())
        return [_plain(value) for value in column.to_pylist()]
    except (pa.ArrowException, ValueError, OverflowError):
        return [_described(column, row) for row in range(len(column))]


def _described(column: pa.Array, row: int) -> Any:
    """One value of a column in which some values cannot be converted."""
    try:
        return _plain(column[row].as_py())
    except (pa.ArrowException, ValueError, OverflowError):
        return f"a {column.type} that cannot be written"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return text if text.isprintable() and "\ufffd" not in text else value.hex()
    if isinstance(value, dict):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return str(value)
